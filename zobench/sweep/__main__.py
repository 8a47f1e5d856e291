"""The command ``python -m zobench.sweep GRID``: what a table consists of, how it stands, and running what is left."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zobench.config.folders import conf_dir
from zobench.config.options import own_folder
from zobench.config.words import ALLOW_FOREIGN, quoted
from zobench.errors import UserError, complain, show, tolerant_streams

if TYPE_CHECKING:
    from zobench.sweep.plan import PlannedCell


def main(arguments: list[str] | None = None) -> int:
    """List grids, look at one, or run what is left of it.

    Args:
        arguments: words behind the program's name; those of the process if None.

    Returns:
        The exit code: 0, 1 if a cell failed, 2 for arguments that are wrong, 130 after Ctrl-C.
    """
    tolerant_streams()
    asked = _parser().parse_intermixed_args(arguments)
    try:
        if asked.grid is None:
            show(_listing(asked.config_dir))
            return 0
        if asked.dry_run or asked.status or asked.watch:
            return _look(asked)
    except UserError as error:
        return complain(error, "zobench.sweep")
    except KeyboardInterrupt:
        return 130
    return _run(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zobench.sweep",
        description="Run a table of cells. What is finished is skipped, what was stopped goes on. "
        "Without GRID: the grids there are.",
    )
    parser.add_argument("grid", nargs="?", metavar="GRID", help="a grid's name, or the path of a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every cell; wins over the grid")
    look = parser.add_mutually_exclusive_group()
    look.add_argument("--dry-run", action="store_true", help="show what would run, with hours and memory")
    look.add_argument("--status", action="store_true", help="show how the sweep stands")
    look.add_argument("--watch", action="store_true", help="show it until nothing is left to run")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="these cells: method=mezo,loren; may be repeated",
    )
    parser.add_argument("--launcher", metavar="NAME", help="Hydra's launcher: basic (default), joblib, ...")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options and grids of one's own")
    parser.add_argument(
        ALLOW_FOREIGN, action="store_true", help="let options of --config-dir have Hydra run code of others"
    )
    return parser


def _listing(config_dir: str | None) -> str:
    from zobench.sweep.grids import find, named

    folders = [own_folder(config_dir)] if config_dir else []
    grids = [find(name, folders) for name in named(folders)]
    width = max(len(grid.name) for grid in grids) + 2
    lines = [f"  {grid.name:<{width}}{grid.description}" for grid in grids]
    return "\n".join(["python -m zobench.sweep GRID, with GRID one of", *lines, "or a YAML file of one's own"])


def _look(asked: argparse.Namespace) -> int:

    from zobench.estimate.costs import Costs
    from zobench.sweep import dry, grids
    from zobench.sweep.overview import Overview, watch
    from zobench.sweep.plan import select
    from zobench.sweep.remember import remembered
    from zobench.system.console import Terminal

    own = [own_folder(asked.config_dir)] if asked.config_dir else []
    lines = grids.find(asked.grid, own).arguments(asked.overrides, own)
    cells = select(remembered(lines, [conf_dir(), *own], lambda: _planned(lines, own)), asked.only)
    console = Terminal(highlight=False)
    costs = Costs({Path(cell.settings["runs_dir"]) for cell in cells})
    if asked.dry_run:
        dry.show(Overview(cells), costs, console, retry_failed=asked.retry_failed)
    elif asked.watch:
        watch(cells, costs, console)
    else:
        Overview(cells).show(console, costs)
    return 0


def _planned(lines: list[list[str]], own: list[Path]) -> "list[PlannedCell]":
    """The cells of a grid's lines, composed by Hydra; ``own`` are folders of options beside zobench's."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from zobench.config.signature import register
    from zobench.sweep.plan import Planner

    search = [f"hydra.searchpath=[file://{folder.resolve()}]" for folder in own]
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        planner = Planner(
            lambda overrides: compose("config", overrides=[*search, *overrides], return_hydra_config=True),
            [conf_dir(), *own],
            config_loader=GlobalHydra.instance().config_loader(),
        )
        return planner.cells(lines)


def _run(asked: argparse.Namespace) -> int:
    """Do what ``python -m zobench --multirun`` does, with a grid in the place of one line."""
    from zobench.__main__ import main as zobench

    only = [quoted(word) for word in asked.only]
    sys.argv = ["zobench", "--multirun", f"hydra.sweeper.grid={quoted(asked.grid)}"]
    sys.argv += [f"hydra.sweeper.only=[{','.join(only)}]", "hydra.sweeper.retry=--retry-failed"]
    sys.argv += ["hydra.sweeper.retry_failed=true"] if asked.retry_failed else []
    sys.argv += [f"hydra/launcher={asked.launcher}"] if asked.launcher else []
    sys.argv += [ALLOW_FOREIGN] if asked.allow_foreign else []
    sys.argv += ["--config-dir", asked.config_dir] if asked.config_dir else []
    sys.argv += asked.overrides
    zobench()
    return 0


if __name__ == "__main__":
    sys.exit(main())
