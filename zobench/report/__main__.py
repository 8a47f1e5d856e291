"""``python -m zobench.report runs``: the comparison in the terminal, and files on request."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zobench.report as report
from zobench.errors import ConfigError, MissingExtra, UserError, complain, in_one_line, show, tolerant_streams

if TYPE_CHECKING:
    import pandas as pd

_PROGRAM = "zobench.report"
_PICTURES = ("curves", "lens", "pareto", "times", "heatmap")


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 1 for what the runs do not allow, 2 for arguments that are wrong."""
    tolerant_streams()
    asked = _parser().parse_args(arguments)
    try:
        _check(asked)
        if asked.site:
            _write_site(asked)
            return 0
        if asked.zip:
            _pack(asked, _select(_load(asked.runs), asked.where))
            return 0
        runs = report.load(asked.runs) if asked.claims else _load(asked.runs)
        if asked.memory:
            runs = report.with_memory(runs, _load(asked.memory))
        runs = _select(runs, asked.where)
        if asked.claims:
            show(report.claims_sheet(runs))
        elif asked.beside:
            show(report.beside(runs).markdown())
        elif asked.cite:
            show(report.cite(runs))
        elif asked.which:
            from zobench.report.typeset.write import write_text

            show(f"written: {write_text(asked.which, report.which(runs))}")
        else:
            _make(asked, runs)
    except ModuleNotFoundError as error:
        return complain(MissingExtra("report", error), _PROGRAM)
    except (UserError, OSError) as error:
        return complain(error, _PROGRAM)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zobench.report", description="Tables and pictures from run directories.", allow_abbrev=False
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUNS",
        help="folder with run directories, at any depth, a .zip of one, or wandb://ENTITY/PROJECT")  # fmt: skip
    add("--where", action="append", default=[], metavar="KEY=VALUE",
        help="keep runs with this value, or one of several: method=mezo,loren; may be repeated")  # fmt: skip
    add("--memory", action="append", default=[], metavar="RUNS",
        help="take peak memory from these runs, short ones with the same settings; may be repeated")  # fmt: skip
    table = parser.add_argument_group("tables")
    add = table.add_argument
    add("--rows", metavar="KEYS", help="what rows are made of (method)")
    add("--columns", metavar="KEYS", help="what columns are made of (task)")
    add("--reference", default="mezo", metavar="ROW", help="the row against which the others are set (mezo)")
    add("--allow-mixed", action="store_true", help="let models, protocols, budgets and the like differ, and label them")
    add("--table", action="append", default=[], metavar="FILE", help="write the tables: .md, .tex, .html or .csv")
    add("--grid", metavar="FILE", help="write every learning rate of every method of one task: .md, .tex, .html, .csv")
    pictures = parser.add_argument_group("pictures (.png, .svg, .pdf; both .png and .svg without a suffix)")
    add = pictures.add_argument
    add("--curves", metavar="FILE", help="losses and dev metric along the runs of one task")
    add("--against", default="forwards", metavar="KEYS", help="what for: forwards, step, seconds (forwards)")
    add("--lens", metavar="FILE", help="how good the estimates of one task are")
    add("--pareto", metavar="FILE", help="test metric against training time and memory, of one task")
    add("--times", metavar="FILE", help="where the seconds of the runs of one task went")
    add("--heatmap", metavar="FILE", help="the headline table as a picture")
    papers = parser.add_argument_group("the papers")
    add = papers.add_argument
    add("--beside", action="store_true", help="print ours beside the published numbers, any tasks, nothing else")
    add("--claims", action="store_true", help="print the papers' claims and what the runs say of them, nothing else")
    add("--cite", action="store_true", help="print BibTeX of the methods, data sets and models, nothing else")
    whole = parser.add_argument_group("the whole sweep")
    add = whole.add_argument
    add("--which", metavar="FILE", help="write a page on which method to use, by memory, time and size of model: .md")
    add("--html", metavar="FILE", help="write one page with everything; it needs no network")
    add("--zip", metavar="FILE", help="pack the records into one .zip, which RUNS may be, and nothing else")
    add("--wandb", action="store_true", help="send that page to wandb; offline unless WANDB_MODE=online")
    add("--wandb-group", metavar="NAME", help="wandb's group for it (the experiment, or tasks and models)")
    site = parser.add_argument_group("a leaderboard of comparisons and submissions")
    add = site.add_argument
    add(
        "--site",
        type=Path,
        metavar="DIR",
        help="write its pages, and nothing else; RUNS are as zobench.rules left them",
    )
    add("--verification", action="append", default=[], type=Path, metavar="FILE",
        help="what zobench.verify --json wrote of some of the runs; may be repeated")  # fmt: skip
    add("--config-dir", metavar="DIR", help="a folder with entries and workloads of one's own")
    add("--submissions", type=Path, metavar="DIR",
        help="a folder of submissions, to stand beside RUNS; what else lies in it is left out")  # fmt: skip
    add("--docs", default="", metavar="URL", help="the documentation site, which pages of methods link to")
    return parser


