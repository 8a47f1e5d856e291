"""Two real processes over gloo: what is promised of the bits, the signals and the refusals.

They are started as torchrun starts them, and go through all stories in a row; each test looks at what came of one.
"""

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from helpers.per_example import by_example
from helpers.processes import SERVER
from helpers.team import LOREN, RUN, alone, assert_same_bits, directory_of, free_port
from helpers.tiny_runs import TINY, lines_of, series, summary_of

from zobench import MeZO
from zobench.errors import ConfigError, UserError
from zobench.objective import Objective
from zobench.run.parallel import check_shards
from zobench.system.imports import keep_imports
from zobench.system.processes import Processes, assembled
from zobench.zo import Method, Team
from zobench.zo.team import TeamError, TeamLost

SHORT = (*LOREN, "steps=12", "eval_every=4")
MEZO = (*RUN, "micro_batch_size=2", "method.lr=1e-5", "steps=20", "eval_every=10", "save_every=6")

#: six offsets in two stacks, of four and two
STACKED = (
    *RUN, "method.distribution=low_rank", "method.probes=3", "method.mode=exact", "method.lr=1e-4", "steps=6",
    "eval_every=3", "method.stack_rows=600",
)  # fmt: skip
AGZO = (*TINY, "method=agzo", "method.mode=exact", "method.lr=1e-3", "method.eps=1e-2", "steps=6", "eval_every=3")


def tell(work):
    """What comes of it, as JSON can hold it."""
    try:
        return {"value": work()}
    except (Exception, KeyboardInterrupt) as error:
        return {"raised": type(error).__name__, "text": str(error)}


def _fails(rank):
    raise OSError(f"process {rank} has no disk")


def scalars_and_texts(rank):
    """Team itself."""
    with assembled(torch.device("cpu")) as team:
        found = {
            "shared": list(team.scalars(lambda x: x / 3, [1, 2, 3])),
            "none for one": list(team.scalars(float, [7])),
            "not finite": [str(x) for x in team.scalars(float, [1, "nan", "inf"])],
            "sums": team.sums(lambda: [0.1 * (rank + 1), 1e17], 2),
            "results": team.results(lambda x: [x, f"ü{x / 3}"], [1, 2, 3]),
            "from first": team.from_first(lambda: {"rank": rank}),
            "failed share": tell(lambda: list(team.scalars(lambda x: _fails(rank) if x else 0.0, [0, 1]))),
            "failed first": tell(lambda: team.from_first(lambda: _fails(rank))),
            "failed both": tell(lambda: team.together(lambda: _fails(rank))),
            "nobody stops": team.stop(),
        }
        team.stop_request = lambda: "SIGUSR1" if rank else None
        found["one stops"] = team.stop()
        found["stops within"] = tell(lambda: team.results(str, [1, 2, 3]))
        found["same"] = tell(lambda: team.check_same("words", lambda: "a"))
        found["not same"] = tell(lambda: team.check_same("words", lambda: "ab"[rank]))
    return found


def no_word(rank, runs):
    return tell(lambda: alone(runs, *SHORT))


def queries(rank, runs):
    return alone(runs, *SHORT, "parallel=queries")["bytes_per_step"]


def in_place(rank, runs):
    return tell(lambda: alone(runs, *SHORT, "method.mode=in_place", "parallel=queries"))


def first_order(rank, runs):
    return tell(lambda: alone(runs, *RUN, "method=adamw", "steps=2", "parallel=data"))


def diverged_then_again(rank, runs):
    overrides = (*SHORT, "method.lr=1e30", "parallel=queries")
    return [alone(runs, *overrides)["reason"], alone(runs, *overrides)["reason"]]


def other_weights(rank, runs):
    """A bit of the second process's weights flips at step 6; evaluations are after steps 4 and 8."""
    step = Method.step

    def flipping(self, closure):
        if rank == 1 and self.t == 6:
            self.slots[3].param.view(torch.int32).view(-1)[5] ^= 1 << 10
        return step(self, closure)

    with patch.object(Method, "step", flipping):
        return tell(lambda: alone(runs, *SHORT, "parallel=queries"))


def stopped_in_an_evaluation(rank, runs):
    """A signal to the second process alone, in its first batch of the dev evaluation after step 4."""
    scores, step, steps = Objective.relative_scores, Method.step, []

    def counted(self, closure):
        steps.append(self.t + 1)
        return step(self, closure)

    def interrupted(self, batch):
        if rank == 1 and steps[-1:] == [4]:
            steps.append(0)
            os.kill(os.getpid(), signal.SIGTERM)
        return scores(self, batch)

    with patch.object(Objective, "relative_scores", interrupted), patch.object(Method, "step", counted):
        return tell(lambda: alone(runs, *SHORT, "parallel=queries"))


