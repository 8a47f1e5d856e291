"""Models from the Hugging Face hub, at a pinned revision, or from a local folder in the same format."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from zobench.errors import ModelError, first_line, is_out_of_memory
from zobench.models.architecture import causal_config, outline
from zobench.models.attention import supported
from zobench.models.base import Loaded, ModelSpec, silence_libraries
from zobench.models.download import Missing, small_files, snapshot
from zobench.models.folder import Unusable, read_settings, read_weights
from zobench.models.own import cannot_load, look_at
from zobench.models.tokenizer import check_vocabulary, load_tokenizer
from zobench.models.weights import Unmerged, check_complete, check_finite, check_types

#: transformers' ``device_map``
DeviceMap = str | dict[str, Any] | None


class HubModel(ModelSpec):
    """A causal language model by its id on the Hugging Face hub, or by its folder.

    Args:
        id, revision: the hub's repository and commit; no id for a model that is nowhere but in ``dir``.
        dir: a local folder in the hub's format that is read instead.
        device_map: spreads a model over several GPUs, as transformers' ``from_pretrained`` takes it: ``auto``,
            ``balanced``, a map from modules to devices; None for one device.
        allow_pickle: whether weights that the hub has in no other form are read from a pickle, by torch's reader that
            runs no code. It needs a commit as ``revision``, and never holds for ``dir``.
        facts: the arguments of ``ModelSpec``.

    Raises:
        ValueError: for an empty ``dir``, or a pickle that no commit pins.
    """

    any_folder = True

    def __init__(
        self,
        *,
        id: str | None = None,
        revision: str | None = None,
        dir: str | None = None,
        device_map: DeviceMap = None,
        allow_pickle: bool = False,
        **facts: Any,
    ):
        super().__init__(**facts)
        if dir is not None and not dir.strip():
            raise ValueError("dir=: expected a folder in Hugging Face format, or null for the hub")
        if allow_pickle and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
            raise ValueError(f"allow_pickle=True: needs a commit of the hub as model.revision, not {revision}")
        self.id, self.revision, self.dir, self.device_map = id, revision, dir, device_map
        self.allow_pickle = allow_pickle

    def check(self) -> None:
        if self.dir is not None and self.id is None:
            self.tokenizer()
            with _as_given(self.dir) as folder:
                _described(folder, self.attention or "sdpa")

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        if self.dir is not None:
            folder = Path(self.dir)
            loaded = load_folder(folder, dtype=dtype, device=device, attention=attention, device_map=self.device_map)
            loaded.model.name_or_path = loaded.model.config.name_or_path = str(folder.expanduser().absolute())
        else:
            silence_libraries()
            with _from_hub(self.id):
                folder, pickled = snapshot(str(self.id), self.revision, allow_pickle=self.allow_pickle)
                loaded = _load(folder, dtype, device, attention, self.device_map, pickled=pickled)
            self.commit = folder.name
            loaded.model.name_or_path = loaded.model.config.name_or_path = str(self.id)
        self.complete(loaded)
        return loaded

    def tokenizer(self) -> Any:
        silence_libraries()
        if self.dir is not None:
            with _as_given(self.dir) as folder:
                look_at(folder)
                return self._tokenizer(folder)
        with _from_hub(self.id):
            return self._tokenizer(small_files(str(self.id), self.revision))

    def _tokenizer(self, folder: Path) -> Any:
        """The tokenizer of a folder with a causal language model, whose weights are not looked at."""
        config = causal_config(folder, read_settings(folder))
        tokenizer = load_tokenizer(folder)
        self.complete_texts(config, tokenizer)
        self.check_length(config)
        return tokenizer


def load_folder(
    folder: Path, *, dtype: torch.dtype, device: torch.device, attention: str, device_map: DeviceMap = None
) -> Loaded:
    """Load a model and its tokenizer from a local folder in Hugging Face format; no network is asked.

    Args:
        dtype, device, attention: as ``ModelSpec.load`` takes them.
        device_map: as ``HubModel`` takes it.

    Raises:
        ModelError: if the folder is missing, incomplete or damaged, or holds no causal language model.
    """
    silence_libraries()
    with _as_given(folder) as there:
        look_at(there)
        return _load(there, dtype, device, attention, device_map)


@contextmanager
def _as_given(folder: Path | str) -> Iterator[Path]:
    """The folder of ``model.dir``; what is wrong with it is said under that name."""
    there = Path(folder).expanduser()
    try:
        yield there
    except (Unusable, OSError) as error:
        raise ModelError(cannot_load(there, error)) from error


@contextmanager
def _from_hub(id: str | None) -> Iterator[None]:
    """Say of what cannot be had, or used, which model of the hub it is."""
    local = "a local copy in Hugging Face format is read with model.dir=DIR"
    try:
        yield
    except Missing as error:
        raise ModelError(f"model {id} {error}; {local}") from error
    except Unusable as error:
        raise ModelError(f"model {id} cannot be loaded: {error}; or {local}") from error


def _described(folder: Path, attention: str, *, pickled: bool = False) -> tuple[Any, str]:
    """The configuration of a folder's model, which its weights must fit, and the attention that it can have."""
    config = causal_config(folder, read_settings(folder))
    attention = supported(config, attention)
    if not pickled:
        stored = read_weights(folder)
        check_types(outline(config, stored, attention), stored)
    return config, attention


def _load(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    attention: str,
    device_map: DeviceMap,
    *,
    pickled: bool = False,
) -> Loaded:
    """Load what a folder holds, after a look at its files; what is cheap and can fail comes first."""
    from transformers import AutoModelForCausalLM

    config, attention = _described(folder, attention, pickled=pickled)
    tokenizer = load_tokenizer(folder)
    with Unmerged() as unmerged:
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(folder),
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=not pickled,
                ignore_mismatched_sizes=True,  # so that they are told by name
                output_loading_info=True,
                device_map=device_map,
            )
        except Exception as error:  # each family reads its weights in its own way
            if is_out_of_memory(error):
                raise
            raise Unusable(unmerged.reason() or first_line(error)) from error
    model, info = loaded
    check_complete(info)
    if device_map is None:
        model.to(device)
    types = {param.device.type for param in model.parameters()}
    if types != {device.type}:
        raise ModelError(
            f"model.device_map={device_map} puts weights on {', '.join(sorted(types))}, the run is on device={device}; "
            "zobench moves weights where they are, so all must be there, none offloaded"
        )
    check_finite(model)
    check_vocabulary(tokenizer, model)
    return Loaded(model.eval(), tokenizer)
