"""The law: hours and memory of a cell from its model's size, its task's length and its device. Imports no torch."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from zobench.config.chosen import Chosen
from zobench.estimate.cost import LAW, Cost, Part
from zobench.estimate.rates import evaluations, split_sizes
from zobench.models.folder import Unusable, read_settings
from zobench.models.own import stored_parameters
from zobench.run.budget import Spending
from zobench.tasks.base import TYPICAL_TOKENS

#: floating-point operations per second that a forward pass reaches: about 40 % of an A100's, and one CPU core's
GPU_16BIT, GPU_FLOAT32, CORE = 125e12, 8e12, 0.08e12
#: cores that a run can use, and bytes per second that weights are read with
MOST_CORES, GPU_BYTES, CPU_BYTES = 32, 1e12, 1e10
#: what a layer takes at least, however narrow, and a forward pass beside its layers
LAYER_SECONDS, PASS_SECONDS = 1e-4, 1e-3
#: positions of a sequence that what follows the last attention runs at: those that predict an option's tokens
ASKED = 2
#: of drawing and adding one random number, on a GPU and on a core; and how often a weight is moved per forward pass
GPU_DRAW, CORE_DRAW, MOVES = 2e-11, 6e-10, 1.5
#: in automatic choice of the device, models of this size and above are taken to run on a GPU
ON_GPU = 1e9
#: tokens of a free answer, and seconds before the first step that do not hang on the model's size
ANSWER, START = 16, 5.0
ASSUMPTIONS = (
    f"law (~): forward passes of 2 x parameters x tokens operations at {GPU_16BIT / 1e12:g} TFLOP/s on a GPU in 16 "
    f"bits, {GPU_FLOAT32 / 1e12:g} in float32, {CORE / 1e12:g} on each core of a CPU (up to {MOST_CORES}), at least "
    f"{1000 * LAYER_SECONDS:g} ms a layer and {1000 * PASS_SECONDS:g} ms a pass; a backward pass as two of them; "
    "cached layers once an example; examples as long as their task's key tokens says; device=auto is a GPU from 1B "
    "parameters; memory is weights, gradients and AdamW's two moments where there are any, and activations of the "
    "largest batch"
)
_ATTENTION = tuple(f"self_attn.{name}_proj.weight" for name in "qkvo")
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """How large a model is: what is not known is that of most models of its size.

    >>> Shape.of_size(6_700_000_000)
    Shape(parameters=6700000000, layers=34, width=4052)
    """

    parameters: int
    layers: int
    width: int

    @classmethod
    def of_size(cls, parameters: int, layers: int | None = None) -> "Shape":
        """The shape that most models of a size have; their number of layers, unless it is known.

        Args:
            parameters: how many weights.
            layers: how many layers, if that is known.
        """
        layers = layers or max(2, round(12 * (parameters / 125e6) ** 0.26))
        return cls(parameters, layers, max(1, round(math.sqrt(parameters / (12 * layers)))))


@dataclass(frozen=True)
class Trained:
    """What trains in a model.

    Attributes:
        weights: how many numbers.
        depth: share of the layers that a step runs; what lies below them is run once for each example.
        computed: share of a whole forward pass that is.
    """

    weights: float
    depth: float = 1.0
    computed: float = 1.0


def by_law(cell: Chosen, spending: Spending) -> Cost:
    """What a cell takes by the law; without hours and memory where its model's size is not known."""
    shape, gpu = shape_of(cell), on_gpu(cell)
    if shape is None:
        return Cost(spending, (), None, gpu, LAW)
    trained = _trained(cell, shape)
    cores = min(cell.get("threads") or os.cpu_count() or 1, MOST_CORES)
    width = _BYTES[str(cell.get("dtype"))]
    speed = (GPU_16BIT if width == 2 else GPU_FLOAT32) if gpu else CORE * cores
    draw = GPU_DRAW if gpu else CORE_DRAW / cores

    def layers(sequences: float, depth: float, share: float) -> float:
        """Seconds in which so many sequences run through a share of the layers, by a share of a whole pass."""
        operations = 2 * shape.parameters * sequences * _tokens(cell)
        return PASS_SECONDS + max(depth * shape.layers * LAYER_SECONDS, share * operations / speed)

    answers = bool(cell.get("task.prompt")) and not cell.get("task.options")
    rows, batch = _rows(cell), cell.get("batch_size") or 1
    token = max(shape.parameters * width / (GPU_BYTES if gpu else CPU_BYTES), shape.layers * LAYER_SECONDS)
    losses, loss = spending.forwards, layers(batch * rows, trained.depth, trained.computed)
    if answers and (count := cell.get("objective.max_new_tokens")):  # a pass in the ledger for each token of an answer
        losses, loss = losses // count, layers(batch, 1.0, 1.0) + (count - 1) * token
    step = (losses + 2 * spending.backwards) * loss + losses * MOVES * trained.weights * draw
    eval_batch = cell.get("eval_batch_size") or batch
    evaluated = layers(eval_batch * rows, trained.depth, trained.computed) / eval_batch
    if answers:
        evaluated += ANSWER * token / eval_batch
    sizes, often = split_sizes(cell), evaluations(spending.steps, cell.get("eval_every"))
    parts = [Part("start", 1, START + shape.parameters * width / 5e8)]
    if trained.depth < 1:
        filling = layers(eval_batch * rows, 1 - trained.depth, 1 - trained.computed) / eval_batch
        parts.append(Part("frozen layers", sum(sizes), filling))
    parts += [Part("steps", spending.steps, step / spending.steps)] if spending.steps else []
    for name, size, times in zip(("dev", "test"), sizes[1:], often, strict=True):
        parts.append(Part(f"{name} evaluations", times, size * evaluated))
    memory = _memory(cell, spending, shape, trained, width)
    return Cost(spending, tuple(parts), sum(memory.values()), gpu, LAW, memory=memory)


