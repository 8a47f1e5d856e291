"""A model of the Hugging Face hub as a folder of the hub's cache, which is then read as any other folder."""

from pathlib import Path
from typing import Any

from zobench.errors import first_line
from zobench.models.folder import INDEX, WEIGHTS, shards

#: settings and tokenizers; a repository may hold much else
_SMALL = ("*.json", "*.model", "*.txt", "*.tiktoken", "*.jinja")
_PICKLES = ("pytorch_model.bin", "pytorch_model-*.bin")


class Missing(Exception):
    """The hub does not give a model, or not all of it; the message says why and goes on after the model's id."""


def snapshot(id: str, revision: str | None, *, online: bool, allow_pickle: bool) -> tuple[Path, bool]:
    """Download a model, or find it in the cache.

    Args:
        id, revision: the hub's repository and commit.
        online: whether the hub can be reached.
        allow_pickle: whether to take pickled weights where there are no others.

    Returns:
        The folder in the hub's cache, and whether its weights are pickled.

    Raises:
        Missing: if it cannot be had whole.
        Unusable: if its index names files that it must not.
    """
    folder = _fetch(id, revision, _SMALL, online)
    wanted = shards(folder)
    _fetch(id, revision, wanted, online)
    if (folder / INDEX).exists() or (folder / WEIGHTS).exists():
        absent = [name for name in wanted if not (folder / name).exists()]
        if absent:
            raise Missing(f"is not whole: {absent[0]} is missing; the same command goes on with the download")
        return folder, False
    if allow_pickle:
        _fetch(id, revision, _PICKLES, online)
        if any(folder.glob("pytorch_model*.bin")):
            return folder, True
    if not (folder / "config.json").exists():
        raise Missing("has no config.json; check model.id and model.revision")
    raise Missing(
        f"has no {WEIGHTS} at this revision; pickled weights are not read, as a pickle can run code. Choose a "
        "model.revision with safetensors, or convert it once with transformers"
    )


def _fetch(id: str, revision: str | None, patterns: Any, online: bool) -> Path:
    """The folder of a revision, with all files of the patterns that it has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                id,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
                local_files_only=not online,
            )
        )
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise Missing(
            f"is gated or private, or does not exist: accept its licence at https://huggingface.co/{id}, then log in "
            "once with `hf auth login` (the token stays outside zobench), and check model.id"
        ) from error
    except LocalEntryNotFoundError as error:
        whole = " whole" if isinstance(error, IncompleteSnapshotError) else ""
        raise Missing(f"is not{whole} in the cache and the hub cannot be reached") from error
    except Exception as error:  # of the network, the disk, the id; the library has no common base for them
        raise Missing(f"cannot be downloaded: {type(error).__name__}: {first_line(error)}") from error
