"""The stages of scripts/gpu_check.sh: each in a process of its own with a time limit, the most valuable first.

A stage that fails, hangs or lacks a package does not stop the next. What a stage finds is JSON, and a file of the
results that is there already is gone on with: a stage that succeeded by the same code is not run again.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WORKER = ROOT / "scripts" / "gpu_check_worker.py"
#: seconds of the whole check, and those with which a stage is not worth starting
LIMIT, LEAST = 470, 15
CORE = ("torch", "numpy")
BENCH = (*CORE, "transformers", "hydra", "omegaconf", "yaml", "rich", "safetensors")
TESTS = (*BENCH, "pytest", "pyarrow")
#: methods whose state is small beside the weights, and those that hold numbers in fp32 for each weight
LIGHT = "mezo,mezo:distribution=rademacher,mezo:distribution=low_rank,mezo:mode=exact,kerzoo,curvzo,pgap"
HEAVY = "ldsd,loren"
#: the others, on the smaller shape alone
RELATIVES = (
    "agzo,aim_zo,bszo,conmezo,dizo,forward_gradient,fzoo,grzo,hizoo,lozo,lozo_m,meazo,mezo_adam,mezo_greedy,mezo_gv,"
    "mezo_momentum,mezo_svrg,sparse_mezo,subzero,subzero_plus,tezo,tezo_adam,tezo_m,zo_mopi,zo_muon,zo_muon_sgd"
)

Found = dict[str, Any]
#: what a stage's process left in the file that it was given
Reader = Callable[[Path], Found]


@dataclass(frozen=True)
class Stage:
    """A part of the check.

    Attributes:
        name: as it is asked for and found again.
        limit: seconds.
        needs: packages without which it is left out.
        command: words behind Python's; ``{json}`` is a file for the result.
        read: makes the result.
        gpus: how many it takes.
    """

    name: str
    limit: int
    needs: Sequence[str]
    command: Sequence[str]
    read: Reader
    gpus: int = 1


def stages(tiny: bool) -> list[Stage]:
    """All stages in their order.

    Args:
        tiny: on a CPU, with tiny shapes.
    """
    small = ("tiny-opt", "tiny-opt") if tiny else ("opt-1.3b-random", "opt-13b-random")
    device, last_layer = ["--device", _device(tiny)], ["--tuning", "last_layers:layers=1+only=fc"]

    def bench(name: str, limit: int, model: str, shape: str, methods: str, *more: str) -> Stage:
        how = ["--shape", "2x8", "--repeats", "1"] if tiny else ["--shape", shape, "--repeats", "5"]
        words = ["-m", "zobench.bench", "--model", model, "--dtype", "bfloat16", "--methods", methods, *how, *device]
        return Stage(name, limit, BENCH, [*words, *more, "--json", "{json}"], _json)

    def memory(name: str, limit: int, model: str) -> Stage:
        return Stage(name, limit, BENCH, [str(WORKER), "memory", model, _device(tiny), "{json}"], _json)

    tests = ["-m", "pytest", "-p", "no:cacheprovider", "--junitxml", "{json}"]
    workers = [] if tiny or importlib.util.find_spec("xdist") is None else ["-n", "6"]
    kernel = ["tests/zo/test_triton_noise.py", *(["-k", "is_used or is_not_used"] if tiny else [])]
    return [
        Stage("noise", 60, CORE, [str(WORKER), "noise", _device(tiny), "{json}"], _json),
        Stage("tests", 120, TESTS, [*tests, *workers, "tests/zo/test_cuda.py"], _tests),
        bench("bench-1.3b", 90, small[0], "16x64", f"{LIGHT},{HEAVY}"),
        memory("memory-1.3b", 100, small[0]),
        bench("bench-13b", 90, small[1], "16x64", LIGHT),
        Stage("ranks", 60, TESTS, [str(WORKER), "ranks", _device(tiny), "{json}"], _json, gpus=2),
        bench("bench-13b-ldsd", 60, small[1], "16x64", "ldsd"),
        bench("bench-13b-loren", 60, small[1], "16x64", "loren"),
        bench("bench-1.3b-long", 60, small[0], "8x256", f"{LIGHT},{HEAVY}"),
        bench(
            "bench-1.3b-last-layer",
            45,
            small[0],
            "16x64",
            f"{LIGHT},{HEAVY}",
            *last_layer,
        ),
        memory("memory-13b", 90, small[1]),
        bench("bench-1.3b-relatives", 120, small[0], "16x64", RELATIVES),
        Stage("kernel-interpreted", 90, TESTS, [*tests, *workers, *kernel], _tests),
    ]


def _device(tiny: bool) -> str:
    return "cpu" if tiny else "cuda"


def _json(file: Path) -> Found:
    found: Found = json.loads(file.read_text(encoding="utf-8"))
    return found


def _tests(file: Path) -> Found:
    suite = ElementTree.parse(file).getroot()[0]
    bad = [case for case in suite if case.find("failure") is not None or case.find("error") is not None]
    counts = {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
    return {**counts, "failed": [f"{case.attrib['classname']}::{case.attrib['name']}" for case in bad]}


def run(stage: Stage, limit: float, environment: dict[str, str]) -> Found:
    """Run a stage.

    Returns:
        ``state`` (ok, failed, timed out, left out), ``seconds``, and its result or the end of what it printed.
    """
    if missing := [name for name in stage.needs if importlib.util.find_spec(name) is None]:
        return {"state": "left out", "why": f"{sys.executable} lacks {', '.join(missing)}"}
    if limit < LEAST:
        return {"state": "left out", "why": "no time is left"}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        file, log = Path(folder) / "result.json", Path(folder) / "log"
        command = [sys.executable, *(str(file) if word == "{json}" else word for word in stage.command)]
        start = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                code: int | None = process.wait(min(limit, stage.limit))
            except subprocess.TimeoutExpired:
                code = None
            finally:  # with what it started
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        output = log.read_text(encoding="utf-8", errors="replace")
        found: Found = {"state": "ok", "seconds": round(time.monotonic() - start, 1)}
        if code != 0:
            found["state"] = "timed out" if code is None else "failed"
            found |= {"why": f"exit code {code}" if code else f"after {found['seconds']} s", "output": output[-4000:]}
        try:
            found["result"] = stage.read(file)
        except (ValueError, OSError, IndexError, ElementTree.ParseError) as error:
            if code == 0:
                found |= {"state": "failed", "why": f"its result cannot be read: {error}", "output": output[-4000:]}
        return found


def machine() -> Found:
    """What the check runs on."""
    packages = ("torch", "triton", "numba", "numpy", "transformers", "hydra-core", "omegaconf", "safetensors", "pytest")
    found: Found = {"python": sys.version.partition(" ")[0]}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if found["torch"]:
        import torch

        gpus = range(torch.cuda.device_count())
        found["gpus"] = [torch.cuda.get_device_name(i) for i in gpus]
        found["gib"] = [round(torch.cuda.get_device_properties(i).total_memory / 2**30, 1) for i in gpus]
    return found


def code_digest() -> str:
    """A digest of the code that is checked."""
    from hashlib import sha256

    digest = sha256()
    for path in sorted(path for folder in ("zobench", "conf", "scripts") for path in (ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def lines(found: Found) -> list[str]:
    """A summary for people: a line for each stage, then the figures."""
    text = [_state(name, stage) for name, stage in found["stages"].items()]
    for name, stage in found["stages"].items():
        text += [f"{name}: {figure}" for figure in _figures(stage.get("result", {}))]
    return text


def _state(name: str, stage: Found) -> str:
    return f"{name:<22} {stage['state']:<10} {stage.get('seconds', 0):>6} s  {stage.get('why', '')}".rstrip()


def _figures(result: Found) -> Iterator[str]:
    for row in result.get("draws", []):
        yield "{distribution}, {dtype}, {terms} draws: {values_per_second:.3g} values/s".format(**row)
    if "same_bits" in result:
        yield f"bits equal the CPU's: {result['same_bits']}; warnings: {result['warnings'] or 'none'}"
    for each in result.get("results", []):
        for row in each["time"]:
            ratio, seconds = row["ratio_to_as_many_forwards"]["median"], row["seconds"]["median"]
            yield f"{row['name']}: {ratio:.2f} x {row['forwards']} forwards, {seconds * 1e3:.3g} ms"
    for row in result.get("peaks", []):
        yield f"{row['name']}: " + (f"{row['gib']} GiB" if "gib" in row else row["error"])
    if "loren_over_adam" in result:
        yield f"LOREN's peak over that of MeZO with Adam: {result['loren_over_adam'] - 1:+.1%} (the paper: -27.3%)"
    if "same_weights" in result:
        yield f"the weights of two ranks equal those of one: {result['same_weights']}"
    if "tests" in result:
        counts = "{tests} tests, {failures} failed, {errors} errors, {skipped} skipped".format(**result)
        yield ": ".join([counts, *filter(None, [", ".join(result["failed"])])])


def main() -> int:
    """Run the stages that are left; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description="What zobench does on a GPU, in eight minutes.")
    parser.add_argument("--tiny", action="store_true", help="on a CPU with tiny shapes")
    parser.add_argument("--only", help="stages, with commas")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds in all")
    asked = parser.parse_args()
    began = time.monotonic()
    chosen = stages(asked.tiny)
    if asked.only is not None:
        named = asked.only.split(",")
        if unknown := set(named) - {stage.name for stage in chosen}:
            there = ", ".join(stage.name for stage in chosen)
            parser.error(f"--only: no stage {', '.join(sorted(unknown))}; there are {there}")
        chosen = [stage for stage in chosen if stage.name in named]
    here = machine()
    gpus = 2 if asked.tiny else len(here.get("gpus", []))
    if not gpus:
        print("gpu_check: torch sees no GPU; --tiny runs the same stages on the CPU", file=sys.stderr)
        return 2
    out = Path(os.environ.get("OUT") or ROOT / "out")
    out.mkdir(parents=True, exist_ok=True)
    file = out / "gpu_check.json"
    found: Found = {"code": code_digest(), "tiny": asked.tiny, "machine": here, "stages": {}}
    if file.is_file():
        with contextlib.suppress(ValueError, KeyError):  # what is damaged is measured anew
            before = _json(file)
            if all(before[key] == found[key] for key in ("code", "tiny", "machine")):
                found["stages"] = {k: v for k, v in before["stages"].items() if v["state"] == "ok"}
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if asked.tiny:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    for stage in chosen:
        if stage.name in found["stages"]:
            continue
        left = asked.limit - (time.monotonic() - began)
        if stage.gpus > gpus:
            found["stages"][stage.name] = {"state": "left out", "why": f"{gpus} GPU"}
        else:
            found["stages"][stage.name] = run(stage, left, environment)
        print(_state(stage.name, found["stages"][stage.name]), flush=True)
        scratch = file.with_suffix(".part")
        scratch.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        scratch.replace(file)
    print("\n".join(["", *lines(found), f"{time.monotonic() - began:.0f} s; written: {file}"]))
    return int(any(stage["state"] in ("failed", "timed out") for stage in found["stages"].values()))


if __name__ == "__main__":
    sys.exit(main())
