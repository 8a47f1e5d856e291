"""``python -m zobench.export RUN DIR``: a run's model in Hugging Face format, or its adapter in peft's."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zobench.errors import ConfigError, DataError, UserError, complain, tolerant_streams

if TYPE_CHECKING:
    from zobench.run.rebuild import Rebuilt


def main(arguments: list[str] | None = None) -> int:
    """Export a run's model.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The exit code: 0, 1 if the model cannot be had or written, 2 for wrong arguments.
    """
    tolerant_streams()
    options = _parser().parse_args(arguments)
    from zobench.config.arguments import check_device, check_step

    try:
        check_step(options.step)
        check_device(options.device)
        _refuse_full(options.folder)
        return _export(options)
    except (UserError, OSError) as error:
        return complain(error, "zobench.export")


def _export(options: argparse.Namespace) -> int:
    """Do what the command line says and report it on the console; the exit code."""
    from zobench.atomic import writing
    from zobench.models.prefix_adapter import same_up_to
    from zobench.run.lm_eval_task import HarnessTask
    from zobench.run.rebuild import rebuild
    from zobench.system.console import Console

    console = Console()
    rebuilt = rebuild(
        options.run,
        options.step,
        console,
        device=options.device,
        allow=options.allow,
        unverified=options.unverified,
    )
    if rebuilt.expected not in (None, rebuilt.checksum):
        said = f"the weights are not bit for bit those of the run: {rebuilt.checksum}, not {rebuilt.expected}"
        if not options.unverified:
            raise DataError(f"{said}; --unverified writes them all the same")
        console.say(said)
    task = HarnessTask(rebuilt, adapter=options.adapter) if options.lm_eval else None
    with writing(options.folder):
        (write_adapter if options.adapter else write_model)(rebuilt, options.folder)
        _write_origin(rebuilt, options.folder, adapter=options.adapter)
        if task:
            task.write(options.folder)
    if options.adapter and (longest := same_up_to(rebuilt.model)) is not None:
        console.say(f"peft gives the run's numbers for up to {longest} tokens: virtual ones count in attention windows")
    console.say(
        f"written: {options.folder}, {'the adapter' if options.adapter else 'the model'} after step {rebuilt.step}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m zobench.export", description="A run's model for other programs.")
    parser.add_argument("run", metavar="RUN", help="a run's directory, or FILE.zip/ and its path in a zip of records")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--step", default="best", metavar="STEP", help="best (the default), last or a number")
    parser.add_argument(
        "--adapter", action="store_true", help="of tuning=lora and prefix: what was tuned alone, in peft's format"
    )
    parser.add_argument(
        "--lm-eval", action="store_true", help="beside it, a task of lm-evaluation-harness that gives the run's score"
    )
    parser.add_argument("--unverified", action="store_true", help="write weights that are not those of the record, too")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N; the run's, unless given")
    parser.add_argument("--allow", action="append", default=[], metavar="PACKAGE",
        help="import this package, whose classes the run is made of; zobench's own alone, unless given")  # fmt: skip
    return parser


def _refuse_full(folder: Path) -> None:
    """Raise ConfigError if something is there that would be mixed with the files to be written."""

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already; give a new or empty folder")


def write_model(rebuilt: "Rebuilt", folder: Path) -> None:
    """Write model and tokenizer in Hugging Face format; LoRA is merged into the weights it adapts.

    Args:
        rebuilt: the run's model; LoRA's modules are taken out of it.
        folder: made if it does not exist.

    Raises:
        ConfigError: for a run with tuning=prefix, whose keys and values are no weights of the model.
    """
    from zobench.models import adapters
    from zobench.models.tokenizer import save_tokenizer
    from zobench.objective.virtual_tokens import prefixed

    if prefixed(rebuilt.model):
        raise ConfigError("tuning=prefix: the model's format has no place for a prefix; give --adapter")
    adapters.merge(rebuilt.model)
    rebuilt.loaded.model.save_pretrained(folder)
    save_tokenizer(rebuilt.loaded.tokenizer, folder)


def write_adapter(rebuilt: "Rebuilt", folder: Path) -> None:
    """Write what was tuned as ``peft.PeftModel.from_pretrained`` reads it: LoRA's matrices, or a prefix.

    The files are ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        ConfigError: if the run tuned weights of the model, or a prefix that peft would run otherwise.
    """
    from safetensors.torch import save_file

    from zobench.models import adapters
    from zobench.models.prefix_adapter import peft_prefix
    from zobench.models.prefix_tuning import PrefixTuning
    from zobench.models.tuning import LoRA

    if isinstance(rebuilt.tuning, LoRA):
        adapters.save(rebuilt.model, folder)
    elif isinstance(rebuilt.tuning, PrefixTuning):
        settings, prompt = peft_prefix(rebuilt.loaded.model)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        save_file({"prompt_embeddings": prompt}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    else:
        raise ConfigError(
            f"--adapter: the run has tuning={rebuilt.summary.get('tuning')}, not lora or prefix; leave --adapter out"
        )


def _write_origin(rebuilt: "Rebuilt", folder: Path, *, adapter: bool) -> None:
    """Write ``zobench.json``, where the weights come from, with the run's row, and ``README.md``, for people."""
    from zobench.run.card import card

    origin = {"step": rebuilt.step, "weights_checksum": rebuilt.checksum, "run": rebuilt.summary}
    (folder / "zobench.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    base = rebuilt.loaded.model.name_or_path or ""
    text = card(rebuilt.summary, rebuilt.cfg, step=rebuilt.step, base=base, adapter=adapter)
    (folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
