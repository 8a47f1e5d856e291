"""TensorBoard as a mirror of the record: the numbers of metrics.jsonl as scalars against forward passes."""

from pathlib import Path
from typing import Any

from zobench.atomic import clean
from zobench.errors import MissingExtra
from zobench.record.mirror import Mirror, Say
from zobench.record.recorder import Values


class TensorBoardMirror(Mirror):
    """Writes ``tensorboard/`` in the run directory, for ``tensorboard --logdir runs``; begins with the first line.

    A scalar's step is the number of forward passes, on which methods are compared.
    """

    name = "tensorboard"

    def __init__(self, directory: Path, say: Say):
        super().__init__(say)
        self._folder = directory / "tensorboard"
        self._writer: Any = None

    def log(self, line: Values) -> None:
        self.guard(lambda: self._log(clean(line)))

    def _log(self, line: Values) -> None:
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError as error:
                raise MissingExtra("tensorboard", error) from error
            self._writer = SummaryWriter(str(self._folder))
        for name, value in line.items():
            if name != "forwards" and value is not None:
                self._writer.add_scalar(name, value, line["forwards"])

    def close(self) -> None:
        if self._writer is not None:
            self.guard(self._writer.close)
