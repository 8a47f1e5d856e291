"""A comparison as files: a page of tables and pictures, the numbers as CSV, and README's part."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from zobench.errors import ConfigError
from zobench.report.pictures.picture import Picture
from zobench.report.typeset.table import Table
from zobench.report.typeset.write import write_text
from zobench.report.workloads.comparison import ENDS, STAGES, TUNED, Compared
from zobench.report.workloads.headline import claims, headline, headline_notes, power_table
from zobench.report.workloads.pictures import forest_picture, headline_picture, profile_picture, ranks_picture
from zobench.report.workloads.profiles import areas
from zobench.report.workloads.scores import costs, scores, together
from zobench.report.workloads.tables import LEGEND, ablations_table, overall_table, place_table
from zobench.system.markdown import between_marks

#: between these lines of a page stands what is generated
MARKS = "<!-- the comparison, by python -m zobench.rules report -->\n", "<!-- end of the comparison -->\n"
PAGE, PICTURE = "comparison.md", "headline"
#: entries that a short text names one by one
NAMED = 12
#: title of a cost -> the stage that it is read at, and its column
COSTS = {
    "forward passes": ("tuned", "target_forwards"), "seconds": ("seconds", "target_seconds"),
    "forward passes, shipped settings": ("fixed", "target_forwards"),
}  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A comparison, and the numbers that are told of it.

    Args:
        compared: the runs.
    """

    compared: Compared

    @cached_property
    def found(self) -> pd.DataFrame:
        """The lines of ``scores``."""
        return scores(self.compared)

    @cached_property
    def overall(self) -> pd.DataFrame:
        """The lines of ``together``."""
        return together(self.compared, self.found)

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """Name of the file -> picture."""
        found, overall, of = self.found, self.overall, self.compared.of
        compared = found[found["delta"].notna() & ~found["entry"].isin(ENDS)]
        pictures = {PICTURE: headline_picture(found, overall, of)} if len(compared) else {}
        pictures |= {"profiles": profile_picture(self._costs, of)} if self._costs else {}
        for stage in self.compared.stages:
            if stage in set(compared["stage"]):
                pictures[f"{stage}-differences"] = forest_picture(found, overall, stage, of)
                pictures[f"{stage}-ranks"] = ranks_picture(found, overall, stage, of)
        return pictures

    def said(self) -> str:
        """What can be said at every stage, and the table of the headline."""
        return f"{self._claims(self.compared.stages)}\n\n{self._table(self.compared.stages)}"

    def write(self, out: Path) -> list[Path]:
        """Write the page, its pictures, and ``scores.csv`` and ``overall.csv`` with all digits.

        Args:
            out: a folder. A page ``comparison.md`` that is there keeps what stands outside its marks.

        Returns:
            The files.

        Raises:
            ConfigError: if the page that is there has no marks.
        """
        page = out / PAGE
        text = read_page(page) if page.is_file() else f"# Comparison\n\n{MARKS[0]}{MARKS[1]}"
        between_marks(text, MARKS, "", page)  # refuses before anything is written
        files = [file for name, picture in self.pictures.items() for file in picture.save(out / f"{name}.png")]
        tables = {"scores": self.found, "overall": self.overall}
        files += [write_text(out / f"{name}.csv", Table(frame, {}, []).csv()) for name, frame in tables.items()]
        return [*files, write_text(page, between_marks(text, MARKS, self._text(), page))]

    def write_readme(self, readme: Path, out: Path) -> Path:
        """Put claims, the picture that ``write`` left and, folded, the table between the marks of a page elsewhere.

        Args:
            readme: the page, which has the marks.
            out: the folder that was written.

        Raises:
            ConfigError: if there is no such page, or it has no marks.
        """
        picture = Path(os.path.relpath(out / f"{PICTURE}.png", readme.parent)).as_posix()
        stages = [stage for stage in self.compared.stages if stage in TUNED] or self.compared.stages
        table = f"<details markdown>\n<summary>The same in numbers</summary>\n\n{self._table(stages)}\n\n</details>"
        part = "\n\n".join([self._claims(stages, NAMED), self._shown(PICTURE, picture), table])
        return write_text(readme, between_marks(read_page(readme), MARKS, part, readme))

    def _claims(self, stages: Sequence[str], most: float = math.inf) -> str:
        """What can be said at some stages; see ``claims``."""
        said = []
        for stage in stages:
            lines = "\n".join(f"- {each}" for each in claims(self.found, self.overall, stage, most))
            said.append(f"**{STAGES[stage].capitalize()}**\n\n{lines}")
        return "\n\n".join(said)

    def _table(self, stages: Sequence[str]) -> str:
        """The table of some stages, with what it rests on."""
        table = headline(self.found, self.overall, stages)
        notes = [*headline_notes(self.found), *table.notes, *self.compared.notes]
        return replace(table, notes=notes).markdown().strip("\n")

    def _text(self) -> str:
        parts = [self.said(), self._shown(PICTURE), "## How to read the tables"]
        parts += ["\n".join(f"- {note}" for note in LEGEND)]
        power = power_table(self.compared)
        parts += [power.markdown()] if power.rows else []
        if self._costs:
            parts += ["## Time to the target", self._shown("profiles")]
        for stage in self.compared.stages:
            parts += [f"## {STAGES[stage].capitalize()}", *(table.markdown() for table in self.over_all(stage))]
            parts += [self._shown(f"{stage}-differences"), self._shown(f"{stage}-ranks")]
            here = self.found[self.found["stage"].eq(stage)]
            parts += [place_table(lines).markdown() for _, lines in here.groupby("workload")]
        return "\n\n".join(part.strip("\n") for part in parts if part)

    def over_all(self, stage: str) -> list[Table]:
        """The tables of a stage over all workloads: all entries, where there are several workloads, and ablations."""
        profiles = {title: areas(table) for title, table in self._costs.items() if COSTS[title][0] == stage}
        lines = self.overall[self.overall["stage"].eq(stage)]
        tables = [overall_table(lines, profiles)] if self.found["workload"].nunique() > 1 else []
        ablations = ablations_table(self.found, self.overall, stage)
        return [*tables, ablations] if ablations.rows else tables

    @cached_property
    def _costs(self) -> dict[str, pd.DataFrame]:
        tables = {title: costs(self.found, *where) for title, where in COSTS.items()}
        return {title: each for title, each in tables.items() if each.lt(math.inf).to_numpy().any()}

    def _shown(self, name: str, path: str = "") -> str:
        """A picture in Markdown; empty where there was nothing to draw."""
        if name not in self.pictures:
            return ""
        return f"![{_one_line(self.pictures[name].alt)}]({path or f'{name}.png'})"


def read_page(path: Path) -> str:
    """The text of a page. Raises ConfigError if there is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give a page with the lines {MARKS[0].strip()} and {MARKS[1].strip()}")
    return path.read_text(encoding="utf-8")


def _one_line(text: str) -> str:
    return re.sub(r"[\[\]\n]", " ", text)
