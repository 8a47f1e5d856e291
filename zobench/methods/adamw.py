"""AdamW (arXiv:1711.05101, Algorithm 2), the first-order reference: what backpropagation reaches on the same batches.

Forward passes per step: 1, and one backward pass. State: gradients and two fp32 moments per trainable tensor; the
activations of the backward pass are in the peak memory, not in ``state_bytes``. It is torch's own implementation.
Vectors (biases, norms) are not decayed; a tied head is one tensor with its embedding.
"""

from typing import Any

import torch
from torch import Tensor

from zobench.zo import FirstOrder, NamedParameters, Oracle
from zobench.zo.checks import positive, within
from zobench.zo.method import StateDict


class AdamW(FirstOrder):
    """``θ ← (1 − lr·wd)·θ − lr · m̂ / (√v̂ + eps)``.

    Args:
        beta1: decay of the mean m of the gradients.
        beta2: decay of the mean v of their squares.
        eps: keeps the divisor off 0.
        common: the arguments of ``FirstOrder``.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        **common: Any,
    ):
        within("[0, 1)", beta1=beta1, beta2=beta2)
        positive(eps=eps)
        super().__init__(named_parameters, **common)
        groups = [
            {"params": [s.param for s in self.slots if s.kind != "vector"], "weight_decay": self.weight_decay},
            {"params": [s.param for s in self.slots if s.kind == "vector"], "weight_decay": 0.0},
        ]
        for slot in self.slots:
            slot.param.requires_grad_(True)
        self._adam = torch.optim.AdamW(groups, lr=self.base_lr, betas=(float(beta1), float(beta2)), eps=eps)

    def update(self, oracle: Oracle) -> None:
        self._adam.zero_grad(set_to_none=True)
        oracle.backward()
        for group in self._adam.param_groups:
            group["lr"] = self.lr
        self._adam.step()

    def state_dict(self) -> StateDict:
        state = super().state_dict()
        for slot in self.slots:
            for name, value in self._adam.state.get(slot.param, {}).items():
                state[f"adam.{name}.{slot.name}"] = value
        return state

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self._adam.state.clear()
        for slot in self.slots:
            names = ("step", "exp_avg", "exp_avg_sq")
            loaded = {n: state[f"adam.{n}.{slot.name}"] for n in names if f"adam.{n}.{slot.name}" in state}
            tensors = {n: v for n, v in loaded.items() if isinstance(v, Tensor)}
            if tensors:
                # torch keeps the step count on the CPU and the moments beside the weights.
                home = {n: v.device if n == "step" else slot.param.device for n, v in tensors.items()}
                self._adam.state[slot.param] = {n: v.to(home[n], copy=True) for n, v in tensors.items()}

    def state_bytes(self) -> int:
        moments = [x for state in self._adam.state.values() for x in state.values()]
        gradients = [s.param.grad for s in self.slots if s.param.grad is not None]
        return super().state_bytes() + sum(x.numel() * x.element_size() for x in (*moments, *gradients))
