"""Every name in a run's record, once: its type, its unit, what it means, who writes it, and when it is there.

``docs/record.md`` is made from it: ``python -m zobench.record.columns docs/record.md``. Tests hold the records of real
runs to it, and whoever reads them. Standard library only.
"""

import sys
from pathlib import Path

from zobench.record.measured import GENERATES, INFINITE, METRICS, OWN_SCORE, READINGS, SIGNED
from zobench.record.schema import ANY, BOOLEAN, LIST, NUMBER, OBJECT, Column, Group, Schema, count, family, number, text
from zobench.system.markdown import between_marks

_SECONDS, _GIB, _BYTES = "s", "GiB", "bytes"
_TRAINS, _IN_FILE = "runs that train", "in the file, not in a frame"

#: what a run can be; a sweep knows more, such as cells that wait
RUN_STATES = ("running", "finished", "diverged", "failed", "interrupted")
#: the stages of a run from which columns are in its row, one after another
START, BUILT, TRAINING, ENDED, FINISHED = (
    "From the start", "Once data and model are there", "Once the model was evaluated as it came",
    "When a run ends that was built", "When a run is finished",
)  # fmt: skip
STAGES = (START, BUILT, TRAINING, ENDED, FINISHED)

ROW = Schema(
    Group(START, "run/cell.py", (
        text("state", "`running`, `finished`, `diverged`, `failed` or `interrupted`", words=RUN_STATES),
        text("reason", "why it ended so; of a finished run, that no weight moved", null="there is none", free=True),
    )),
    Group(START, "run/row.py", (
        text("method", "chosen option of the group `method`"),
        text("model", "chosen option of `model`; for `local` and `hub` the model's label, as `my-qwen2@1f3a9c02`"),
        text("task", "chosen option of `task`"),
        text("tuning", "chosen option of `tuning`: which parameters train"),
        text("protocol", "chosen option of `protocol`"),
        text("objective", "chosen option of `objective`: what methods minimise; records of earlier versions: `loss`"),
        text("data", "where the rows come from: `files` that the task names, else the chosen option of `data`"),
        text("experiment", "chosen preset", null="none was"),
        count("seed", "the run's seed, which the four below are unless set one by one"),
        count("data_seed", "seed of the rows that are drawn"),
        count("noise_seed", "seed of all random directions"),
        count("order_seed", "seed of the order of the training batches"),
        count("init_seed", "seed of the initial values of added parameters"),
        count("batch_size", "training examples of a step", "examples"),
        count("micro_batch_size", "training examples of a forward call", "examples", null="the whole batch"),
        text("device", "the setting `device`; once the run is built, the device that was used"),
        text("dtype", "data type of the weights"),
        number("method.lr", "the learning rate", null="null is set", where="methods that have one"),
        text("method.rule", "the update rule", null="null is set", where="methods that have one"),
        Column("method.<setting>", ANY, "another setting of the method", null="null is set"),
        Column("tuning.<setting>", ANY, "a setting of the tuning", null="null is set"),
        text("objective.score_code", "hash of the source of the function of `objective.score`",
             null="no source to read", where=OWN_SCORE),
        Column("objective.<setting>", ANY, "a setting of `objective=metric`", null="null is set"),
        count("schema", "the rule by which the run is named; absent in records of the first"),
        text("config_hash", "the run's name: hash of the settings that can change the result"),
        text("data.dir", "folder of the data, or the files that the task names", null="the hub", free=True),
        text("model.dir", "folder of the model", null="the hub, or a model that brings its own", free=True),
        text("directory", "where the record was written; of a frame, where it lies now", free=True),
        text("zobench_version", "version of zobench", null="not installed"),
        text("git_commit", "commit of zobench's checkout, `-dirty` if changed", null="an installed package"),
        Column("commits", LIST, "every commit that has worked on the run, oldest first; a version where there is none"),
    )),
    Group(START, "record/inputs.py", (
        text("inputs.data", "digest of the data's files, at a glance: what to compare by content", null="the hub"),
        text("inputs.model", "the same of the model's folder", null="the hub, or a model that brings its own"),
        text("inputs.prompts", "the same of the code that makes the prompts", null="no source to read"),
    )),
    Group(START, "record/directory.py", (
        count("restarts", "how often the run was started before without finishing"),
    )),
    Group(START, "record/digests.py", (
        text("digest", "hash of this row; records of earlier versions have none", where=_IN_FILE),
    )),
    Group(BUILT, "run/build.py", (
        text("variant", "the method's variant, such as `paper`; the protocol's where it has none"),
        text("rows_hash", "hash of the drawn rows: equal means equal data in equal order"),
        text("prompt_hash", "hash of the texts made of them: prompts, options, right answers, in no order"),
        text("model_family", "architecture, as transformers' configuration names it: `opt`, `llama`, ..."),
        count("model_parameters", "size of the model as it was loaded, a shared weight counted once", "numbers"),
        count("model_layers", "transformer layers of the model", "layers", null="its decoder keeps no list of them"),
        text("model_commit", "commit of the hub that the model was loaded from", null="a folder, or its own package"),
        count("max_length", "longest sequence, prompt and answer together", "tokens"),
        text("start_token", "token in front of every prompt", null="none"),
        text("lora_targets", "linear modules that LoRA adapts unless `tuning.targets` names others", null="not known"),
        text("tokenizer_hash", "hash of the tokenizer: its tokens, rules and special tokens"),
        count("truncated_examples", "longer than `model.max_length`, cut on the left", "examples"),
        count("train_examples", "size of the training set", "examples"),
        count("parameters", "size of the model with what its tuning adds", "numbers"),
        count("trainable_parameters", "size of what trains", "numbers"),
        text("forward_path", "what of the model a forward pass runs: `whole`, `trimmed`, `from layer 8`, ...; and by "
             "which head, where that is not the product with its weight"),
        text("padding", "what is padded of sequences that run together: `none`, as they lie in one row or run alone; "
             "`none up to 4096 tokens`, a model's attention window, and longer ones by length; `by length`, in as many "
             "parts as save time; `in 2 parts`; `to the longest`"),
        text("attention", "implementation of attention: `sdpa`, or `eager`"),
        text("selection", "the protocol's rule for which dev evaluation's weights are tested"),
        text("metric", "the `<metric>` of the task: accuracy, macro_f1, mcc, f1 or exact_match; score, of a user's own "
             "function"),
        Column("trains", BOOLEAN, "whether the run takes steps"),
        count("processes", "how many processes shared the work"),
        text("parallel", "what they shared out: `queries` or `data`", null="one process"),
    )),
    Group(BUILT, "run/cell.py", (
        Column("versions", OBJECT, "version of each package; null for one that is not installed"),
        text("base_checksum", "hash of the trainable weights before the first step"),
        text("model_checksum", "hash of the whole model as it was loaded, in the run's dtype"),
    )),
    Group(BUILT, "record/summaries.py", (
        text("versions.<package>", "a version of `versions`", null="not installed", where="when a record is read"),
    )),
    Group(TRAINING, "run/cell.py", (
        family("zero_shot/dev/<metric>", METRICS, "measured on the model as it came"),
        family("zero_shot/test/<metric>", METRICS, "measured on the model as it came"),
    )),
    Group(ENDED, "run/row.py", (
        count("steps", "steps taken"),
        count("forwards", "forward passes of a batch"),
        count("backwards", "backward passes of a batch"),
        text(
            "evaluation",
            "how weights came to offsets last: `walk`, `exact` (shifted values), `side` (factors beside the weights), "
            "or several of these; `stacked`: several in one forward",
            null="none was measured at since the last start",
        ),
        count("examples_seen", "examples in all steps", "examples"),
        count("tokens_seen", "tokens in all steps, padding apart, however often a step evaluates them", "tokens"),
        text("remade", "damage for which the run was made again from its losses: seconds before it may be missing",
             null="there was none"),
        count("state_bytes", "size of what the method holds beyond the weights, its held draws apart", _BYTES),
        count("eval_every", "distance of dev evaluations", "steps"),
    )),
    Group(ENDED, "system/costs.py", (
        number("wall_seconds", "the whole run, earlier starts included up to their last checkpoint", _SECONDS),
        number("train_seconds", "training: all steps", _SECONDS),
        number("forward_seconds", "of training, in forward passes", _SECONDS),
        number("outside_seconds", "of training, outside them: about what a replay takes", _SECONDS, signed=True),
        number("evaluate_seconds", "all evaluations", _SECONDS),
        number("cache_seconds", "filling the cache of frozen layers", _SECONDS),
        number("lens_seconds", "measuring with the lens", _SECONDS),
        number("gpu_hours", "GPU time of training in all processes; 0 on a CPU", "h"),
        number("cpu_hours", "CPU time of training in all processes", "h"),
        number("dev_cpu_seconds", "CPU time of a dev evaluation between steps, a mean: by it times of machines compare",
               _SECONDS, null="there was none"),
    )),
    Group(ENDED, "system/memory.py", (
        number("peak_gib", "peak memory in training and evaluations, beyond what the process held before", _GIB),
        number("weights_gib", "the model's weights", _GIB),
        number("method_state_gib", "the method's state", _GIB),
        number("cache_gib", "cached activations of frozen layers, and draws held while a step is taken", _GIB),
        number("rest_gib", "the rest of the peak: activations, temporaries, a CPU's allocators", _GIB, signed=True),
        text("memory_measured_by", "how the peak was measured"),
    )),
    Group(ENDED, "run/cell.py", (
        number("bytes_per_step", "scalars that all processes contribute in a step", _BYTES, null="no step yet"),
        text("weights_checksum", "hash of the trainable weights after the last step"),
    )),
    Group(ENDED, "record/digests.py", (
        Column("digests", OBJECT, "hash of each other file as it was left", where=_IN_FILE),
    )),
    Group(FINISHED, "run/row.py", (
        number("dev_metric", "the task's metric on dev, at the weights that are tested", SIGNED),
        number("dev_metric_stderr", "its standard error"),
        number("test_metric", "the task's metric on test: the result", SIGNED),
        number("test_metric_stderr", "its standard error"),
    )),
    Group(FINISHED, "run/cell.py", (
        family("dev/<metric>", METRICS, "measured at the weights that are tested"),
        family("test/<metric>", METRICS, "measured at the weights that are tested, those of the best dev evaluation"),
        family("last/test/<metric>", METRICS, "measured after the last step", where="those are other weights"),
        count("best_step", "step of the best dev evaluation", where=_TRAINS),
        count("best_forwards", "forward passes up to the best dev evaluation", where=_TRAINS),
        text("best_weights_checksum", "hash of the trainable weights that are tested", where=_TRAINS),
    )),
)  # fmt: skip

