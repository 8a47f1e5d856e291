"""Who is told what a run does: everything reaches all, and a process that does not lead writes nothing."""

import inspect

import pytest

from zobench.record.directory import Record
from zobench.record.recorder import NullRecord, Recorder, Tee

CALLS = {
    "forget_after": ({"metrics.jsonl": 0},),
    "log": ({"step": 1},), "log_losses": (1, [0.5], ["head"], "9a3e", {"code": "5d0c"}),
    "flush": (), "environment": ({},),
    "predictions": ({"test": []},), "summary": ({"state": "running"},),
    "finish": ({"state": "finished"},), "withdraw": (), "begin": ({"state": "running"},), "check": (), "close": (),
}  # fmt: skip


def public(kind):
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


class Noted(Recorder):
    """Notes who was told what."""

    def __init__(self, name, told):
        for call in CALLS:
            setattr(self, call, lambda *arguments, call=call: told.append((name, call, arguments)))


def test_a_tee_gathers_the_marks_of_all_files():
    files, mirror = Recorder(), Recorder()
    files.flush = lambda: {"metrics.jsonl": {"lines": 1}}
    assert Tee(files, mirror).flush() == {"metrics.jsonl": {"lines": 1}}


def test_a_run_tells_its_record_nothing_else():
    assert public(Recorder) == set(CALLS)
    assert public(Record) == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
def test_a_tee_passes_on_everything_in_order(call):
    told = []
    tee = Tee(Noted("files", told), Noted("mirror", told))
    getattr(tee, call)(*CALLS[call])
    assert told == [("files", call, CALLS[call]), ("mirror", call, CALLS[call])]


def test_what_one_refuses_the_later_ones_do_not_hear():
    told = []
    files = Noted("files", told)
    files.log = lambda line: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Tee(files, Noted("mirror", told)).log({})
    assert told == []


def test_a_null_record_takes_everything_and_keeps_nothing():
    for call, arguments in CALLS.items():
        assert getattr(NullRecord(), call)(*arguments) is None
    assert vars(NullRecord()) == {}
