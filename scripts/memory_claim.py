"""Does LOREN need less memory than MeZO with Adam, and how much? At OPT-1.3B's shape, with random weights.

    python scripts/memory_claim.py FOLDER [--threads 1]

Measures the peaks of inference, MeZO, LOREN and MeZO with Adam, in fp32 and bf16, each in a process of its own, and
then writes the tables of docs/memory.md. FOLDER keeps a JSON file for each; what is there is not measured again. A
measurement for which the machine has too little free memory is left out, which the table says.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM

from zobench.atomic import write_atomically
from zobench.bench import memory, models
from zobench.bench.spec import Shape, Spec
from zobench.bench.subjects import TRIMMED
from zobench.errors import UserError
from zobench.system.markdown import pipe_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "memory.md"
START = "<!-- scripts/memory_claim.py writes from here to the end -->\n"
MEASURED, LARGE = "opt-1.3b-random", "opt-13b-random"
LOREN, ADAM = "loren", "mezo_adam"
SUBJECTS = (TRIMMED, "mezo", LOREN, ADAM)
DTYPES = {"float32": 4, "bfloat16": 2}  # bytes of a weight
SHAPE = Shape(4, 16)
GIB = 2**30


class Sizes(NamedTuple):
    """Numbers of a model's weights, a tied one once, as the law of memory needs them.

    Attributes:
        weights: all.
        tensors: those of matrices and embeddings.
        columns: the columns of these, added up.
    """

    weights: int
    tensors: int
    columns: int

    def state(self, subject: str, width: int = 4) -> int:
        """Bytes that a method keeps between steps, of numbers ``width`` bytes wide.

        >>> sizes = Sizes(weights=1100, tensors=1000, columns=50)
        >>> sizes.state("mezo"), sizes.state("loren"), sizes.state("mezo_adam")
        (0, 5200, 8800)
        """
        curvature = self.columns + self.weights - self.tensors  # LOREN's a; the sum of its scores is as large
        numbers = {LOREN: self.tensors + 2 * curvature, ADAM: 2 * self.weights}
        return width * numbers.get(subject, 0)

    @classmethod
    def of(cls, model: Any) -> "Sizes":
        """Those of a torch module."""
        parameters = list(model.parameters())
        tensors = [p for p in parameters if p.dim() > 1]
        return cls(
            sum(p.numel() for p in parameters), sum(p.numel() for p in tensors), sum(p.shape[1] for p in tensors)
        )


def sizes(name: str) -> Sizes:
    """The sizes of a shape of zobench.bench; no weights are made."""
    with torch.device("meta"):
        return Sizes.of(AutoModelForCausalLM.from_config(models.random_config(name)))


def free_bytes() -> int:
    """Memory that processes can have without swapping, as Linux estimates it."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


def row(folder: Path, dtype: str, subject: str, threads: int) -> dict[str, Any]:
    """What was measured of a subject, now or earlier, or why it was not."""
    file = folder / f"{MEASURED}-{dtype}-{SHAPE}-{subject.replace(' ', '-')}.json"
    if file.exists():
        return dict(json.loads(file.read_text()))
    size = sizes(MEASURED)
    needed = size.weights * DTYPES[dtype] + size.state(subject) + 2 * GIB
    if (free := free_bytes()) < needed:
        return {"name": subject, "reason": f"needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} were free"}
    spec = Spec(MEASURED, dtype, "cpu", threads, (SHAPE,), tuple(s for s in SUBJECTS if s != TRIMMED))
    try:
        found = memory.apart(spec, SHAPE, subject)
    except UserError as error:
        return {"name": subject, "reason": str(error)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(found, indent=1) + "\n")
    return found


def measured(dtype: str, found: Sequence[dict[str, Any]]) -> str:
    """Peaks in a dtype beside the law, in GiB."""
    by_name = {each["name"]: each for each in found}
    inference, size = by_name[TRIMMED], sizes(MEASURED)
    cells = [["", "weights", "state", "the rest", "peak", "law", "peak / law", "peak / MeZO-Adam's"]]
    for name, each in by_name.items():
        if "reason" in each:
            cells.append([name, *"------", each["reason"]])
            continue
        weights, state, peak = (each[key] for key in ("weights_bytes", "method_state_bytes", "peak_bytes"))
        law = inference.get("peak_bytes", weights) + size.state(name)
        adam = by_name[ADAM].get("peak_bytes")
        parts = [f"{part / GIB:.2f}" for part in (weights, state, peak - weights - state, peak, law)]
        cells.append([name, *parts, f"{peak / law:.3f}", f"{peak / adam:.3f}" if adam else "-"])
    return f"**{MEASURED}, {dtype}, {size.weights:,} weights, {SHAPE} (batch x tokens).**\n\n{pipe_table(cells)}\n"


def extrapolated() -> str:
    """The law for the large shape, in GiB."""
    large = sizes(LARGE)
    cells = [["weights, state", "MeZO", "LOREN", "MeZO-Adam", "LOREN / MeZO-Adam", "the rest at which it is 0.727"]]
    for weight, state in (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")):
        held = large.weights * DTYPES[weight]
        none, loren, adam = (held + large.state(name, DTYPES[state]) for name in ("mezo", LOREN, ADAM))
        rest = (0.727 * adam - loren) / (1 - 0.727)
        parts = [f"{size / GIB:.1f}" for size in (none, loren, adam)]
        cells.append([f"{weight}, {state}", *parts, f"{loren / adam:.3f}", f"{rest / GIB:.1f}"])
    return f"**{LARGE}, {large.weights:,} weights: the law, not measured.**\n\n{pipe_table(cells)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the measurements are kept")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    texts = []
    for dtype in DTYPES:
        found = []
        for subject in SUBJECTS:
            found.append(row(asked.folder, dtype, subject, asked.threads))
            print(dtype, json.dumps(found[-1]), flush=True)
        texts.append(measured(dtype, found))
    texts.append(extrapolated())
    words = PAGE.read_text(encoding="utf-8").partition(START)[0]
    PAGE.write_text(f"{words}{START}\n" + "\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    main()
