"""Prompts that are there more than once: within a split, in two of them, and with different labels."""

from zobench.task.look import Look
from zobench.tasks.base import PARTS, Example

#: whose prompts should not be in which other part
PAIRS = (("test", "train"), ("test", "dev"), ("dev", "train"))


def copies(look: Look, one: str, other: str) -> tuple[int, int]:
    """How many prompts of a part are in another too: to the letter, and up to case and white space."""
    found = []
    for key in (_question, _plain):
        there = {key(look, e.example) for e in look.examples[other]}
        found.append(sum(key(look, e.example) in there for e in look.examples[one]))
    return found[0], found[1]


def repeated(look: Look, part: str) -> int:
    """How many rows of a part repeat the prompt of an earlier one, up to case and white space."""
    return len(look.examples[part]) - len({_plain(look, e.example) for e in look.examples[part]})


def conflicts(look: Look) -> list[list[tuple[str, Example]]]:
    """Two rows, each with its part, of every prompt that has different labels or right answers."""
    by_prompt: dict[tuple[str, ...], dict[object, tuple[str, Example]]] = {}
    for part in PARTS:
        for e in look.examples[part]:
            by_prompt.setdefault(_plain(look, e.example), {}).setdefault(look.answer(e.example), (part, e.example))
    return [list(answers.values())[:2] for answers in by_prompt.values() if len(answers) > 1]


def _question(look: Look, example: Example) -> tuple[str, ...]:
    """What is asked: the prompt, and the options where they differ by row."""
    return (example.prompt,) if look.options or look.task.generates else (example.prompt, *example.options)


def _plain(look: Look, example: Example) -> tuple[str, ...]:
    return tuple(" ".join(text.casefold().split()) for text in _question(look, example))
