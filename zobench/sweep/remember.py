"""A plan of cells is composed once and then read from disk, as long as all that it depends on is the same."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zobench.config.cache import Cache
from zobench.config.labels import label_of, option_of
from zobench.sweep.plan import PlannedCell

_KEPT = 32
#: what may give another value the next time: the environment, the time, Hydra's own node but for the chosen options
_CHANGING = re.compile(r"\$\{(?!signature:|model_label:|hydra:runtime\.choices\.)\s*[\w.]+:")


def remembered(
    lines: Sequence[Sequence[str]],
    folders: Sequence[Path],
    plan: Callable[[], list[PlannedCell]],
    *,
    hydra: Sequence[str] = (),
) -> list[PlannedCell]:
    """The cells that ``plan`` gives, or gave in an earlier process.

    Args:
        lines: lines of overrides.
        folders: configuration folders; their YAML files are part of the key by content.
        plan: composes and checks the cells of the lines.
        hydra: overrides of Hydra's own node under which they are composed.

    Raises:
        ConfigError: as ``plan`` does; only plans without errors are kept.
    """
    texts = list(_texts(folders))
    facts: list[Any] = [version("hydra-core"), version("omegaconf"), lines, hydra, texts]
    if _CHANGING.search(str([lines, texts])) or "searchpath" in str([lines, hydra]):
        return plan()
    kept = Cache("plans", keep=_KEPT)
    known = kept.load(*facts)
    if known is not None and all(map(_has_its_label, known)):
        return [PlannedCell(**cell | {"overrides": tuple(cell["overrides"])}) for cell in known]
    cells = plan()
    kept.store([vars(cell) | {"overrides": list(cell.overrides)} for cell in cells], *facts)
    return cells


def _has_its_label(cell: Mapping[str, Any]) -> bool:
    """Whether a cell's model, where it is a folder of one's own, holds what it held when the plan was made."""
    label, node = cell["settings"]["choices"]["model"], cell["settings"]["model"]
    return label == label_of(option_of("model", label, node), node)


def _texts(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Name and text of all options of some folders."""
    for folder in folders:
        for place, _, files in sorted(os.walk(folder, followlinks=True)):  # as Hydra does
            for path in sorted(Path(place) / name for name in files if name.endswith(".yaml")):
                yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8", errors="replace")
