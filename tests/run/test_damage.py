"""A stopped run whose files were damaged ends as the undisturbed one, or refuses in one line; never otherwise."""

import json
import os
import shutil
from functools import cache

import pytest
from helpers.damage import rewritten
from helpers.stopped import KINDS, copied, facts, go_on, stopped, whole
from helpers.tiny_runs import summary_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zobench.errors import DataError
from zobench.record import checkpoint
from zobench.run.progress import Checkpoints

#: of each kind of run; some hundreds take minutes
EXAMPLES = int(os.environ.get("DAMAGE_EXAMPLES", "4"))
ARTEFACTS = (
    "metrics.jsonl", "trajectory.jsonl", "checkpoint/state.json", "checkpoint/best-*",
    "checkpoint/step-*/weights.safetensors", "checkpoint/step-*/method.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``made(name)``: (name, settings, facts of the undisturbed run, directory of the stopped one) of a kind of run."""

    @cache
    def make(name):
        reference = whole(tmp_path_factory.mktemp("whole"), *KINDS[name])
        directory = stopped(tmp_path_factory.mktemp("stopped"), *KINDS[name])
        return name, KINDS[name], facts(summary_of(reference), reference), directory

    return make


@pytest.fixture(params=KINDS)
def kind(request, made):
    return made(request.param)


@pytest.fixture
def stopped_run(made):
    return made("trajectory")


#: what a state.json held before it had digests
OLDER = (
    "step", "progress", "clocks", "device", "rows_hash", "base_checksum", "model_checksum", "shards", "peak",
)  # fmt: skip


def artefact(directory, pattern):
    found = sorted(directory.glob(pattern))
    return found[-1] if found else None


def after(damage, kind, folder):
    """What comes of a run that goes on after a damage: ``equal``, or its refusal."""
    _, options, reference, directory = kind
    copy = copied(directory, folder)
    damage(copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    row = go_on(folder, *options)
    if isinstance(row, str):
        for path in set(before) - {copy / "summary.json", copy / "config.yaml", copy / "environment.json"}:
            assert path.read_bytes() == before[path], f"{path.name} was changed by a command that refused"
        return row
    assert facts(row, copy) == reference
    return "equal"


OPERATIONS = st.sampled_from(["flip", "flip", "truncate", "zero", "insert", "remove", "double", "empty"])


@given(data=st.data())
@settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_whatever_bytes_are_damaged(kind, tmp_path_factory, data):
    there = [pattern for pattern in ARTEFACTS if artefact(kind[3], pattern)]
    pattern = data.draw(st.sampled_from(there))
    operation = data.draw(OPERATIONS)
    where, bit = data.draw(st.floats(0, 1, exclude_max=True)), data.draw(st.integers(0, 7))

    def damage(copy):
        path = artefact(copy, pattern)
        content = bytearray(path.read_bytes())
        at = int(where * len(content))
        if operation == "remove":
            path.unlink()
            return
        if operation == "flip" and content:
            content[at] ^= 1 << bit
        path.write_bytes(
            {
                "flip": content, "truncate": content[:at], "zero": content[:at] + bytes(len(content) - at),
                "insert": content[:at] + b"7" + content[at:], "double": content + content, "empty": b"",
            }[operation]
        )  # fmt: skip

    outcome = after(damage, kind, tmp_path_factory.mktemp("damaged"))
    assert outcome == "equal" or "overwrite=true" in outcome


def broadcast(tensors):
    name = next(name for name in sorted(tensors) if tensors[name].dim() == 1)
    tensors[name] = tensors[name][:1].clone()


WEIGHTS = {
    "bit": lambda path: path.write_bytes(path.read_bytes()[:-5] + b"\x01" + path.read_bytes()[-4:]),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "lacking": lambda path: rewritten(path, lambda tensors: tensors.pop(min(tensors))),
    "broadcast": lambda path: rewritten(path, broadcast),
    "dtype": lambda path: rewritten(path, lambda tensors: tensors.update({k: v.double() for k, v in tensors.items()})),
}


@pytest.mark.parametrize("damage", WEIGHTS.values(), ids=WEIGHTS)
def test_damaged_weights_are_made_again_from_losses_alone(kind, tmp_path, capsys, damage):
    """Best weights and snapshots, in any run that has losses; a run by gradients refuses."""
    name, _, _, directory = kind
    for number, pattern in enumerate(("checkpoint/best-*", "checkpoint/step-*/weights.safetensors")):
        if not artefact(directory, pattern):
            continue
        folder = tmp_path / str(number)
        outcome = after(lambda copy, pattern=pattern: damage(artefact(copy, pattern)), kind, folder)
        assert (outcome == "equal") == (name != "first-order")
        assert name == "first-order" or "the trajectory" in capsys.readouterr().out


def lines(name, change):
    def damage(copy):
        content = (copy / name).read_text().splitlines(keepends=True)
        (copy / name).write_text("".join(change(content)))

    return damage


def loss_moved(by):
    def change(content):
        line = json.loads(content[5])
        line[1] += by
        return [*content[:5], json.dumps(line, separators=(",", ":")) + "\n", *content[6:]]

    return change


LINES = {
    "cut": lambda content: content[:5],
    "one gone": lambda content: [*content[:5], *content[6:]],
    "doubled": lambda content: [*content[:6], *content[5:]],
    "swapped": lambda content: [*content[:5], content[6], content[5], *content[7:]],
    **{text: lambda content, text=text: [*content[:5], f"{text}\n", *content[6:]] for text in ("5", "null", "[]", "x")},
}
TRAJECTORY = LINES | {f"loss + {by}": loss_moved(by) for by in (1e-6, 0.1, float("nan"))}


@pytest.mark.parametrize(
    ("name", "change"),
    [(n, change) for n, changes in (("metrics", LINES), ("trajectory", TRAJECTORY)) for change in changes.values()],
    ids=[f"{n}: {what}" for n, changes in (("metrics", LINES), ("trajectory", TRAJECTORY)) for what in changes],
)
def test_damaged_lines_are_made_again(stopped_run, tmp_path, capsys, name, change):
    assert after(lines(f"{name}.jsonl", change), stopped_run, tmp_path) == "equal"
    assert f"{name}.jsonl: " in capsys.readouterr().out
    (summary,) = tmp_path.glob("*/*/*/*/summary.json")
    assert f"{name}.jsonl" in summary_of(summary.parent)["remade"]


STATES = [
    "", "{}", "[]", "null", "5", "NaN", '{"step": 1', "[" * 100_000, "\x00" * 50, '{"digest": "0123456789abcdef"}',
    "\ud800",
]  # fmt: skip
VALUES = [
    {"step": None}, {"step": "7"}, {"step": 10**30}, {"step": -1}, {"step": 3}, {"step": float("nan")}, {"x": 1},
    {"progress": None}, {"clocks": []}, {"shards": "x"}, {"files": None}, {"snapshot": 5},
]  # fmt: skip


@pytest.mark.parametrize("content", [*STATES, *VALUES], ids=lambda content: ascii(content)[:20])
@pytest.mark.parametrize("digest", [True, False], ids=["with digest", "without"])
def test_a_damaged_state_is_not_read(stopped_run, tmp_path, content, digest):
    path = tmp_path / "state.json"
    if isinstance(content, dict):
        known = json.loads((stopped_run[3] / "checkpoint" / "state.json").read_text())
        if not digest:  # as of an earlier version
            known = {name: known[name] for name in known if name not in ("files", "snapshot", "digest")}
            if content.get("step") == 3 or "files" in content:
                pytest.skip("nothing tells that it is damaged")
        content = json.dumps(known | content)
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(DataError, match=r"state\.json: "):
        checkpoint.load(tmp_path)


def test_a_run_without_its_state_begins_again_from_the_losses(kind, tmp_path, capsys):
    outcome = after(lambda copy: (copy / "checkpoint" / "state.json").write_text("{"), kind, tmp_path)
    if kind[0] == "first-order":
        assert "overwrite=true" in outcome
    else:
        assert outcome == "equal"
        assert "with the losses of the first 9 steps" in capsys.readouterr().out


def test_what_is_not_a_snapshot_is_let_alone(kind, tmp_path):
    def damage(copy):
        for name in ("step-foo", "step-", "step-00000005x", "step-99999999999999999999"):
            (copy / "checkpoint" / name).mkdir()

    assert after(damage, kind, tmp_path) == "equal"


def test_losses_of_another_run_are_not_taken(stopped_run, tmp_path):
    """Without its checkpoint, a trajectory must say that it is of this run."""
    kind = stopped_run
    copy = copied(kind[3], tmp_path)
    shutil.rmtree(copy / "checkpoint")
    other = stopped(tmp_path / "other", *KINDS["trajectory"], "seed=1")
    shutil.copy(other / "trajectory.jsonl", copy)
    row = go_on(tmp_path, *kind[1])
    assert facts(row, copy) == kind[2]
    again = copied(kind[3], tmp_path / "again")
    (again / "checkpoint" / "state.json").write_text("{")
    shutil.copy(other / "trajectory.jsonl", again)
    assert "does not say that it is of this run" in go_on(tmp_path / "again", *kind[1])


def test_a_checkpoint_of_an_earlier_version_goes_on_and_is_said_to_be_unverified(kind, tmp_path, capsys):
    """As it was written without digests: state, trajectory, weights."""
    _, options, reference, directory = kind
    copy = copied(directory, tmp_path)
    path = copy / "checkpoint" / "state.json"
    state = {k: v for k, v in json.loads(path.read_text()).items() if k in OLDER}
    state["progress"] = {k: v for k, v in state["progress"].items() if k not in ("best_checksum", "remade")}
    path.write_text(json.dumps(state))
    older(copy / "trajectory.jsonl")
    for weights in copy.rglob("*.safetensors"):
        with safe_open(weights, "pt") as file:
            values = file.metadata()["values"]
        save_file(load_file(weights), weights)
        if weights.name == "method.safetensors":
            (weights.parent / "method.json").write_text(values)
    row = go_on(tmp_path, *options)
    assert facts(row, copy)[:2] == reference[:2]
    assert "what is read is not verified" in capsys.readouterr().out
    assert row["remade"] is None


@pytest.mark.parametrize("step", [3, 8, 10])
def test_a_checkpoint_of_an_earlier_version_at_another_step_is_noticed(stopped_run, tmp_path, step):
    copy = copied(stopped_run[3], tmp_path)
    path = copy / "checkpoint" / "state.json"
    state = {k: v for k, v in json.loads(path.read_text()).items() if k in OLDER} | {"step": step}
    path.write_text(json.dumps(state))
    older(copy / "trajectory.jsonl")
    assert "overwrite=true" in go_on(tmp_path, *stopped_run[1])


def older(path):
    content = path.read_text().splitlines()
    if content:
        head, *steps = map(json.loads, content)
        lines = ({"missed": head["missed"]}, *(step[:-1] for step in steps))
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def test_weights_that_are_damaged_before_they_are_used_stop_the_run_which_then_makes_them_again(
    kind, tmp_path, monkeypatch
):
    name, options, reference, directory = kind
    copied(directory, tmp_path)
    load = checkpoint.load_best

    def damaged(folder, step, *arguments):
        if step == reference[0]["best_step"]:
            checkpoint.best_path(folder, step).write_bytes(b"")
        return load(folder, step, *arguments)

    restore = Checkpoints.restore_best

    def restoring(self, progress):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "load_best", damaged)
            restore(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "restore_best", restoring)
        refused = go_on(tmp_path, *options)
    todo = "start again with overwrite=true" if name == "first-order" else "the same command makes it again"
    assert todo in refused
    if name != "first-order":
        row = go_on(tmp_path, *options)
        (copy,) = tmp_path.glob("*/*/*/*")
        assert facts(row, copy) == reference
