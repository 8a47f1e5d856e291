"""The runs of a project on wandb's server, read through wandb's public API."""

from collections.abc import Mapping
from typing import Any

from zobench.errors import UserError
from zobench.system.network import why_offline

#: what the address of a project, ``wandb://ENTITY/PROJECT``, begins with
SCHEME = "wandb://"


def summaries(address: str) -> dict[str, dict[str, Any]]:
    """Read what the runs of a project sent as their summaries.

    Args:
        address: ``wandb://ENTITY/PROJECT``.

    Returns:
        Address of each run, ``wandb://ENTITY/PROJECT/ID`` -> its summary.

    Raises:
        UserError: without a key or network, or if there is no such project.
    """
    path = address.removeprefix(SCHEME).strip("/")
    if path.count("/") != 1:
        raise UserError(f"{address}: expected wandb://ENTITY/PROJECT")
    runs = _asked(address, lambda api: list(api.runs(path, lazy=False)))  # lazy would ask again for each run
    return {f"{SCHEME}{path}/{run.id}": _plain(dict(run.summary)) for run in runs}


def lines(address: str) -> list[dict[str, Any]]:
    """Read what one run logged, in the order of its steps.

    Args:
        address: of the run, as ``summaries`` gives it.

    Raises:
        UserError: without a key or network, or if there is no such run.
    """
    path = address.removeprefix(SCHEME)
    return [_plain(line) for line in _asked(address, lambda api: list(api.run(path).scan_history()))]


def _asked(address: str, question: Any) -> Any:
    if reason := why_offline():
        raise UserError(
            f"{address}: {reason}; run `wandb login` where there is a network, or give run directories instead"
        )
    import wandb

    try:
        return question(wandb.Api())
    except (ValueError, wandb.Error) as error:
        raise UserError(f"{address}: wandb says: {str(error).splitlines()[0]}") from None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what wandb adds of its own."""
    return {key: value for key, value in values.items() if not key.startswith("_")}
