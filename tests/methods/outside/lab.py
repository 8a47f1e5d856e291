"""Methods of a laboratory that knows zobench as a library: one keeps the contracts, two do not."""

from zobench.zo import ZERO, Method, Oracle


class OneSided(Method):
    """``θ ← θ − lr · (L(θ+εu) − L(θ)) / ε · u``."""

    def update(self, oracle: Oracle) -> None:
        self.apply(self.slope(oracle) * self.direction())

    def slope(self, oracle: Oracle) -> float:
        """The slope along the direction of this step, from two losses."""
        base, ahead = oracle.losses([ZERO, self.direction() * self.eps])
        return (ahead - base) / self.eps


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
