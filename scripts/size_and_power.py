"""How often tests of a difference are wrong, and how often they see one, on made-up runs whose true effects are known.

    python scripts/size_and_power.py

writes the tables of docs/statistics.md, in some minutes on one core. Right and wrong answers are drawn from a model
with a difficulty for each test example, a liking of each entry for each example, a seed effect for each entry and
chance, whose sizes are those of the stored SST-2 runs of analysis/records/methods.zip. Each data set has a reference
and nine entries, of which three are no better than it and two each are better by one, two and three points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from zobench.atomic import write_atomically
from zobench.report import load
from zobench.report.compare.board import make_board
from zobench.report.compare.crossed import MANY, Components, Difference, MeanSquares, Usual, difference
from zobench.report.compare.groups import holm, of_pairs, ranks
from zobench.report.compare.stats import ALPHA, p_of
from zobench.system.markdown import between_marks, pipe_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "statistics.md"
RECORDS = ROOT / "analysis" / "records" / "methods.zip"
MARKS = "<!-- simulated, by scripts/size_and_power.py -->\n", "<!-- end of what was simulated -->\n"
#: true points above the reference, which is the first
EFFECTS = (0, 0, 0, 0, 1, 1, 2, 2, 3, 3)
#: of a comparison in which many train worse, and spread more the worse they are
FALLING, STEEP = (*EFFECTS, -1, -2, -2, -3, -4, -5, -6, -8, -10, -12), 0.1
SEEDS, EXAMPLES = (3, 5, 8, 10), (500, 872, 2000)
ACCURACY = 0.75  # of the reference
UNEVEN = 0.4  # how much entries differ in their spread over seeds: standard deviation of its logarithm
SETS, RESAMPLES = 500, 300
Array = NDArray[np.float64]
Test = Callable[[MeanSquares, Usual], float]


@dataclass(frozen=True)
class Model:
    """How answers come about: right where a sum of normal draws, of variance 1, is above a threshold.

    Args:
        difficulty, liking: shares of the variance that are the example's, and the entry's at the example.
        seed: standard deviation of an entry's accuracy over seeds.
    """

    difficulty: float
    liking: float
    seed: float

    @classmethod
    def like(cls, found: Components) -> "Model":
        """The model whose differences have these components."""
        both = ACCURACY * (1 - ACCURACY) - found.rest / 2
        difficulty = _shared(both - found.example / 2)
        return cls(difficulty, _shared(both) - difficulty, (found.seed / 2) ** 0.5)

    def draw(
        self,
        generator: np.random.Generator,
        seeds: int,
        examples: int,
        uneven: float,
        worst: bool = False,
        effects: Sequence[int] = EFFECTS,
        steep: float = 0.0,
    ) -> Array:
        """Draw the scores of all entries, entries x seeds x examples.

        Args:
            uneven: how much entries differ in their spread over seeds.
            worst: whether the one that spreads the most is the first entry, which is no better than the reference.
            effects: true points above the first, which is the reference.
            steep: how much the logarithm of the spread falls with each point.
        """
        n, points = len(effects), np.array(effects)[:, None]
        slope = np.exp(-(special.ndtri(ACCURACY) ** 2) / 2) / np.sqrt(2 * np.pi)
        spread = self.seed / slope * np.exp(uneven * generator.normal(size=(n, 1)) - uneven**2 - steep * points)
        if worst:
            most = int(spread.argmax())
            spread[[1, most]] = spread[[most, 1]]
        rest = 1 - self.difficulty - self.liking
        spread = np.minimum(spread, np.sqrt(0.9 * rest))
        chance = np.sqrt(rest - spread**2)
        example = np.sqrt(self.difficulty) * generator.normal(size=examples)
        example = example + np.sqrt(self.liking) * generator.normal(size=(n, examples))
        level = special.ndtri(ACCURACY + points / 100) + spread * generator.normal(size=(n, seeds))
        noise = generator.standard_normal((n, seeds, examples), dtype=np.float32)
        return (level[:, :, None] + example[:, None] + chance[:, None] * noise > 0).astype(float)


def _shared(covariance: float) -> float:
    """The share of the variance that two answers have in common, at a covariance of right and wrong answers."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        right = special.ndtr((special.ndtri(ACCURACY) + np.sqrt(share) * nodes) / np.sqrt(1 - share))
        found = float(weights @ right**2 / weights.sum()) - ACCURACY**2
        low, high = (share, high) if found < covariance else (low, share)
    return low


def by_seeds(found: MeanSquares) -> float:
    """The paired t-test over seeds: p value."""
    return _t(found.mean, found.seeds, found, found.n_seeds - 1)