def shards(rank, runs):
    return alone(runs, *MEZO, "parallel=data")["weights_checksum"]


def shards_stopped(rank, runs):
    """A signal to the second process alone, in step 8; then they go on."""
    step = Method.step

    def interrupted(self, closure):
        if rank == 1 and self.t == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, closure)

    with patch.object(Method, "step", interrupted):
        stopped = tell(lambda: alone(runs, *MEZO, "parallel=data"))
    if rank == 0:
        stopped["reason"] = summary_of(directory_of(runs))["reason"]
    return [stopped, alone(runs, *MEZO, "parallel=data")["weights_checksum"]]


def few_examples(rank, runs):
    """The second process has no example of a batch."""
    overrides = (*RUN, "batch_size=1", "method.mode=exact", "method.lr=1e-3", "steps=6", "parallel=data")
    return alone(runs, *overrides)["weights_checksum"]


def examples(rank, runs, *how):
    """A method that asks for the losses of the examples; the second process stops in step 4, and they go on."""
    step = Method.step

    def interrupted(self, closure):
        if rank == 1 and self.t == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, closure)

    overrides = (*RUN, "method.mode=exact", "method.lr=1e-4", "steps=6", "eval_every=3", *how)
    with patch.object(MeZO, "update", by_example):
        with patch.object(Method, "step", interrupted):
            tell(lambda: alone(runs, *overrides))
        return alone(runs, *overrides)["weights_checksum"]


def examples_of_queries(rank, runs):
    return examples(rank, runs, "parallel=queries")


def examples_of_shards(rank, runs):
    return examples(rank, runs, "parallel=data")


def stacked_queries(rank, runs):
    return alone(runs, *STACKED, "parallel=queries")["bytes_per_step"]


def stacked_shards(rank, runs):
    return alone(runs, *STACKED, "parallel=data")["weights_checksum"]


def activations(rank, runs):
    """Directions from activations: of a batch in shards, and of a loss that one process evaluates."""
    found = []
    for parallel in ("data", "queries"):
        found.append(alone(runs / parallel, *AGZO, f"parallel={parallel}")["weights_checksum"])
    return found


def left_alone(rank):
    """The second process ends without a word."""
    with assembled(torch.device("cpu"), timedelta(seconds=20)) as team:
        team.stop()
        if rank:
            os._exit(9)
        begun = time.monotonic()
        return [tell(team.stop), time.monotonic() - begun]


STORIES = (
    no_word, queries, in_place, first_order, diverged_then_again, other_weights, stopped_in_an_evaluation, shards,
    shards_stopped, few_examples, examples_of_queries, examples_of_shards,
    stacked_queries, stacked_shards, activations,
)  # fmt: skip


