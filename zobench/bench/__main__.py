"""The command ``python -m zobench.bench``: its arguments and its exit code."""

import argparse
import sys
from pathlib import Path

from zobench.bench.checkout import COMMIT, REPOSITORY
from zobench.bench.spec import ALL, DTYPES, WAYS, Spec, models, parse_methods, parse_shapes
from zobench.errors import ConfigError, UserError, complain, did_you_mean, tolerant_streams
from zobench.system.spinning import spin_briefly


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark from the arguments of a command line.

    Args:
        arguments: words behind the program's name; those of the process if None.

    Returns:
        The exit code: 0, 1 for what cannot be measured, 2 for arguments that are wrong, 130 after Ctrl-C.
    """
    tolerant_streams()
    try:
        asked = _parsed(arguments)
        spec = Spec(
            model=asked.model,
            dtype=asked.dtype,
            device=asked.device,
            threads=asked.threads,
            shapes=parse_shapes(asked.shape),
            methods=parse_methods(asked.methods),
            tuning=asked.tuning,
            official=asked.official,
        )
        spin_briefly()
        from zobench.bench.run import run

        run(spec, repeats=asked.repeats, memory=asked.memory, json_file=Path(asked.json) if asked.json else None)
    except (UserError, OSError) as error:
        return complain(error, "zobench.bench")
    except KeyboardInterrupt:
        return 130
    return 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Raises ConfigError for an option that is not there, with the nearest one that is."""
    parser = _parser()
    asked, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        hint = did_you_mean(unknown[0].split("=")[0], known, otherwise="; see python -m zobench.bench --help")
        raise ConfigError(f"{unknown[0]}: no such option{hint}")
    if asked.repeats < 1:
        raise ConfigError(f"--repeats {asked.repeats}: must be at least 1")
    return asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zobench.bench",
        description="What a step of each method costs, as ratios to the forward passes that it makes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model",
        default="opt-125m-random",
        help=f"one of {', '.join(models())}; settings after a colon: local:dir=DIR, hub:id=ORG/NAME",
    )
    parser.add_argument("--dtype", default="float32", help=f"one of {', '.join(DTYPES)}")
    parser.add_argument("--shape", default="16x64", help="batch x tokens; several with commas: 16x64,8x256")
    parser.add_argument(
        "--methods",
        default=ALL,
        help=f"with commas; settings after a colon: {ALL},loren:probes=10+rule=sgd; behind an @ how offsets are "
        f"evaluated, {', '.join(WAYS)}: pgap@walk",
    )
    parser.add_argument(
        "--tuning", default="full", help="what trains; settings after a colon: last_layers:layers=1+only=mlp"
    )
    parser.add_argument("--repeats", type=int, default=3, help="interleaved, after one that is not counted")
    parser.add_argument("--threads", type=int, help="of torch and the noise loops; without it torch's own choice")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead, each in its own process")
    parser.add_argument(
        "--official", metavar="CHECKOUT", help=f"compare with the code in a checkout of {REPOSITORY} at {COMMIT}"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
