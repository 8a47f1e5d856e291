"""Which files a picture is written to, told without loading matplotlib."""

from pathlib import Path

from zobench.errors import ConfigError

_SUFFIXES = (".png", ".svg", ".pdf")


def picture_files(path: str | Path) -> list[Path]:
    """List the files that a picture is written to.

    >>> [file.name for file in picture_files("figures/curves")]
    ['curves.png', 'curves.svg']

    Args:
        path: .png, .svg or .pdf; without a suffix both .png and .svg are written.

    Raises:
        ConfigError: if the suffix is another.
    """
    path = Path(path)
    if not path.suffix:
        return [path.with_suffix(".png"), path.with_suffix(".svg")]
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"{path}: pictures are written as {', '.join(_SUFFIXES)}")
    return [path]
