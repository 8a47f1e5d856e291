"""The zeroth-order step as plain torch code: the way of the 2023 MeZO code (arXiv:2305.17333), written anew.

Four passes over the weights: +ε, −2ε, +ε, update. Each seeds torch's global generator again, draws each tensor's noise
whole, in the weights' dtype, and makes new weights out of place.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

#: names of the tensors that weight decay skips there
_NOT_DECAYED = ("bias", "layer_norm", "layernorm")


class PlainStep:
    """MeZO's step: ``θ ← θ − lr·(g·z + wd·θ)`` with ``g = (L(θ+εz) − L(θ−εz)) / 2ε``.

    Args:
        named_parameters: (name, tensor) pairs to train.
        lr: learning rate.
        eps: perturbation scale ε.
        weight_decay: wd, of all tensors but biases and norms.
        seed: step ``t`` draws from seed ``seed + t``.

    Attributes:
        passes: how often a step goes over the weights.

    Example:
        >>> weight = torch.ones(2)
        >>> step = PlainStep([("weight", weight)], lr=0.1)
        >>> abs(step.step(lambda: weight.sum())) < 10
        True
    """

    passes = 4

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        *,
        lr: float,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
    ):
        self.named_parameters = list(named_parameters)
        self.lr, self.eps, self.weight_decay = lr, eps, weight_decay
        self.seed = seed

    @torch.no_grad()
    def step(self, loss: Callable[[], Tensor]) -> float:
        """Take one step on the batch that ``loss`` evaluates, and return the projected gradient ``g``."""
        self._perturb(1.0)
        plus = self._evaluate(loss)
        self._perturb(-2.0)
        minus = self._evaluate(loss)
        self._perturb(1.0)
        projected = (plus - minus) / (2 * self.eps)
        self._update(projected)
        self.seed += 1
        return projected

    def _evaluate(self, loss: Callable[[], Tensor]) -> float:
        with torch.inference_mode():
            return float(loss())

    def _perturb(self, sign: float) -> None:
        torch.manual_seed(self.seed)
        for _, param in self.named_parameters:
            param.data = param.data + self._noise(param) * sign * self.eps

    def _update(self, projected: float) -> None:
        torch.manual_seed(self.seed)
        for name, param in self.named_parameters:
            step = self._noise(param) * projected
            if not any(part in name for part in _NOT_DECAYED):
                step = step + self.weight_decay * param.data
            param.data = param.data - self.lr * step

    def _noise(self, param: Tensor) -> Tensor:
        return torch.normal(0.0, 1.0, size=param.shape, device=param.device, dtype=param.dtype)
