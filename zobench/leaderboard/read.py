"""Comparisons and submissions as the content of a leaderboard. Nothing of a submission runs."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from zobench.config.folders import conf_dir
from zobench.config.options import describe
from zobench.errors import ConfigError, UserError, told
from zobench.leaderboard.verdicts import FILE, Verdicts
from zobench.record import digests
from zobench.record.archive import Place, below, locate
from zobench.record.reading import Unreadable
from zobench.record.summaries import RESULTS
from zobench.report.frames.runs import LeftOut
from zobench.report.site.content import Content, EntryFacts, RunFacts, Source, WorkloadFacts
from zobench.report.workloads.comparison import Compared, Target
from zobench.rules import load, outside, settings
from zobench.rules.files import TRIALS, Entry, Rules
from zobench.rules.records import Held, Records, Run
from zobench.rules.report import scored_rows, targets_of, trial_rows
from zobench.verify import submission

#: what must be the same of two runs of a workload, where both know it; the second of one draw of rows
_MODEL, _ROWS = "model_checksum", "rows_hash"


@dataclass
class _Part:
    """The records of a comparison or of a submission, by the rules.

    Attributes:
        tops: the folders and zips that they lie in; those of a comparison may be several.
        options: the folder of options that its commands need; empty for none.
    """

    source: Source
    rules: Rules
    held: list[Held]
    tops: Sequence[Place]
    options: str = ""
    targets: dict[str, Target] = field(default_factory=dict)

    def top(self, run: Place) -> Place:
        """The folder or zip that a run lies in."""
        return next(top for top in self.tops if str(run).startswith(f"{top}/"))


def read(
    folders: Sequence[str],
    own: Sequence[Path] = (),
    verifications: Sequence[Path] = (),
    documentation: str = "",
    submissions: Path | None = None,
) -> Content:
    """Read comparisons, and submissions to them.

    Args:
        folders: as ``zobench.rules run`` lays them out, or zips of them; with ``submission.yaml`` they are
            submissions. All others are one comparison.
        own: folders of options with entries and workloads of one's own.
        verifications: files of ``zobench.verify --json``, besides the ``verification.json`` of comparisons. One that
            lies in a submission is not read: it says of itself what it likes.
        documentation: address of zobench's documentation site.
        submissions: a folder of folders that are submissions, or are left out: no comparison, whatever they hold.

    Raises:
        UserError: if a folder is not there, two have one name, no run is scored, or a file of verdicts is none.
    """
    left_out: LeftOut = []
    folders = [*folders, *_only_submissions(submissions, left_out)]
    names = [Path(folder).name for folder in folders]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{twice[0]}: two folders of this name, by which pages are known; rename one of them")
    parts = _agreeing([*_parts(folders, own, left_out)], left_out)
    if not parts:
        raise UserError(f"no scored run below {', '.join(folders)}; expected a folder that zobench.rules run wrote to")
    files = [top / FILE for part in parts if not part.source.said for top in part.tops]
    verdicts = Verdicts([*verifications, *(file for file in files if file.is_file())])
    first = parts[0].rules
    entries: dict[str, EntryFacts] = {}
    runs: dict[tuple[str, str], RunFacts] = {}
    for part in parts:
        for held in part.held:
            entries.setdefault(held.entry.name, _entry(held.entry, part))
            runs |= {(held.entry.name, each.row["directory"]): each for each in _runs(held, part, verdicts, left_out)}
    return Content(
        compared=_compared(parts),
        version=first.version,
        rulesets={name: ruleset.description for name, ruleset in first.rulesets.items()},
        workloads={name: WorkloadFacts(name, each.words, each.forwards) for name, each in first.workloads.items()},
        entries=entries,
        runs=runs,
        left_out=left_out,
        documentation=documentation,
    )


def _only_submissions(top: Path | None, left_out: LeftOut) -> list[str]:
    """The folders below one that say that they are submissions."""
    found = []
    for folder in sorted(each for each in top.iterdir() if each.is_dir()) if top else ():
        if (folder / submission.FILE).is_file():
            found.append(str(folder))
        else:
            left_out.append((folder.name, f"no {submission.FILE} in it"))
    return found


def _parts(folders: Sequence[str], own: Sequence[Path], left_out: LeftOut) -> Iterator[_Part]:
    """The comparison, then each submission; nothing of one that cannot be read, which is then left out."""
    found = {folder: submission.read(locate(folder)) for folder in folders}
    if compared := [folder for folder in folders if found[folder] is None]:
        rules = load("v1", own)
        records = Records(rules, compared, own)
        left_out += records.left_out
        tops, options = records.tops, own[0].name if own else ""
        yield _Part(Source(Path(compared[0]).name), rules, records.held, tops, options, targets_of(records))
    for folder, submitted in found.items():
        if submitted is None:
            continue
        try:
            yield _submitted(folder, submitted, own, left_out)
        except Exception as error:  # a stranger's entry or choice may break anything
            left_out.append((Path(folder).name, told(error)))


def _submitted(folder: str, found: submission.Submission, own: Sequence[Path], left_out: LeftOut) -> _Part:
    top, content = locate(folder), found.content
    submission.check_entry(found, load("v1", own))
    if content.get("rules") != "v1":
        found.problems.append(f"rules={content.get('rules')}: expected v1, those of the comparison")
    if found.problems:
        raise UserError("; ".join(found.problems))
    options = [found.options] if found.options else []
    rules = load("v1", [*own, *options])
    names = submission.names(found, rules)
    if found.code:
        records = Records(load("v1", own), [folder], own)
        held = list(outside.held(records, rules, names))
    else:
        records = Records(rules, [folder], [*own, *options])
        held = [each for each in records.held if each.entry.name in names]
        if others := sorted({each.entry.name for each in records.held} - names):
            left_out.append((top.name, f"runs of {', '.join(others)}: the submission is of {content['entry']}"))
    left_out += records.left_out
    code = content["code"]
    said = {key: str(content[key]) for key in ("who", "method", "licence", "contact") if content.get(key)}
    said |= {"code": f"{code['url']} at {code['commit']}"} if "url" in code else {"code": str(code["wheel"])}
    source = Source(top.name, said, code.get("url", ""), found.code)
    return _Part(source, rules, held, [top], submission.OPTIONS if options else "")


def _agreeing(parts: list[_Part], left_out: LeftOut) -> list[_Part]:
    """Leave out what stands already, and runs of another model or of other rows than those that came first."""
    known: set[tuple[str, str]] = set()
    seen: dict[tuple[str, str, object], object] = {}
    for part in parts:
        kept = []
        for held in part.held:
            workload, entry = held.workload.name, held.entry.name
            wrong = [
                column
                for run in held.runs()
                for column, draw in ((_MODEL, None), (_ROWS, run.row.get("data_seed")))
                if run.row.get(column) and seen.setdefault((workload, column, draw), run.row[column]) != run.row[column]
            ]
            if (workload, entry) in known:
                left_out.append((part.source.name, f"{workload}, {entry}: the board has this entry already"))
            elif wrong:
                left_out.append((part.source.name, f"{workload}, {entry}: its {wrong[0]} is not the comparison's"))
            else:
                kept.append(held)
        known |= {(held.workload.name, held.entry.name) for held in kept}
        part.held = kept
    return [part for part in parts if part.held]


def _compared(parts: Sequence[_Part]) -> Compared:
    targets: dict[str, Target] = {}
    of: dict[str, str] = {}
    for part in parts:
        targets = part.targets | targets
        of |= {name: entry.of for name, entry in part.rules.entries.items() if entry.of is not None}
    held = [each for part in parts for each in part.held]
    return Compared(pd.DataFrame(scored_rows(held)), pd.DataFrame(trial_rows(held)), targets, of)


def _entry(entry: Entry, part: _Part) -> EntryFacts:
    method = settings.method(entry)
    own = [top / submission.OPTIONS for top in part.tops if isinstance(top, Path)]
    folders = [conf_dir(), *own]
    files = [path for folder in folders if (path := folder / "method" / f"{method}.yaml").is_file()]
    space = {key: (str(where), str(entry.shipped.get(key))) for key, where in entry.space.items()}
    described = describe(files[0]) if files else ""
    return EntryFacts(entry.name, method, described, entry.words, space, part.source)


def _runs(held: Held, part: _Part, verdicts: Verdicts, left_out: LeftOut) -> Iterator[RunFacts]:
    chosen = held.kept or held.chosen or {}
    told = [(TRIALS, number, run) for number, run in enumerate(held.trials) if run is not None]
    scored = [(stage, None, run) for stage, of in held.scored.items() for run in of.values()]
    for stage, number, run in [*told, *scored]:
        if run.row["state"] not in RESULTS:
            continue
        try:
            digest = digests.of_record(run.place)
        except Unreadable as error:
            digest = ""
            left_out.append((str(run.place), error.said))
        top = part.top(run.place)
        source = part.source if part.source.said else Source(Path(str(top)).name)
        yield RunFacts(
            stage, held.workload.name, held.entry.name, run.row["seed"], source, below(run.place, top),
            _command(held, run, part), digest, verdicts.of(digest, run.row), {**run.row, "directory": str(run.place)},
            number, number is not None and number == chosen.get("trial"),
        )  # fmt: skip


def _command(held: Held, run: Run, part: _Part) -> str:
    """The command that makes a run again, from data and model wherever they lie."""
    words = held.words.get(str(run.place), {})
    options = ["--config-dir", part.options] if part.options else []
    given = [*options, *(f"{key}={value}" for key, value in words.items()), *(f"{k}=DIR" for k in held.workload.inputs)]
    return shlex.join(["python", "-m", "zobench", *given]) if words else ""
