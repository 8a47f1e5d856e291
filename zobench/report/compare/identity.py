"""Which model a run had: told by the checksums in its record, never by the name of an option.

A checksum is of the weights in the run's dtype, so that fp32 and bf16 of one model are told apart by ``dtype`` and not
by this module. What an older version did not write is unknown. Unknown weights pool with unknown ones of the same
option, as far as the checksums of what trains agree; with known ones only where those are equal.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from zobench.report.frames.runs import Row

#: columns that tell models apart, and those that tell data apart
MODEL = ("model_checksum", "model_family", "model_parameters", "tokenizer_hash")
DATA = ("rows_hash", "prompt_hash")
_ALSO = ("model", "dtype", "base_checksum", "parameters", "tuning", "zero_shot/dev/loss", "task", "protocol")
_DIGITS = 4  # of a checksum in a label, at least
_SAME_LOSS = 1e-3  # relative: what devices may round otherwise
_SIZES = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


@dataclass(frozen=True)
class Model:
    """What is known of a run's model; what is not is None.

    Args:
        option: the name under which it was run.
        weights: checksum of the whole model; of what trains, with its tuning, where that alone is known.
        whole: whether ``weights`` are of the whole model.
    """

    option: str
    family: str | None
    parameters: int | None
    weights: str | None
    whole: bool
    tokenizer: str | None

    def described(self, digits: int, with_tokenizer: bool) -> str:
        """Family, size and the first hex digits: ``qwen2 0.5B 3fa1``."""
        known = [self.family, size(self.parameters) if self.parameters else None]
        if self.weights and self.whole:
            known.append(self.weights[:digits])
        else:
            known.append("weights unknown" + (f", {self.weights[:digits]} trained" if self.weights else ""))
        if with_tokenizer:
            known.append(f"tokenizer {(self.tokenizer or 'unknown')[:digits]}")
        return " ".join(part for part in known if part)


def size(parameters: float) -> str:
    """Write a number of parameters as people do.

    >>> size(494032768), size(12853473280), size(95472)
    ('0.5B', '12.9B', '95.5K')
    """
    unit, name = next(((unit, name) for unit, name in _SIZES if parameters >= 0.45 * unit), (1.0, ""))
    return f"{parameters / unit:.1f}{name}" if name else f"{parameters:.0f}"


def identified(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Give different models different names in the column ``model``, and one model one name.

    A name stays as it is where all its runs have one model. Otherwise family, size and the first digits of the checksum
    are added: ``llama [qwen2 0.5B 3fa1]``. Runs of other names with the same weights, tokenizer and zero-shot loss get
    the first of the names.

    Returns:
        The runs, and what a reader must know of it, a line for each.
    """
    if runs.empty:
        return runs, []
    rows = runs.reindex(columns=[*_ALSO, *MODEL, *DATA, *_settings(runs)]).to_dict("records")
    models = _filled(_models(rows))
    models, said = _one_name(models, rows)
    apart = [name for name in dict.fromkeys(model.option for model in models) if _differ(name, models, rows)]
    names = [model.option for model in models]
    for name in apart:
        mine = [i for i, model in enumerate(models) if model.option == name]
        labels = _labels([models[i] for i in mine])
        for i, text in zip(mine, labels, strict=True):
            names[i] = text
        counts = pd.Series(labels).value_counts(sort=False)
        told = ", ".join(f"{text} in {n} run{'s' * (n > 1)}" for text, n in counts.items())
        said.append(f"{name} is not one model here, and its runs are not pooled: {told}")
    return runs.assign(model=pd.Series(names, index=runs.index, dtype=object)), [*said, *_unknown(models, rows)]


def model_of(run: Row) -> Model:
    """Collect what a run's row says of its model."""
    trusted = str(run.get("tuning")) != "lora" or _known(run.get("model_family"))  # else adapters are counted in
    whole = _text(run.get("model_checksum")) if trusted else None
    tuned = _text(run.get("base_checksum")) if str(run.get("tuning")) != "lora" else None
    parameters = run.get("model_parameters")
    if not _known(parameters) and str(run.get("tuning")) != "lora":
        parameters = run.get("parameters")
    return Model(
        option=str(run.get("model")), family=_text(run.get("model_family")),
        parameters=int(parameters) if _known(parameters) and isinstance(parameters, int | float) else None,
        weights=whole or tuned, whole=whole is not None, tokenizer=_text(run.get("tokenizer_hash")),
    )  # fmt: skip


def _settings(runs: pd.DataFrame) -> list[str]:
    return [name for name in runs.columns if name.startswith("tuning.")]


def _known(value: object) -> bool:
    return value is not None and value is not pd.NA and not (isinstance(value, float) and not math.isfinite(value))


def _text(value: object) -> str | None:
    return str(value) if _known(value) and value != "" else None


def _tuned(row: Row) -> tuple[str, ...]:
    """Tell what trains, at which precision: where that agrees, checksums of it can be compared."""
    return tuple(f"{name}={row[name]}" for name in sorted(row) if name.startswith("tuning") or name == "dtype")


