"""One run, from a configuration to a record."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from zobench import config
from zobench.cell import Cell
from zobench.console import Console
from zobench.errors import RunExists
from zobench.record import Record
from zobench.signals import StopRequest
from zobench.train import Interrupted
from zobench.zo import Diverged


def run(cfg: DictConfig) -> dict[str, Any]:
    """Run one cell of the comparison table; the row that ``summary.json`` holds.

    A finished run is not repeated but returned; an interrupted one goes on from its checkpoint. A diverged run is a
    result: its row has state ``diverged``.

    Raises:
        UserError: for what the user can mend; the record says ``failed`` with the reason.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the record says ``interrupted``.
    """
    config.check_settings(cfg)
    console = Console()
    try:
        record = Record(Path(cfg.runs_dir) / cfg.out, cfg)
    except RunExists as found:
        console.summary(found.summary)
        console.say(str(found))
        return found.summary
    try:
        cell = Cell(cfg, record, console)
        try:
            with StopRequest() as stop:
                cell.run(stop)
        except Diverged as error:
            return cell.end("diverged", str(error))
        except (Interrupted, KeyboardInterrupt) as error:
            cell.end("interrupted", str(error) or "Ctrl-C")
            raise KeyboardInterrupt from None
        except BaseException as error:
            cell.end("failed", f"{type(error).__name__}: {error}")
            raise
        return cell.end("finished")
    finally:
        record.close()
