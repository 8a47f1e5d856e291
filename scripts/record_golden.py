"""Record golden trajectories of the official LOREN or LDSD code. Run by hand; the tests only read the result.

    python scripts/record_golden.py loren CHECKOUT --out tests/golden/loren_official.json
    python scripts/record_golden.py ldsd CHECKOUT --out tests/golden/ldsd_official.json

CHECKOUT holds the released files of the commit below, unedited. They are imported as they are; what they lack on a CPU
is replaced in memory, as ``replaced`` in the result says. Nothing is fetched or built. Needs torch, numpy and scipy.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: repository, commit, and the git blob ids of the files whose arithmetic is recorded
SOURCES: dict[str, tuple[str, str, dict[str, str]]] = {
    "loren": (
        "https://github.com/hseung88/loren",
        "b80a32bc394332d1a1f115f41dfb5dcf7b326d37",
        {
            "common/alg_utils.py": "69c6bd54ddb02348b235934d54e8bbf8be18de2d",
            "model/glue_transformer_loren.py": "2bc726c795fd4101b5e73ad979029a97a5454f3e",
            "model/glue_transformer_lozo.py": "6557e0c24ef8319041c9e50b1307a74ba843e2bd",
            "model/glue_transformer_mezo.py": "a3ddd904720865f2b026f20e8e862daa6c91536e",
        },
    ),
    "ldsd": (
        "https://github.com/brain-lab-research/zo_ldsd",
        "b3c36a87d3573d33dc2512bf950bd3463455dad5",
        {
            "optimizers/base.py": "bd4d181801814a23734414b74a485d1df57378f3",
            "optimizers/zo_rl.py": "4b10bbd0a4806458b3a553558af0ff4182f94d1e",
            "optimizers/zo_rl_adamm.py": "a19a94bdbb6c669580ec0482eaa1fd7eaba284e4",
            "optimizers/zo_rl_sgd.py": "767a43db96237be6a494244082824aad32c021fb",
        },
    ),
}
EVERY_RUN = ["torch's default dtype: float64"]
REPLACED = {
    "loren": [
        "model/__init__.py and common/__init__.py: not run, they need loguru and all other methods",
        "model.glue_transformer: a parent class with a given model and loss instead of a transformer from a loader",
        'torch.tensor(..., device="cuda") in glue_transformer_loren: on the CPU',
        "weight_decay, where the settings name one: set after construction, since the constructor drops it",
    ],
    "ldsd": [
        "optimizers/__init__.py: not run, it imports all other methods",
        "wandb, gradient_pruning, trainer: stubs; only the logging uses them",
        'ZeroOrderOptimizer(device="cuda"): the default is "cpu"',
    ],
}
LOREN_RUNS: dict[str, dict[str, Any]] = {
    "released": {"steps": 120, "lr": 1e-2, "lr_cov": 1e-3, "weight_decay": None},
    "moving_a": {"steps": 40, "lr": 1e-2, "lr_cov": 1e7, "weight_decay": 1e-10},
}
LOREN_ALL = {"eps": 1e-3, "damping": 0.1, "beta1": 0.9, "num_queries": 6, "numpy_seed": 42, "torch_seed": 7}
LDSD_RUNS: dict[str, dict[str, Any]] = {
    "sgd": {"class": "zo_rl_sgd.ZO_RL_SGD", "own": {"lr": 0.002, "momentum": 0.9}},
    "adamm": {"class": "zo_rl_adamm.ZO_RL_AdaMM", "own": {"lr": 0.01, "betas": (0.9, 0.999)}},
    "jaguar": {"class": "zo_rl.ZO_RL", "own": {"lr": 0.01, "beta": 0.9, "params_ratio": 0.5}},
}
LDSD_ALL = {"steps": 25, "eps": 1e-2, "k": 5, "variance": 1.3, "lr_mu": 2.0, "numpy_seed": 5, "torch_seed": 77}
LDSD_BUFFERS = ("mu", "momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "grad_accum")


def check(method: str, checkout: Path) -> None:
    """Exit unless the checkout holds the pinned commit's files as released."""
    repository, commit, files = SOURCES[method]
    wanted = f"expected a checkout of {repository} at {commit}"
    if (checkout / ".git").exists():
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if head != commit:
            sys.exit(f"{checkout} is at commit {head}: {wanted}; run git checkout {commit} there")
    for name, blob in files.items():
        if not (checkout / name).is_file():
            sys.exit(f"{checkout} has no file {name}: {wanted}")
        content = (checkout / name).read_bytes()
        if hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() != blob:
            sys.exit(f"{checkout / name} is not the released file: {wanted}, unedited and without changed line ends")


