"""A model of the Hugging Face hub as a folder of the hub's cache, which is then read as any other folder."""

from pathlib import Path

from zobench.models.folder import INDEX, WEIGHTS, shards
from zobench.system.hub import Missing, Repository

#: settings and tokenizers; a repository may hold much else
_SMALL = ("*.json", "*.model", "*.txt", "*.tiktoken", "*.jinja")
#: what is in folders is of other formats
_BELOW = ("*/*",)
_PICKLES = ("pytorch_model.bin", "pytorch_model-*.bin")


def small_files(id: str, revision: str | None) -> Path:
    """The folder of a model in the hub's cache, of which settings and tokenizer are there.

    Raises:
        Missing: if they cannot be had.
    """
    return Repository("model", id, revision).fetch(_SMALL, _BELOW)


def snapshot(id: str, revision: str | None, *, allow_pickle: bool) -> tuple[Path, bool]:
    """Download a model, or find it in the cache.

    Args:
        id, revision: the hub's repository and commit.
        allow_pickle: whether to take pickled weights where there are no others.

    Returns:
        The folder in the hub's cache, and whether its weights are pickled.

    Raises:
        Missing: if it cannot be had whole.
        Unusable: if its index names files that it must not.
    """
    folder = small_files(id, revision)
    repository = Repository("model", id, folder.name)  # by the commit, which need not be asked for again
    wanted = shards(folder)
    repository.fetch(wanted, _BELOW)
    if (folder / INDEX).exists() or (folder / WEIGHTS).exists():
        absent = [name for name in wanted if not (folder / name).exists()]
        if absent:
            raise Missing(f"is not whole: {absent[0]} is missing; the same command goes on with the download")
        return folder, False
    if allow_pickle:
        repository.fetch(_PICKLES, _BELOW)
        if any(folder.glob("pytorch_model*.bin")):
            return folder, True
    if not (folder / "config.json").exists():
        raise Missing("has no config.json; check model.id and model.revision")
    raise Missing(
        f"has no {WEIGHTS} at this revision; pickled weights are not read, as a pickle can run code. Choose a "
        "model.revision with safetensors, or convert it once with transformers"
    )