def on_gpu(cell: Chosen) -> bool:
    """Whether a cell is expected to run on a GPU."""
    device, shape = str(cell.get("device")), shape_of(cell)
    return device.startswith("cuda") or (device == "auto" and shape is not None and shape.parameters >= ON_GPU)


def shape_of(cell: Chosen) -> Shape | None:
    """The size of a cell's model, by its option or by the files of its folder; None if neither says it."""
    said, given = cell.get("model.parameters"), cell.get("model.dir")
    if said is not None:
        return Shape.of_size(said)
    folder = Path(given).expanduser() if given else None
    parameters = stored_parameters(folder) if folder else None
    if folder is None or parameters is None:
        return None
    try:
        layers = read_settings(folder).get("num_hidden_layers")
    except (Unusable, OSError):
        layers = None
    return Shape.of_size(parameters, layers if isinstance(layers, int) else None)


def _trained(cell: Chosen, shape: Shape) -> Trained:
    block = 12 * shape.width**2
    places, tuning = cell.get("tuning.layers"), cell.choice("tuning")
    number, lowest = (shape.layers, 0) if places is None else _places(places, shape.layers)
    # What follows the frozen layers, the head among it, is run in any case.
    depth = max(1 - lowest / shape.layers, 0.5 / shape.layers)
    if rank := cell.get("tuning.r"):
        return Trained(4 * rank * shape.width * number, depth, depth)
    if tokens := cell.get("tuning.tokens"):
        return Trained(2 * tokens * shape.width * number)
    if tuning == "full" or places is None:
        return Trained(shape.parameters)
    only = cell.get("tuning.only")
    late = lowest == shape.layers - 1 and bool(only) and not any(re.search(str(only), name) for name in _ATTENTION)
    share = min(1.0, ASKED / _tokens(cell)) if late else 1.0
    return Trained(number * block * (0.3 if only else 1.0), depth, depth * share)


def _places(given: object, layers: int) -> tuple[int, int]:
    """How many layers are named, and the lowest of them.

    >>> _places(4, 12), _places("4-7", 12), _places([0, 1, 29], 30)
    ((4, 8), (4, 4), (3, 0))
    """
    if isinstance(given, int):
        return min(given, layers), max(0, layers - given)
    places: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:\s*-\s*(\d+))?", str(given)):
        places |= set(range(int(first), int(last or first) + 1))
    return max(1, len(places)), min(places, default=0)


def _tokens(cell: Chosen) -> int:
    return int(cell.get("task.tokens") or TYPICAL_TOKENS)


def _rows(cell: Chosen) -> int:
    """Sequences of an example: its options, which share one where each is a single word."""
    options = cell.get("task.options") or ()
    texts = [str(text).strip() for text in (options.values() if isinstance(options, dict) else options)]
    return len(texts) if any(" " in text or "{" in text for text in texts) else 1


def _memory(cell: Chosen, spending: Spending, shape: Shape, trained: Trained, width: int) -> dict[str, float]:
    """Peak memory by parts, in GiB."""
    tokens = _tokens(cell) * _rows(cell)
    largest = max(cell.get("micro_batch_size") or cell.get("batch_size") or 1, cell.get("eval_batch_size") or 1)
    kept = trained.depth * shape.layers if spending.backwards else 1.0
    activations = largest * tokens * shape.width * width * 16 * max(1.0, kept)
    rule = str(cell.get("method.rule._target_") or "").lower()
    moments = 3 if spending.backwards else 2 if "adam" in rule else 1 if "momentum" in rule else 0
    cached = sum(split_sizes(cell)) * tokens * shape.width * width if trained.depth < 1 else 0.0
    sizes = {
        "weights": shape.parameters * width,
        "method state": moments * trained.weights * width,
        "cached": cached,
        "rest": activations + 0.05 * 2**30,
    }
    return {name: size / 2**30 for name, size in sizes.items()}
