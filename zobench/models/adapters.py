"""LoRA's adapters: modules of peft, with draws and names of zobench's own, and their way into and out of a model.

peft puts a module around each linear one and computes ``W x + B A x · alpha / r`` (arXiv:2106.09685, equation 3). What
zobench adds is what makes a run repeat: A is drawn from a key, and the parameters bear names that do not change with
peft, since noise and checksums hang on them.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zobench.errors import ConfigError

#: what the parts of an adapted module are called, in peft and in zobench's records
_NAMES = {".lora_A.default.weight": ".lora_a", ".lora_B.default.weight": ".lora_b"}
_BASE = re.compile(r"\.base_layer(?=\.)")


def adapted(model: nn.Module) -> dict[str, Any]:
    """The modules of a model that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """A model's parameters as records name them: ``q_proj.lora_a``, ``q_proj.lora_b`` and ``q_proj.linear.weight``.

    Without adapters they have the names that the model gives them, and the order is always the model's.
    """
    names = {f"{name}{part}": f"{name}{ours}" for name in adapted(model) for part, ours in _NAMES.items()}
    for name, param in model.named_parameters():
        yield names.get(name) or _BASE.sub(".linear", name), param


def inject(model: Any, seeds: Mapping[str, int], *, r: int, alpha: float) -> None:
    """Give linear modules their adapters, which alone train then.

    ``A ~ U(−1/√in, 1/√in)``, the Kaiming initialisation (a = √5) of the paper's code, and ``B = 0``: at first the model
    computes what it did. Weights are of the dtype of what they adapt.

    Args:
        model: of transformers; changed in place.
        seeds: name of a linear module → what its A is drawn from.
        r: rank.
        alpha: the adapter is scaled by ``alpha / r``.

    Raises:
        ConfigError: if peft knows of a module that it cannot be adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model

    transposed = any(is_transposed(model.get_submodule(name)) for name in seeds)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.name_or_path,
        r=r,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft divides it by r, whatever it is
        target_modules=list(seeds),
        fan_in_fan_out=transposed,
    )
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(f"tuning.targets: {error}") from error
    for name, seed in seeds.items():
        module: Any = model.get_submodule(name)
        a, b, base = module.lora_A["default"], module.lora_B["default"], module.base_layer.weight
        bound = (1.0 / module.in_features) ** 0.5
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.empty(r, module.in_features).uniform_(-bound, bound, generator=generator)
        a.weight = nn.Parameter(drawn.to(base))
        b.weight = nn.Parameter(torch.zeros(module.out_features, r).to(base))


def is_transposed(module: nn.Module) -> bool:
    """Whether a module is GPT-2's ``Conv1D``, a linear map that keeps its weight as inputs × outputs."""
    return type(module).__name__ == "Conv1D"


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Put a plain linear module with the same function in the place of each adapted one.

    The adapter is added to the weight in fp64, and the sum rounded once to its dtype.
    """
    for name, module in adapted(model).items():
        a, b = (part["default"].weight.double() for part in (module.lora_A, module.lora_B))
        change = b @ a * module.scaling["default"]
        weight = module.base_layer.weight
        weight.copy_(weight.double() + (change.T if is_transposed(module.base_layer) else change))
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.base_layer)


def save(model: Any, folder: Path) -> None:
    """Write a model's adapters as ``peft.PeftModel.from_pretrained`` reads them.

    The files are ``adapter_config.json`` and ``adapter_model.safetensors``. Modules are named by the last part of
    their names, or by their whole names where others have the same last part and no adapter.

    Args:
        model: with the adapters that ``inject`` gave it.
        folder: made if it does not exist.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config, names = model.peft_config["default"], list(adapted(model))
    short = {name.rpartition(".")[2] for name in names}
    alike = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in short]
    config.target_modules, config.inference_mode = short if len(alike) == len(names) else set(names), True
    config.save_pretrained(folder)
    tensors = get_peft_model_state_dict(model).items()
    named = {f"base_model.model.{name}": tensor.cpu().contiguous() for name, tensor in tensors}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
