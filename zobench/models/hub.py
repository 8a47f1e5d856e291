"""Models from the Hugging Face hub, at a pinned revision, or from a local copy in the same format."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from zobench.errors import ModelError
from zobench.models.base import Loaded, ModelSpec, silence_libraries
from zobench.system import network

#: transformers' ``device_map``
DeviceMap = str | dict[str, Any] | None


class HubModel(ModelSpec):
    """A causal language model by its id on the Hugging Face hub.

    Args:
        id, revision: the hub's repository and commit.
        dir: a local folder in the hub's format that is read instead.
        device_map: spreads a model over several GPUs, as transformers' ``from_pretrained`` takes it: ``auto``,
            ``balanced``, a map from modules to devices; None for one device.
        facts: the arguments of ``ModelSpec``.
    """

    def __init__(
        self,
        *,
        id: str,
        revision: str | None = None,
        dir: str | None = None,
        device_map: DeviceMap = None,
        **facts: Any,
    ):
        super().__init__(**facts)
        self.id, self.revision, self.dir, self.device_map = id, revision, dir, device_map

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        if self.dir is not None:
            folder = Path(self.dir).expanduser()
            return load_folder(folder, dtype=dtype, device=device, attention=attention, device_map=self.device_map)
        online = network.prepare()
        try:
            return _load(self.id, self.revision, dtype, device, attention, self.device_map)
        except (OSError, SafetensorError) as error:
            raise ModelError(self._explain(error, online)) from error

    def _explain(self, error: Exception, online: bool) -> str:
        local = "a local copy in Hugging Face format is read with model.dir=DIR"
        if not online:
            return f"model {self.id} is not in the cache and the hub cannot be reached; {local}"
        text = f"{error} {error.__cause__}".lower()
        if "gated" in text or "401" in text or "403" in text:
            return (
                f"model {self.id} is gated or private: accept its licence at https://huggingface.co/{self.id}, then "
                f"log in once with `hf auth login` (the token stays outside zobench); {local}"
            )
        return f"model {self.id} cannot be loaded: {str(error).splitlines()[0]}; check model.id, or {local}"


def load_folder(
    folder: Path, *, dtype: torch.dtype, device: torch.device, attention: str, device_map: DeviceMap = None
) -> Loaded:
    """Load a model and its tokenizer from a local folder in Hugging Face format.

    Args:
        dtype, device, attention: as ``ModelSpec.load`` takes them.
        device_map: as ``HubModel`` takes it.

    Raises:
        ModelError: if the folder is missing or incomplete.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"model.dir={folder}: no config.json there; expected a folder in Hugging Face format")
    try:
        return _load(str(folder), None, dtype, device, attention, device_map)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"model.dir={folder} cannot be loaded: {str(error).splitlines()[0]}") from error


def _load(
    source: str,
    revision: str | None,
    dtype: torch.dtype,
    device: torch.device,
    attention: str,
    device_map: DeviceMap,
) -> Loaded:
    silence_libraries()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        revision=revision,
        dtype=dtype,
        attn_implementation=attention,
        trust_remote_code=False,
        device_map=device_map,
    )
    if device_map is None:
        model.to(device)  # type: ignore[arg-type]
    types = {param.device.type for param in model.parameters()}
    if types != {device.type}:
        raise ModelError(
            f"model.device_map={device_map} puts weights on {', '.join(sorted(types))}, the run is on device={device}; "
            "zobench moves weights where they are, so all must be there, none offloaded"
        )
    return Loaded(model.eval(), tokenizer)
