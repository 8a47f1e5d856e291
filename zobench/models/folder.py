"""The files of a model's folder, looked at before a library reads them.

A folder comes from anywhere. Weights are read from safetensors alone, which holds numbers and nothing that runs; every
file is a plain name inside the folder, though it may be a link: whoever made the folder here made the link, and the
hub's own cache consists of them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from zobench.errors import first_line, shown

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
#: files of settings that are read beside ``config.json``, where they are there
_SETTINGS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_MERGE = "merge it into its model and save that, as zobench.export does without --adapter"
_LARGEST_JSON = 64 * 2**20
#: what ``config.json`` may ask of transformers that would make other weights, or other code, of the files
_FOREIGN = ("quantization_config", "compression_config", "fusion_config", "distributed_config", "transformers_weights")


class Unusable(ValueError):
    """A model's folder cannot be used; the message is the reason alone."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: its shape, and its dtype by safetensors' name, such as ``F32``."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        count = 1
        for size in self.shape:
            count *= size
        return count


def read_settings(folder: Path) -> dict[str, Any]:
    """Read ``config.json``, and see that the other files of settings are well-formed.

    Raises:
        Unusable: if one is not, or if the folder holds another kind of thing than a model's weights.
    """
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise Unusable(f"it holds an adapter, not a model; {_MERGE}")
        raise Unusable("no config.json there; expected a folder in Hugging Face format")
    config = _json_object(folder / "config.json")
    _check_ends("config.json", config)
    for name in _SETTINGS:
        if (folder / name).exists():
            _check_ends(name, _json_object(folder / name))
    if (folder / "adapter_config.json").exists():
        raise Unusable(f"adapter_config.json makes it an adapter; {_MERGE}")
    foreign = [key for key in _FOREIGN if config.get(key) is not None]
    if foreign:
        raise Unusable(
            f"config.json has {foreign[0]}, of which zobench knows nothing; expected plain weights in float32, "
            "float16 or bfloat16, so save the model without it"
        )
    return config


def read_weights(folder: Path) -> dict[str, Stored]:
    """What the weights of a folder are, by name, from the headers of its safetensors files.

    Raises:
        Unusable: if a file is missing or damaged, if names leave the folder, or if it is unclear which files count.
    """
    strange = sorted(path.name for path in folder.glob("shard-*.safetensors"))
    if strange:
        raise Unusable(f"{shown(strange[0])} is of a distributed checkpoint; expected {WEIGHTS}, or shards and {INDEX}")
    if not (folder / INDEX).exists():
        if not (folder / WEIGHTS).is_file():
            raise Unusable(no_weights(folder))
        return _header(folder / WEIGHTS)
    where = _index(folder)
    files = sorted(set(where.values()))
    if files != [WEIGHTS] and (folder / WEIGHTS).exists():
        raise Unusable(f"{WEIGHTS} and the shards of {INDEX} are both there; remove the ones that do not count")
    stored: dict[str, Stored] = {}
    for file in files:
        for name, tensor in _header(folder / file).items():
            if name in stored:
                raise Unusable(f"tensor {shown(name)} is in two shards, {where.get(name, files[0])} and {file}")
            if where.get(name, file) != file:
                raise Unusable(f"tensor {shown(name)} is in {file}, {INDEX} says in {where[name]}")
            stored[name] = tensor
    absent = [name for name in where if name not in stored]
    if absent:
        raise Unusable(f"{INDEX} says that {shown(absent[0])} is in {where[absent[0]]}, which does not hold it")
    return stored


def shards(folder: Path) -> list[str]:
    """The names of the files of weights that a folder is to hold, whether they are there or not."""
    return sorted(set(_index(folder).values())) if (folder / INDEX).exists() else [WEIGHTS]


def _index(folder: Path) -> dict[str, str]:
    """Tensor → file, of an index whose files are plain names."""
    content = _json_object(folder / INDEX)
    where = content.get("weight_map")
    if not isinstance(where, dict) or not where or not isinstance(content.get("metadata"), dict):
        raise Unusable(f"{INDEX} needs a weight_map, from tensors to files, and metadata")
    for file in where.values():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise Unusable(f"{INDEX} names {shown(file)}; expected safetensors files in the folder itself")
    return where


def _header(path: Path) -> dict[str, Stored]:
    if not path.is_file():
        raise Unusable(f"{shown(path.name)} is not there, though {INDEX} names it; the download may be incomplete")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {name: Stored(tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise Unusable(f"{shown(path.name)} is no whole safetensors file: {first_line(error)}") from error


def no_weights(folder: Path) -> str:
    """What is to be said of a folder without weights: of pickled ones, how to convert them."""
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if not pickles:
        return f"there is no {WEIGHTS} and no {INDEX}"
    return (
        f"its weights are pickled ({shown(pickles[0])}), and a pickle can run code; only safetensors are read. If you "
        "trust it, convert it once: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW) of transformers"
    )


def _check_ends(name: str, settings: dict[str, Any]) -> None:
    """Raises Unusable where the ids of end tokens, at which generation stops, are no numbers."""
    ends = settings.get("eos_token_id")
    if not (ends is None or all(isinstance(token, int) for token in (ends if isinstance(ends, list) else [ends]))):
        raise Unusable(f"{name} has eos_token_id={shown(ends)}; expected a token's id, or a list of them")


def _json_object(path: Path) -> dict[str, Any]:
    """A JSON file's object."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise Unusable(f"{path.name} has over {_LARGEST_JSON // 2**20} MiB; it is none of a model")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable(f"{path.name} is no JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise Unusable(f"{path.name} holds a {type(content).__name__}, expected an object")
    return content