def _check(asked: argparse.Namespace) -> None:
    """Refuse files that cannot be written before anything is read. Raises ConfigError."""
    from zobench.report.frames.pack import zip_file
    from zobench.report.pictures.files import picture_files
    from zobench.report.typeset.write import table_file

    for name in [*asked.table, *filter(None, [asked.grid])]:
        table_file(name)
    for name in _PICTURES:
        if path := getattr(asked, name):
            picture_files(path)
    if asked.which and Path(asked.which).suffix != ".md":
        raise ConfigError(f"--which {asked.which}: this page is written as .md")
    if asked.zip:
        zip_file(asked.zip)
    if asked.site:
        from zobench.report.site.write import check_folder

        check_folder(asked.site)
    if asked.submissions and not asked.submissions.is_dir():
        raise ConfigError(f"--submissions {asked.submissions}: no such folder")
    for name in ("verification", "config_dir", "docs", "submissions"):
        if getattr(asked, name) and not asked.site:
            raise ConfigError(f"--{name.replace('_', '-')}: has no effect without --site")
    if asked.wandb_group and not asked.wandb:
        raise ConfigError(f"--wandb-group {asked.wandb_group}: has no effect without --wandb")


def _load(folders: list[str]) -> "pd.DataFrame":
    """Load runs. Raises UserError if there is none, with the reasons."""
    frame = report.load(folders)
    if frame.empty:
        left_out = frame.attrs["left_out"]
        why = "".join(f"\n  {directory}: {reason}" for directory, reason in left_out[:5])
        zips = sorted(str(file) for folder in folders for file in Path(folder).glob("*.zip"))
        how = f"; a zip is read where it is named: {' '.join(zips[:5])}" if zips else ""
        raise UserError(f"no runs below {', '.join(folders)}; a run is a folder with a summary.json{how}{why}")
    return frame


def _write_site(asked: argparse.Namespace) -> None:
    from zobench.config.options import own_folder
    from zobench.leaderboard.read import read
    from zobench.report.site.write import write

    own = [own_folder(asked.config_dir)] if asked.config_dir else []
    content = read(asked.runs, own, asked.verification, asked.docs, asked.submissions)
    pages = write(content, asked.site)
    show(f"written: {asked.site / 'index.html'}, {pages} pages of {len(content.runs)} runs")
    for name, reason in content.left_out:
        show(in_one_line(ValueError(f"left out: {name}: {reason}")))


def _pack(asked: argparse.Namespace, frame: "pd.DataFrame") -> None:
    left_out = [*frame.attrs.get("left_out", ())]
    known = len(left_out)
    path = report.pack(frame, asked.runs, asked.zip, left_out)
    show(f"written: {path}, {len(frame) - len(left_out) + known} runs")
    for directory, reason in left_out:
        show(in_one_line(ValueError(f"left out: {directory}: {reason}")))


def _select(frame: "pd.DataFrame", conditions: list[str]) -> "pd.DataFrame":
    """Raises ConfigError for a condition that is malformed, of an unknown key, or that no run meets."""
    from zobench.report.compare.comparable import check_key, text

    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        if not equals:
            raise ConfigError(f"--where {condition}: expected KEY=VALUE, such as task=sst2")
        check_key(frame, key, f"--where {condition}")
        values = frame[key].map(text)
        kept = frame[values.isin({_as_text(word, text) for word in wanted.split(",")})]
        if kept.empty:
            raise ConfigError(f"--where {condition}: no run left; {key} is one of {', '.join(sorted(set(values)))}")
        frame = kept
    return frame


def _as_text(word: str, text: Callable[[Any], str]) -> str:
    """``1e-3`` as the records' ``0.001``."""
    try:
        return text(float(word))
    except ValueError:
        return word


def _make(asked: argparse.Namespace, frame: "pd.DataFrame") -> None:
    from zobench.report.typeset.write import show_tables, write_text
    from zobench.system.console import Terminal

    axes: dict[str, Any] = {"rows": _keys(asked.rows, "method"), "columns": _keys(asked.columns, "task")}
    options: dict[str, Any] = {"reference": asked.reference, "allow_mixed": asked.allow_mixed}
    one = not (asked.rows or asked.columns) and frame["task"].nunique() == 1
    tables = [report.comparison(frame, **options)] if one else report.tables(frame, **axes, **options)
    files: list[str | Path] = [report.write(tables, name) for name in asked.table]
    if asked.grid:
        files.append(report.write([report.grid(frame, asked.allow_mixed)], asked.grid))
    if asked.curves:
        files += report.draw_curves(frame, asked.curves, _keys(asked.against, "forwards"), asked.allow_mixed)
    if asked.heatmap:
        files += report.draw_heatmap(frame, asked.heatmap, **axes, allow_mixed=asked.allow_mixed)
    for name, draw in (("lens", report.draw_lens), ("pareto", report.draw_pareto), ("times", report.draw_times)):
        if path := getattr(asked, name):
            files += draw(frame, path, asked.allow_mixed)
    if asked.html:
        files.append(write_text(asked.html, report.page(frame, **axes, **options)))
    if asked.wandb:
        sent = report.to_wandb(frame, **axes, **options, group=asked.wandb_group)
        files.append(sent if "://" in sent else f"{sent} (send it with `wandb sync {sent}`)")
    show_tables(tables, Terminal(highlight=False))
    for file in files:
        show(f"written: {file}")


def _keys(words: str | None, default: str) -> list[str]:
    return [word.strip() for word in (words or default).split(",") if word.strip()]


if __name__ == "__main__":
    sys.exit(main())
