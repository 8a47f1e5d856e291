"""Several processes, one run, started with torchrun; and what of it one process can show."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from helpers.team import LOREN, alone, as_torchrun_does, assert_same_bits, directory_of
from helpers.tiny_runs import ROOT, summary_of
from helpers.waiting import wait_for

from zobench.config.settings import check_settings
from zobench.config.signature import compose
from zobench.errors import ConfigError, complain
from zobench.run.parallel import fingerprint, team_of
from zobench.zo import make_slots

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "zobench")
LONG = (*LOREN, "steps=24", "eval_every=12", "save_every=7", "lens.every=15", "lens.draws=3", "parallel=queries")


def by_torchrun(runs):
    """A torchrun of the long run, as a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *LONG, f"runs_dir={runs}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sigterm_to_torchrun_then_going_on_gives_the_bits_of_one_process(tmp_path):
    runs = tmp_path / "two"
    process = by_torchrun(runs)
    wait_for(lambda: any(file.read_bytes().count(b"\n") >= 8 for file in runs.rglob("metrics.jsonl")))
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    row = summary_of(directory_of(runs))
    assert (row["state"], row["reason"]) == ("interrupted", f"SIGTERM after step {row['steps']} of 24"), error
    assert 3 < row["steps"] < 24
    assert error.count("zobench: interrupted; the same command goes on") == 1  # one process speaks

    reference = alone(tmp_path / "one", *LONG)
    ends = as_torchrun_does(tmp_path, *LONG, f"runs_dir={runs}")
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert [out.count("record: ") for _, out, _ in ends] == [1, 0]
    assert_same_bits(summary_of(directory_of(runs)), reference)


def test_a_misspelt_word():
    with pytest.raises(ConfigError, match="did you mean parallel=queries"):
        check_settings(compose("parallel=querries"))


def test_one_model_over_all_gpus_is_for_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    cfg = compose("parallel=data", "model.device_map=auto")
    with pytest.raises(ConfigError, match="device_map=auto"), team_of(cfg):
        pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_fingerprint_changes_with_any_bit(dtype):
    def of(*tensors):
        return fingerprint(make_slots((str(i), t) for i, t in enumerate(tensors)))

    def flipped(x, place, bit):
        whole = x.clone()
        integers = whole.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])
        integers[place] ^= 1 << bit
        return whole

    a, b = torch.randn(7, dtype=dtype), torch.randn(5, dtype=dtype)
    found = [of(a, b), of(b, a), of(a.flip(0), b), *(of(a, flipped(b, p, bit)) for p in (0, 4) for bit in (0, 5, 14))]
    assert len(set(found)) == len(found)
    assert of(a.clone(), b.clone()) == found[0]


def test_one_process_complains_for_all(monkeypatch, capsys):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        complain(f"said by {rank}")
    assert capsys.readouterr().err == "zobench: said by 0\n"
