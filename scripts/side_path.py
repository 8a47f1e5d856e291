"""Hold losses at offsets, by factors and stacked, to those of moved weights, over every family of docs/models.md.

python scripts/side_path.py [FAMILY ...]; some minutes for all. It prints a line per family and tuning, and ends with 1
where a loss is further from that of moved weights than 1e-12 of it in fp64, or 1e-5 in fp32 (Mamba, whose rounding
grows along the way: four times that).
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import matrix, offsets  # noqa: E402
from helpers.families import LISTED, OTHERS  # noqa: E402


def lines(name: str, failures: list[str]):
    """A family's lines: the worst of all ways to run a batch, both distributions, both batches."""

    for case in matrix.CASES:
        for dtype, allowed in offsets.ALLOWED.items():
            try:
                found = offsets.measure(name, case, dtype)
            except Exception as error:
                failures.append(f"{name} {case} {dtype}: {type(error).__name__}: {error}")
                continue
            run = {way: cell for way, cell in found.items() if not cell.refusal}
            if not run:
                yield f"{name:20} {case!s:22} {dtype!s:14} refused"
                continue
            for way, cell in run.items():
                wrong = not max(cell.alone, cell.together) <= allowed * offsets.WIDER.get(name, 1.0)
                if wrong or not cell.ways[0].startswith("side") or not cell.shift > 1e-4:
                    failures.append(f"{name} {case} {dtype} {way}: {cell}")
            alone, together = (max(getattr(c, word) for c in run.values()) for word in ("alone", "together"))
            stacked = sum(cell.stacked for cell in run.values())
            taken = " | ".join(sorted({cell.ways[0] for cell in run.values()}))
            yield (
                f"{name:20} {case!s:22} {dtype!s:14} {taken:14} {alone:.0e} "
                f"stacked {stacked}/{len(run)} {together:.0e} shift {min(c.shift for c in run.values()):.0e}"
            )


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    failures: list[str] = []
    start = time.process_time()
    for name in sys.argv[1:] or (*LISTED, *OTHERS):
        for line in lines(name, failures):
            print(line, flush=True)
    print(f"{time.process_time() - start:.0f} CPU seconds")
    print(*failures, sep="\n")
    sys.exit(bool(failures))
