"""What is odd about a task: each finding with what to do. A run would go through all the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from zobench.errors import shown
from zobench.task.copies import PAIRS, conflicts, copies
from zobench.task.look import Look
from zobench.tasks.base import PARTS

#: below so many rows one standard error of an accuracy may be over five points
_FEW = 100
#: from this share on, always the same answer is hard to beat
_LARGE_MAJORITY = 0.8


@dataclass(frozen=True)
class Finding:
    """One thing that is odd.

    Attributes:
        kind: a short name for machines.
        what: what is odd, with numbers.
        do: what to do.
    """

    kind: str
    what: str
    do: str


def findings(look: Look) -> list[Finding]:
    """All that is odd about a task."""
    return [
        f
        for find in (_joins, _line_breaks, _options, _classes, _copies, _lengths, _columns, _sizes)
        for f in find(look)
    ]


def _joins(look: Look) -> Iterator[Finding]:
    """Where an option meets the prompt."""
    pairs = [(e.example.prompt, o) for part in PARTS for e in look.examples[part] for o in e.example.options]
    glued = [(p, o) for p, o in pairs if p[-1:].isalnum() and o[:1].isalnum()]
    if glued:
        yield Finding(
            "no_space",
            f"no space between prompt and option in {len(glued)} of {len(pairs)} pairs: {_joint(*glued[0])}",
            "begin the options with a space",
        )
    merged = [(e, o) for part in PARTS for e in look.examples[part] for o in look.merged(e)]
    if merged:
        encoded, option = merged[0]
        yield Finding(
            "merged",
            f"tokens reach over the end of the prompt in {len(merged)} of {len(pairs)} pairs: "
            f"{_joint(encoded.example.prompt, option)}; what is left of the option is compared",
            "begin the options with a space, or end the prompt differently",
        )
    wide = [(p, o) for p, o in pairs if p[-1:] == " " and o[:1] == " "]
    if wide:
        yield Finding(
            "two_spaces",
            f"two spaces between prompt and option in {len(wide)} of {len(pairs)} pairs: {_joint(*wide[0])}",
            "take the space at the end of the prompt away",
        )


def _line_breaks(look: Look) -> Iterator[Finding]:
    prompts = [e.example.prompt for part in PARTS for e in look.examples[part]]
    count = sum(r"\n" in prompt for prompt in prompts)
    if count:
        yield Finding(
            "backslash",
            f"{count} of {len(prompts)} prompts hold a backslash and an n where a line break may be meant",
            "put the prompt into double quotes in the task's file, or mend the column",
        )


def _joint(prompt: str, option: str) -> str:
    return repr(f"{prompt[-12:]}{shown(option, 20)}")


def _options(look: Look) -> Iterator[Finding]:
    """How well tokens tell options apart; options that differ by row are left alone."""
    if not look.options:
        return
    pieces = dict(zip(look.options, look.pieces(look.examples["train"][0]), strict=True))
    for (one, tokens), (other, more) in combinations(pieces.items(), 2):
        common = _common(tokens, more)
        if common == min(len(tokens), len(more)):
            short, long = sorted((one, other), key=lambda text: len(pieces[text]))
            yield Finding(
                "prefix",
                f"{short!r} is the beginning of {long!r}: where the model says the one, the other may still come",
                "take other label words",
            )
        elif common:
            yield Finding(
                "shared_tokens",
                f"{one!r} and {other!r} begin with the same {_count(common, 'token')}, which do not tell them apart",
                "take label words that differ from their first token on",
            )
    counts = {len(tokens) for tokens in pieces.values()}
    if len(counts) > 1:
        yield Finding(
            "token_counts",
            f"options have {min(counts)} to {max(counts)} tokens; they are compared by the mean log-probability of "
            "their tokens, which favours long ones whose ends follow from their beginnings",
            "take label words of one token each where there are such",
        )


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many tokens two options share from the first on."""
    pairs = list(zip(one, other, strict=False))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs))


def _classes(look: Look) -> Iterator[Finding]:
    if look.task.generates:
        return
    counts = {part: look.classes(part) for part in PARTS}
    for text in look.options:
        absent = [part for part in PARTS if not counts[part][text]]
        if absent:
            yield Finding(
                "absent_class",
                f"no row of {', '.join(absent)} has the label of {text!r}",
                "check the label column, take the option away, or set larger task.splits",
            )
    largest, count = max(counts["test"].items(), key=lambda pair: pair[1])
    share = count / len(look.examples["test"])
    if share >= _LARGE_MAJORITY and look.task.metric == "accuracy":
        yield Finding(
            "majority",
            f"always {largest!r} has a test accuracy of {share:.3f}",
            "set metric: macro_f1 or mcc in the task's file",
        )


def _copies(look: Look) -> Iterator[Finding]:
    for one, other in PAIRS:
        exact, alike = copies(look, one, other)
        if alike:
            yield Finding(
                f"{one}_in_{other}",
                f"{alike} of {len(look.examples[one])} {one} prompts stand in {other}, {exact} of them to the letter",
                "remove copies from the file, or give files of your own split: files: {train: ..., test: ...}",
            )
    pairs = conflicts(look)
    if pairs:
        one, other = (f"{part}, row {e.index} ({look.answer(e)!r})" for part, e in pairs[0])
        yield Finding(
            "conflicts",
            f"{_count(len(pairs), 'prompt')} with different labels, such as {one} and {other}",
            "keep the right one; a column that tells them apart belongs into the prompt",
        )


def _lengths(look: Look) -> Iterator[Finding]:
    cut = sum(e.truncated for part in PARTS for e in look.examples[part])
    if cut:
        longest = max(length for part in PARTS for length in look.lengths[part])
        yield Finding(
            "truncated",
            f"{cut} of {sum(map(len, look.lengths.values()))} prompts lose tokens at their beginning: the longest has "
            f"{longest:,}, model.max_length is {look.max_length}",
            "raise model.max_length if the model has the positions, or shorten the prompt",
        )


def _columns(look: Look) -> Iterator[Finding]:
    total = sum(map(len, look.examples.values()))
    for column, count in look.empty.items():
        yield Finding(
            "empty_column",
            f"column {column} is empty in {'all' if count == total else count} of {total} rows",
            "fill it, remove these rows, or leave it out of the prompt",
        )


def _sizes(look: Look) -> Iterator[Finding]:
    for part, use, do in (
        ("dev", ", which choose learning rate and checkpoint", "or do not trust what dev prefers by little"),
        ("test", "", "or expect to see large differences alone"),
    ):
        n = len(look.examples[part])
        if n < _FEW:
            yield Finding(
                f"few_{part}_rows",
                f"{part} has {_count(n, 'row')}{use}: one standard error of an accuracy of 0.5 is {0.5 / n**0.5:.3f}",
                f"give {part} more rows, {do}",
            )


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