def numbers(offset: int, *shape: int) -> Tensor:
    """Entry j is ``(2654435761·(1000·offset + j + 1) mod 2³²) >> 24``, as a multiple of 1/128 from −1 to 127/128."""
    j = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (np.uint64(2654435761) * (np.uint64(1000 * offset + 1) + j)) % np.uint64(2**32) >> np.uint64(24)
    return torch.from_numpy((mixed.astype(np.float64) - 128) / 128).reshape(shape)


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """A regression: matrices and vectors, a normalisation with both, three equal shapes."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3)).double().requires_grad_(False)
    for i, (name, param) in enumerate(model.named_parameters()):
        param.copy_(numbers(i, *param.shape) / 2 + (name == "2.weight"))
    return model, numbers(100, 8, 5), numbers(101, 8, 3)


def stub(name: str, **content: Any) -> None:
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__dict__.update(content)


@contextlib.contextmanager
def seeds_drawn() -> Iterator[list[int]]:
    """A list that fills with what the official code draws from numpy's global generator."""
    drawn: list[int] = []
    original = np.random.randint

    def randint(*arguments: int) -> int:
        drawn.append(int(original(*arguments)))
        return drawn[-1]

    np.random.randint = randint
    try:
        yield drawn
    finally:
        np.random.randint = original


