"""The processes that torchrun started, as one team."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, distributed

from zobench.zo.team import Item, Team, TeamError, TeamLost, Value, Work

#: how long a process waits for the others; also for a slow download, or a large checkpoint that one of them writes
PATIENCE = timedelta(minutes=30)
#: how long it waits for them at the end, before it hangs up
_GRACE = timedelta(seconds=5)
_teams = count()


def launched() -> int:
    """The number of processes that torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Processes(Team):
    """Several processes over torch.distributed.

    Whatever is raised in one of them is told to the others in its turn, so that none waits for what will not come.
    ``TeamError`` is raised where another process failed, ``TeamLost`` where it ended or did not answer.

    Args:
        device: where messages are put together: what the backend works on.
    """

    def __init__(self, rank: int, size: int, device: torch.device):
        super().__init__()
        self.rank, self.size, self.device = rank, size, device

    def vectors(
        self, work: Callable[[Item], Sequence[float]], items: Sequence[Item], widths: Sequence[int]
    ) -> Iterator[Sequence[float]]:
        most = max(sum(widths[rank :: self.size]) for rank in range(self.size))
        rows = self._scalars(lambda: [x for item in self.share(items) for x in work(item)], most)
        shares = [iter(row) for row in rows]
        return ([*islice(shares[i % self.size], width)] for i, width in enumerate(widths))

    def sums(self, work: Callable[[], Sequence[float]], width: int) -> list[float]:
        return [sum(column) for column in zip(*self._scalars(work, width), strict=True)]

    def results(self, work: Work[Item, Value], items: Sequence[Item]) -> list[Value]:
        def share() -> list[Value]:
            values = []
            for item in self.share(items):
                if asked := self.stop_request():
                    raise KeyboardInterrupt(asked)
                values.append(work(item))
            return values

        rows = self._texts(share)
        return [rows[i % self.size][i // self.size] for i in range(len(items))]

    def together(self, work: Callable[[], Value]) -> Value:
        kept: list[Value] = []
        self._texts(lambda: kept.append(work()))
        return kept[0]

    def from_first(self, work: Callable[[], Value]) -> Value:
        return self._texts(lambda: work() if self.leads else None)[0]

    def stop(self) -> str | None:
        asked = self.stop_request()
        number = signal.Signals[asked].value if asked else 0
        most = int(max(row[0] for row in self._scalars(lambda: [number], 1)))
        return signal.Signals(most).name if most else None

    def check_same(self, what: str, work: Callable[[], str]) -> None:
        texts = self._texts(work)
        others = [str(rank) for rank, text in enumerate(texts) if text != texts[0]]
        if others:
            raise TeamError(f"{what} differ: process {', '.join(others)} of {self.size} has others than process 0")

    def check_alike(self, work: Callable[[], Mapping[str, str]]) -> None:
        rows: list[dict[str, str]] = self._texts(lambda: dict(work()))
        for rank, row in enumerate(rows):
            names = [name for name in {**rows[0], **row} if rows[0].get(name) != row.get(name)]
            if names:
                said = ", ".join(f"{name} is {row.get(name)}, in process 0 {rows[0].get(name)}" for name in names[:3])
                raise TeamError(
                    f"process {rank} of {self.size} differs: {said}; start all with the same settings, code, data and "
                    "libraries"
                )

    def _scalars(self, work: Callable[[], Sequence[float]], width: int) -> list[list[float]]:
        """What ``work`` gives in each process, by rank; one message of ``width + 1`` float64 numbers from each."""
        error: BaseException | None = None
        mine: list[float] = []
        try:
            mine = list(work())
        except BaseException as raised:
            error = raised
        padded = [float(error is not None), *mine, *[0.0] * (width - len(mine))]
        rows = self._exchange(torch.tensor(padded, dtype=torch.float64))
        self.bytes += sum(row.nbytes for row in rows)
        numbers: list[list[float]] = [row.tolist() for row in rows]
        if any(row[0] for row in numbers):
            self._texts(lambda: _raise(error))
        return [row[1:] for row in numbers]

    def _texts(self, work: Callable[[], Any]) -> list[Any]:
        """What ``work`` gives in each process, by rank, sent as JSON. If it raises in one, all raise."""
        error: BaseException | None = None
        try:
            mine = {"value": work()}
        except BaseException as raised:
            error = raised
            kind = "stop" if isinstance(raised, KeyboardInterrupt) else "error"
            mine = {kind: str(raised) if kind == "stop" else f"{type(raised).__name__}: {raised}"}
        data = torch.frombuffer(bytearray(json.dumps(mine).encode()), dtype=torch.uint8)
        lengths = [int(row) for row in self._exchange(torch.tensor([len(data)]))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(data)] = data
        rows = [json.loads(bytes(row[:n].tolist())) for row, n in zip(self._exchange(padded), lengths, strict=True)]
        _raise(error)
        failed = [f"process {rank} of {self.size}: {row['error']}" for rank, row in enumerate(rows) if "error" in row]
        if failed:
            raise TeamError("; ".join(failed))
        for row in rows:
            if "stop" in row:
                raise KeyboardInterrupt(row["stop"])
        return [row["value"] for row in rows]

    def _exchange(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, by rank, on the CPU."""
        sent = tensor.to(self.device)
        rows = [torch.empty_like(sent) for _ in range(self.size)]
        try:
            distributed.all_gather(rows, sent)
            return [row.cpu() for row in rows]
        except RuntimeError as error:
            raise TeamLost(
                f"process {self.rank} of {self.size} lost the others, of which one ended or hung; see its output. "
                + str(error).splitlines()[0].split(". ")[0]
            ) from error


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


@contextmanager
def assembled(device: torch.device, patience: timedelta = PATIENCE) -> Iterator[Processes]:
    """A context with the team that torchrun started this process for, as its environment variables say.

    Args:
        device: of this process. NCCL connects GPUs, gloo CPUs.
        patience: how long a process waits for the others before it fails.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    shared, rank, size = next(distributed.rendezvous("env://", timeout=patience))
    # A sweep starts one team after another on one store.
    store = distributed.PrefixStore(f"zobench/{next(_teams)}", shared)
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    try:
        yield Processes(rank, size, device)
    finally:
        store.set(f"left/{rank}", "")
        with suppress(RuntimeError):  # who hangs up early may cut the others' last message short
            store.wait([f"left/{other}" for other in range(size)], _GRACE)
        distributed.destroy_process_group()
        if rank:  # torchrun ends all when one ends badly, and the first may still be writing
            with suppress(RuntimeError):
                store.wait(["left/0"], patience)
