"""The rules in words, for a terminal."""

import re

from zobench.rules import settings
from zobench.rules.files import Entry, Rules, Ruleset, Workload, versions
from zobench.sweep.trials import LR
from zobench.system.markdown import pipe_table

_WHENCE = {
    "searched": "by {trials} trials of its declared space, seed {trial_seed}; the lowest dev loss is scored",
    "shipped": "as they ship, the learning rate times the workload's factor",
    "none": "as they ship, nothing set",
    "chosen": "as the trials of tuned chose",
}


def listing(rules: Rules) -> str:
    """Versions, rulesets, workloads and entries by name."""
    methods = {settings.method(entry) for entry in rules.entries.values()}
    return "\n".join(
        [
            f"versions   {' '.join(versions())}",
            f"rulesets   {' '.join(rules.rulesets)}",
            f"workloads  {' '.join(rules.workloads)}",
            f"entries    {len(rules.entries)}, of {len(methods)} methods: {' '.join(rules.entries)}",
            "",
            "python -m zobench.rules show v1                 what each ruleset allows",
            "python -m zobench.rules run --runs RUNS ...     run a comparison; --help says how",
            "python -m zobench.rules check RUNS              whether records keep the rules; what entries were given",
            "python -m zobench.rules targets RUNS            what the reference reaches",
        ]
    )


def version(rules: Rules) -> str:
    """What a version of the rules allows."""
    lines = [f"Rules {rules.version}; the reference is {rules.reference}", ""]
    lines += [line for ruleset in rules.rulesets.values() for line in _of_ruleset(ruleset, rules)]
    lines += [f"Every run: {rules.words}; where it trains {rules.training}, {rules.evaluations} dev evaluations", ""]
    header = ["workload", "forwards", "rates", "step_rates", "backprop_rates", "given"]
    lines += [pipe_table([header, *map(_of_workload, rules.workloads.values())]), ""]
    lines += [f"  {each.name}: {each.words}" for each in rules.workloads.values()]
    lines += ["", "Entries, what they set, and what is searched; the learning rate times the factor behind it", ""]
    width = max(map(len, rules.entries)) + 2
    return "\n".join([*lines, *(f"  {each.name:<{width}}{_of_entry(each)}" for each in rules.entries.values())])


def _of_ruleset(ruleset: Ruleset, rules: Rules) -> list[str]:
    seconds = f"as many steps as take {rules.reference}'s CPU seconds of training"
    budget = seconds if ruleset.budget == "seconds" else f"{ruleset.budget:g} x the workload's forward passes"
    return [
        f"{ruleset.name}: {ruleset.description}",
        f"  settings: {_WHENCE[ruleset.settings].format(**vars(ruleset))}",
        f"  budget: {budget}",
        f"  scored: seeds {', '.join(map(str, ruleset.seeds))}, each with training rows of its own; the same test rows",
        "",
    ]


def _of_workload(each: Workload) -> list[str]:
    factors = [f"{factor:g}" for factor in (each.rates, each.step_rates, each.backprop_rates)]
    return [each.name, f"{each.forwards:,}", *factors, " ".join(each.inputs)]


def _of_entry(each: Entry) -> str:
    """
    >>> _of_entry(Entry("slow", "method=mezo method.probes=4", of="mezo", space={LR: "tag(log, interval(1, 9))"}))
    'of mezo, method=mezo method.probes=4; lr 1 to 9 x rates'
    """
    said = [f"of {each.of}, {each.words}" if each.of else each.words]
    for key, text in each.space.items():
        times = f" x {each.factor}" + f" x {each.times:g}" * (each.times != 1)
        said.append(f"{key.removeprefix('method.')} {_between(text)}{times if key == LR else ''}")
    imposed = " ".join(f"{key.removeprefix('method.')}={value}" for key, value in each.small_matrices.items())
    return "; ".join([*said, *([f"{imposed} where matrices are small"] if imposed else [])])


def _between(text: str) -> str:
    """An interval or a choice as one would say it."""
    text = re.sub(r"(?:tag\(log, )?interval\(([^,]+), ([^)]+)\)+", r"\1 to \2", text)
    return re.sub(r"choice\(([^)]*)\)", r"\1", text)
