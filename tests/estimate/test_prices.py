"""Plans know what a run spends: steps and passes as the run's own row has them, for every method and every variant."""

import os
import subprocess
import sys

import pytest
from helpers.commands import command
from helpers.tiny_runs import ROOT
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from zobench.config import instantiate
from zobench.config.folders import cache_dir, conf_dir
from zobench.config.options import load_yaml
from zobench.config.signature import register
from zobench.errors import ConfigError
from zobench.estimate.prices import Prices
from zobench.run.budget import Spending
from zobench.run.runner import run
from zobench.sweep.plan import Planner

TINY = (
    "model=tiny-opt", "task=sst2", "data=mini", "wandb=disabled", "threads=1", "batch_size=1", "eval_every=24",
    *(f"task.splits.mini.{part}=2" for part in ("train", "dev", "test")),
)  # fmt: skip
#: settings, besides the variants, that change what a step costs; one line of a plan each
MORE = {
    "mezo": ["method.probes=2", "steps=3"],
    "loren": ["method.probes=2 method.antithetic=true"],
    "ldsd": ["method.candidates=2 method.reuse_best=false"],
    "kerzoo": ["method.probes=2"],
    "pgap": ["method.probes=2 method.refresh=3 method.refresh_from=2", "method.basis=random", "steps=3 forwards=null"],
    "adamw": ["steps=3"],
}
#: without which a method refuses so small a run
NEEDED = {"grzo": "batch_size=2", "subzero_plus": "method.probes=5"}


def planned(*lines):
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        load = lambda words: hydra_compose("config", overrides=words, return_hydra_config=True)  # noqa: E731
        return Planner(load, [conf_dir()]).cells([line.split() for line in lines])


def lines_of(method):
    """Plans of one method: as it is, each of its variants, and what changes its cost."""
    variants = instantiate.locate(load_yaml(conf_dir() / "method" / f"{method}.yaml")["_target_"], method).variants
    own = [f"method.variant={','.join(variants)}" if variants else "", *MORE.get(method, [])]
    return [f"method={method} forwards=24 {NEEDED.get(method, '')} {more}" for more in own]


@pytest.mark.parametrize("method", sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml")))
def test_a_plan_has_the_steps_and_passes_of_the_run(method, tmp_path):
    prices = Prices()
    words = " ".join([*TINY, f"runs_dir={tmp_path}"])
    for cell in planned(*(f"{words} {line}" for line in lines_of(method))):
        row = run(OmegaConf.create(cell.settings))
        assert row["state"] in ("finished", "diverged")
        assert prices.of(cell) == Spending(row["steps"], row["forwards"], row["backwards"]), cell.overrides


def test_the_papers_budget_pays_for_different_numbers_of_steps():
    lines = [f"method={method} dtype=bfloat16" for method in ("mezo,loren,ldsd,pgap,zeroshot",)]
    found = {cell.choice("method"): Prices().of(cell) for cell in planned(*lines)}
    assert found == {
        "mezo": Spending(20_000, 40_000, 0), "loren": Spending(6_666, 39_996, 0), "ldsd": Spending(6_666, 39_996, 0),
        "pgap": Spending(18_180, 40_000, 0), "zeroshot": Spending(0, 0, 0),
    }  # fmt: skip


def test_what_a_run_would_refuse_has_no_price():
    (cell,) = planned("method=mezo forwards=1")
    with pytest.raises(ConfigError, match="forwards=1: one step of this method takes 2"):
        Prices().of(cell)


OWN = """
from zobench.methods.mezo import MeZO

class Own(MeZO):
    def forwards_at(self, step):
        return {cost}
"""


def test_a_method_in_a_folder_of_ones_own_is_priced_by_its_own_code(tmp_path, monkeypatch):
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "own.yaml").write_text("_target_: its_code.Own\nlr: 1e-6\n")
    (tmp_path / "grid.yaml").write_text("lines:\n  - method=own,mezo steps=4 model=opt-1.3b task=rte\n")
    monkeypatch.syspath_prepend(tmp_path)

    def said(cost):
        (tmp_path / "its_code.py").write_text(OWN.format(cost=cost))
        ended = command("zobench.sweep", "grid.yaml", "--dry-run", "--config-dir", "conf", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        return next(line.split()[5:7] for line in ended.stdout.splitlines() if " own " in line)

    assert said("2 + 3 * (step == 0)") == ["4", "11"]
    monkeypatch.delitem(sys.modules, "its_code")  # as a new process has it
    assert said("7 + step - step") == ["4", "28"]


def test_the_second_dry_run_needs_no_torch_and_a_damaged_cache_is_made_anew(tmp_path):
    (tmp_path / "grid.yaml").write_text("lines:\n  - method=mezo,zeroshot model=opt-1.3b seed=0,1\n")
    words = ["grid.yaml", "--dry-run", "runs_dir=r"]
    first = command("zobench.sweep", *words, cwd=tmp_path)
    assert "4 would run" in first.stdout
    watched = "import sys; from zobench.sweep.__main__ import main; main(); assert 'torch' not in sys.modules"
    again = subprocess.run(
        [sys.executable, "-c", watched, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout == first.stdout
    for damaged in (b"{torn", b"[]", b"\xe9\n{}"):
        for path in cache_dir().glob("*/*.json"):
            path.write_bytes(damaged)
        assert command("zobench.sweep", *words, cwd=tmp_path).stdout == first.stdout
