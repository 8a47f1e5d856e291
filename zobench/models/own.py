"""A model of the user's own, looked at before a library is imported: whether its folder or id can be one."""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zobench.config.labels import HUB, LOCAL, option_of
from zobench.errors import ConfigError, ModelError, did_you_mean, first_line, shown
from zobench.models.folder import INDEX, WEIGHTS, Unusable, no_weights, read_settings, shards

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")
_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HEAD = "lm_head.weight"
_LARGEST_HEADER = 2**27


def check_chosen(settings: Mapping[str, Any]) -> None:
    """Look at the folder of ``model=local``, or the id of ``model=hub``; other options are left alone.

    Args:
        settings: the run's configuration.

    Raises:
        ModelError, ConfigError: in one line, before torch or transformers is imported.
    """
    node = settings["model"]
    option = option_of("model", str(settings["choices"]["model"]), node)
    if option == LOCAL and node.get("dir"):
        folder = Path(node["dir"]).expanduser()
        try:
            look_at(folder)
            read_settings(folder)
            _whole(folder)
        except (Unusable, OSError) as error:
            raise ModelError(cannot_load(folder, error)) from None
    if option == HUB:
        _check_id(node.get("id"))


def cannot_load(folder: Path, error: Exception) -> str:
    """What a run says of a folder that it cannot use."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error, limit=600)
    return f"model.dir={folder} cannot be loaded: {reason}"


def look_at(folder: Path) -> None:
    """Refuse what is no folder of a model, by the names in it.

    Raises:
        Unusable: saying what it is instead.
    """
    if not folder.exists():
        raise Unusable(f"no such folder{_meant(folder) or '; expected one in Hugging Face format'}")
    if not folder.is_dir():
        raise Unusable(_of_file(folder))
    names = {path.name for path in folder.iterdir()}
    if not names:
        raise Unusable("no config.json there, the folder is empty; expected a folder in Hugging Face format")
    if "model_index.json" in names:
        raise Unusable("it is a pipeline of diffusers (model_index.json); expected a causal language model")
    if not names & {"config.json", "adapter_config.json"}:
        if any(name.endswith(".gguf") for name in names):
            raise Unusable(f"it holds GGUF alone; {_FROM_GGUF}")
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        if inside:
            raise Unusable(f"no config.json there; did you mean model.dir={folder / inside[-1]}?")


def _whole(folder: Path) -> None:
    """Raises Unusable for a folder without weights or tokenizer."""
    if not any((folder / name).exists() for name in (WEIGHTS, INDEX)):
        raise Unusable(no_weights(folder))
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        raise Unusable(
            "there is no tokenizer (tokenizer.json, tokenizer.model or the like); save the model's own beside it, "
            "AutoTokenizer.from_pretrained(ORIGINAL).save_pretrained(DIR) of transformers"
        )


_FROM_GGUF = "only safetensors are read; take the repository that it was made from, or save it in transformers' format"


def _meant(folder: Path) -> str:
    """The neighbour of a folder that is not there whose name is like it, or the hub."""
    parent = folder.parent
    if parent.is_dir():
        return did_you_mean(folder.name, [path.name for path in parent.iterdir() if path.is_dir()], _before(parent))
    if not folder.is_absolute() and len(folder.parts) == 2:
        return f"; a repository of the hub is model=hub model.id={folder}"
    above = parent.parent
    near = did_you_mean(parent.name, [path.name for path in above.iterdir() if path.is_dir()]) if above.is_dir() else ""
    return f", there is no {parent}{near}" if near else ""


def _before(parent: Path) -> str:
    return "model.dir=" if parent == Path() else f"model.dir={parent}/".replace("//", "/")


def _of_file(path: Path) -> str:
    if path.suffix == ".gguf":
        return f"it is a GGUF file; {_FROM_GGUF}"
    meant = f"; did you mean model.dir={path.parent}?" if (path.parent / "config.json").is_file() else ""
    return f"it is a file{meant or '; expected a folder with config.json, weights and a tokenizer'}"


def _check_id(given: Any) -> None:
    """Raises ConfigError for what cannot be the name of a repository."""
    if isinstance(given, str) and (given.startswith((".", "/", "~")) or Path(given).is_dir()):
        raise ConfigError(f"model.id={shown(given)}: a folder is read with model=local model.dir={shown(given)}")
    if not isinstance(given, str) or not _ID.fullmatch(given):
        said = "null" if given is None else shown(given)
        raise ConfigError(f"model.id={said}: expected a repository of the hub, model.id=ORG/NAME")


def stored_parameters(folder: Path) -> int | None:
    """About how many weights a folder holds, from the headers of its files; None where they cannot be read.

    A head that shares the embedding's weight is not counted again, though some files hold it twice.
    """
    try:
        tied = bool(read_settings(folder).get("tie_word_embeddings"))
        found: dict[str, list[int]] = {}
        for name in shards(folder):
            found |= _shapes(folder / name)
    except (Unusable, OSError, ValueError, AttributeError, struct.error):
        return None
    count = 0
    for name, shape in found.items():
        size = 1
        for side in shape:
            size *= side
        count += size if not (tied and name == _HEAD) else 0
    return count or None


def _shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of the floating-point tensors in a safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LARGEST_HEADER:
            raise ValueError("not a header")
        header = json.loads(file.read(length))
    return {n: t["shape"] for n, t in header.items() if n != "__metadata__" and "F" in t["dtype"]}
