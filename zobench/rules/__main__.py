"""The command ``python -m zobench.rules``: rules of a comparison, its runs, and whether they keep the rules."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zobench.config.options import own_folder
from zobench.errors import ConfigError, MissingExtra, UserError, complain, did_you_mean, show, tolerant_streams

if TYPE_CHECKING:
    from zobench.rules.files import Rules, Workload

PROGRAM = "zobench.rules"


def main(arguments: list[str] | None = None) -> int:
    """List the rules, show a version, run a comparison, check or pack its records, or print targets.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The exit code: 0, 1 where a rule is broken or something failed, 2 for wrong arguments, 130 after Ctrl-C.
    """
    tolerant_streams()
    given = sys.argv[1:] if arguments is None else arguments
    name = given[0] if given and not given[0].startswith("-") else ""
    if name not in _COMMANDS:
        hint = did_you_mean(name, _COMMANDS, otherwise=f"; one of {' '.join(filter(None, _COMMANDS))}")
        return complain(ConfigError(f"{name}: no such command{hint}"), PROGRAM)
    parser = argparse.ArgumentParser(prog=f"python -m {PROGRAM} {name}".rstrip(), description=_COMMANDS[name].__doc__)
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options, entries and workloads of one's own")
    try:
        return _COMMANDS[name](parser, given[1:] if name else given)
    except UserError as error:
        return complain(error, PROGRAM)
    except KeyboardInterrupt:
        return 130


def _list(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """List versions, rulesets, workloads and entries. Commands: show, run, check, targets, report, pack (--help)."""
    from zobench.rules.tell import listing

    asked = parser.parse_args(words)
    show(listing(_rules(asked, "v1")))
    return 0


def _show(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Show what a version of the rules allows."""
    parser.add_argument("version", nargs="?", default="v1")
    asked = parser.parse_args(words)
    from zobench.rules.tell import version

    show(version(_rules(asked, asked.version)))
    return 0


