"""``python -m zobench.replay RUN``: a run's weights made again from its trajectory, and compared with its record."""

import argparse
import sys
import time
from pathlib import Path

from zobench.errors import UserError, complain, tolerant_streams


def main(arguments: list[str] | None = None) -> int:
    """Make a run's weights again, and compare them with its record.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The exit code: 0, 1 if the weights are other ones or cannot be made, 2 for wrong arguments.
    """
    tolerant_streams()
    options = _parser().parse_args(arguments)
    from zobench.config.arguments import check_device, check_new_file, check_step

    try:
        check_step(options.step)
        check_device(options.device)
        if options.out:
            check_new_file(options.out, force=options.force)
        return _replay(options)
    except UserError as error:
        return complain(error, "zobench.replay")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zobench.replay",
        description="Make a run's weights again from base model and trajectory, without forward passes; check them.",
    )
    parser.add_argument("run", metavar="RUN", help="a run's directory, or FILE.zip/ and its path in a zip of records")
    parser.add_argument("--step", default="last", metavar="STEP", help="best, last (the default) or a number")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N; the run's, unless given")
    parser.add_argument("--allow", action="append", default=[], metavar="PACKAGE",
        help="import this package, whose classes the run is made of; zobench's own alone, unless given")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE.safetensors", help="write the trainable weights")
    parser.add_argument("--force", action="store_true", help="let --out replace a file")
    return parser


def _replay(options: argparse.Namespace) -> int:
    """Do what the command line says and report it on the console; the exit code."""
    from zobench.atomic import replacing
    from zobench.record import checkpoint
    from zobench.run.rebuild import rebuild
    from zobench.system.console import Console

    console = Console()
    start = time.perf_counter()
    rebuilt = rebuild(options.run, options.step, console, device=options.device, replay=True, allow=options.allow)
    size = rebuilt.followed.size if rebuilt.followed else 0
    console.say(
        f"step {rebuilt.step}, {time.perf_counter() - start:.1f} s; trajectory {size:,} bytes, "
        f"{size / max(1, rebuilt.step):.1f} a step"
    )
    if options.out:
        from safetensors.torch import save_file

        with replacing(options.out) as scratch:
            save_file(checkpoint.weights_of(rebuilt.method.slots), scratch)
        console.say(f"written: {options.out}")
    if rebuilt.expected is None:
        console.say(f"weights {rebuilt.checksum}; the record has no checksum of this step")
        return 0
    if rebuilt.checksum == rebuilt.expected:
        unverified = rebuilt.followed is not None and not rebuilt.followed.verified
        note = "; the losses carry no checksums, an earlier version wrote them" if unverified else ""
        console.say(f"weights {rebuilt.checksum}: bit for bit those of the run{note}")
        return 0
    console.say(
        f"weights {rebuilt.checksum}, but the run had {rebuilt.expected}: another device, library or processor?"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
