"""One run by several processes, started with torchrun: which runs they can share, and who does what."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from zobench.errors import ConfigError, UserError
from zobench.system.devices import pick_device
from zobench.system.processes import assembled, launched
from zobench.zo import Method, Slot
from zobench.zo.team import Shards, Team, TeamError

#: numbers of a tensor that are summed at a time, as 64-bit integers
_BLOCK = 1 << 20
#: a prime below 2**61, by which sums are spread
_SPREAD = 2305843009213693951


@dataclass(frozen=True)
class Division:
    """Who does what: ``team`` shares out evaluations, ``shards`` the examples of a batch, ``oracle`` its losses."""

    team: Team
    shards: Team
    oracle: Team


def divide(team: Team, parallel: str | None) -> Division:
    """Divide the labour as the setting ``parallel`` says; one process does all of it."""
    if team.size == 1 or parallel is None:
        return Division(team, Team(), Team())
    shards = Shards(team)
    return Division(team, shards, shards) if parallel == "data" else Division(team, Team(), team)


@contextmanager
def team_of(cfg: DictConfig) -> Iterator[Team]:
    """A context with the team of a run: torchrun's processes, or this one alone.

    Raises:
        ConfigError: if there are several processes and no word on what they should do.
        UserError: if they cannot go on together.
    """
    size = launched()
    if size == 1:
        yield Team()
        return
    if cfg.parallel is None:
        raise ConfigError(
            f"parallel=null: {size} processes were started; choose parallel=queries, where each evaluates its share of "
            "a step's losses (the bits of one process), or parallel=data, its share of the batch (but for rounding)"
        )
    if cfg.model.get("device_map") is not None:
        raise ConfigError(
            f"model.device_map={cfg.model.device_map}: spreads one model over all GPUs, and {size} processes were "
            "started; start one, without torchrun"
        )
    try:
        with assembled(pick_device(str(cfg.device))) as team:
            yield team
    except TeamError as error:
        raise UserError(str(error)) from error


def check(method: Method, parallel: str | None, protocol: str, micro_batches: bool) -> None:
    """Refuse what several processes cannot share.

    Args:
        method: of the run, or a stand-in with its settings.
        parallel: the setting: ``queries``, ``data`` or None.
        protocol: its name, for messages.
        micro_batches: whether the protocol lets a batch be cut.

    Raises:
        ConfigError: if they cannot.
    """
    if not micro_batches:
        raise ConfigError(f"parallel={parallel}: protocol={protocol} reproduces a code of one process; start one")
    if method.backwards_per_step:
        raise ConfigError(
            f"parallel={parallel}: a first-order method would have to send gradients, and only scalars cross between "
            "processes; start one"
        )
    if parallel == "queries" and method.trains and method.oracle.mode != "exact":
        raise ConfigError(
            f"method.mode={method.oracle.mode}: parallel=queries needs method.mode=exact. In place, weights walk from "
            "query to query and each move rounds, so processes with different queries would drift apart"
        )


def check_shards(saved: Mapping[str, Any], shards: Team, folder: Path) -> None:
    """Refuse a checkpoint whose losses were summed over another number of shards.

    Raises:
        ConfigError: if it was.
    """
    then = saved.get("shards", 1)
    if then != shards.size:
        raise ConfigError(
            f"parallel: {folder} was written by {_shards(then)}; {_shards(shards.size)} would round otherwise; "
            "go on as before, or start again with overwrite=true"
        )


def _shards(size: int) -> str:
    return f"{size} data-parallel processes" if size > 1 else "a run without parallel=data"


def fingerprint(slots: Sequence[Slot]) -> str:
    """16 hex digits that change with any bit of the weights; computed where they are, unlike a checksum for files."""
    total = 0
    for slot in slots:
        bits = slot.param.detach().contiguous().view(-1)
        bits = bits.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[bits.element_size()])
        sums = torch.zeros((), dtype=torch.int64, device=bits.device)
        places = torch.arange(1, 2 * min(_BLOCK, len(bits)), 2, device=bits.device)  # odd: no bit is lost
        for block in bits.split(_BLOCK):
            sums.mul_(_SPREAD).add_((block * places[: len(block)]).sum())
        total = (total * _SPREAD + int(sums)) % 2**64
    return f"{total:016x}"
