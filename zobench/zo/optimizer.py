"""Any method as a ``torch.optim.Optimizer``: for loops, schedulers and trainers that are written for one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zobench.zo.checks import not_negative
from zobench.zo.closure import Closure
from zobench.zo.method import Method, NamedParameters

Groups = NamedParameters | Iterable[Mapping[str, Any]]


class ZOOptimizer(torch.optim.Optimizer):
    """A method behind the interface of ``torch.optim.Optimizer``: parameter groups, schedulers, ``state_dict``.

    A step needs its closure, which is called several times and returns the loss; there is no ``backward``. Weights and
    losses are, to the bit, those of ``method_class(named_parameters, ...).step(closure)``.

    >>> from zobench import MeZO
    >>> weight = torch.nn.Parameter(torch.ones(3))
    >>> optimizer = ZOOptimizer(MeZO, [("weight", weight)], lr=0.1, seed=0)
    >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
    >>> for _ in range(20):
    ...     loss = optimizer.step(lambda: weight.square().sum())
    ...     scheduler.step()
    >>> loss < 3.0, optimizer.param_groups[0]["lr"]
    (True, 0.025)

    Args:
        method_class: any class of ``from zobench import ...``, or one of your own.
        named_parameters: (name, tensor) pairs, as ``model.named_parameters()`` gives them; or groups, dictionaries of
            such pairs under ``params`` and, where they differ, ``lr`` and ``weight_decay``. Frozen ones are left out.
        lr: learning rate.
        weight_decay: of groups that have none of their own.
        settings: further arguments of the method: ``eps``, ``seed``, ``mode`` and its own.

    Attributes:
        method: the method itself: its ``oracle`` counts forward passes.

    Raises:
        ValueError: for parameters without names, unknown keys of a group, a parameter in two groups, groups that
            differ where the method takes one rate for all, or a setting that the method refuses.
    """

    def __init__(
        self,
        method_class: type[Method],
        named_parameters: Groups,
        *,
        lr: float,
        weight_decay: float | None = None,
        **settings: Any,
    ):
        own: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
        groups = [_group(group, lr, own) for group in _as_groups(named_parameters)]
        pairs = [pair for group in groups for pair in group["params"]]
        self.method = method_class(pairs, lr=lr, **own, **settings)
        slots = {id(slot.param): slot for slot in self.method.slots}
        taken: dict[int, int] = {}
        for number, group in enumerate(groups):
            group.setdefault("weight_decay", self.method.weight_decay)
            for name, param in group["params"]:
                if taken.setdefault(id(param), number) != number:
                    raise ValueError(f"parameter {name} is in groups {taken[id(param)]} and {number}; keep it in one")
            unique = {id(param): param for _, param in group["params"] if id(param) in slots}
            group["params"] = list(unique.values())
        self._slots = slots
        self._open = True
        super().__init__(groups, {"lr": lr, "weight_decay": self.method.weight_decay})
        self._open = False
        self._trained = {slot.index: slot.param.requires_grad for slot in self.method.slots}
        self._dtypes: dict[int, torch.dtype] = {}  # of the weights in the first step
        self._hand_over()

    def __getstate__(self) -> dict[str, Any]:
        names = ("method", "_open", "_trained", "_dtypes")
        return super().__getstate__() | {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._slots = {id(slot.param): slot for slot in self.method.slots}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Groups are given to the constructor.

        Raises:
            ValueError: later on.
        """
        if not self._open:
            raise ValueError("parameters cannot be added to a zeroth-order optimizer; make a new one with all of them")
        super().add_param_group(param_group)

    def step(self, closure: Closure | None = None) -> float:  # type: ignore[override]
        """Take one step on the batch whose loss the closure gives.

        Args:
            closure: returns the loss, the same one for the same weights: no dropout, no backward.

        Returns:
            The mean of the losses seen.

        Raises:
            TypeError: without a closure, or for one that gives no number or calls ``backward``.
            ValueError: for groups that cannot be, a parameter frozen since the optimizer was made, or one whose dtype
                is another since the first step.
            Diverged: if a loss is not finite; the weights are then those before the step.
        """
        return self._take(closure)

    def _take(self, closure: Closure | None) -> float:
        """``step``, without the hooks that torch puts around that."""
        if closure is None:
            raise TypeError("a zeroth-order step needs a closure that returns the loss: optimizer.step(closure)")
        self._hand_over()
        for slot in self.method.slots:
            if slot.param.dtype != (first := self._dtypes.setdefault(slot.index, slot.param.dtype)):
                raise ValueError(f"parameter {slot.name} is {slot.param.dtype} and was {first}; make a new optimizer")
        try:
            return self.method.step(closure)
        except RuntimeError as error:
            if "does not require grad" in str(error) or "Inference tensors cannot be saved" in str(error):
                raise TypeError("the closure calls backward; a zeroth-order step takes the loss alone") from None
            raise
        finally:
            self.method.oracle.closure = None  # it holds the batch

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on with, beyond the weights: tensors, numbers and names, to be kept as safetensors or JSON.

        ``state`` is that of the ``method``, ``missed`` its oracle's, so that the steps to come measure as those before;
        ``param_groups`` have names of parameters under ``params``.
        """
        groups = [group | {"params": [self._name(p) for p in group["params"]]} for group in self.param_groups]
        state, name = self.method.state_dict(), type(self.method).__name__
        return {"method": name, "state": state, "missed": self.method.oracle.missed, "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave.

        Raises:
            ValueError: if it is of another optimizer or of other parameters.
        """
        there, here, name = state_dict["param_groups"], self.state_dict()["param_groups"], type(self.method).__name__
        if (other := state_dict.get("method")) != name:
            raise ValueError(f"the state is one of {other or 'an optimizer with backward'}, not of {name}")
        if [group["params"] for group in there] != [group["params"] for group in here]:
            raise ValueError("the state is of other parameters or other groups; make the optimizer as it was made then")
        for group, loaded in zip(self.param_groups, there, strict=True):
            group.update({key: value for key, value in loaded.items() if key != "params"})
        self.method.load_state_dict(dict(state_dict["state"]))
        if state_dict["missed"] is not None:
            self.method.oracle.recall(state_dict["missed"])

    def _name(self, param: Tensor) -> str:
        return self._slots[id(param)].name

    def _hand_over(self) -> None:
        """Give the method and its oracle what the groups say now; a scheduler may have changed it."""
        method, groups = self.method, [group for group in self.param_groups if group["params"]]
        rates = [float(group["lr"]) for group in groups]
        decays = [float(group["weight_decay"]) for group in groups]
        for number, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
            not_negative(**{f"lr of group {number}": rate, f"weight_decay of group {number}": decay})
        if len({*zip(rates, decays, strict=True)}) > 1 and not method.takes_groups:
            raise ValueError(
                f"{type(method).__name__} reckons with one learning rate and weight decay for all parameters; give "
                "all groups the same"
            )
        if (method.lr_schedule != "constant" or method.warmup) and any("initial_lr" in group for group in groups):
            raise ValueError(
                f"the rate would be scheduled twice: by the method (lr_schedule={method.lr_schedule}, "
                f"warmup={method.warmup}) and by a scheduler; leave one out"
            )
        for slot in method.slots:
            if slot.param.requires_grad != self._trained[slot.index]:
                now = "trains" if slot.param.requires_grad else "is frozen"
                raise ValueError(f"parameter {slot.name} {now} since the optimizer was made; make a new optimizer")
        method.base_lr, method.weight_decay = max(rates), decays[0]
        method.oracle.rates, method.oracle.decays = {}, {}
        if len(groups) > 1:
            for group, rate, decay in zip(groups, rates, decays, strict=True):
                for param in group["params"]:
                    index = self._slots[id(param)].index
                    method.oracle.rates[index] = rate / max(rates) if rate else float(not max(rates))
                    method.oracle.decays[index] = decay


def _as_groups(given: Groups) -> list[Mapping[str, Any]]:
    """The groups of what was given; pairs alone are one group."""
    parts = list(given)
    groups = [part for part in parts if isinstance(part, Mapping)]
    return groups if groups and len(groups) == len(parts) else [{"params": parts}]


def _group(given: Mapping[str, Any], lr: float, own: Mapping[str, Any]) -> dict[str, Any]:
    """A group with a rate and a list of pairs, checked."""
    if unknown := set(given) - {"params", "lr", "weight_decay"}:
        raise ValueError(
            f"a group holds params, lr and weight_decay, not {', '.join(sorted(unknown))}; all else is one for all: "
            "give it beside the groups"
        )
    params: Any = given.get("params", ())
    pairs: Sequence[Any] = list(params) if not isinstance(params, Tensor) else [params]
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ValueError("parameters need their names, which key the noise: give model.named_parameters()")
    return {"lr": lr, **own, **given, "params": pairs}
