"""wandb as a mirror of the record. Whatever goes wrong with it is told once and never harms the run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zobench.record.atomic import clean
from zobench.system.network import why_offline

Say = Callable[[str], None]


class WandbMirror:
    """Sends config, metrics, evaluations and the summary row to wandb.

    Args:
        settings: the ``wandb`` group: mode, project, entity, group.
        directory: the run directory, where offline files go.
        say: prints a warning line.
    """

    def __init__(
        self, settings: Mapping[str, Any], *, directory: Path, name: str, tags: list[str], config: Any, say: Say
    ):
        self._say = say
        self._run: Any = None
        mode = settings["mode"]
        if mode == "online" and (reason := why_offline()):
            say(f"wandb: {reason}; recording offline in {directory}/wandb, send it later with `wandb sync`")
            mode = "offline"
        if mode == "disabled":
            return
        self._guard(lambda: self._start(settings, mode, directory, name, tags, config))

    def _start(
        self, settings: Mapping[str, Any], mode: str, directory: Path, name: str, tags: list[str], config: Any
    ) -> None:
        import wandb

        self._run = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=settings["project"],
            entity=settings["entity"],
            group=settings["group"],
            name=name,
            tags=tags,
            config=clean(config),
            dir=str(directory),
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )
        self._run.define_metric("*", step_metric="forwards")

    def log(self, values: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._guard(lambda: self._run.log(clean(values)))

    def finish(self, summary: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._guard(lambda: self._finish(summary))

    def _finish(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(clean(summary))
        self._run.tags = (*(self._run.tags or ()), summary["state"])
        self._run.finish(exit_code=0 if summary["state"] == "finished" else 1)
        self._run = None

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # the mirror must never stop the run
            self._say(
                f"wandb: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; not used further"
            )
            self._run = None
