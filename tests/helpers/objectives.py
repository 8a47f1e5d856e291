"""Examples whose options have several tokens."""

from dataclasses import replace

from helpers.tasks import shipped

#: options of several and unequal numbers of tokens
WORDED = (" not worth it at all", " great")


def flat(scores):
    return [x for example in scores for x in example]


def rows_of(mini, name):
    """(task, training examples); ``worded`` is SST-2 with the options above."""
    task, splits = mini("sst2" if name == "worded" else name)
    if name != "worded":
        return task, splits.train
    return shipped("sst2", options=list(WORDED)), [replace(e, options=WORDED) for e in splits.train]
