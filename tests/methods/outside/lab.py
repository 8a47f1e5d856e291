"""Methods of a laboratory that knows zobench as a library: the first three keep the contracts, the others do not."""

from zobench.zo import ZERO, Gaussian, Method, Oracle, central_difference
from zobench.zo.perturbations.activation import ActivationSubspace
from zobench.zo.perturbations.input_sketch import InputSketch
from zobench.zo.perturbations.low_rank import LowRank
from zobench.zo.perturbations.masked import Masked


class OneSided(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ)) / ε · u``."""

    def update(self, oracle: Oracle) -> None:
        self.apply(self.slope(oracle) * self.direction())

    def slope(self, oracle: Oracle) -> float:
        """The slope along the direction of this step, from two losses."""
        base, ahead = oracle.losses([ZERO, self.direction() * self.eps])
        return (ahead - base) / self.eps


class TwoBatches(Method):
    """Half a step along a direction that the step's batch measures, half along one that a second batch does."""

    forwards_per_step = 4

    def update(self, oracle: Oracle) -> None:
        u, v = self.direction(0), self.direction(1)
        here = central_difference(oracle, u, self.eps)
        with oracle.on(first=1):
            there = central_difference(oracle, v, self.eps)
        self.apply(0.5 * (here * u + there * v))


class FromInputs(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ)) / ε · u``, u in the span of what a layer is given in L(θ)."""

    taps = True

    def __init__(self, named_parameters, *, rank: int = 2, **common):
        self.space = ActivationSubspace(rank=rank)
        super().__init__(named_parameters, perturbation=self.space, **common)
        self.rank = rank

    def update(self, oracle: Oracle) -> None:
        key = self.keys(self.t, purpose="basis")
        with oracle.tap(InputSketch(self.slots, self.rank, key)) as sketch:
            base = oracle.loss()
        self.space.span(sketch.bases())
        u = self.direction()
        self.apply((oracle.loss(u * self.eps) - base) / self.eps * u)


class Forgetful(OneSided):
    """Steps along another direction than it measured."""

    def update(self, oracle: Oracle) -> None:
        self.apply(self.slope(oracle) * self.direction(1))


class Amnesiac(OneSided):
    """Remembers a mean of its slopes, and does not save it."""

    mean = 0.0

    def update(self, oracle: Oracle) -> None:
        self.mean += 0.1 * (self.slope(oracle) - self.mean)
        self.apply(self.mean * self.direction())


class Doubled(Gaussian):
    """Its lift of a sum of cores is not the sum of its lifts."""

    def core(self, slot, direction):
        return 2 * super().core(slot, direction)


class Overshooting(OneSided):
    """Would step twice as far with a rule in core space."""

    def __init__(self, named_parameters, **common):
        super().__init__(named_parameters, perturbation=Doubled(), **common)


class Halved(LowRank):
    """Its factors are of half a direction."""

    def factors(self, slot, direction):
        return super().factors(slot, 0.5 * direction)


class Elsewhere(OneSided):
    """Measures where it does not step."""

    def __init__(self, named_parameters, **common):
        super().__init__(named_parameters, perturbation=Halved(rank=2), **common)


class Leaking(Masked):
    """Says that it moves positive weights alone, and moves all."""

    def accumulate_(self, slot, direction, total, rows=None):
        self.base.accumulate_(slot, direction, total, rows)


class Unmasked(OneSided):
    """Moves weights outside its mask."""

    def __init__(self, named_parameters, **common):
        super().__init__(named_parameters, perturbation=Leaking(Gaussian(), lambda slot: slot.param > 0), **common)


class Secretive(OneSided):
    """Looks at activations, and does not say so."""

    def slope(self, oracle: Oracle) -> float:
        sketch = InputSketch(self.slots, 1, self.keys(self.t))
        with oracle.tap(sketch):
            base = oracle.loss()
        return (oracle.loss(self.direction() * self.eps) - base) / self.eps


class Thrifty(OneSided):
    """Counts a loss of four batches as one."""

    def slope(self, oracle: Oracle) -> float:
        with oracle.on(first=0, count=4):
            return super().slope(oracle)