def by_both(found: MeanSquares, _: Usual) -> float:
    """The larger p value of the paired t-tests over seeds and over test examples."""
    return max(by_seeds(found), _t(found.mean, found.examples, found, found.n_examples - 1))


def _t(mean: float, square: float, found: MeanSquares, freedom: float) -> float:
    error = (square / found.n_seeds / found.n_examples) ** 0.5
    return p_of(mean / error, freedom) if error else float(mean == 0)


TESTS: dict[str, Test] = {
    "t, seeds": lambda found, _: by_seeds(found),
    "t, seeds and examples": by_both,
    "crossed, two rows": lambda found, _: difference(found).p,
    "crossed": lambda found, usual: difference(found, usual).p,
}


@dataclass
class Counts:
    """What was found in the data sets of one size: p values by test, sets and entries; and how often ranks were right.

    Args:
        p: test -> p value against the reference, data sets x other entries.
        bootstrap: whether the crossed bootstrap rejects for an entry that is no better.
        ranks, resampled: how often the interval of a rank holds the true one, and how often all at once do; from the
            tests and from the bootstrap.
    """

    p: dict[str, Array]
    bootstrap: float
    ranks: tuple[float, float]
    resampled: tuple[float, float]

    def rejected(self, test: str, points: int) -> float:
        """The share of entries with this effect that are told from the reference."""
        return float((self.p[test][:, np.array(EFFECTS[1:]) == points] < ALPHA).mean())

    def any_wrong(self, test: str) -> float:
        """The share of data sets in which an entry that is no better is told from the reference, after Holm's rule."""
        adjusted = np.array([holm(values) for values in self.p[test]])
        return float((adjusted[:, np.array(EFFECTS[1:]) == 0] < ALPHA).any(axis=1).mean())


def falling(model: Model, seeds: int, examples: int, sets: int = SETS) -> dict[str, list[float]]:
    """What tests say where entries spread more the worse they train: test -> shares of equal and better ones told."""
    generator = np.random.default_rng([seeds, examples, 1000])
    found: dict[str, list[list[float]]] = {name: [] for name in ("t, seeds", "crossed, one spread", "crossed")}
    for _ in range(sets):
        scores = model.draw(generator, seeds, examples, UNEVEN, effects=FALLING, steep=STEEP)
        means = scores.mean((1, 2))
        pairs = {(i, j): MeanSquares.of(scores[i] - scores[j], (means[i] + means[j]) / 2)
                 for i, j in combinations(range(len(scores)), 2)}  # fmt: skip
        usual, one = Usual.of(pairs.values(), len(scores)), Usual.of(pairs.values(), MANY - 1)
        against = [pairs[0, i] for i in range(1, len(EFFECTS))]
        found["t, seeds"].append([by_seeds(each) for each in against])
        found["crossed, one spread"].append([difference(each, one).p for each in against])
        found["crossed"].append([difference(each, usual).p for each in against])
    points = np.array(EFFECTS[1:])
    return {
        name: [float((np.array(p)[:, points == k] < ALPHA).mean()) for k in (0, 1, 2, 3)] for name, p in found.items()
    }


def simulate(model: Model, seeds: int, examples: int, uneven: float = UNEVEN, worst: bool = False,
             sets: int = SETS) -> Counts:  # fmt: skip
    """Draw data sets of one size and test the entries of each."""
    generator = np.random.default_rng([seeds, examples, round(10 * uneven)])
    p: dict[str, list[list[float]]] = {name: [] for name in TESTS}
    drawn = [generator.multinomial(k, np.full(k, 1 / k), RESAMPLES) / k for k in (seeds, examples)]
    hits = []
    for _ in range(sets):
        scores = model.draw(generator, seeds, examples, uneven, worst)
        means = scores.mean((1, 2))
        pairs = {(i, j): MeanSquares.of(scores[i] - scores[j], (means[i] + means[j]) / 2)
                 for i, j in combinations(range(len(scores)), 2)}  # fmt: skip
        usual = Usual.of(pairs.values(), len(scores))
        for name, test in TESTS.items():
            p[name].append([test(pairs[0, i], usual) for i in range(1, len(scores))])
        hits.append(_resampled(drawn, scores) + _ranked(scores, [difference(each, usual) for each in pairs.values()]))
    bootstrap, *held = np.mean(hits, axis=0)
    values = {name: np.array(each) for name, each in p.items()}
    return Counts(values, bootstrap, (held[2], held[3]), (held[0], held[1]))


