"""The command ``python -m zobench.rules``: rules of a comparison, and its runs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zobench.config.options import own_folder
from zobench.errors import ConfigError, UserError, complain, tolerant_streams

if TYPE_CHECKING:
    from zobench.rules.files import Rules, Workload

PROGRAM = "zobench.rules"


def main(arguments: list[str] | None = None) -> int:
    """List the rules, or run a comparison by them.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The exit code: 0, 1 where something is wrong, 2 for wrong arguments, 130 after Ctrl-C.
    """
    tolerant_streams()
    asked = _parser().parse_intermixed_args(arguments)
    try:
        return _run(asked)
    except UserError as error:
        return complain(error, PROGRAM)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {PROGRAM}", description="Rules of a comparison, and its runs.")
    parser.add_argument("command", choices=["run"])
    parser.add_argument(
        "inputs", nargs="*", metavar="key=value", help="what the workload asks for, such as data.dir=DIR"
    )
    parser.add_argument("--version", default="v1", help="of the rules")
    parser.add_argument("--workload", default="", metavar="NAME,..", help="these; all unless given")
    parser.add_argument("--ruleset", default="tuned,fixed,seconds", metavar="NAME,..")
    parser.add_argument("--runs", type=Path, required=True, metavar="RUNS", help="where the runs lie")
    parser.add_argument("--only", default="", metavar="ENTRY,..", help="these entries; all unless given")
    parser.add_argument("--seeds", metavar="1,2,..", help="of scored runs; the ruleset's unless given")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many share the runs")
    parser.add_argument("--dry-run", action="store_true", help="show what would run, with hours and memory")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options, entries and workloads of one's own")
    return parser


def _run(asked: argparse.Namespace) -> int:
    from zobench.rules.files import load

    folders = [own_folder(asked.config_dir)] if asked.config_dir else []
    rules = load(asked.version, folders)
    rulesets, entries = rules.chosen("ruleset", asked.ruleset), rules.chosen("entry", asked.only)
    workloads = rules.chosen("workload", asked.workload)
    _check_inputs(workloads, asked.inputs)
    seeds = _seeds(asked.seeds, rules)
    from zobench.rules.stages import Comparison

    processes = max(1, asked.processes)
    comparison = Comparison(rules, asked.runs, asked.inputs, folders, processes, seeds, asked.dry_run)
    for workload in workloads:
        comparison.run(workload, rulesets, entries)
    return 0


def _check_inputs(workloads: "list[Workload]", words: list[str]) -> None:
    given = {word.partition("=")[0] for word in words}
    for workload in workloads:
        if missing := [key for key in workload.inputs if key not in given]:
            raise ConfigError(f"{workload.name}: expected {' and '.join(f'{key}=DIR' for key in missing)} too")
        if extra := sorted(given - {*workload.inputs, "device"}):
            raise ConfigError(
                f"{extra[0]}: {workload.name} sets it by its rules; give {', '.join(workload.inputs)} alone"
            )
    if len([each for each in workloads if "model.dir" in each.inputs]) > 1:
        raise ConfigError("several workloads with a model.dir: each has a model of its own, so run them one by one")


def _seeds(text: str | None, rules: "Rules") -> list[int] | None:
    """The seeds that are asked for; those of trials are none."""
    if text is None:
        return None
    tried = {ruleset.trial_seed for ruleset in rules.rulesets.values() if ruleset.trials}
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text}: expected numbers with commas, such as 1,2,3") from None
    if wrong := tried.intersection(seeds):
        raise ConfigError(f"--seeds {text}: seed {wrong.pop()} is that of the trials, which are not scored")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
