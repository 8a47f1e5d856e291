"""Which settings and which code a run is of: what a checkpoint says of itself, and what a team compares."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from zobench.config.cache import code_digest
from zobench.config.options import leaves
from zobench.config.signature import SCHEMA, signature
from zobench.record import digests, environments
from zobench.record.inputs import code_of, is_outside
from zobench.record.reading import Unreadable
from zobench.system import costs
from zobench.system.devices import pick_device
from zobench.zo.team import Team, TeamError

#: libraries whose versions are compared; a loss depends on them
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "numba")
#: settings that processes of a team may have each for itself
_OWN = frozenset(("data.dir", "model.dir", "device", "threads", "runs_dir", "out", "tags", "tensorboard"))


@dataclass(frozen=True)
class Provenance:
    """What makes a run's steps: its settings by their name, zobench by version, commit and content, and libraries."""

    signature: str
    zobench_version: str | None
    commit: str | None
    code: str
    libraries: Mapping[str, str | None]
    #: classes and the score of a user's own, by their path, with a digest of their code
    own: Mapping[str, str | None] = field(default_factory=dict)

    def saved(self, commits: list[str]) -> dict[str, Any]:
        """What a checkpoint keeps of it.

        Args:
            commits: those that have worked on the run.
        """
        return {
            "schema": SCHEMA,
            "signature": self.signature,
            "zobench_version": self.zobench_version,
            "commits": commits,
            "code": self.code,
            "libraries": dict(self.libraries),
            "own": dict(self.own),
        }

    def commits(self, saved: Mapping[str, Any]) -> list[str]:
        """Every commit that has worked on a run, oldest first, with this one.

        A version stands for the commit of an installed package. Two states of a dirty tree, or of a class of a user's
        own, are two entries.

        Args:
            saved: what the run's checkpoint or trajectory keeps; empty for a run that begins.
        """
        before = [str(commit) for commit in saved.get("commits") or ()]
        this = self.commit or f"zobench {self.zobench_version}"
        same = before[-1:] == [this] and saved.get("code", self.code) == self.code and not self._edited(saved)
        return before if same else [*before, this]

    def since(self, saved: Mapping[str, Any]) -> str | None:
        """In one line what has changed since a checkpoint was written; None if nothing has."""
        if "commits" not in saved:
            return None
        found = []
        last = (saved.get("commits") or [None])[-1]
        if saved.get("zobench_version") != self.zobench_version:
            found.append(f"zobench {self.zobench_version} (before: {saved.get('zobench_version')})")
        if last != self.commits({})[0]:
            found.append(f"commit {self.commits({})[0][:20]} (before: {str(last)[:20]})")
        elif saved.get("code", self.code) != self.code:
            found.append(f"other code of the same commit {str(last)[:20]}")
        then = saved.get("libraries") or {}
        found += [f"{k} {v} (before: {then[k]})" for k, v in self.libraries.items() if k in then and then[k] != v]
        found += [f"other code of {target}" for target in self._edited(saved)]
        return f"going on with {', '.join(found)}; the record lists every commit" if found else None

    def _edited(self, saved: Mapping[str, Any]) -> list[str]:
        """The classes of a user's own whose code has changed."""
        then = saved.get("own") or {}
        return [target for target, digest in self.own.items() if then.get(target, digest) != digest]


def of(cfg: DictConfig) -> Provenance:
    """The provenance of a run that this process does."""
    version, commit, libraries = _installed()
    own = {target: code_of(target) for target in sorted(set(_outside(_plain(cfg))))}
    return Provenance(signature(_root_=cfg), version, commit, code_digest(), dict(libraries), own)


def identity(signature: str, rows: str, base: str, model: str, device: str, shards: int) -> str:
    """A hash of all that the losses of a step depend on; a trajectory begins with it.

    Args:
        signature: the run's name.
        rows: the hash of the rows.
        base, model: checksums of the weights before any step: of those that train, and of all.
        device: its type, such as ``cpu``.
        shards: how many processes share a batch out.
    """
    return digests.of(json.dumps([signature, rows, base, model, device, shards]).encode())


def of_environment(directory: Path) -> dict[str, Any]:
    """What a checkpoint would keep of the code and libraries that a run's ``environment.json`` names.

    That is for checkpoints of versions that kept nothing of it; empty where the file does not say.
    """
    try:
        found = environments.read(directory)
    except Unreadable:
        return {}
    version, commit = found.get("zobench"), found.get("git_commit")
    if not (version or commit):
        return {}
    commits = found.get("commits") or [commit or f"zobench {version}"]
    return {"zobench_version": version, "commits": commits, "libraries": found.get("versions") or {}}


@cache
def _installed() -> tuple[str | None, str | None, tuple[tuple[str, str | None], ...]]:
    libraries = tuple((name, costs.version_of(name)) for name in LIBRARIES)
    return costs.version_of("zobench"), costs.git_commit(), libraries


def compare_settings(team: Team, cfg: DictConfig) -> None:
    """Raises TeamError if the processes of a team were told different things, or run different code."""
    if team.size > 1:
        team.check_alike(lambda: _told(cfg))


def _told(cfg: DictConfig) -> dict[str, str]:
    plain = _plain(cfg)
    told = {key: str(value) for key, value in leaves(plain) if key not in _OWN and not key.startswith("wandb.")}
    own = of(cfg)
    told |= {"signature": own.signature, "zobench": str(own.zobench_version), "commit": str(own.commit)}
    told |= {"the code of zobench": own.code} | {name: str(version) for name, version in own.libraries.items()}
    told |= {f"the code of {target}": str(code) for target, code in own.own.items()}
    if pick_device(str(cfg.device)).type == "cpu":  # their number rounds sums otherwise
        told["threads"] = str(cfg.threads or torch.get_num_threads())
    return told


def _plain(cfg: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def _outside(settings: Mapping[str, Any]) -> list[str]:
    """The classes of a user's own that a configuration names, and the function that is a score."""
    named = [(key, value) for key, value in leaves(settings) if key.endswith("_target_") or key == "objective.score"]
    return [value for _, value in named if is_outside(value)]


def compare_losses(team: Team, loss: float, dtype: torch.dtype) -> None:
    """Raises TeamError if processes of a team have another loss of the same examples, beyond rounding.

    Args:
        loss: of this process, at the weights before any step.
        dtype: of the weights.
    """
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    losses = team.results(lambda _: loss, range(team.size))
    for rank, other in enumerate(losses):
        alike = math.isclose(other, losses[0], rel_tol=tolerance, abs_tol=1e-6)
        if not alike and not (math.isnan(other) and math.isnan(losses[0])):
            raise TeamError(
                f"process {rank} of {team.size} has the loss {other:.6g} on the first examples, process 0 has "
                f"{losses[0]:.6g}; they do not compute the same: start all with the same settings, code and libraries"
            )
