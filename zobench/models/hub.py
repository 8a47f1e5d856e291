"""Models from the Hugging Face hub, at a pinned revision, or from a local copy in the same format."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from zobench import hub
from zobench.errors import ModelError
from zobench.models.base import Loaded, ModelSpec, quiet


class HubModel(ModelSpec):
    """A causal language model by its hub id.

    Args:
        id, revision: the hub's repository and commit.
        dir: a local folder that is read instead.
        facts: the arguments of ``ModelSpec``.
    """

    def __init__(self, *, id: str, revision: str | None = None, dir: str | None = None, **facts: Any):
        super().__init__(**facts)
        self.id, self.revision, self.dir = id, revision, dir

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        if self.dir is not None:
            return load_folder(Path(self.dir).expanduser(), dtype=dtype, device=device, attention=attention)
        online = hub.prepare()
        try:
            return _load(self.id, self.revision, dtype, device, attention)
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


def load_folder(folder: Path, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
    """A model and tokenizer from a local folder in Hugging Face format.

    Raises:
        ModelError: if the folder is missing or incomplete.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"model.dir={folder}: no config.json there; expected a folder in Hugging Face format")
    try:
        return _load(str(folder), None, dtype, device, attention)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"model.dir={folder} cannot be loaded: {str(error).splitlines()[0]}") from error


def _load(source: str, revision: str | None, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    model = AutoModelForCausalLM.from_pretrained(
        source, revision=revision, dtype=dtype, attn_implementation=attention, trust_remote_code=False
    )
    return Loaded(model.to(device).eval(), tokenizer)  # type: ignore[arg-type]
