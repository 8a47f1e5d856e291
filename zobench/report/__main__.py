"""``python -m zobench.report runs``: the comparison table in the terminal, and files on request."""

import argparse
import sys
from pathlib import Path

import pandas as pd

import zobench.report as report
from zobench.errors import ConfigError, UserError, nearest
from zobench.report.choose import text


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 1 for what the runs do not allow, 2 for arguments that are wrong."""
    asked = _parser().parse_args(arguments)
    try:
        _write(asked, _select(_found(asked.runs), asked.where))
    except (UserError, OSError) as error:
        print(f"zobench.report: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zobench.report", description="Tables and pictures from run directories."
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folder with run directories, at any depth")
    parser.add_argument("--table", metavar="FILE.md", help="write the comparison table as Markdown")
    parser.add_argument("--csv", metavar="FILE.csv", help="write its numbers")
    parser.add_argument("--grid", metavar="FILE.md", help="write every learning rate of every method, as Markdown")
    parser.add_argument("--curves", metavar="FILE.png", help="draw losses and dev metric (.png, .svg, .pdf)")
    parser.add_argument("--lens", metavar="FILE.png", help="draw how good the estimates are (.png, .svg, .pdf)")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE",
        help="keep runs with this value, or one of several: method=mezo,loren; may be repeated",
    )  # fmt: skip
    return parser


def _found(folders: list[str]) -> pd.DataFrame:
    frame = report.load(folders)
    if frame.empty:
        left_out = frame.attrs["left_out"]
        why = "".join(f"\n  {directory}: {reason}" for directory, reason in left_out[:5])
        raise UserError(f"no runs below {', '.join(folders)}; a run is a folder with a summary.json{why}")
    return frame


def _select(frame: pd.DataFrame, conditions: list[str]) -> pd.DataFrame:
    """Raises ConfigError for a condition that is malformed, of an unknown key, or that no run meets."""
    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        if not equals:
            raise ConfigError(f"--where {condition}: expected KEY=VALUE, such as task=sst2")
        if key not in frame:
            guess = nearest(key, frame.columns)
            raise ConfigError(f"--where {condition}: no run has {key}" + (f"; did you mean {guess}?" if guess else ""))
        values = frame[key].map(text)
        kept = frame[values.isin({_as_text(word) for word in wanted.split(",")})]
        if kept.empty:
            raise ConfigError(f"--where {condition}: no run left; {key} is one of {', '.join(sorted(set(values)))}")
        frame = kept
    return frame


def _as_text(word: str) -> str:
    """``1e-3`` as the records' ``0.001``."""
    try:
        return text(float(word))
    except ValueError:
        return word


def _write(asked: argparse.Namespace, frame: pd.DataFrame) -> None:
    files: list[Path] = []
    if asked.curves:
        files += report.draw_curves(frame, asked.curves)
    if asked.lens:
        files += report.draw_lens(frame, asked.lens)
    table = report.comparison(frame)
    texts = {asked.table: table.markdown, asked.csv: table.csv, asked.grid: lambda: report.grid(frame).markdown()}
    for name, content in texts.items():
        if name:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(content(), encoding="utf-8")
            files.append(Path(name))
    print(table.markdown())
    for file in files:
        print(f"written: {file}")


if __name__ == "__main__":
    sys.exit(main())