def member(rank, ports, folder):
    """Each story has a port of its own: a process that is early would meet the last story's store as it closes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[-1])}
    torch.set_num_threads(1)
    keep_imports()
    found = {"scalars_and_texts": scalars_and_texts(rank)}
    for story, port in zip(STORIES, ports, strict=False):
        os.environ["MASTER_PORT"] = str(port)
        found[story.__name__] = story(rank, folder / story.__name__)
    if rank:  # it does not come back from the last one
        (folder / "1.json").write_text(json.dumps(found))
    os.environ["MASTER_PORT"] = str(ports[len(STORIES)])
    found["left_alone"] = left_alone(rank)
    (folder / "0.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """(what each process tells of each story, the folder with their runs)."""
    folder = tmp_path_factory.mktemp("stories")
    ports = [free_port() for _ in range(len(STORIES) + 2)]
    members = [SERVER.Process(target=member, args=(rank, ports, folder)) for rank in (0, 1)]
    for process in members:
        process.start()
    for process in members:
        process.join(timeout=240)
        if process.is_alive():
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)], folder


def test_scalars_and_texts(stories):
    first, second = (told["scalars_and_texts"] for told in stories[0])
    own = ("failed share", "failed first", "failed both")
    assert {k: v for k, v in first.items() if k not in own} == {k: v for k, v in second.items() if k not in own}
    assert first["shared"] == [1 / 3, 2 / 3, 1.0]
    assert first["none for one"] == [7.0]
    assert first["not finite"] == ["1.0", "nan", "inf"]
    assert first["sums"] == [0.1 + 0.2, 2e17]
    assert first["results"] == [[1, f"ü{1 / 3}"], [2, f"ü{2 / 3}"], [3, "ü1.0"]]
    assert first["from first"] == {"rank": 0}
    assert second["failed share"] == {"raised": "OSError", "text": "process 1 has no disk"}
    assert first["failed share"] == {"raised": "TeamError", "text": "process 1 of 2: OSError: process 1 has no disk"}
    assert first["failed first"] == {"raised": "OSError", "text": "process 0 has no disk"}
    assert second["failed first"] == {"raised": "TeamError", "text": "process 0 of 2: OSError: process 0 has no disk"}
    assert [told["failed both"]["raised"] for told in (first, second)] == ["OSError", "OSError"]
    assert (first["nobody stops"], first["one stops"]) == (None, "SIGUSR1")
    assert first["stops within"] == {"raised": "KeyboardInterrupt", "text": "SIGUSR1"}
    assert first["same"] == {"value": None}
    assert first["not same"]["raised"] == TeamError.__name__
    assert first["not same"]["text"] == "words differ: process 1 of 2 has others than process 0"


def test_they_need_a_word_on_what_to_do(stories):
    told, folder = stories
    for each in told:
        assert each["no_word"]["raised"] == ConfigError.__name__
        assert each["no_word"]["text"].startswith("parallel=null: 2 processes were started; choose parallel=queries")
    assert not (folder / "no_word").exists()


def test_queries_give_the_bits_of_one_process(stories, tmp_path):
    told, folder = stories
    reference = alone(tmp_path, *SHORT)
    row = summary_of(directory_of(folder / "queries"))
    assert_same_bits(row, reference)
    assert (row["processes"], row["parallel"]) == (2, "queries")
    assert (reference["processes"], reference["parallel"], reference["bytes_per_step"]) == (1, None, 0)
    # In each of 12 steps, from both: a status and 3 of the 5 losses. Before each, and twice after the last: a status
    # and the number of a signal.
    assert row["bytes_per_step"] == told[0]["queries"] == told[1]["queries"]
    assert row["bytes_per_step"] == 2 * 8 * (12 * (1 + 3) + 14 * (1 + 1)) / 12


def test_shards_give_the_losses_of_one_process_to_rounding(stories, tmp_path):
    told, folder = stories
    reference, row = alone(tmp_path, *MEZO), summary_of(directory_of(folder / "shards"))
    for mine, theirs in zip(series(Path(row["directory"])), series(Path(reference["directory"])), strict=True):
        assert [x[:2] for x in mine] == [x[:2] for x in theirs]
        assert [x[2] for x in mine] == pytest.approx([x[2] for x in theirs], rel=2e-6)
    for key in ("forwards", "examples_seen", "tokens_seen"):
        assert row[key] == reference[key], key
    assert (row["processes"], row["parallel"]) == (2, "data")
    assert told[0]["shards"] == told[1]["shards"] == row["weights_checksum"] != reference["weights_checksum"]


def test_shards_go_on_where_they_were_stopped(stories):
    told, folder = stories
    for stopped, checksum in (each["shards_stopped"] for each in told):
        assert stopped["raised"] == "KeyboardInterrupt"
        assert checksum == told[0]["shards"]
    assert told[0]["shards_stopped"][0]["reason"] == "SIGTERM after step 8 of 20"
    assert_same_bits(*(summary_of(directory_of(folder / name)) for name in ("shards_stopped", "shards")))


def test_shards_do_not_go_on_as_one_process(tmp_path):
    """Nor one process as shards: another number of partial sums rounds otherwise."""
    shards = Processes(0, 2, torch.device("cpu"))
    check_shards({"shards": 2}, shards, tmp_path)
    check_shards({}, Team(), tmp_path)
    with pytest.raises(ConfigError, match="written by 2 data-parallel processes; a run without parallel=data would"):
        check_shards({"shards": 2}, Team(), tmp_path)
    with pytest.raises(ConfigError, match="written by a run without parallel=data; 2 data-parallel processes would"):
        check_shards({"shards": 1}, shards, tmp_path)


def test_a_walk_would_drift_apart(stories):
    for told in stories[0]:
        assert told["in_place"]["raised"] == ConfigError.__name__
        assert "parallel=queries needs method.mode=exact" in told["in_place"]["text"]


def test_gradients_do_not_cross(stories):
    for told in stories[0]:
        assert told["first_order"]["raised"] == ConfigError.__name__
        assert "first-order" in told["first_order"]["text"]


def test_all_diverge_as_one_process_does(stories, tmp_path):
    reference = alone(tmp_path, *SHORT, "method.lr=1e30")
    assert reference["state"] == "diverged"
    told, folder = stories
    for each in told:  # the second time they find it diverged already
        assert each["diverged_then_again"] == [reference["reason"]] * 2
    row = summary_of(directory_of(folder / "diverged_then_again"))
    assert {k: row[k] for k in ("steps", "forwards")} == {k: reference[k] for k in ("steps", "forwards")}


def test_weights_that_differ_are_found_out(stories):
    told, folder = stories
    said = "the weights after step 8 differ: process 1 of 2 has others than process 0"
    for each in told:
        assert each["other_weights"] == {"raised": UserError.__name__, "text": said}
    row = summary_of(directory_of(folder / "other_weights"))
    assert (row["state"], row["reason"]) == ("failed", f"TeamError: {said}")


def test_a_signal_to_one_process_in_an_evaluation_stops_all(stories, tmp_path):
    told, folder = stories
    for each in told:
        assert each["stopped_in_an_evaluation"]["raised"] == "KeyboardInterrupt"
    runs = folder / "stopped_in_an_evaluation"
    row = summary_of(directory_of(runs))
    assert (row["state"], row["reason"]) == ("interrupted", "SIGTERM after step 4 of 12")
    # One process goes on with what two began, to the bits of a run that nobody stopped.
    assert_same_bits(*(alone(where, *SHORT) for where in (runs, tmp_path)))


def test_a_process_without_examples_keeps_step(stories, tmp_path):
    told, folder = stories
    assert told[0]["few_examples"] == told[1]["few_examples"]
    reference = alone(tmp_path, *RUN, "batch_size=1", "method.mode=exact", "method.lr=1e-3", "steps=6")
    assert told[0]["few_examples"] == reference["weights_checksum"]
    assert summary_of(directory_of(folder / "few_examples"))["tokens_seen"] == reference["tokens_seen"]


def _flat(steps):
    return [loss for step in steps for losses in step for loss in losses]


def test_losses_of_examples_are_gathered(stories, tmp_path):
    """Each process's share of the offsets, or of the batch: whole lists cross, in the order of the batch."""
    told, folder = stories
    with patch.object(MeZO, "update", by_example):
        reference = alone(tmp_path, *RUN, "method.mode=exact", "method.lr=1e-4", "steps=6", "eval_every=3")
    expected = [line[1:-1] for line in lines_of(reference["directory"], "trajectory.jsonl")[1:]]
    for story in ("examples_of_queries", "examples_of_shards"):
        assert told[0][story] == told[1][story]
        row = summary_of(directory_of(folder / story))
        assert (row["forwards"], row["tokens_seen"]) == (reference["forwards"], reference["tokens_seen"])
        steps = [line[1:-1] for line in lines_of(row["directory"], "trajectory.jsonl") if type(line) is list]
        if story == "examples_of_queries":
            assert steps == expected
        assert _flat(steps) == pytest.approx(_flat(expected), rel=2e-6)
    assert told[0]["examples_of_queries"] == reference["weights_checksum"]


