"""The pages of a leaderboard: every number leads to its run, a stranger's texts stay texts, and a browser shows it."""

import html
import html.parser
import json
import re
import shutil
import subprocess
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from helpers.written import write_run

from zobench import report
from zobench.errors import ConfigError
from zobench.report.site.content import Check, Content, EntryFacts, RunFacts, Source, WorkloadFacts, address
from zobench.report.site.write import write
from zobench.report.workloads.comparison import Compared, Target

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>alert('x')</script>\"onclick=\"alert(1)"
ENTRIES = {"mezo": 0.6, "loren": 0.75, "loren_iso": 0.7, HOSTILE: 0.5, "adamw": 0.9}
SUBMITTED = Source("mine", {"who": HOSTILE, "method": "javascript:alert(1)"}, code="javascript:alert(2)")


class Page(html.parser.HTMLParser):
    """The tags of a page, its links, and the names of its places."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)
        self.links = [attributes["href"] for tag, attributes in self.tags if tag == "a"]
        self.ids = {attributes["id"] for _, attributes in self.tags if "id" in attributes}

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Five entries on two workloads, three seeds and two trials each; one is a submission full of code."""
    top, rng, frames, runs = tmp_path_factory.mktemp("runs"), np.random.default_rng(0), [], {}
    for workload, task in {"sst2-tiny": "sst2", "mr-tiny": "mr"}.items():
        hard = np.random.default_rng(len(task)).random(100)
        for number, (entry, share) in enumerate(ENTRIES.items()):
            for stage, seeds in (("trials", (0, 0)), ("tuned", (1, 2, 3))):
                folder = top / workload / str(number) / stage
                for seed in seeds:
                    right = (hard + rng.normal(0, 0.05, 100) < share).astype(int).tolist()
                    write_run(folder, "mezo", seed, task=task, scores=right, cpu_hours=0.01, reason=HOSTILE)
                frames.append(report.load(folder).assign(stage=stage, workload=workload, entry=entry))
                for i, row in enumerate(frames[-1].to_dict("records")):
                    place = f"{workload}/{number}/{stage}/{row['seed']}/{i}"
                    runs[entry, row["directory"]] = RunFacts(
                        stage, workload, entry, row["seed"], SUBMITTED if entry == HOSTILE else Source("ours"),
                        place, f"python -m zobench '{HOSTILE}'", "0123456789abcdef",
                        Check("refuted", HOSTILE, ["files"], {"weights": HOSTILE}, [HOSTILE]) if entry == HOSTILE
                        else Check(), row, i if stage == "trials" else None, stage == "trials" and i == 0,
                    )  # fmt: skip
    known = pd.concat(frames, ignore_index=True)
    trials = known["stage"].eq("trials")
    compared = Compared(known[~trials], known[trials], {name: Target(0.6, 0.6) for name in ("sst2-tiny", "mr-tiny")},
                        {"loren_iso": "loren"})  # fmt: skip
    space = {"method.lr": ("tag(log, interval(1e-8, 1e-5))", "1e-06")}
    return Content(
        compared, "v1", {"tuned": "as many trials for all"},
        {name: WorkloadFacts(name, f"task={name}", 200) for name in ("sst2-tiny", "mr-tiny")},
        {name: EntryFacts(name, "mezo", f"MeZO ({HOSTILE}, arXiv:2305.17333)", f"method=mezo {HOSTILE}", space,
                          SUBMITTED if name == HOSTILE else Source("ours")) for name in ENTRIES},
        runs, [("mine", HOSTILE)], "https://docs.example.org",
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "site"
    assert write(content, folder) == len(list(folder.glob("*.html")))
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path.name: Page(path.read_text()) for path in site.glob("*.html")}


def test_every_link_inside_leads_to_a_page_and_a_place_that_are_there(pages):
    for name, page in pages.items():
        for link in page.links:
            to = urlsplit(link)
            if to.scheme:
                assert link.startswith(("https://arxiv.org/abs/", "https://docs.example.org/methods/")), link
                continue
            target = pages[to.path or name]
            assert not to.fragment or to.fragment in target.ids, (name, link)


def test_every_run_has_a_page_with_record_command_and_verdict_that_boards_lead_to(content, site, pages):
    for run in content.runs.values():
        text = html.unescape((site / run.page).read_text())
        assert run.command in text
        assert run.place in text
        assert run.digest in text
        assert run.check.verdict in text
        assert run.page in pages[address("entry", run.entry)].links
        if run.trial is None:
            assert run.page in pages[address("workload", run.workload)].links


