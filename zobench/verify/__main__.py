"""``python -m zobench.verify RUNS``: whether runs are what their records say, and a verdict for each."""

import argparse
import random
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zobench.config.options import own_folder
from zobench.errors import ConfigError, UserError, complain, first_line, show, tolerant_streams

if TYPE_CHECKING:
    from zobench.record.archive import Place
    from zobench.verify.comparison import Comparison
    from zobench.verify.verdict import Verdict

_INPUTS = {"data.dir": "data", "model.dir": "model"}


def main(arguments: list[str] | None = None) -> int:
    """Hold runs against their records, and print a verdict for each.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The exit code: 0, 1 if a run is refuted or a rule broken, 2 for wrong arguments, 130 after Ctrl-C.
    """
    tolerant_streams()
    options = _parser().parse_intermixed_args(arguments)
    try:
        return _verify(options)
    except UserError as error:
        return complain(error, "zobench.verify")
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zobench.verify",
        description="Hold runs against their records: files, rules, and weights and scores that are made again.",
    )
    parser.add_argument("words", nargs="+", metavar="RUNS",
        help="folders of runs or of a comparison's stages, or zips of either; data.dir=DIR, model.dir=DIR")  # fmt: skip
    parser.add_argument("--workload", default="", metavar="NAME,..", help="of a comparison these; all unless given")
    parser.add_argument("--only", default="", metavar="ENTRY,..", help="of a comparison these; all unless given")
    parser.add_argument("--sample", type=int, metavar="N", help="replay and evaluate N runs, drawn anew each time")
    parser.add_argument("--no-replay", action="store_true", help="check files and rules alone")
    parser.add_argument("--config-dir", metavar="DIR", help="entries and workloads that the comparison has of its own")
    parser.add_argument(
        "--submission", action="store_true", help="RUNS is one: say so where submission.yaml is missing"
    )
    parser.add_argument("--version", help="of the rules; that of submission.yaml, else v1, unless given")
    parser.add_argument("--trust-code", metavar="FOLDER",
        help="run the Python code in this folder, which holds the options of a method of one's own")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    return parser


def _verify(options: argparse.Namespace) -> int:
    runs = [word for word in options.words if "=" not in word or Path(word).exists()]
    folders = _folders([word for word in options.words if word not in runs])
    if not runs:
        raise ConfigError("no folder or zip of runs is given")
    if options.sample is not None and options.sample < 0:
        raise ConfigError(f"--sample {options.sample}: expected 0 or more")
    if options.json and not options.json.parent.is_dir():
        raise ConfigError(f"--json {options.json}: no such folder as {options.json.parent}; make it first")
    beside = [own_folder(options.config_dir)] if options.config_dir else []
    code = own_folder(options.trust_code) if options.trust_code else None
    trusted = code / "options" if code and not (code / "rules").is_dir() and (code / "options").is_dir() else code
    from zobench.atomic import write_atomically
    from zobench.record.archive import locate
    from zobench.rules.files import load
    from zobench.verify import comparison, submission, tell

    submissions = [found for found in (submission.read(locate(each)) for each in runs) if found]
    if submissions and len(runs) > 1:
        raise ConfigError(f"{', '.join(runs)}: a submission is verified alone; give its folder and no other")
    submitted = submissions[0] if submissions else None
    version = options.version or str((submitted.content.get("rules") if submitted else None) or "v1")
    if submitted:
        submission.check_entry(submitted, load(version, beside))
        submitted.problems += submission.wrong_entries(trusted) if trusted else []
    allow = _trust(code) if code else []
    own = [*beside, *filter(None, [trusted])]
    if submitted and trusted and (entry := submitted.content.get("entry")) not in load(version, own).entries:
        raise ConfigError(
            f"--trust-code {code}: no entry {entry} in {trusted / submission.ENTRIES}; expected the Python "
            "files of the method, and beside them, or in a folder options, the folders method and rules"
        )
    if submitted and submitted.options and not (trusted or submitted.code):
        own = [*beside, submitted.options]
    rules = load(version, own)
    workloads = {each.name for each in rules.chosen("workload", options.workload) if options.workload}
    entries = {each.name for each in rules.chosen("entry", options.only) if options.only}
    found = comparison.read(runs, rules, own, workloads, entries)
    if "model" in folders:
        comparison.check_one_model(found.places)
    lines = [*(submitted.problems if submitted else ()), *found.lines]
    if submitted and submitted.code and not trusted and not submitted.problems:
        lines += comparison.of_others(runs[0], submitted, version, beside)
    if options.submission and not submitted:
        lines.append(f"{submission.FILE}: missing; a submission says in it whose runs these are")
    drawn = _drawn(found.places, options)
    verdicts = []
    for place in found.places:
        verdicts.append(_of_run(place, found, folders if str(place) in drawn else None, allow))
        show(tell.line(verdicts[-1]))
    show("\n".join(["", tell.table(verdicts), "", *lines, tell.total(verdicts, lines)]))
    if options.json:
        write_atomically(options.json, tell.as_json(verdicts, lines, submitted.content if submitted else None))
    return int(bool(lines) or any(verdict.differs for verdict in verdicts))


