"""Whether the weights that were loaded are all of the model's, and numbers.

transformers initialises what a checkpoint lacks at random, and warns at most.
"""

import logging
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch

from zobench.errors import shown
from zobench.models.folder import Stored, Unusable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FLOATS = ("F64", "F32", "F16", "BF16")
_NAMED = 3


def check_types(outline: "PreTrainedModel", stored: Mapping[str, Stored]) -> None:
    """Refuse weights that are integers, booleans or packed in 8 bits, but for buffers and what transformers ignores.

    Args:
        outline: the model, with weights or without.
        stored: the tensors of the folder.

    Raises:
        Unusable: naming the tensors.
    """
    patterns = [
        r"(^|\.)position_ids$",
        *(outline._keys_to_ignore_on_load_unexpected or ()),
        *(re.escape(n) for n, _ in outline.named_buffers()),
    ]
    harmless = re.compile("|".join(f"({pattern})" for pattern in patterns) or r"(?!)")
    wrong = [name for name, tensor in stored.items() if tensor.dtype not in _FLOATS and not harmless.search(name)]
    if wrong:
        types = sorted({stored[name].dtype for name in wrong})
        raise Unusable(f"{_listed(wrong)} of type {', '.join(types)}; expected weights of {', '.join(_FLOATS)}")


def check_complete(info: Mapping[str, Any]) -> None:
    """Refuse what transformers would make up or leave out: missing, mismatched and unexpected tensors.

    A tied head is not missing, and what transformers knows to be a harmless leftover is not unexpected.

    Args:
        info: transformers' ``loading_info``.

    Raises:
        Unusable: naming the first of each kind, and how many there are.
    """
    found = []
    if info["missing_keys"]:
        found.append(f"{_listed(info['missing_keys'])} missing")
    if info["mismatched_keys"]:
        shapes = {name: (list(stored), list(wanted)) for name, stored, wanted in info["mismatched_keys"]}
        stored, wanted = shapes[min(shapes)]
        found.append(f"{_listed(shapes)} of another shape (the first {stored}, by config.json {wanted})")
    if info["unexpected_keys"]:
        found.append(f"{_listed(info['unexpected_keys'])} that no such model has")
    if info["error_msgs"]:
        found.append(shown(info["error_msgs"][0], 200))
    if found:
        raise Unusable(f"config.json and weights do not fit: {'; '.join(found)}; get the whole folder again")


class Unmerged(logging.Handler):
    """While weights are loaded: which tensors transformers cannot merge, such as experts; only its log says so."""

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []
        self._log = logging.getLogger("transformers.modeling_utils")

    def emit(self, record: logging.LogRecord) -> None:
        """Note the tensors that a report of transformers complains about."""
        self._names += re.findall(r"^(\S.*?) *\| CONVERSION", record.getMessage(), re.MULTILINE)

    def reason(self) -> str | None:
        """Why the weights cannot be loaded; None if merging was not the trouble."""
        if not self._names:
            return None
        return f"{_listed(self._names)} cannot be put together: parts of them are missing or of another shape"

    def __enter__(self) -> "Unmerged":
        self._before = self._log.level, self._log.propagate
        self._log.setLevel(logging.WARNING)
        self._log.propagate = False
        self._log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self)
        self._log.setLevel(self._before[0])
        self._log.propagate = self._before[1]


def check_finite(model: "PreTrainedModel") -> None:
    """Refuse weights that are not finite numbers, in the dtype that they were loaded in.

    One pass over the weights: of the smallest and the largest one, where NaN shows in both.

    Raises:
        Unusable: naming the tensors.
    """
    seen: set[int] = set()
    bad = []
    for name, tensor in model.state_dict().items():
        if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel() or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        if not torch.isfinite(torch.stack(torch.aminmax(tensor))).all():
            bad.append(name)
    if bad:
        raise Unusable(f"{_listed(bad)} with NaN or infinity (as {model.dtype}); the weights are damaged, or overflow")


def _listed(names: Collection[str]) -> str:
    """How many tensors, and the first of their names."""
    first = [shown(name) for name in sorted(names)[:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} tensor{'s' * (len(names) != 1)} ({', '.join(first)}{more})"
