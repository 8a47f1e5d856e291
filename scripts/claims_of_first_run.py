"""Write what the first run of all methods says of the claims on accuracy: the table of docs/published.md, made anew.

    python scripts/claims_of_first_run.py

Differences to MeZO are those of docs/results/first-run.csv. Its runs are of a tiny model and SST-2 and decide no claim.
"""

import csv
from pathlib import Path

from scipy.stats import t

from zobench.report.papers.claims import Claim, registry
from zobench.system.markdown import between_marks

ROOT = Path(__file__).resolve().parents[1]
PAGE, RUNS = ROOT / "docs" / "published.md", ROOT / "docs" / "results" / "first-run.csv"
MARKS = "<!-- the claims in the first run, by scripts/claims_of_first_run.py -->\n", "<!-- end of the first run -->\n"
_MAJORITY, _SEEDS = 0.509174, 3  # the most frequent class of the 872 test rows; the seeds of each row
_HEAD = "| claim | claimed, points | at equal forward passes | at equal seconds | |\n|---|---|---|---|---|\n"


def main() -> None:
    """Write the page again with the table between its marks."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(page: str) -> str:
    """The page's text with the table between its marks."""
    return between_marks(page, MARKS, table(), PAGE)


def table() -> str:
    """A row for each claim on accuracy against MeZO or chance whose method is among the runs."""
    with RUNS.open(encoding="utf-8", newline="") as file:
        runs = {row["method"]: row for row in csv.DictReader(file) if "lr_mu=0" not in row["setting"]}
    rows = []
    for claim in registry():
        method = claim.against if claim.method == "mezo" else claim.method
        if claim.metric == "accuracy" and method in runs and {claim.method, claim.against} & {"mezo", "majority"}:
            passes, seconds = (_difference(claim, runs[method], at) for at in ("forwards", "seconds"))
            size = f"{claim.claimed:+.1f}" if claim.margin is None else f"within ± {claim.margin:g}"
            says = _says(claim, *passes) + "; at the end of its rates" * (runs[method]["rate"][0] in "15")
            rows.append(f"| {claim.name} | {size} | {_shown(*passes)} | {_shown(*seconds)} | {says} |\n")
    return _HEAD + "".join(rows)


def _difference(claim: Claim, run: dict[str, str], at: str) -> tuple[float, float, float]:
    """The mean difference in points, and its 95 % interval."""
    if claim.against == "majority":
        mean = float(run[f"{at}: accuracy"]) - _MAJORITY
        half = float(t.ppf(0.975, _SEEDS - 1)) * max(float(run[f"{at}: std"]), 1 / 872) / _SEEDS**0.5
        values = (mean, mean - half, mean + half)
    else:
        values = tuple(float(run[f"{at}: {name}"]) for name in ("Δ accuracy", "low", "high"))
    mean, low, high = (100 * value for value in values)
    return (-mean, -high, -low) if claim.method == "mezo" else (mean, low, high)


def _shown(mean: float, low: float, high: float) -> str:
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _says(claim: Claim, mean: float, low: float, high: float) -> str:
    if claim.margin is not None:
        return "at chance" if -claim.margin <= low and high <= claim.margin else "it learns" if low > 0 else "not told"
    return "a gain" if low > 0 else "a loss" if high < 0 else "not told apart"


if __name__ == "__main__":
    main()
