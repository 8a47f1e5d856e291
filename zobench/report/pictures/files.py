"""Which files a picture is written to; nothing of matplotlib is loaded for that."""

from pathlib import Path

from zobench.errors import ConfigError

_SUFFIXES = (".png", ".svg", ".pdf")


def picture_files(path: str | Path) -> list[Path]:
    """The files that ``Picture.save`` writes. Raises as it does."""
    path = Path(path)
    if not path.suffix:
        return [path.with_suffix(".png"), path.with_suffix(".svg")]
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"{path}: pictures are written as {', '.join(_SUFFIXES)}")
    return [path]