def test_numbers_are_those_of_the_report(content, site):
    board = html.unescape((site / address("workload", "sst2-tiny")).read_text())
    line = content.found[content.found[["workload", "entry"]].eq(["sst2-tiny", "loren"]).all(axis=1)].iloc[0]
    assert f"{line['test_metric']:.3f} ± {line['test_metric_std']:.3f}" in board
    assert f"{100 * line['delta']:+.1f} [{100 * line['delta_low']:+.1f}, {100 * line['delta_high']:+.1f}]" in board
    assert "3 not verified" in board
    assert "3 refuted" in board


def test_a_strangers_texts_are_text_and_no_link_runs_anything(site, pages):
    for name, page in pages.items():
        text = (site / name).read_text()
        assert "<script>alert" not in text
        assert [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed", "img", "base", "form")] == []
        assert sum(tag == "script" for tag, _ in page.tags) == 1
        for _, attributes in page.tags:
            assert not any(attribute.startswith("on") for attribute in attributes)
            for attribute in ("href", "src", "xlink:href"):
                assert not re.match(r"\s*javascript:", attributes.get(attribute) or "", re.I)
        assert "default-src 'none'; script-src 'sha256-" in html.unescape(text)
        assert re.fullmatch(r"(index|runs|(entry|workload|run)-[0-9a-f]{12})\.html", name)


def test_tables_can_be_read_aloud_and_without_a_script(pages):
    for page in pages.values():
        assert ("html", {"lang": "en"}) in page.tags
        assert {attributes.get("scope") for tag, attributes in page.tags if tag == "th"} <= {"col", "row"}
        (search,) = [attributes for tag, attributes in page.tags if attributes.get("class") == "search"]
        assert "hidden" in search


def test_a_folder_with_something_else_is_left_alone_and_an_older_leaderboard_is_replaced(content, site, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else than a leaderboard"):
        write(content, tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.txt"]
    again = shutil.copytree(site, tmp_path / "site")
    (again / "entry-000000000000.html").write_text("of a run that is gone")
    write(content, again)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in site.iterdir()
    }


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_shows_sorts_and_searches_it(content, site, tmp_path, width):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    run = next(run for run in content.runs.values() if run.entry == HOSTILE)
    names = ["index.html", "runs.html", address("workload", "sst2-tiny"), address("entry", HOSTILE), run.page]
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    options += ["--allow-file-access-from-files", "--virtual-time-budget=8000", f"--user-data-dir={tmp_path}"]
    frames = "".join(
        f'<iframe src="{(site / name).as_uri()}" width="{width}" height="2000" onload="look(this)"></iframe>'
        for name in names
    )
    (tmp_path / "frame.html").write_text(f"""<!DOCTYPE html><script>
      const all = [];
      function look(frame) {{
        const page = frame.contentDocument, root = page.documentElement;
        const table = page.querySelector("table"), head = table.tHead.rows[0].cells[1];
        const names = () => [...table.tBodies[0].rows].filter(row => row.checkVisibility())
          .map(row => row.cells[0].textContent);
        const said = {{page: frame.src.split("/").pop(), width: [root.scrollWidth, root.clientWidth], sorted: []}};
        for (let i = 0; i < 3; i++) {{
          head.querySelector("button").click();
          said.sorted.push([head.getAttribute("aria-sort"), names()]);
        }}
        const input = page.querySelector(".search input");
        said.search = input.checkVisibility();
        input.value = "LOREN";
        input.dispatchEvent(new Event("input", {{bubbles: true}}));
        said.found = names();
        said.loaded = page.defaultView.performance.getEntriesByType("resource").map(each => each.name);
        all.push(said);
        if (all.length === {len(names)}) document.title = JSON.stringify(all);
      }}</script>{frames}""")
    command = [CHROMIUM, *options, "--dump-dom", (tmp_path / "frame.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in shown.stderr, shown.stderr
    all_ = {
        each["page"]: each for each in json.loads(html.unescape(re.search("<title>(.*?)</title>", shown.stdout)[1]))
    }
    assert set(all_) == set(names)
    for said in all_.values():
        assert said["width"] == [width, width], said["page"]  # nothing makes the page scroll sideways
        assert said["search"]
        assert [each for each in said["loaded"] if not each.startswith("data:")] == []
    board = all_[address("workload", "sst2-tiny")]
    (down, best), (up, worst), (none, first) = board["sorted"]
    assert (down, up, none) == ("descending", "ascending", None)
    assert best == first == ["adamw", "loren", "loren_iso", "mezo", HOSTILE]
    assert worst == best[::-1]
    assert board["found"] == ["loren", "loren_iso"]
