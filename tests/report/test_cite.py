"""Citations: valid BibTeX for all that zobench has, and of a table what is in it."""

import re
from pathlib import Path

import pytest
import yaml
from helpers.written import write_run

import zobench
from zobench import report
from zobench.config.folders import conf_dir
from zobench.errors import UserError
from zobench.report.__main__ import main
from zobench.report.papers.cite import citations, cite, references

ROOT = Path(zobench.__file__).parent.parent
NEEDED = {"article": {"author", "title", "journal", "year"}, "misc": {"author", "title"},
          "inproceedings": {"author", "title", "booktitle", "year"}}  # fmt: skip
_ENTRY = re.compile(r"@(\w+)\{([a-z0-9]+),\n((?:  \w+ = \{.*\},\n)+)\}")


def parsed(text):
    """The entries of a text by key, as BibTeX reads it: what stands between them is no entry and has no @."""
    assert "@" not in _ENTRY.sub("", text)
    found = {}
    for kind, key, body in _ENTRY.findall(text):
        fields = dict(re.findall(r"  (\w+) = \{(.*)\},\n", body))
        assert len(fields) == body.count("\n"), key
        assert key not in found
        assert all(map(balanced, fields.values())), key
        assert NEEDED[kind] <= set(fields), key
        found[key] = fields
    return found


def balanced(text):
    depth = 0
    for sign in re.sub(r"\\.", "", text):
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return depth == 0


def test_every_reference_is_valid_and_used():
    text = (ROOT / "zobench/report/papers/references.bib").read_text(encoding="ascii")
    entries = parsed(text)
    assert set(entries) == set(references())
    assert set(entries) == {key for known in citations().values() for keys in known.values() for key in keys}


@pytest.mark.parametrize("key", references())
def test_fields_are_those_that_bibtex_expects(key):
    fields = parsed(references()[key])[key]
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    assert not re.search(r"[&%#_$]", fields["title"] + fields["author"])
    authors = fields["author"].split(" and ")
    assert len(authors) == len(set(authors))
    assert all(name.count(",") <= 1 and name.strip() == name != "" for name in authors)
    assert ("eprint" in fields) == (fields.get("archivePrefix") == "arXiv")
    if "eprint" in fields:
        year, month = re.fullmatch(r"(\d\d)(\d\d)\.\d{4,5}", fields["eprint"]).groups()
        assert 1 <= int(month) <= 12
        assert 2000 + int(year) <= int(fields["year"])
    assert ("pages" not in fields) or re.fullmatch(r"\d+--\d+", fields["pages"])


def test_no_paper_stands_twice():
    fields = [parsed(entry)[key] for key, entry in references().items()]
    for name in ("title", "eprint"):
        values = [each[name] for each in fields if name in each]
        assert len(values) == len(set(values))


@pytest.mark.parametrize("group", ["method", "method.rule", "task", "model", "tuning"])
def test_every_option_of_zobench_is_there(group):
    options = {path.stem for path in (conf_dir() / group.replace(".", "/")).glob("*.yaml")}
    assert set(citations()[group]) == options - {"hub", "local"}


@pytest.mark.parametrize("group", ["method", "task", "model", "tuning"])
def test_the_papers_are_those_that_the_options_name(group):
    """The first line of an option's file has the arXiv id of its paper, which one of its entries must have."""
    checked = 0
    for name, keys in citations()[group].items():
        first = (conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        ids = set(re.findall(r"\d{4}\.\d{5}", first))
        if ids and keys:
            assert ids <= {parsed(references()[key])[key].get("eprint") for key in keys}, name
            checked += 1
    assert checked >= {"method": 25, "task": 14, "model": 14, "tuning": 2}[group]


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    write_run(folder, "mezo", 0, data="hub", model="opt-125m", tuning="lora", **{"method.rule": "adam"})
    write_run(folder, "lozo_m", 0, task="rte", data="local", model="my-qwen2@1f3a9c02", **{"method.rule": "corespace"})
    write_run(folder, "mine", 0, task="cb")
    write_run(folder, "hizoo", 0, state="failed")
    return folder


def test_a_table_is_cited_with_all_that_is_in_it(runs, capsys):
    assert main([str(runs), "--cite"]) == 0
    said = capsys.readouterr().out
    entries = parsed(said)
    assert next(iter(entries)) == "zobench"
    assert {"malladi2023mezo", "kingma2015adam", "hu2021lora", "zhang2022opt", "wang2019glue", "socher2013sst",
            "chen2025lozo", "wang2019superglue", "dagan2005rte"} <= set(entries)  # fmt: skip
    assert "% for method mezo\n@inproceedings{malladi2023mezo,\n" in said
    assert "% for task rte\n@inproceedings{wang2019superglue,\n" in said
    assert not {"demarneffe2019cb", "zhao2025hizoo"} & set(entries)  # rows of zobench's own, and a run that failed
    last = "% no entry, see what its authors ask for: method mine, model my-qwen2(at)1f3a9c02"
    assert said.splitlines()[-1] == last


def test_where_chooses_what_is_cited(runs, capsys):
    assert main([str(runs), "--cite", "--where", "method=mine"]) == 0
    assert list(parsed(capsys.readouterr().out)) == ["zobench"]


def test_a_name_cannot_begin_an_entry(tmp_path):
    write_run(tmp_path, "a @misc{evil, title = {x}, }", 0)
    assert list(parsed(cite(report.load(tmp_path)))) == ["zobench"]


def test_runs_without_a_result_are_nothing_to_cite(tmp_path, capsys):
    write_run(tmp_path, "mezo", 0, state="failed")
    assert main([str(tmp_path), "--cite"]) == 1
    assert "no finished or diverged run to cite for" in capsys.readouterr().err
    with pytest.raises(UserError):
        cite(report.load(tmp_path))


def test_zobench_is_cited_as_its_citation_file_says(runs):
    own = parsed(cite(report.load(runs)))["zobench"]
    known = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert own["title"] == known["title"]
    assert own["author"] == "{" + known["authors"][0]["name"] + "}"
    assert own["note"] == f"Version {zobench.__version__}"
