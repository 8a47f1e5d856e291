"""Record golden runs of prefix tuning in the official MeZO code. Run by hand; the tests only read the result.

    python scripts/record_golden_prefix.py CHECKOUT/large_models --out tests/golden/mezo_prefix.json

CHECKOUT is princeton-nlp/MeZO at the commit below. Its files are imported unedited; what they lack on a CPU is replaced
in memory, as ``replaced`` in the result says. Needs the versions that tests/golden/README.md names.
"""

import argparse
import hashlib
import importlib
import json
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

COMMIT = "552cb1b710767f9a6e1dc8f9645d7640376f9941"
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
REPLACED = [
    "datasets.load_dataset: the rows of tests/golden/data",
    "torch.cuda.mem_get_info: no memory; torch.Tensor.cuda: the tensor itself",
    "max_memory of from_pretrained, which names GPUs: 8 GB of the CPU; device_map stays auto",
    "the writer of the result file: does nothing",
]
SHARED = {
    "trainer": "zo", "seed": 42, "train_set_seed": 0, "zo_eps": 0.1, "learning_rate": 0.01,
    "lr_scheduler_type": "constant", "max_length": 2048, "only_train_option": True, "per_device_eval_batch_size": 8,
    "prefix_tuning": True, "num_prefix": 5, "no_reparam": True, "prefix_init_by_real_act": True,
}  # fmt: skip
RUNS: dict[str, dict[str, Any]] = {
    "sst2": {
        "task_name": "SST2", "num_train": 30, "num_dev": 10, "num_eval": 16, "per_device_train_batch_size": 16,
        "max_steps": 12, "train_as_classification": True, "weight_decay": 0.1, "eval_steps": 6,
    },
    "squad": {
        "task_name": "SQuAD", "num_train": 5, "num_dev": 1, "num_eval": 2, "per_device_train_batch_size": 2,
        "max_steps": 12, "train_as_classification": False, "weight_decay": 0.0, "eval_steps": 6,
        "learning_rate": 1.0, "max_length": 120, "max_new_tokens": 20,
    },
}  # fmt: skip