def _run(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Run what is left of a comparison: the same command goes on."""
    parser.add_argument("inputs", nargs="*", metavar="key=value", help="what a workload asks for, such as data.dir=DIR")
    parser.add_argument("--version", default="v1", help="of the rules")
    parser.add_argument("--workload", default="", metavar="NAME,..", help="these; all unless given")
    parser.add_argument(
        "--ruleset", default="tuned,fixed,seconds", metavar="NAME,..", help="tuned,fixed,seconds if not said"
    )
    parser.add_argument("--runs", type=Path, required=True, metavar="RUNS", help="where the runs lie")
    parser.add_argument("--only", default="", metavar="ENTRY,..", help="these entries; all unless given")
    parser.add_argument("--seeds", metavar="1,2,..", help="of scored runs; the ruleset's unless given")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many share the runs")
    parser.add_argument("--dry-run", action="store_true", help="show what would run, with hours and memory")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again")
    asked = parser.parse_intermixed_args(words)
    rules = _rules(asked, asked.version)
    rulesets, entries = rules.chosen("ruleset", asked.ruleset), rules.chosen("entry", asked.only)
    workloads = rules.chosen("workload", asked.workload)
    _check_inputs(workloads, asked.inputs)
    if asked.processes < 1:
        raise ConfigError(f"--processes {asked.processes}: expected 1 or more")
    seeds = _seeds(asked.seeds, rules)
    from zobench.rules.stages import Comparison

    comparison = Comparison(rules, asked.runs, asked.inputs, _own(asked), asked.processes, seeds, asked.dry_run)
    comparison.retry_failed = asked.retry_failed
    for workload in workloads:  # before the first run: it may be hours until the last one is asked for
        comparison.check(workload, entries)
    for workload in workloads:
        comparison.run(workload, rulesets, entries)
    return int(comparison.failed)


def _check(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Check that records keep the rules, and print what every entry was given."""
    _of_records(parser)
    asked = parser.parse_args(words)
    rules = _rules(asked, asked.version)
    from zobench.rules.check import broken, table
    from zobench.rules.records import Records

    records = Records(rules, asked.runs, _own(asked))
    if not records.held and not records.left_out:
        raise UserError(
            f"{asked.runs[0]}: no run of a workload of {rules.version}; expected folders such as {asked.runs[0]}/tuned"
        )
    show(table(records))
    lines = broken(records)
    show("\n".join(["", *lines, f"{len(lines)} line{'s' * (len(lines) > 1)}" if lines else "all rules kept"]))
    return 1 if lines else 0


def _targets(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Print targets: the dev loss and dev metric that the reference reaches on each workload."""
    _of_records(parser)
    asked = parser.parse_args(words)
    rules = _rules(asked, asked.version)
    from zobench.rules.records import Records
    from zobench.rules.targets import as_yaml, measured

    show(as_yaml(measured(Records(rules, asked.runs, _own(asked)))).rstrip())
    return 0


def _report(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Write the tables and pictures of a comparison: which entries are better, beyond doubt, and at what cost."""
    _of_records(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="for the page and its pictures; else the claims are shown"
    )
    parser.add_argument("--workload", default="", metavar="NAME,..", help="these; all unless given")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="a page that gets the headline between its marks")
    asked = parser.parse_args(words)
    if asked.readme and not asked.out:
        raise ConfigError(f"--readme {asked.readme}: its picture lies in the folder of --out; give one")
    rules = _rules(asked, asked.version)
    workloads = [each.name for each in rules.chosen("workload", asked.workload)]
    from zobench.rules.records import Records

    records = Records(rules, asked.runs, _own(asked))
    try:
        from zobench.rules.report import claims, write
    except ModuleNotFoundError as error:
        raise MissingExtra("report", error) from error
    if not asked.out:
        show(claims(records, workloads))
        return 0
    for file in write(records, asked.out, asked.readme, workloads):
        show(f"written: {file}")
    return 0


def _pack(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Pack the records of a comparison into a zip for each workload, which the other commands read."""
    _of_records(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the zips")
    asked = parser.parse_args(words)
    rules = _rules(asked, asked.version)
    from zobench.rules.pack import pack
    from zobench.rules.records import Records

    for file in pack(Records(rules, asked.runs, _own(asked)), asked.out):
        show(f"written: {file}")
    return 0


def _of_records(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="the folder that run --runs wrote to, or zips of it")
    parser.add_argument("--version", default="v1", help="of the rules")


_COMMANDS = {
    "": _list, "show": _show, "run": _run, "check": _check, "targets": _targets, "report": _report,
    "pack": _pack,
}  # fmt: skip


def _own(asked: argparse.Namespace) -> list[Path]:
    return [own_folder(asked.config_dir)] if asked.config_dir else []


def _rules(asked: argparse.Namespace, version: str) -> "Rules":
    from zobench.rules.files import load

    return load(version, _own(asked))


def _check_inputs(workloads: "list[Workload]", words: list[str]) -> None:
    given = {word.partition("=")[0] for word in words}
    for workload in workloads:
        if missing := [key for key in workload.inputs if key not in given]:
            raise ConfigError(f"{workload.name}: expected {' and '.join(f'{key}=DIR' for key in missing)} too")
        if extra := sorted(given - {*workload.inputs, "device"}):
            allowed = " and ".join((*workload.inputs, "device"))
            raise ConfigError(
                f"{extra[0]}: the rules of {workload.name} leave {allowed} to you, nothing else; leave it away"
            )
    if len([each for each in workloads if "model.dir" in each.inputs]) > 1:
        raise ConfigError("several workloads with a model.dir: each has a model of its own; give one with --workload")


def _seeds(text: str | None, rules: "Rules") -> list[int] | None:
    """The seeds that are asked for; that of trials is none."""
    if text is None:
        return None
    try:
        seeds = [*dict.fromkeys(int(word) for word in text.split(","))]
        if min(seeds) < 0:
            raise ValueError
    except ValueError:
        raise ConfigError(f"--seeds {text}: expected numbers with commas, such as 1,2,3") from None
    if (tried := rules.searched.trial_seed) in seeds:
        raise ConfigError(f"--seeds {text}: seed {tried} is that of the trials, which are not scored; leave it away")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