LINES = Schema(
    Group("In every line", "run/train.py", (
        count("step", "steps taken so far"),
        count("forwards", "forward passes of a batch in all steps so far"),
    )),
    Group("Every `log_every` steps", "run/train.py", (
        number("train/loss", "mean loss of the steps since the line before", "nats"),
        number("lr", "learning rate of the step"),
        number("train_seconds", "seconds of training so far", _SECONDS),
    )),
    Group("Every `log_every` steps", "zo/estimators.py", (
        number("projected_gradient", "`(L(θ+εu) − L(θ−εu)) / 2ε`", null=INFINITE, where="central differences"),
    )),
    Group("Every `log_every` steps", "methods/*.py", (
        Column("<note>", NUMBER, "what else a method notes of the step", null=INFINITE, where="some methods"),
    )),
    Group("The first, before any step", "run/cell.py", (
        family("zero_shot/dev/<metric>", METRICS, "measured on the model as it came"),
        family("zero_shot/test/<metric>", METRICS, "measured on the model as it came"),
    )),
    Group("Every `eval_every` steps", "run/train.py", (
        family("dev/<metric>", METRICS, "measured after the step"),
    )),
    Group("Every `lens.every` steps", "run/train.py", (
        family("lens/<reading>", READINGS, "measured on estimates for the step to come"),
    )),
    Group("The last", "run/cell.py", (
        family("final/dev/<metric>", METRICS, "measured at the weights that are tested"),
        family("final/test/<metric>", METRICS, "measured at the weights that are tested"),
    )),
)  # fmt: skip

