"""One run, from a configuration to a record."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.settings import check_settings
from zobench.errors import ConfigError, DataError, ModelError, RunExists
from zobench.record.directory import open_record
from zobench.record.lookup import located
from zobench.record.recorder import Recorder, Tee, Values
from zobench.record.summaries import RESULTS
from zobench.record.tensorboard_mirror import TensorBoardMirror
from zobench.record.wandb_mirror import WandbMirror
from zobench.run.build import check_parts
from zobench.run.cell import Cell
from zobench.run.identity import check_found
from zobench.run.parallel import team_of
from zobench.run.provenance import compare_settings
from zobench.run.train import Interrupted
from zobench.system.console import Console
from zobench.system.out_of_memory import explained
from zobench.system.signals import StopRequest
from zobench.system.workers import at_work
from zobench.zo import Diverged, Team, Unsuited
from zobench.zo.team import TeamLost


@at_work()
def run(cfg: DictConfig, *, in_sweep: bool = False) -> dict[str, Any]:
    """Run one cell of the comparison table; the row that ``summary.json`` holds, in each process of a team.

    A finished run is not repeated but returned; an interrupted one goes on from its checkpoint. A diverged run is a
    result: its row has state ``diverged``.

    Args:
        in_sweep: whether it is a cell of a sweep, which knows by the records which of its cells have failed, and why.

    Raises:
        UserError: for what the user can mend. Settings that cannot be used leave nothing behind, and neither do data
            and models outside a sweep; of all else the record says ``failed`` with the reason.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the record says ``interrupted``.
    """
    check_settings(cfg)
    cfg = cfg.copy()
    OmegaConf.resolve(cfg)  # once: each look at an interpolation parses it anew
    with team_of(cfg) as team:
        return _run(cfg, team, in_sweep)


def _run(cfg: DictConfig, team: Team, in_sweep: bool) -> dict[str, Any]:
    check_parts(cfg, team.size)
    console, directory = Console(quiet=not team.leads), located(Path(cfg.runs_dir) / cfg.out, cfg)
    compare_settings(team, cfg)
    try:
        record = open_record(team, directory, cfg, console.say)
    except RunExists as exists:
        found = exists
        team.together(lambda: check_found(cfg, found.summary, found.directory, console))
        row = found.summary | {"directory": str(found.directory)}  # it may have been copied or moved
        console.summary(row)
        console.say(str(found))
        return row
    recorder = _recorders(record, cfg, directory, console) if team.leads else record
    recorder.replaces, recorder.anew = team.from_first(lambda: [recorder.replaces, recorder.anew])
    try:
        cell = Cell(cfg, directory, recorder, console, team)
        with StopRequest(patient=team.size > 1) as stop:
            team.stop_request = lambda: stop.requested
            with stop.deferred():
                row = _to_its_end(cell, stop, in_sweep)
            if stop.requested:  # while the record was being closed
                raise KeyboardInterrupt(stop.requested)
            return row
    finally:
        recorder.close()


def _recorders(record: Recorder, cfg: DictConfig, directory: Path, console: Console) -> Recorder:
    """All who are told what a run does, the record's files first."""
    mirrors: list[Recorder] = []
    if cfg.wandb.mode != "disabled":
        mirrors.append(WandbMirror(cfg, directory, console.say))
    if cfg.tensorboard:
        mirrors.append(TensorBoardMirror(directory, console.say))
    return Tee(record, *mirrors, Results(console))


class Results(Recorder):
    """Shows a run's result on the terminal."""

    def __init__(self, console: Console):
        self.console = console

    def finish(self, row: Values) -> None:
        if row["state"] in RESULTS:
            self.console.summary(row)


def mendable(error: BaseException, cfg: DictConfig) -> BaseException:
    """What users are told in the place of an error; any that is not for them to mend stays as it is."""
    if isinstance(error, Unsuited):
        return ConfigError(f"method={cfg.choices.method}, model={cfg.choices.model}: {error}")
    return explained(error, cfg)


def _to_its_end(cell: Cell, stop: StopRequest, in_sweep: bool) -> dict[str, Any]:
    """Run the cell and close its record, in whatever way it ends; raises what the runs' users must hear of."""
    raised: BaseException | None = None
    forgotten = (ConfigError,) if in_sweep else (ConfigError, DataError, ModelError)
    try:
        with stop.at_once():
            cell.run(stop)
        state, reason = "finished", None
    except Diverged as error:
        state, reason = "diverged", str(error)
    except (Interrupted, KeyboardInterrupt) as error:
        state, reason = "interrupted", str(error) or "Ctrl-C"
        raised = KeyboardInterrupt(stop.requested or reason.partition(" ")[0])  # another process may have the signal
    except TeamLost as error:  # a process was killed, perhaps for a reason of its machine; nothing is lost
        state, reason = "interrupted", str(error)
        raised = KeyboardInterrupt(stop.requested) if stop.requested else error
    except Unsuited as error:
        raised = mendable(error, cell.cfg)
        state, reason = "failed", str(raised)
    except BaseException as error:
        raised = cell.lost(error) or mendable(error, cell.cfg)
        state, reason = "failed", f"{type(raised).__name__}: {raised}"
    row = cell.end(state, reason)
    if state == "interrupted" and not cell.begun:
        cell.console.say("stopped before it began; what was recorded before is as it was")
    if isinstance(raised, forgotten) and not cell.started:
        cell.recorder.withdraw()
    if raised is not None:
        raise raised from None
    return row
