"""Make every table, picture and notebook of this folder, and what stands of it in docs/, from records/.

    python analysis/make.py

Needs the extra ``dev``. The pages are written again, the records are only read.
"""

import os
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient

from zobench import report
from zobench.system.markdown import between_marks

HERE = Path(__file__).parent
METHODS, ABLATIONS, MEMORY = "records/methods.zip", "records/ablations.zip", "records/memory.zip"
DOCS = HERE.parent / "docs"
PAGE, WHICH = DOCS / "six-methods.md", DOCS / "which-method.md"
MARKS = "<!-- the table of analysis/, by analysis/make.py -->\n", "<!-- end of the table -->\n"


def main() -> None:
    os.chdir(HERE)
    memory = report.load(MEMORY)
    methods, everything = (report.with_memory(report.load(runs), memory) for runs in ([METHODS], [METHODS, ABLATIONS]))
    _tables(methods, "tables/methods")
    _tables(everything, "tables/with-ablations")
    _pictures(methods)
    report.draw_heatmap(everything, "figures/heatmap")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), methods), encoding="utf-8")
    WHICH.write_text(report.which(methods), encoding="utf-8")
    for path in sorted(HERE.glob("*.ipynb")):
        nbformat.write(executed(path, HERE), path)
        print(f"written: {path.name}")


def with_table(text: str, methods: pd.DataFrame) -> str:
    """A page's text with the table of the runs between its marks."""
    return between_marks(text, MARKS, report.tables(methods)[0].markdown(), PAGE)


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs that it has when it is run from top to bottom in a folder.

    Raises:
        CellExecutionError: if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.clear()
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=resources, record_timing=False).execute()
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}  # not the versions of whoever ran it
    return notebook


def _tables(frame: pd.DataFrame, path: str) -> None:
    tables = report.tables(frame)
    for suffix in (".md", ".tex", ".csv"):
        print(f"written: {report.write(tables, path + suffix)}")
    for task, runs in frame.groupby("task"):
        print(f"written: {report.write([report.grid(runs)], f'{path}-rates-{task}.md')}")


def _pictures(frame: pd.DataFrame) -> None:
    for task, runs in frame.groupby("task"):
        for name, draw in (
            ("curves", report.draw_curves),
            ("pareto", report.draw_pareto),
            ("times", report.draw_times),
        ):
            print("written:", *draw(runs, f"figures/{task}-{name}"))


if __name__ == "__main__":
    main()
