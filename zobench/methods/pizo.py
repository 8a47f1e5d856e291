"""PI-ZO: a guess from M probes says along what a central difference is measured (arXiv:2601.04710).

M losses ``l_i = L(θ+εz_i)``, sorted, make a guide v: the mean of the best candidates minus that of the rest (MeZO-GV),
or the best one (MeZO-Greedy). The step is MeZO's along v, which any distribution of directions may serve.

Forward passes per step: M + 2. State: none (one tensor set per moment with a stateful rule).
All trainable tensors are perturbed alike: matrices, embeddings, vectors; a tied head once.

A central difference is even in its direction. So MeZO-GV with ``probes=2`` is MeZO along ``z₁ − z₂``, whichever is
better and whatever the loss: MeZO at √2 times ε and twice the rate, for twice the forward passes. In general
``E‖v‖² = d (1/k + 1/(M−k))`` with k candidates in the elite, which scales ε and the rate.

``variant=official`` of MeZO-GV is the released code (stan-anony/MeZO-GV @70a2551), which is not the paper's algorithm.
A switch set explicitly wins over the variant:

    switch     paper    official        what it does
    history    false    true            the two candidates are a new one and the best of the step before, measured
                                        again (two new ones in the first step); its key is the state, F = 4
    rebuild    drawn    first_tensor    candidates in v are drawn anew for each tensor from the first tensor's numbers:
                                        there alone is v the direction that was compared, and tensors share their noise

The released code also keeps v as tensors, compares losses in fp32, takes no step where the two are equal (here: the
step along the difference), draws one noise stream through all tensors, and decays every tensor whose name lacks
bias/layer_norm/layernorm. MeZO-Greedy is not in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from zobench.methods.variants import resolve
from zobench.zo import ZERO, Direction, Method, NamedParameters, Oracle, central_difference
from zobench.zo.checks import at_least, within
from zobench.zo.method import StateDict
from zobench.zo.perturbations.first_stream import FirstStream


class PIZO(Method):
    """``θ ← θ − lr · (L(θ+εv) − L(θ−εv)) / 2ε · v``, with v a guide made of M ranked candidates.

    Args:
        probes: M, candidates per step.
        common: the arguments of ``Method``.

    Attributes:
        best: the candidate of the lowest loss in the last step; zero before the first.
    """

    #: the fewest candidates that make a guide
    fewest: ClassVar[int] = 1

    def __init__(self, named_parameters: NamedParameters, *, probes: int = 2, **common: Any):
        at_least(self.fewest, probes=probes)
        super().__init__(named_parameters, **common)
        self.probes, self.forwards_per_step = probes, probes + 2
        self.best = ZERO

    def candidates(self) -> list[Direction]:
        """What is compared in this step."""
        return [self.direction(query) for query in range(self.probes)]

    def guide(self, ranked: Sequence[Direction]) -> Direction:
        """v, from the candidates in the order of their losses, the lowest first."""
        raise NotImplementedError

    def update(self, oracle: Oracle) -> None:
        candidates = self.candidates()
        losses = oracle.losses([z * self.eps for z in candidates])
        ranked = [candidates[i] for i in sorted(range(len(losses)), key=losses.__getitem__)]
        v = self.guide(ranked)
        self.apply(central_difference(oracle, v, self.eps) * v)
        oracle.notes["candidate_spread"] = max(losses) - min(losses)
        self.best = ranked[0]


class MeZOGreedy(PIZO):
    """PI-ZO along the best candidate."""

    def guide(self, ranked: Sequence[Direction]) -> Direction:
        return ranked[0]


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    history: bool = False
    rebuild: Literal["drawn", "first_tensor"] = "drawn"


VARIANTS = {"paper": Switches(), "official": Switches(history=True, rebuild="first_tensor")}


class MeZOGV(PIZO):
    """PI-ZO along the mean of the best candidates minus the mean of the rest.

    Args:
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        probes: M, at least 2; exactly 2 with ``history``.
        elite: α, the share of the candidates that count as the best.
        settings: these switches, and the arguments of ``Method``.
    """

    variants = VARIANTS
    fewest = 2

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        probes: int = 2,
        elite: float = 0.5,
        **settings: Any,
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        within("(0, 1)", elite=elite)
        if self.switches.rebuild == "first_tensor":
            settings["perturbation"] = FirstStream()
        super().__init__(named_parameters, probes=probes, **settings)
        self.best_count = int(elite * probes)
        if not self.best_count:
            least = math.ceil(1 / elite)
            raise ValueError(f"elite={elite}: of probes={probes} that is no candidate; set probes to at least {least}")
        if self.switches.history and probes != 2:
            raise ValueError(f"probes={probes}: history compares a new candidate with the best one; set probes=2")

    def candidates(self) -> list[Direction]:
        drawn = super().candidates()
        if self.switches.rebuild == "first_tensor":
            drawn = [FirstStream.own(z) for z in drawn]
        return [drawn[0], self.best] if self.switches.history and self.best else drawn

    def guide(self, ranked: Sequence[Direction]) -> Direction:
        best, rest = ranked[: self.best_count], ranked[self.best_count :]
        v = sum(best, ZERO) * (1 / len(best)) - sum(rest, ZERO) * (1 / len(rest))
        return FirstStream.shared(v) if self.switches.rebuild == "first_tensor" else v

    def state_dict(self) -> StateDict:
        return super().state_dict() | (self.best.as_state("best") if self.switches.history else {})

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self.best = Direction.from_state("best", state)
