"""A plan of cells is what Hydra's own composition gives, for every kind of override."""

import copy
import functools
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from zobench.config.folders import conf_dir
from zobench.config.labels import label_of
from zobench.config.signature import compose, register
from zobench.errors import ConfigError
from zobench.sweep import grids
from zobench.sweep.plan import PlannedCell, Planner, select
from zobench.sweep.remember import remembered


@functools.cache
def composed(overrides):
    return hydra_compose("config", overrides=list(overrides), return_hydra_config=True)


@pytest.fixture
def planner():
    """A planner over conf/, and how often it had Hydra compose: ``planner.loads``."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):

        def load(overrides):
            found.loads += 1
            return copy.deepcopy(composed(tuple(overrides)))

        found = Planner(load, [conf_dir()], config_loader=GlobalHydra.instance().config_loader())
        found.loads = 0
        yield found


def by_hydra(cell):
    """Where a run with the cell's overrides would write."""
    GlobalHydra.instance().clear()
    cfg = compose(*cell.overrides)
    return Path(cfg.runs_dir) / cfg.out


LINES = {
    "groups": ["method=mezo,loren task=rte,sst2 model=tiny-opt,opt-1.3b", 8],
    "nested keys": ["data=mini method=ldsd method.lr=1e-8,2e-8 method.lr_mu=0,1e-3 task.splits.mini.train=4,8", 8],
    "a group below a group": ["method=mezo method/rule=sgd,adam method.lr=1e-6,1e-7", 4],
    "a preset": ["experiment=compare_smollm2 data.dir=/d method=mezo,pgap seed=0,1", 4],
    "presets with sweeps of their own": ["experiment=grid_mezo,grid_kerzoo seed=0,1", 10],
    "a preset whose sweep is overridden": ["experiment=grid_mezo method.lr=3e-6,4e-6", 2],
    "lists": ["tuning=lora tuning.targets=[q_proj],[q_proj,k_proj],null tags=[a,b]", 3],
    "null": ["forwards=null,100 steps=null,5", 4],
    "seeds that follow another": ["seed=0,1 noise_seed=7,${order_seed} order_seed=3", 4],
    "a seed that does not": ["seed=0,1 data_seed=0,1 init_seed=5", 4],
    "ranges and quotes": ["seed=range(0,3) out='a/${signature:}','b/${seed}'", 6],
    "a whole node": ["lens={every:5},{every:6,draws:4} lens.gradient=false,true", 4],
    "added keys": ["+method.note=a,b seed=0", 2],
    "a key taken away": ["~method.warmup method=mezo,kerzoo", 2],
    "settings outside the signature": ["runs_dir=r1,r2 threads=1", 2],
    "one number in three ways": ["method.lr=1e-6,0.000001,1E-6,2e-6 wandb.project='1'", 2],
}


@pytest.mark.parametrize(("line", "count"), LINES.values(), ids=LINES)
def test_the_plan_is_hydras(planner, line, count):
    words = line.split()
    try:
        cells = planner.cells([words])
    except ConfigError as error:
        pytest.fail(str(error))
    assert len({cell.directory for cell in cells}) == len(cells) == count
    for cell in (cells[0], cells[-1]):
        assert cell.directory == by_hydra(cell), cell.overrides


SEARCHED = sorted(path.stem for path in (conf_dir() / "search").glob("*.yaml"))
#: grid → its cells, what else it needs to be planned, and the part of it that is planned here
SHIPPED = {
    "smoke": (12, [], 1), "small": (64, ["data.dir=/d"], 1), "ablations": (45, ["data.dir=/d"], 1),
    "lens": (10, ["data.dir=/d"], 1), "memory": (14, ["data.dir=/d"], 1),
    "tiny": (96, ["data.dir=/d", "model.dir=/m", "seed=0"], 3), "paper": (820, ["model=opt-1.3b", "task=rte"], 10),
    "first": (5 * len(SEARCHED), ["data.dir=/d", "model.dir=/m", "search.trials=1"], 5),
    "ledger": (732, ["model=opt-2.7b", "task=rte"], 12),
}  # fmt: skip


@pytest.mark.parametrize("name", grids.named())
def test_the_grids_that_ship_are_planned_as_hydra_does(planner, name):
    count, extra, part = SHIPPED[name]
    cells = planner.cells(grids.find(name).arguments(extra))
    assert len(cells) == count / part
    assert cells[-1].directory == by_hydra(cells[-1])


def test_hydra_composes_once_for_each_choice_of_options_not_for_each_cell(planner):
    line = "method=mezo,loren,kerzoo task=rte,sst2 model=tiny-opt method.lr=1e-6,1e-7 seed=0,1,2,3,4"
    assert len(planner.cells([line.split()])) == 60
    assert planner.loads == 3 * 2