def _resampled(drawn: list[Array], scores: Array) -> list[float]:
    """Resample seeds and examples: is the first equal entry told from the reference, and do the ranks hold?"""
    means = np.stack([((drawn[0] @ of_one) * drawn[1]).sum(1) for of_one in scores], axis=1)
    low, high = np.quantile(means[:, 1] - means[:, 0], [ALPHA / 2, 1 - ALPHA / 2])
    places = (means[:, :, None] < means[:, None]).sum(2) + 1
    ends = np.quantile(places, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return [float(not low <= 0 <= high), *_holds(ends[0], ends[1])]


def _ranked(scores: Array, found: list[Difference]) -> list[float]:
    p = of_pairs(range(len(scores)), holm([each.p for each in found]))
    frame = ranks(pd.Series(scores.mean((1, 2))), p).sort_index()
    return _holds(frame["best"].to_numpy(), frame["worst"].to_numpy())


def _holds(best: Array, worst: Array) -> list[float]:
    """The share of intervals that hold the true rank, of equals the middle of those that they share; whether all do."""
    effects = np.array(EFFECTS)
    true = (effects[:, None] < effects).sum(1) + ((effects[:, None] == effects).sum(1) + 1) / 2
    held = (best <= true) & (true <= worst)
    return [float(held.mean()), float(held.all())]


def tables() -> str:
    """Simulate everything, and write the tables."""
    board = make_board(load(RECORDS), ["method", "task"])
    (slice_,) = (each for each in board.slices if each.key["task"] == "sst2")
    components = board.pairs(slice_).entries.components
    assert components is not None
    model = Model.like(components)
    size = [["seeds", "examples", *TESTS, "crossed bootstrap", "any of the equal, crossed, Holm"]]
    several = [name for name in TESTS if name != "crossed, two rows"]
    power = [["seeds", "examples", *(f"{points}: {name}" for points in (1, 2, 3) for name in several)]]
    ranked = [["seeds", "examples", *(f"{made}, {of}" for made in ("tests", "bootstrap") for of in ("one", "all"))]]
    for seeds in SEEDS:
        for examples in EXAMPLES:
            found = simulate(model, seeds, examples)
            at = [str(seeds), f"{examples:,}"]
            wrong = [found.rejected(name, 0) for name in TESTS]
            size.append([*at, *map(_share, [*wrong, found.bootstrap, found.any_wrong("crossed")])])
            power.append([*at, *(_share(found.rejected(name, k)) for k in (1, 2, 3) for name in several)])
            ranked.append([*at, *map(_share, [*found.ranks, *found.resampled])])
    uneven = [["seeds", "unevenness", *list(TESTS)[1:]]]
    for seeds in (3, 5, 10):
        for much in (0.0, 0.4, 0.8):
            found = simulate(model, seeds, 872, much, worst=True)
            shares = [float((found.p[name][:, 0] < ALPHA).mean()) for name in list(TESTS)[1:]]
            uneven.append([str(seeds), f"{much:.1f}", *map(_share, shares)])
    trend = [["seeds", "test", "equal", *(f"{points} points" for points in (1, 2, 3))]]
    for seeds in (5, 10):
        told = falling(model, seeds, 2000)
        trend += [[str(seeds), name, *map(_share, shares)] for name, shares in told.items()]
    spread = ", ".join(f"{name} {value:.4f}" for name, value in (
        ("seed", components.seed), ("example", components.example), ("rest", components.rest)))  # fmt: skip
    parts = (
        f"Variances of a difference in the stored runs: {spread}. {SETS} data sets a line; a share of 0.05 that is "
        f"counted in them has a standard error of {(0.05 * 0.95 / SETS) ** 0.5:.3f} at most.",
        "**Size**: how often entries that are no better are told from the reference, at 5 %", pipe_table(size),
        "**Power**: how often entries that are better by 1, 2 and 3 points are", pipe_table(power),
        "**The worst case**: size with 872 examples for the one of ten entries that spreads the most over seeds, where "
        "the logarithm of the entries' spread has this standard deviation", pipe_table(uneven),
        "**Entries that train differently well**: how often those of the tables above are told from the reference, "
        "with 2,000 examples, where ten more are 1 to 12 points worse and the spread over seeds grows by a tenth "
        "with each point; *one spread* learns no trend", pipe_table(trend),
        "**Ranks**: how often the 95 % interval of one rank holds the true one, and those of all at once",
        pipe_table(ranked),
    )  # fmt: skip
    return "\n\n".join(part.rstrip("\n") for part in parts)


def _share(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def main() -> None:
    """Write the page's tables."""
    write_atomically(PAGE, between_marks(PAGE.read_text(encoding="utf-8"), MARKS, f"{tables()}\n", PAGE))


if __name__ == "__main__":
    main()