class Recorder:
    """Losses and seeds of every step, weights and state at some."""

    def __init__(self, steps: int):
        self.kept = sorted({0, 1, 2, 5, 10, steps // 2, steps})
        self.steps = steps
        self.model, self.x, self.y = problem()
        self.losses: list[float] = []

    def loss(self) -> Tensor:
        value = (self.model(self.x) - self.y).square().mean()
        self.losses.append(value.item())
        return value

    def run(self, step: Callable[[], Any], state: Callable[[], dict[str, dict[str, Tensor]]]) -> dict[str, Any]:
        steps: list[dict[str, Any]] = []
        trajectory = [self.snapshot(0, state())]
        with seeds_drawn() as seeds:
            for t in range(1, self.steps + 1):
                step()
                steps.append({"seeds": list(seeds), "losses": list(self.losses)})
                seeds.clear()
                self.losses.clear()
                if t in self.kept:
                    trajectory.append(self.snapshot(t, state()))
        return {"steps": steps, "trajectory": trajectory}

    def snapshot(self, t: int, state: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
        found = {"weights": dict(self.model.named_parameters())} | state
        return {"after_step": t} | {k: {name: x.tolist() for name, x in v.items()} for k, v in found.items()}


def record_loren(checkout: Path) -> dict[str, Any]:
    class Parent:
        """In the place of the class that loads and trains a transformer."""

        def __init__(self, model: nn.Module, _num_labels: int, zero_order_eps: float, *_unused: Any):
            self.model, self.zero_order_eps = model, zero_order_eps
            self.state = SimpleNamespace(learning_rate=0.0, global_training_steps=0, time=[], query=[])

        def configure_params(self) -> None:
            self.params = list(self.model.named_parameters())

        def zo_forward_memory_eff(self, _model: nn.Module, batch: dict[str, Any]) -> Tensor:
            return batch["loss"]()

    class TorchOnCPU:
        """The module torch, whose ``tensor`` does not read ``device``."""

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def tensor(self, data: Any, device: str) -> Tensor:
            return torch.tensor(data)

    stub("model", __path__=[str(checkout / "model")])
    stub("common", __path__=[str(checkout / "common")])
    stub("model.glue_transformer", GLUETransformer=Parent)
    official = importlib.import_module("model.glue_transformer_loren")
    official.torch = TorchOnCPU()  # type: ignore[attr-defined]

    return {name: loren_run(official.GLUETransformerLOREN, LOREN_ALL | own) for name, own in LOREN_RUNS.items()}


def loren_run(kind: Any, settings: dict[str, Any]) -> dict[str, Any]:
    recorder = Recorder(settings["steps"])
    arguments = {key: settings[key] for key in ("damping", "lr_cov", "beta1", "num_queries")}
    method = kind(recorder.model, 3, settings["eps"], weight_decay=0.0, **arguments)
    if settings["weight_decay"] is not None:
        method.weight_decay = settings["weight_decay"]
    method.state.learning_rate = settings["lr"]
    torch.manual_seed(settings["torch_seed"])
    np.random.seed(settings["numpy_seed"])
    method.configure_params()
    batch = {"input_ids": recorder.x, "loss": recorder.loss}
    found = recorder.run(
        lambda: method.training_step(recorder.model, batch, log={}),
        lambda: {"a": method.evec_a, "momentum": method.momentum},
    )
    return {"settings": settings | {"weight_decay": method.weight_decay}} | found


def record_ldsd(checkout: Path) -> dict[str, Any]:
    stub("optimizers", __path__=[str(checkout / "optimizers")])
    stub("wandb", run=None)
    stub("gradient_pruning", fast_random_mask_like=None)
    stub("trainer", _optimizer_log_func=None)
    base = importlib.import_module("optimizers.base").ZeroOrderOptimizer
    defaults = base.__init__.__defaults__
    base.__init__.__defaults__ = tuple("cpu" if value == "cuda" else value for value in defaults)

    return {name: ldsd_run(run["class"], run["own"]) for name, run in LDSD_RUNS.items()}


def ldsd_run(path: str, own: dict[str, Any]) -> dict[str, Any]:
    module, _, kind = path.partition(".")
    settings = LDSD_ALL | {"class": kind} | own
    recorder = Recorder(settings["steps"])
    torch.manual_seed(settings["torch_seed"])
    np.random.seed(settings["numpy_seed"])
    arguments = {key: settings[key] for key in ("eps", "k", "variance", "lr_mu")} | own
    optimizer = getattr(importlib.import_module(f"optimizers.{module}"), kind)(recorder.model.parameters(), **arguments)
    held = {name: optimizer.state[param] for name, param in recorder.model.named_parameters()}

    def state() -> dict[str, dict[str, Tensor]]:
        found = {key: {name: own[key] for name, own in held.items() if key in own} for key in LDSD_BUFFERS}
        return {key: tensors for key, tensors in found.items() if tensors}

    return {"settings": settings} | recorder.run(lambda: optimizer.step(recorder.loss), state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=SOURCES)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    check(arguments.method, arguments.checkout)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    _, x, y = problem()
    repository, commit, files = SOURCES[arguments.method]
    record = {"loren": record_loren, "ldsd": record_ldsd}[arguments.method]
    result = {
        "repository": repository,
        "commit": commit,
        "files": list(files),
        "replaced": EVERY_RUN + REPLACED[arguments.method],
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "model": "Linear(5, 6), Tanh, LayerNorm(6), Linear(6, 3) in sequence, float64; mean squared error on the batch",
        "batch": {"x": x.tolist(), "y": y.tolist()},
        "runs": record(arguments.checkout),
    }
    # Lists of numbers on one line; Python's floats print so that they read back exactly.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda found: " ".join(found.group().split()), json.dumps(result, indent=1))
    arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
