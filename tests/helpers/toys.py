"""Toy methods and distributions: the shortest use of each thing that a method may ask for."""

import torch

from zobench.zo import (
    ZERO,
    Adam,
    CoreSpace,
    Direction,
    Gaussian,
    Method,
    Momentum,
    central_difference,
    mix,
    noise,
)  # fmt: skip
from zobench.zo.perturbations.activation import ActivationSubspace
from zobench.zo.perturbations.input_sketch import InputSketch
from zobench.zo.slot import sum_dtype


class LowRank(Gaussian):
    """LOZO's ``u = C Vᵀ`` on matrices, with V kept for ``refresh`` steps; a Gaussian on vectors."""

    def __init__(self, rank, refresh, seed=0):
        self.rank, self.refresh, self.seed, self.step = rank, refresh, seed, 0

    def begin(self, step, slots):
        self.step = step

    def V(self, slot, interval):
        shape = torch.Size((slot.param.shape[1], self.rank))
        key = mix(self.seed, interval)
        return noise.gaussian(key, slot.id, shape, slot.param.device).to(sum_dtype(slot.param))

    def alone(self, slot):
        return slot.param.ndim != 2

    def splits(self, slot):
        return self.alone(slot)

    def draw(self, slot, key):
        if self.alone(slot):
            return super().draw(slot, key)
        return noise.gaussian(key, slot.id, torch.Size((len(slot.param), self.rank)), slot.param.device)

    def add_(self, slot, core, out, scale):
        if self.alone(slot):
            super().add_(slot, core, out, scale)
        else:
            out.addmm_(core.to(out.dtype), self.V(slot, self.refreshes(slot)).T, alpha=scale)

    def accumulate_(self, slot, direction, total, rows=None):
        if self.alone(slot):
            super().accumulate_(slot, direction, total, rows)
        elif direction:
            self.add_(slot, self.core(slot, direction), total, 1.0)

    def refreshes(self, slot):
        return self.step // self.refresh

    def transport(self, slot, core, since):
        return core @ (self.V(slot, since).T @ self.V(slot, self.refreshes(slot))) / slot.param.shape[1]


class LowRankMeZO(Method):
    """MeZO along low-rank directions: LOZO."""

    def __init__(self, named_parameters, *, rank: int = 2, refresh: int = 3, seed: int = 0, **common):
        common.setdefault("perturbation", LowRank(rank, refresh, seed))
        super().__init__(named_parameters, seed=seed, **common)

    def update(self, oracle):
        u = self.direction()
        self.apply(central_difference(oracle, u, self.eps) * u)


class LowRankMomentum(LowRankMeZO):
    """LOZO-M, but for the scale of its estimate: momentum of the cores."""

    def __init__(self, named_parameters, *, beta: float = 0.9, **common):
        super().__init__(named_parameters, rule=CoreSpace(rule=Momentum(beta=beta)), **common)


class LowRankAdam(LowRankMeZO):
    """Adam in core space, as SubZero+ has it."""

    def __init__(self, named_parameters, **common):
        super().__init__(named_parameters, rule=CoreSpace(rule=Adam()), **common)


class Anchored(Method):
    """MeZO-SVRG: an anchor's slope on a large batch corrects those of small ones. The anchor is an offset, no copy."""

    def __init__(self, named_parameters, *, anchor_batches: int = 4, interval: int = 3, **common):
        super().__init__(named_parameters, **common)
        self.anchor_batches, self.interval = anchor_batches, interval
        self.slope, self.anchor = ZERO, ZERO

    def forwards_at(self, step):
        return 4 if step % self.interval else 2 * self.anchor_batches

    def update(self, oracle):
        u = self.direction()
        if self.t % self.interval == 0:
            with oracle.on(first=0, count=self.anchor_batches):
                estimate = self.slope = central_difference(oracle, u, self.eps) * u
            self.anchor = ZERO
        else:
            plus, minus, there, back = oracle.losses(
                [u * self.eps, u * -self.eps, self.anchor + u * self.eps, self.anchor - u * self.eps]
            )
            estimate = (plus - minus - there + back) / (2 * self.eps) * u + self.slope
        self.apply(estimate)
        self.anchor += self.lr * estimate  # from the weights to where they were at the anchor

    def state_dict(self):
        return super().state_dict() | self.slope.as_state("slope") | self.anchor.as_state("anchor")

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.slope, self.anchor = (Direction.from_state(name, state) for name in ("slope", "anchor"))


class Inner(Method):
    """MeZO on the mean slope of the step's batch and of further ones, one direction for all (as DiZO's inner loop)."""

    forwards_per_step = 6

    def update(self, oracle):
        u = self.direction()
        slope = central_difference(oracle, u, self.eps) / 3
        for number in range(2):
            with oracle.on(number):
                slope += central_difference(oracle, u, self.eps) / 3
        self.apply(slope * u)


class ActivationGuided(Method):
    """AGZO: one loss at the weights shows the inputs of layers, another is measured along their span."""

    taps = True

    def __init__(self, named_parameters, *, rank: int = 2, **common):
        self.space = ActivationSubspace(rank=rank)
        super().__init__(named_parameters, perturbation=self.space, **common)

    def update(self, oracle):
        with oracle.tap(InputSketch(self.slots, self.space.r, self.keys(self.t, purpose="sketch"))) as sketch:
            base = oracle.loss()
        self.space.span(sketch.bases())
        u = self.direction()
        self.apply((oracle.loss(u * self.eps) - base) / self.eps * u)


class ForwardGradient(Method):
    """Forward-Gradient: the slope along a direction by forward-mode differentiation."""

    forwards_per_step = 3

    def update(self, oracle):
        u = self.direction()
        self.apply(oracle.jvp(u) * u)