def _of_run(place: "Place", found: "Comparison", folders: Mapping[str, str] | None, allow: Sequence[str]) -> "Verdict":
    """The verdict on one run, whatever is wrong with it.

    Args:
        folders: of data and model; None for files and rules alone.
    """
    from zobench.verify import again, files, values
    from zobench.verify.verdict import RULES, WEIGHTS, Verdict

    start, verdict = time.perf_counter(), Verdict(place)
    try:
        record = files.read(verdict, allow)
        outside = record is not None and record.outside
        if found.asked is None:
            verdict.leave(RULES, "no stages of a comparison")
        elif outside and str(place) not in found.asked:
            verdict.leave(RULES, "its entry is made with code of others")
        elif said := found.broken.get(str(place)):
            verdict.differs += [line for line in said if line not in verdict.differs]
        elif str(place) in found.asked:
            verdict.hold(RULES)
        else:
            verdict.leave(RULES, "it lies outside of the comparison's stages")
        if record is not None and not verdict.differs:
            values.check_selection(verdict, record)
            values.check_values(verdict, record)
        if folders is None:
            verdict.leave(WEIGHTS, "not asked for")
        elif record is not None and not outside and not verdict.differs:
            again.make_again(verdict, record, folders, allow)
    except Exception as error:  # a stranger's record may break anything; the other runs go on
        verdict.leave(WEIGHTS, f"{type(error).__name__}: {first_line(error)}")
    verdict.seconds = time.perf_counter() - start
    return verdict


def _folders(words: Sequence[str]) -> dict[str, str]:
    """The folders of data and model among the arguments, by group."""
    found = {}
    for word in words:
        key, given, folder = word.partition("=")
        if key not in _INPUTS or not given:
            raise ConfigError(f"{word}: expected data.dir=DIR or model.dir=DIR")
        if not Path(folder).expanduser().is_dir():
            raise ConfigError(f"{word}: no such folder")
        found[_INPUTS[key]] = folder
    return found


def _drawn(places: "Sequence[Place]", options: argparse.Namespace) -> Collection[str]:
    """The runs that are made again. A sample is drawn from the system's entropy: nobody can know which they will be."""
    names = [] if options.no_replay else [str(place) for place in places]
    if options.sample is not None:
        names = random.SystemRandom().sample(names, min(options.sample, len(names)))
    return set(names)


def _trust(folder: Path) -> list[str]:
    """Make the code in a folder importable, and name its packages."""
    sys.path.append(str(folder.resolve()))
    return [path.stem for path in sorted(folder.iterdir()) if path.suffix == ".py" or (path / "__init__.py").is_file()]


if __name__ == "__main__":
    sys.exit(main())