def test_stacks_give_the_bits_of_one_process(stories, tmp_path):
    told, folder = stories
    reference = alone(tmp_path, *STACKED)
    assert_same_bits(summary_of(directory_of(folder / "stacked_queries")), reference)
    # In each of 6 steps, from both: a status, and as many numbers as the larger share has, the stack of four.
    assert told[0]["stacked_queries"] == told[1]["stacked_queries"] == 2 * 8 * (6 * (1 + 4) + 8 * (1 + 1)) / 6
    assert told[0]["stacked_shards"] == told[1]["stacked_shards"]
    row = summary_of(directory_of(folder / "stacked_shards"))
    assert row["forwards"] == reference["forwards"] == 36
    assert row["tokens_seen"] == reference["tokens_seen"]
    mine, theirs = (lines_of(each["directory"], "trajectory.jsonl")[1:] for each in (row, reference))
    for one, other in zip(mine, theirs, strict=True):
        assert one[1:-1] == pytest.approx(other[1:-1], rel=1e-4)


def test_activations_are_summed_over_processes(stories, tmp_path):
    told, folder = stories
    assert told[0]["activations"] == told[1]["activations"]
    reference = alone(tmp_path, *AGZO)
    data, queries = (summary_of(directory_of(folder / "activations" / name)) for name in ("data", "queries"))
    assert queries["weights_checksum"] == reference["weights_checksum"]
    assert data["dev/loss"] == pytest.approx(reference["dev/loss"], rel=1e-4)
    assert data["weights_checksum"] != reference["weights_checksum"]


def test_who_is_left_alone_does_not_wait(stories):
    raised, seconds = stories[0][0]["left_alone"]
    assert raised["raised"] == TeamLost.__name__
    assert raised["text"].startswith("process 0 of 2 lost the others, of which one ended or hung; see its output.")
    assert seconds < 10
