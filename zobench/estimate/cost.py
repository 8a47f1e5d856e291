"""What one cell takes, in parts, and where the numbers come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zobench.run.budget import Spending

#: where seconds and memory come from; those of the last two are rough
MEASURED, RUNS, SHORT_RUNS, LAW = "measured", "runs", "short runs", "law"


@dataclass(frozen=True)
class Part:
    """One kind of work of a run.

    >>> Part("steps", 1000, 0.5).total
    500.0

    Attributes:
        name: such as ``steps`` or ``test evaluations``.
        times: how often it is done.
        seconds: of wall time, each time.
        cpu: seconds of all processor cores together, each time; None where only a clock was read.
    """

    name: str
    times: float
    seconds: float
    cpu: float | None = None

    @property
    def total(self) -> float:
        """Seconds of wall time in all."""
        return self.times * self.seconds


@dataclass(frozen=True)
class Cost:
    """What one cell takes.

    Attributes:
        spending: steps, forward and backward passes, exactly; None if its run would refuse its settings.
        parts: of the wall time; empty if there is no rule for it.
        gib: peak memory; None if the model's size is not known.
        memory: parts of it by name, as far as they are known.
        gpu: whether it is expected to run on a GPU.
        source: one of the words above.
        said: of what the source consists, as in ``3 runs``.
        refusal: what its run would say to its settings.
    """

    spending: Spending | None
    parts: tuple[Part, ...]
    gib: float | None
    gpu: bool
    source: str
    said: str = ""
    refusal: str = ""
    memory: Mapping[str, float] = field(default_factory=dict)

    @property
    def rough(self) -> bool:
        """Whether the seconds are good for the order of magnitude only."""
        return self.source in (SHORT_RUNS, LAW)

    @property
    def short(self) -> bool:
        """Whether they are guessed from runs too short to say what a step takes; the memory is theirs."""
        return self.source == SHORT_RUNS

    @property
    def seconds(self) -> float | None:
        """Seconds of wall time in all; None if there is no rule for them."""
        return sum(part.total for part in self.parts) if self.parts else None

    @property
    def cpu_seconds(self) -> float | None:
        """Seconds of all processor cores together; None where they were not measured."""
        spent = [None if part.cpu is None else part.times * part.cpu for part in self.parts]
        known = [seconds for seconds in spent if seconds is not None]
        return sum(known) if known and len(known) == len(spent) else None
