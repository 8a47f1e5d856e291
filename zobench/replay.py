"""``python -m zobench.replay RUN``: a run's weights made again from its trajectory, and compared with its record."""

import argparse
import os
import sys
import time
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 1 if the weights are other ones or cannot be made, 2 for wrong arguments."""
    asked = _parser().parse_args(arguments)
    from zobench.errors import UserError, complain

    try:
        return _replay(asked)
    except UserError as error:
        return complain(error, "zobench.replay")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zobench.replay",
        description="Make a run's weights again from base model and trajectory, without forward passes; check them.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's directory")
    parser.add_argument("--step", default="last", metavar="STEP", help="best, last (the default) or a number")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N; the run's, unless given")
    parser.add_argument("--out", type=Path, metavar="FILE.safetensors", help="write the trainable weights")
    return parser


def _replay(asked: argparse.Namespace) -> int:
    from zobench.record import checkpoint, trajectory
    from zobench.run.rebuild import rebuild
    from zobench.system.console import Console

    console = Console()
    start = time.perf_counter()
    found = rebuild(asked.run, asked.step, console, device=asked.device, replay=True)
    size = os.path.getsize(asked.run / trajectory.NAME)
    steps = found.summary.get("steps") or found.step
    console.say(
        f"step {found.step}, {time.perf_counter() - start:.1f} s; trajectory {size:,} bytes, "
        f"{size / max(1, steps):.1f} a step"
    )
    if asked.out:
        from safetensors.torch import save_file

        save_file(checkpoint.weights_of(found.method.slots), asked.out)
        console.say(f"written: {asked.out}")
    if found.expected is None:
        console.say(f"weights {found.checksum}; the record has no checksum of this step")
        return 0
    if found.checksum == found.expected:
        console.say(f"weights {found.checksum}: bit for bit those of the run")
        return 0
    console.say(f"weights {found.checksum}, but the run had {found.expected}: another device, library or processor?")
    return 1


if __name__ == "__main__":
    sys.exit(main())
