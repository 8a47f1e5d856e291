"""Peak memory of a run is the method's: what its process held, checksums and other starts do not change it."""

import pytest
import torch
from helpers.tiny_runs import TINY, summary_of

from zobench.config.signature import compose
from zobench.record import checkpoint
from zobench.run.runner import run
from zobench.run.train import Trainer
from zobench.system.memory import PeakMemory

CPU, MIB = torch.device("cpu"), 2**20
WORDS = (*TINY, "model=tiny-llama", "model.hidden=256", "model.layers=3", "task=sst2", "steps=2", "eval_every=1")
#: what a run's peak may differ by from one time to another, in MiB: pages that allocators keep
NOISE = 12


def beyond(tmp_path, name, method):
    row = run(compose(*WORDS, f"method={method}", f"runs_dir={tmp_path / name}"))
    assert row["state"] == "finished"
    return 1024 * (row["peak_gib"] - row["weights_gib"])


def test_what_was_held_before_or_is_the_records_is_not_the_runs():
    held = torch.ones(64 * MIB // 4)
    peak = PeakMemory(CPU)
    loaded = torch.ones(128 * MIB // 4)
    del loaded
    peak.begin()
    with peak.uncounted():
        checksum = torch.ones(128 * MIB // 4)
        assert peak.bytes < 16 * MIB
        del checksum
    assert peak.bytes < 16 * MIB
    step = torch.ones(96 * MIB // 4)
    del step
    assert 95 * MIB <= peak.bytes < 112 * MIB  # allocators give back a few pages of before
    peak.earlier = 500 * MIB
    assert peak.bytes == 500 * MIB
    assert held.any()


def test_memory_means_the_method_at_any_place_of_a_sweep_in_one_process(tmp_path):
    beyond(tmp_path, "first", "mezo")  # loads what all share
    methods = ["mezo", "adamw", "kerzoo", "curvzo"]
    forwards = {method: beyond(tmp_path, "forwards", method) for method in methods}
    held = [torch.ones(MIB) for _ in range(16)]  # as another cell's leavings
    backwards = {method: beyond(tmp_path, "backwards", method) for method in methods[::-1]}
    assert held
    for method in methods:
        assert backwards[method] == pytest.approx(forwards[method], abs=NOISE), method
    for found in (forwards, backwards):
        stateless = [found[method] for method in methods if method != "adamw"]
        assert max(stateless) - min(stateless) < NOISE
        assert found["adamw"] > max(stateless) + 8  # gradients and two moments of 1.2 M weights


def test_the_peak_is_kept_over_starts(tmp_path, monkeypatch):
    """A run that was stopped after its last step has the peak of its training, not of the evaluation that is left."""
    words = compose(*WORDS, "method=adamw", f"runs_dir={tmp_path}", "save_every=1")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "compare_weights", _stop_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            run(words)
    (directory,) = tmp_path.glob("*/*/*/*")
    saved = (state := checkpoint.load(directory / "checkpoint"))["peak"]
    checkpoint.save(directory / "checkpoint", state["step"], state | {"peak": saved + 2**40})
    assert summary_of(directory)["peak_gib"] * 2**30 == pytest.approx(saved, abs=NOISE * MIB)
    assert run(words)["peak_gib"] == pytest.approx((saved + 2**40) / 2**30)


def _stop_at_the_end(trainer):
    if trainer.method.t == trainer.settings.total_steps:
        raise KeyboardInterrupt("SIGTERM")
