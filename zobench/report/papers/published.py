"""The published numbers, as data: one CSV file a paper, in ``published/``."""

from pathlib import Path

import pandas as pd

#: what one number is identified by; ``setting`` tells apart what a paper reports several times
KEY = ("paper", "table", "model", "task", "method", "tuning", "setting", "metric", "unit")
COLUMNS = (*KEY, "against", "value", "deviation", "n_seeds", "protocol", "source", "via")
METRICS = (
    "accuracy", "f1", "score", "dev_accuracy", "train_loss", "dev_loss", "peak_memory", "gpu_hours", "steps",
    "forwards", "seconds_per_step", "train_seconds",
)  # fmt: skip
#: units of a number by itself, and of one that is relative to the method in ``against``
ABSOLUTE = ("%", "nats", "GB", "GiB", "s", "steps")
RELATIVE = ("points", "% change", "% of", "times fewer")
SOURCES = ("authors", "second hand")
_FOLDER = Path(__file__).parent / "published"
_NUMBERS = ("value", "deviation", "n_seeds")


def published() -> pd.DataFrame:
    """Read every published number: one a row, sorted by file; docs/published.md explains the columns.

    A cell that was looked for and not found has no ``value``. Accuracies and F1 are percentages, as papers print them.
    """
    frames = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in sorted(_FOLDER.glob("*.csv"))]
    numbers = pd.concat(frames, ignore_index=True)
    return numbers.assign(**{name: pd.to_numeric(numbers[name]) for name in _NUMBERS})


def split_protocol(text: str) -> tuple[dict[str, str], list[str]]:
    """Split a cell of the column ``protocol`` into settings, named as in zobench's records, and other notes.

    >>> split_protocol("steps=20000; best of the learning-rate grid")
    ({'steps': '20000'}, ['best of the learning-rate grid'])
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    settings = dict(part.split("=", 1) for part in parts if "=" in part)
    return settings, [part for part in parts if "=" not in part]


def named(paper: str) -> str:
    """Name a paper by its arXiv id, or as it is where it has none, such as a repository.

    >>> named("2305.17333")
    'arXiv:2305.17333'
    """
    return f"arXiv:{paper}" if paper[:4].isdigit() else paper


def where(cell: dict[str, object]) -> str:
    """Tell where a published number stands.

    >>> where({"paper": "2305.17333", "table": "Table 1", "setting": ""})
    'arXiv:2305.17333, Table 1'
    """
    return ", ".join(str(part) for part in (named(str(cell["paper"])), cell["table"], cell["setting"]) if part)