def write_model(folder: Path) -> None:
    """The tiny OPT of ``mezo_official.json``, by its rule, and the tokenizer beside it."""
    from transformers import OPTConfig, OPTForCausalLM

    facts = json.loads((GOLDEN / "mezo_official.json").read_text(encoding="utf-8"))["model"]
    config = {key: value for key, value in facts["config"].items() if key not in ("attention", "model_type")}
    model = OPTForCausalLM(OPTConfig(**config))
    named = dict(model.named_parameters())
    for i, known in enumerate(facts["parameters"]):
        shape = tuple(known["shape"])
        values = np.random.RandomState(1000 + i).standard_normal(shape).astype(np.float32) * np.float32(0.05)
        norm = "layer_norm" in known["name"] and known["name"].endswith("weight")
        named[known["name"]].data.copy_(torch.from_numpy(values + np.float32(1.0) if norm else values))
    model.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GOLDEN / "tokenizer" / name, folder)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "model_max_length": 128, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def load_rows(path: str, name: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The rows of tests/golden/data in the place of ``datasets.load_dataset``."""
    folder = GOLDEN / "data" / (name or path)
    read = {split: (folder / f"{split}.jsonl").read_text(encoding="utf-8") for split in ("train", "validation")}
    return {split: [json.loads(line) for line in text.splitlines()] for split, text in read.items()}


def number(value: Any) -> dict[str, Any]:
    return {"value": float(value), "hex": float(value).hex()}


def prefix_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: param.detach() for name, param in model.named_parameters() if "prefix" in name}


def in_hex(model: Any) -> dict[str, dict[str, Any]]:
    named = prefix_of(model).items()
    return {n: {"shape": list(p.shape), "float32_le_hex": p.numpy().astype("<f4").tobytes().hex()} for n, p in named}


def digest(model: Any) -> str:
    return hashlib.sha256(b"".join(p.numpy().astype("<f4").tobytes() for p in prefix_of(model).values())).hexdigest()


def record(name: str, settings: Mapping[str, Any], model: Path, scratch: Path) -> dict[str, Any]:
    """One run of the official ``main``, watched from outside."""
    run, trainer = importlib.import_module("run"), importlib.import_module("trainer").OurTrainer
    own = trainer.zo_forward, trainer.zo_update, trainer.evaluate, run.PrefixMaker, run.Framework.forward
    found: dict[str, Any] = {"settings": dict(settings), "steps": [], "dev_loss": [], "answers": []}
    losses: list[float] = []

    def make(model: Any, **options: Any) -> None:
        own[3](model, **options)
        found["first"] = in_hex(model)

    def forward(self: Any, model: Any, inputs: Any) -> Any:
        loss = own[0](self, model, inputs)
        losses.append(float(loss))
        found.setdefault("batch_shape", list(inputs["input_ids"].shape))
        return loss

    def update(self: Any, model: Any) -> None:
        own[1](self, model)
        step = {"step": len(found["steps"]) + 1, "zo_random_seed": int(self.zo_random_seed)}
        step |= {"loss1": number(losses[-2]), "loss2": number(losses[-1])}
        step |= {"projected_grad": number(self.projected_grad), "sha256_after_step": digest(model)}
        found["steps"].append(step)

    def evaluate(self: Any, *args: Any, **options: Any) -> Any:
        metrics = own[2](self, *args, **options)
        found["dev_loss"].append({"after_step": len(found["steps"]), "eval_loss": number(metrics["eval_loss"])})
        return metrics

    def answer(self: Any, ids: list[int], option_len: Any = None, generation: bool = False) -> Any:
        given = own[4](self, ids, option_len=option_len, generation=generation)
        if generation:
            found["answers"].append({"prompt": list(ids), "text": given})
        found["model"] = self.model
        return given

    trainer.zo_forward, trainer.zo_update, trainer.evaluate = forward, update, evaluate
    sys.modules["prefix"].PrefixTuning, run.Framework.forward = make, answer
    pairs = {"model_name": model, "output_dir": scratch / name, "evaluation_strategy": "steps", "save_strategy": "no"}
    pairs |= {"report_to": "none", "disable_tqdm": True, **settings}
    sys.argv = ["run.py", *(part for key, value in pairs.items() for part in (f"--{key}", str(value)))]
    try:
        run.main()
    finally:
        trainer.zo_forward, trainer.zo_update, trainer.evaluate = own[:3]
        sys.modules["prefix"].PrefixTuning, run.Framework.forward = own[3:]
    found["final"] = in_hex(found.pop("model"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(arguments.checkout))
    sys.dont_write_bytecode = True
    import datasets
    import transformers

    datasets.load_dataset = load_rows
    torch.cuda.mem_get_info = lambda: (0, 0)
    torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign,assignment]
    run = importlib.import_module("run")
    run.write_metrics_to_file = lambda *args: None
    load = run.AutoModelForCausalLM.from_pretrained
    run.AutoModelForCausalLM.from_pretrained = lambda *a, **o: load(*a, **{**o, "max_memory": {"cpu": "8GB"}})
    run.PrefixMaker = importlib.import_module("prefix").PrefixTuning
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "tiny-opt"
        write_model(model)
        runs = {name: record(name, SHARED | own, model, Path(scratch)) for name, own in RUNS.items()}
    versions = SimpleNamespace(python=platform.python_version(), torch=torch.__version__, numpy=np.__version__)
    result = {
        "repository": "https://github.com/princeton-nlp/MeZO",
        "commit": COMMIT,
        "replaced": REPLACED,
        "versions": vars(versions) | {"transformers": transformers.__version__},
        "model": "that of mezo_official.json",
        "runs": runs,
    }
    # Lists of numbers on one line; Python's floats print so that they read back exactly.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda found: " ".join(found.group().split()), json.dumps(result, indent=1))
    arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