def test_what_hydras_own_node_says_of_a_cell_is_the_cells_own(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\n# Says what was typed\ntags: ${hydra:overrides.task}\n"
    (tmp_path / "experiment" / "saying.yaml").write_text(text)
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        search = f"hydra.searchpath=[file://{tmp_path}]"
        load = lambda cell: hydra_compose("config", overrides=[search, *cell], return_hydra_config=True)  # noqa: E731
        cells = Planner(load, [conf_dir(), tmp_path]).cells([["experiment=saying", "seed=0,1"]])
    assert [cell.settings["tags"] for cell in cells] == [["experiment=saying", f"seed={seed}"] for seed in (0, 1)]


def test_an_interval_is_no_list_of_cells(planner):
    with pytest.raises(ConfigError, match=r"method.lr=interval\(0, 1\): a table takes lists and ranges"):
        planner.cells([["method=mezo", "method.lr=interval(0, 1)"]])


class Composing:
    """Plans of one cell, counted."""

    def __init__(self):
        self.made = 0
        self.label, self.model = "tiny-opt", {}

    def __call__(self):
        self.made += 1
        method, model = {"lr": 1e-6, "clip": None}, {"choices": {"model": self.label}, "model": self.model}
        return [PlannedCell(("seed=0",), 0, "0123abcd", {"seed": 0, "method": method, **model})]


def test_a_plan_is_remembered_as_long_as_lines_folders_and_hydras_overrides_are_the_same(tmp_path):
    option, composing = tmp_path / "method.yaml", Composing()
    option.write_text("lr: 1")

    def plan(line="seed=0", **more):
        cells = remembered([[line]], [tmp_path], composing, **more)
        assert cells == Composing()()
        return composing.made

    assert [plan(), plan(), plan("seed=1"), plan("seed=0")] == [1, 1, 2, 2]
    assert [plan(hydra=["hydra.verbose=true"]), plan()] == [3, 3]
    option.write_text("lr: 2")
    assert [plan(), plan()] == [4, 4]
    option.write_text("lr: 2\nhost: ${oc.env:HOST}")  # may be another the next time
    assert [plan(), plan()] == [5, 6]


def test_a_plan_is_made_anew_when_a_models_folder_holds_something_else(tmp_path):
    composing, weights = Composing(), tmp_path / "model.safetensors"
    composing.model = {"dir": str(tmp_path)}
    for content, made in ((b"one", 1), (b"one", 1), (b"other", 2)):
        weights.write_bytes(content)
        composing.label = label_of("local", composing.model)
        (cell,) = remembered([["seed=0"]], [], composing)
        assert (cell.choice("model"), composing.made) == (composing.label, made)


def test_a_plan_that_fails_is_not_remembered(tmp_path):
    def fails():
        raise ConfigError("seed=x")

    for _ in range(2):
        with pytest.raises(ConfigError):
            remembered([["seed=x"]], [tmp_path], fails)


def test_a_cell_in_two_lines_is_one_cell(planner):
    cells = planner.cells([["method=mezo", "seed=0,1"], ["method=mezo,kerzoo", "seed=1,2"]])
    assert [(cell.choice("method"), cell.get("seed")) for cell in cells] == [
        ("mezo", 0), ("mezo", 1), ("mezo", 2), ("kerzoo", 1), ("kerzoo", 2),
    ]  # fmt: skip


SHARING = {
    "out=z seed=0,1,2": "share r/z: seed=0 and seed=1; they differ in seed=0, now 1; leave out= away",
    "out=${choices.task} task=rte,sst2 method=mezo,loren": "share r/rte: method=mezo and method=loren; they differ",
    "out=z method.lr=1e-6,1e-5 seed=0": "method.lr=1e-06 and method.lr=1e-05; they differ in",
    "out=a,a/b/c seed=0": "out=a and out=a/b/c; r/a/b/c lies within r/a",
}


@pytest.mark.parametrize("line", SHARING)
def test_cells_that_would_share_a_directory_are_refused(planner, line):
    with pytest.raises(ConfigError, match="two cells of the sweep would share") as error:
        planner.cells([["runs_dir=r", *line.split()]])
    assert SHARING[line] in str(error.value)
    assert "\n" not in str(error.value)


def test_two_settings_of_one_name_are_two_cells(planner, monkeypatch):
    """A name has 32 bits; here all settings have one."""
    monkeypatch.setattr("zobench.sweep.plan.digest", lambda settings: "0123abcd")
    monkeypatch.setattr("zobench.config.signature.digest", lambda settings: "0123abcd")
    with pytest.raises(ConfigError, match=r"would share .*0123abcd: seed=0 and seed=1; they differ in seed=0, now 1"):
        planner.cells([["seed=0,1"]])
    assert len(planner.cells([["seed=0,0", "tags=[a],[b]"]])) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("method=mezoo seed=0,1", "did you mean method=mezo?"),
        ("method=mezo,loren method.epss=1", "did you mean method.eps?"),
        ("method=mezo,loren method.rho=1", "method.rho"),
        ("seed=0,-1", "seed=-1: expected an integer of at least 0"),
        ("method.lr=1e-6,fast", "method.lr=fast: expected a number"),
        ("seed=[0", "seed=[0"),
        ("data=local", "data.dir=DIR"),
    ],
)
def test_an_error_names_the_line(planner, line, said):
    with pytest.raises(ConfigError) as error:
        planner.cells([["method=mezo"], line.split()])
    assert f"line 2, {line}:\n" in str(error.value)
    assert said in str(error.value)


def test_select_keeps_cells_by_group_and_by_setting(planner):
    cells = planner.cells([["method=mezo,loren", "method.lr=1e-6,1e-7", "seed=0,1"]])
    assert len(select(cells, ["method=loren", "method.lr=1e-6"])) == 2
    assert len(select(cells, ["seed=0,1"])) == 8
    for wrong in ("method=pgap", "sed=0", "method"):
        with pytest.raises(ConfigError):
            select(cells, [wrong])


def test_a_grid_is_found_by_name_or_path_and_a_wrong_one_is_answered(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("# My table\ncommon: steps=3\nlines:\n  - method=mezo seed=0,1\n")
    grid = grids.find(str(own))
    assert (grid.description, grid.arguments(["seed=5"])) == (
        "My table", [["steps=3", "method=mezo", "seed=0,1", "seed=5"]],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean smoke"):
        grids.find("smok")
    for text, said in (("a: [", "not YAML"), ("common: x", "needs lines"), ("lines: [3]", "expected text")):
        own.write_text(text)
        with pytest.raises(ConfigError, match=said):
            grids.find(str(own))
