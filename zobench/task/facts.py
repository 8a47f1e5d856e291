"""What is known of a task as plain values: for ``--json``, and for the page."""

from typing import Any

import numpy as np

from zobench.task.copies import PAIRS, copies, repeated
from zobench.task.findings import findings
from zobench.task.look import Look
from zobench.tasks.base import PARTS


def facts(look: Look) -> dict[str, Any]:
    """All that the page shows, by name."""
    return {
        "task": look.name,
        "model": look.model,
        "start_token": look.start,
        "max_length": look.max_length,
        "metric": look.task.metric,
        "prompts": [
            {
                "row": e.example.index,
                "prompt": e.example.prompt,
                "options": dict(zip(e.example.options, look.pieces(e), strict=True)),
                "gold": e.example.options[e.gold],
                "answers": list(e.example.answers),
            }
            for e in look.shown
        ],
        "splits": {part: split(look, part) for part in PARTS},
        "copies": {
            f"{one} in {other}": dict(zip(("exact", "alike"), copies(look, one, other), strict=True))
            for one, other in PAIRS
        },
        "warnings": [vars(finding) for finding in findings(look)],
    }


def split(look: Look, part: str) -> dict[str, Any]:
    """Sizes, classes, lengths in tokens and repetitions of a part."""
    lengths = look.lengths[part]
    median, most = np.percentile(lengths, (50, 95))
    return {
        "rows": len(lengths),
        "rows_of_file": look.file_rows[part],
        "classes": {} if look.task.generates else look.classes(part),
        "tokens": {"median": int(median), "95 %": int(most), "longest": max(lengths)},
        "truncated": sum(e.truncated for e in look.examples[part]),
        "repeated": repeated(look, part),
    }
