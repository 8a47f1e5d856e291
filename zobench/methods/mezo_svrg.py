"""MeZO-SVRG: variance-reduced zeroth-order fine-tuning (Gautam et al., arXiv:2404.08080, Algorithm 1).

Every q-th step is a step along the estimate g of a large batch, from a point θ̄, the anchor. The others correct g by
what a small batch says at θ and at θ̄ along one direction: ``θ ← θ − lr (ĝ(θ) − ĝ(θ̄) + g)``.

Forward passes per step: 2 on the large batch, which count as 2 for each of its batches; 4 in the other steps. State:
a key and a slope for g, and as many for each step since the anchor: θ̄ − θ is the sum of the steps between, so that
θ̄ ± εz is an offset and no copy is held (the paper holds θ̄ and g). So the rule is SGD without weight decay; in half
precision the offset leads to θ̄ but for the rounding of the steps. Matrices, embeddings and vectors are perturbed alike;
a tied head once.

``variant`` gives the switches their values; a switch that is set by itself wins:

    switch      paper   official     what it does
    reference   anchor  moved        where the second small estimate is made: at the anchor, or, as the release's anchor
                                     shares its tensors with the weights, at the weights after a step along the first
    draws       shared  independent  whether the two small estimates have the same z: else they add variance

Official follows github.com/amazon-science/mezo_svrg @002e156. That code also makes one forward pass more per step, for
logging, halts annealing at rates of 1e-5 (large batch) and 1e-6, and compares windows with one between them; these have
no switch. Annealing is the paper's Algorithm 3, off unless ``window`` is set: only whoever has the data knows how many
steps an epoch is.
"""

from dataclasses import dataclass
from typing import Any, Literal

from zobench.methods.variants import resolve
from zobench.zo import ZERO, Direction, Method, NamedParameters, Oracle, central_difference
from zobench.zo.checks import at_least, not_negative, within
from zobench.zo.method import StateDict


@dataclass(frozen=True)
class Switches:
    """What a variant sets; the defaults are the paper's."""

    reference: Literal["anchor", "moved"] = "anchor"
    draws: Literal["shared", "independent"] = "shared"


VARIANTS = {"paper": Switches(), "official": Switches(reference="moved", draws="independent")}


class MeZOSVRG(Method):
    """``θ ← θ − lr (c z − c̄ z + g)``: slopes c at θ and c̄ at the anchor θ̄; every q steps ``θ ← θ − large_rate·lr·g``.

    Args:
        variant: ``paper`` or ``official``: the values of the switches of the module's table where they are None.
        interval: q, steps between two anchors; 1 is MeZO on the large batch.
        large_batches: batches of the large batch, which stands for all examples.
        large_rate: the rate of a step along g alone, over lr: the paper's η₁/η₂.
        window: steps between two looks at the losses, an epoch in the paper; 0 for no annealing.
        anneal: what both rates are divided by where the mean loss of a window is too large.
        tolerance: too large is this times that of the window before.
        settings: the switches, and the arguments of ``Method``.
    """

    takes_groups = False
    variants = VARIANTS
    decides = ("rule", "weight_decay")

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        variant: str = "paper",
        interval: int = 2,
        large_batches: int = 8,
        large_rate: float = 10.0,
        window: int = 0,
        anneal: float = 5.0,
        tolerance: float = 1.05,
        **settings: Any,
    ):
        self.switches = resolve(VARIANTS, variant, settings)
        at_least(1, interval=interval, large_batches=large_batches)
        not_negative(large_rate=large_rate, window=window)
        within("[1, inf)", anneal=anneal, tolerance=tolerance)
        super().__init__(named_parameters, **settings)
        self.interval, self.large_batches, self.large_rate = interval, large_batches, large_rate
        self.window, self.anneal, self.tolerance = window, anneal, tolerance
        self.g, self.anchor = ZERO, ZERO
        self.divisor, self.loss_sum, self.loss_before = 1.0, 0.0, 0.0

    @property
    def lr(self) -> float:
        """The rate of the current step: another one where it is along g alone."""
        return super().lr / self.divisor * (self.large_rate if self.t % self.interval == 0 else 1.0)

    def forwards_at(self, step: int) -> int:
        return 4 if step % self.interval else 2 * self.large_batches

    def update(self, oracle: Oracle) -> None:
        z = self.direction()
        if self.t % self.interval == 0:
            with oracle.on(first=0, count=self.large_batches):
                self.g = central_difference(oracle, z, self.eps) * z
            self.anchor, estimate = ZERO, self.g
        else:
            again = z if self.switches.draws == "shared" else self.direction(1)
            estimate = central_difference(oracle, z, self.eps) * z
            if self.switches.reference == "moved":
                self.apply(estimate)
                estimate = ZERO
            plus, minus = oracle.losses([self.anchor + side * self.eps * again for side in (1.0, -1.0)])
            estimate += self.g - oracle.projected(plus, minus, self.eps) * again
        self.apply(estimate)
        if self.switches.reference == "anchor":
            self.anchor += self.lr * estimate
        self.look(sum(oracle.means[:2]) / 2)

    def look(self, loss: float) -> None:
        """Take in the loss of a step; at the end of a window, anneal the rates where its losses are too large."""
        oracle, ends = self.oracle, self.window and (self.t + 1) % self.window == 0
        self.loss_sum += loss if self.window else 0.0
        if ends:
            if 0.0 < self.loss_before * self.tolerance < self.loss_sum:
                self.divisor *= self.anneal
            self.loss_before, self.loss_sum = self.loss_sum, 0.0
        oracle.notes["rate_divisor"] = self.divisor

    def state_dict(self) -> StateDict:
        numbers = {name: getattr(self, name) for name in ("divisor", "loss_sum", "loss_before")}
        return super().state_dict() | numbers | self.g.as_state("g") | self.anchor.as_state("anchor")

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self.g, self.anchor = (Direction.from_state(name, state) for name in ("g", "anchor"))
        for name in ("divisor", "loss_sum", "loss_before"):
            setattr(self, name, float(state[name]))
