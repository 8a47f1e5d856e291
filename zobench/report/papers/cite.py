"""BibTeX of what runs are made of: methods, update rules, tasks, models and ways of tuning."""

from functools import cache
from pathlib import Path

import pandas as pd
import yaml

import zobench
from zobench.errors import UserError
from zobench.record.summaries import RESULTS

_FOLDER = Path(__file__).parent
_OWN = f"""@misc{{zobench,
  author = {{{{The zobench authors}}}},
  title = {{zobench: comparing zeroth-order fine-tuning methods for language models}},
  note = {{Version {zobench.__version__}}},
}}"""


@cache
def references() -> dict[str, str]:
    """Read the entries of references.bib by their keys.

    >>> print(references()["mi2025kerzoo"].splitlines()[0])
    @misc{mi2025kerzoo,
    """
    paragraphs = (_FOLDER / "references.bib").read_text(encoding="ascii").strip().split("\n\n")
    return {entry.partition("{")[2].partition(",")[0]: entry for entry in paragraphs if entry.startswith("@")}


@cache
def citations() -> dict[str, dict[str, list[str]]]:
    """Read which entries to cite, for each column of a record and each of its values.

    >>> citations()["task"]["sst2"]
    ['wang2019glue', 'socher2013sst']
    """
    return dict(yaml.safe_load((_FOLDER / "citations.yaml").read_text(encoding="utf-8")))


def cite(frame: pd.DataFrame) -> str:
    """Write BibTeX of zobench and of all that the finished and diverged runs are made of.

    Above each entry stands what it is for. What zobench has no entry for is named at the end. Rows that zobench brings
    along (``data=mini``) are from no data set.

    Args:
        frame: runs from ``load``.

    Raises:
        UserError: if no run is finished or diverged.
    """
    runs = frame[frame["state"].isin(RESULTS)] if len(frame) else frame
    if runs.empty:
        raise UserError("no finished or diverged run to cite for; choose a folder with one")
    runs = runs.reindex(columns=[*citations(), "data"])  # records of other ages lack some
    uses: dict[str, list[str]] = {key: [] for key in references()}
    unknown = []
    for column, known in citations().items():
        rows = runs[runs["data"].ne("mini")] if column == "task" else runs
        for name in sorted(set(rows[column].dropna().astype(str))):
            use = f"{column.rpartition('.')[2]} {_plain(name)}"
            for key in known.get(name, ()):
                uses[key].append(use)
            if name not in known and column != "method.rule":  # rules of other names are parts of their methods
                unknown.append(use)
    entries = [f"% for {', '.join(used)}\n{references()[key]}" for key, used in uses.items() if used]
    rest = [f"% no entry, see what its authors ask for: {', '.join(unknown)}"] if unknown else []
    return "\n\n".join([_OWN, *entries, *rest])


def _plain(name: str) -> str:
    """Keep a name to one line without an @, which would begin an entry outside of entries too."""
    return " ".join(name.replace("@", "(at)").split())
