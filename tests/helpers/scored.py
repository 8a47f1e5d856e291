"""Functions that a user may name as a score; their module stands for one of the user's own."""


def short(answer, example):
    """How short a generated text is."""
    return 1.0 / (1.0 + len(answer))


def gold_first(answer, example):
    """Whether the right option is the likeliest, as True or False."""
    return max(answer) == answer[example.gold]


def wide(answer, example):
    return 1.5


def worded(answer, example):
    return "good"


def undefined(answer, example):
    return float("nan")


def raising(answer, example):
    raise KeyError("no\nsuch")


def missing(answer, example):
    return None


class _Unspeakable:
    def __repr__(self):
        raise ValueError("no words")


def unspeakable(answer, example):
    return _Unspeakable()


_calls = []


def remembering(answer, example):
    """Another score each time."""
    _calls.append(answer)
    return 1.0 / (1.0 + len(_calls))


def alone(answer):
    return 1.0


#: a score as well, and no function
HALF = 0.5