def _models(rows: list[Row]) -> list[Model]:
    """Read off each run's model; one whose trained part is that of a known model is that model."""
    models = [model_of(row) for row in rows]
    wholes = defaultdict(set)
    for row, model in zip(rows, models, strict=True):
        if model.whole and (trained := _text(row["base_checksum"])):
            wholes[_tuned(row), trained].add(model.weights)
    found = []
    for row, model in zip(rows, models, strict=True):
        same = wholes.get((_tuned(row), model.weights), set()) if model.weights and not model.whole else set()
        found.append(replace(model, weights=next(iter(same)), whole=True) if len(same) == 1 else model)
    return found


def _filled(models: list[Model]) -> list[Model]:
    """Fill in what runs with the same whole weights say in one voice."""
    known: dict[str | None, dict[str, set[object]]] = defaultdict(lambda: defaultdict(set))
    names = ("family", "parameters", "tokenizer")
    for model in models:
        for name in names:
            if model.whole and getattr(model, name) is not None:
                known[model.weights][name].add(getattr(model, name))
    filled = []
    for model in models:
        one = {name: values for name, values in known[model.weights].items() if len(values) == 1} if model.whole else {}
        given = {name: next(iter(values)) for name, values in one.items() if getattr(model, name) is None}
        filled.append(replace(model, **given))  # type: ignore[arg-type]
    return filled


def _one_name(models: list[Model], rows: list[Row]) -> tuple[list[Model], list[str]]:
    """Give runs with the same weights under several names the first of them, if the model does the same with them."""
    by_weights = defaultdict(list)
    for i, model in enumerate(models):
        if model.whole:
            by_weights[model.weights].append(i)
    models, said = list(models), []
    for weights, mine in by_weights.items():
        names = sorted({models[i].option for i in mine})
        if len(names) < 2:
            continue
        told = f"{' and '.join(names)} have the same weights ({str(weights)[:_DIGITS]})"
        tokenizers = {models[i].tokenizer for i in mine}
        if len(tokenizers) > 1 or not _same_losses([rows[i] for i in mine], tokenizers != {None}):
            said.append(f"{told}, but not the same tokens or zero-shot losses for sure: they are kept apart")
            continue
        for i in mine:
            models[i] = replace(models[i], option=names[0])
        said.append(f"{told} and are one model here, {names[0]}")
    return models, said


def _same_losses(rows: list[Row], otherwise: bool) -> bool:
    """Whether zero-shot losses on the same rows agree over the names; ``otherwise`` where no two have the same rows."""
    seen: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for row in rows:
        if _known(row["zero_shot/dev/loss"]) and _known(row["rows_hash"]):
            key = tuple(str(row[name]) for name in ("task", "protocol", "rows_hash", "dtype"))
            seen[key][str(row["model"])] = float(row["zero_shot/dev/loss"])
    shared = [list(losses.values()) for losses in seen.values() if len(losses) > 1]
    alike = (max(losses) - min(losses) <= _SAME_LOSS * abs(max(losses, key=abs)) for losses in shared)
    return all(alike) if shared else otherwise


def _differ(name: str, models: list[Model], rows: list[Row]) -> bool:
    """Whether the runs of a name have more than one model, or known and unknown ones."""
    mine = [(model, row) for model, row in zip(models, rows, strict=True) if model.option == name]
    if any(_several(getattr(model, part) for model, _ in mine) for part in ("family", "parameters")):
        return True
    by_dtype, by_tuning, by_weights = defaultdict(set), defaultdict(set), defaultdict(set)
    for model, row in mine:
        by_dtype[str(row["dtype"])].add(model.weights if model.whole else None)
        if model.whole:
            by_weights[model.weights].add(model.tokenizer)
        else:
            by_tuning[_tuned(row)].add(model.weights)
    return any(len(those) > 1 for those in by_dtype.values()) or any(
        _several(those) for those in (*by_tuning.values(), *by_weights.values())
    )


def _several(values: Iterable[object]) -> bool:
    return len({value for value in values if value is not None}) > 1


def _labels(models: list[Model]) -> list[str]:
    """Tell the models of one name apart, with as many digits as that takes."""
    with_tokenizer = len({(model.weights, model.tokenizer) for model in models}) > len({m.weights for m in models})
    weights = {model.weights for model in models if model.weights}
    digits = _DIGITS
    while len({text[:digits] for text in weights}) < len(weights):
        digits += 1
    return [f"{model.option} [{model.described(digits, with_tokenizer)}]" for model in models]


def _unknown(models: list[Model], rows: list[Row]) -> list[str]:
    """Say where runs of which something is unknown share a name with runs of which it is known."""
    said = []
    for name in ("tokenizer_hash", "prompt_hash"):
        without = [row for row in rows if not _known(row[name])]
        options = {str(row["model"]) for row in rows if _known(row[name])} & {str(row["model"]) for row in without}
        if options:
            n = sum(str(row["model"]) in options for row in without)
            said.append(
                f"{name} is unknown in {n} run{'s' * (n > 1)} of an older version, taken to be that of the rest"
            )
    return said
