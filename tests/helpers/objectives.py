"""Examples whose options have several tokens."""

from dataclasses import replace

from zobench.tasks.sst2 import SST2


class Worded(SST2):
    """SST-2 with options of several and unequal numbers of tokens."""

    verbaliser = (" not worth it at all", " great")


def flat(scores):
    return [x for example in scores for x in example]


def rows_of(mini, name):
    """(task, training examples); ``worded`` is SST-2 with the options above."""
    task, splits = mini("sst2" if name == "worded" else name)
    if name != "worded":
        return task, splits.train
    settings = ("hub", "subset", "revision", "rows", "splits")
    task = Worded(**{key: getattr(task, key) for key in settings})
    return task, [replace(e, options=task.verbaliser) for e in splits.train]