ENVIRONMENT = Schema(
    Group("In one object", "system/costs.py", (
        text("zobench", "version of zobench", null="not installed"),
        text("git_commit", "commit of zobench's checkout, `-dirty` if changed", null="an installed package"),
        text("python", "version of Python"),
        text("platform", "operating system"),
        text("processor", "model of the CPU"),
        text("device", "device that was used"),
        text("device_name", "model of the GPU, or of the CPU"),
        text("cpu_capability", "vector instructions that torch uses"),
        text("cuda", "version of CUDA that torch was built for", null="on a CPU"),
        count("threads", "threads of torch"),
        Column("versions", OBJECT, "version of each package; null for one that is not installed"),
    )),
    Group("In one object", "run/cell.py", (
        Column("commits", LIST, "every commit that has worked on the run, oldest first"),
    )),
)  # fmt: skip

PREDICTIONS = Schema(
    Group("A row for each example", "record/predictions.py", (
        text("split", "`dev` or `test`"),
    )),
    Group("A row for each example", "run/evaluate.py", (
        count("index", "row in its data file, from 0"),
        text("gold", "number of the right option; or the first right answer"),
        text("prediction", "number of the chosen option; or the answer that was given"),
        Column("scores", LIST, "mean log-probability of each option, or of the right answer", "nats"),
        number("score", "what the example adds to the metric: the mean over a split is the metric", signed=True),
        number("exact_match", "1 if the answer equals a right one, else 0", where=GENERATES),
    )),
)  # fmt: skip

FILES = {
    "summary.json": ROW, "metrics.jsonl": LINES, "environment.json": ENVIRONMENT, "predictions.parquet": PREDICTIONS,
}  # fmt: skip
_MARKS = "<!-- the tables, by python -m zobench.record.columns docs/record.md -->\n", "<!-- end of the tables -->\n"


def documented(page: str) -> str:
    """A page with the tables anew between their marks."""
    tables = {f"`{name}`": schema for name, schema in FILES.items()} | {"Metrics": METRICS, "Readings": READINGS}
    shown = "".join(f"\n### {title}\n{schema.markdown()}" for title, schema in tables.items())
    return between_marks(page, _MARKS, shown.removeprefix("\n"), Path("docs/record.md"))


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(documented(path.read_text(encoding="utf-8")), encoding="utf-8")
