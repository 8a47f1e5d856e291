"""Pictures: what a method looks like in all of them, and what noise may not draw."""

import html
import itertools
import json
import re

import numpy as np
import pytest
from helpers.written import write_run

from zobench import report
from zobench.config.folders import conf_dir
from zobench.report.compare.board import make_board
from zobench.report.compare.front import supported_front
from zobench.report.pictures.colours import METHODS, styles
from zobench.report.pictures.comparison import JOINED, pareto_picture

NAMES = (r"$x_{", r"a$b$c", r"\frac{1}", "<b>&", "^_^", "$")


def test_a_method_looks_the_same_whatever_stands_beside_it():
    assert set(METHODS) == {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
    alone = {name: styles([name])[name] for name in METHODS}
    assert len({(style.colour, str(style.dash), style.marker) for style in alone.values()}) == len(METHODS)
    assert len({style.colour for style in (alone[name] for name in METHODS[:8])}) == 8
    for some in itertools.combinations(METHODS[:12], 3):
        assert styles([*some, "mine", "ldsd (lr_mu=0)"]).items() >= {name: alone[name] for name in some}.items()
    rows = ["ldsd", "ldsd (lr_mu=0)", "ldsd (probes=2)", "ldsd (probes=3)"]
    found = styles(rows)
    assert len({found[row].colour for row in rows}) == 1
    assert len({(str(found[row].dash), found[row].marker, found[row].filled) for row in rows}) == len(rows)
    assert styles(["mine"]) == {"mine": styles(["other", "mine"])["mine"]}


def test_any_name_is_drawn_as_it_is_written(tmp_path):
    for i, name in enumerate(NAMES):
        directory = write_run(tmp_path / "runs", "mezo", i)
        path = directory / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"method": name}))
    frame = report.load(tmp_path / "runs")
    for draw in (report.draw_curves, report.draw_pareto, report.draw_times, report.draw_heatmap):
        drawn = draw(frame, tmp_path / "drawn.svg")[0].read_text()
        assert all(f">{html.escape(name, quote=False)}<" in drawn for name in NAMES)
    assert "<svg" in report.page(frame)


def front(folder, rows):
    """The front over time of rows: method -> (hours, test metric of each seed); and which of them a line joins."""
    for method, (hours, scores) in rows.items():
        for seed, score in enumerate(scores):
            write_run(folder, method, seed, test=score, cpu_hours=hours + seed / 1e6, **{"test/n": 10_000})
    board = make_board(report.load(folder))
    points = board.frame.assign(time=board.frame["cpu_hours"], time_std=board.frame["cpu_hours_std"])
    ringed, joined = supported_front(board, board.slices[0], points, "time")
    drawn = [
        line for panel in pareto_picture(board).figure().axes for line in panel.get_lines() if line.get_gid() == JOINED
    ]
    assert len(drawn) == len(joined)  # over time; memory is not on record
    return [row["row"] for row in ringed], [(row["row"], dearer["row"]) for row, dearer in joined]


NOISE = (0.70, 0.75, 0.65)
BETTER = tuple(score + 0.1 + i / 1000 for i, score in enumerate(NOISE))
BEST = tuple(score + 0.2 + i / 500 for i, score in enumerate(NOISE))


def test_a_front_holds_and_joins_only_what_the_tests_support(tmp_path):
    rows = {"mezo": (0.01, NOISE), "loren": (0.02, (0.71, 0.74, 0.66)), "ldsd": (0.03, BETTER), "pgap": (0.04, BEST)}
    ringed, joined = front(tmp_path, rows)
    assert ringed == ["mezo", "ldsd", "pgap"]  # loren's mean is higher than mezo's, within noise
    assert joined == [("mezo", "ldsd"), ("ldsd", "pgap")]


def test_no_line_joins_rows_within_noise(tmp_path):
    """Neither of equal cost nor of results that the tests cannot tell apart."""
    alike = (0.71, 0.74, 0.66)
    assert front(tmp_path / "a", {"mezo": (0.01, NOISE), "loren": (0.01, alike)}) == (["mezo", "loren"], [])
    assert front(tmp_path / "b", {"mezo": (0.01, NOISE), "loren": (0.02, alike)}) == (["mezo"], [])


def test_of_equal_costs_the_worse_is_not_on_the_front(tmp_path):
    assert front(tmp_path, {"mezo": (0.01, BETTER), "kerzoo": (0.01, NOISE)}) == (["mezo"], [])


def test_each_column_of_the_heat_map_has_a_scale_of_its_own(tmp_path):
    """A task on which all are near chance shows its differences beside one on which all are near 1."""
    for (task, level), (method, gain) in itertools.product(
        (("rte", 0.5), ("sst2", 0.9)), (("mezo", 0), ("ldsd", 0.01))
    ):
        write_run(tmp_path / "runs", method, task=task, test=level + gain)
    report.draw_heatmap(report.load(tmp_path / "runs"), tmp_path / "map.png")
    from PIL import Image

    pixels = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).reshape(-1, 3)
    dark, light = (0, 34, 78), (254, 232, 56)  # the ends of cividis
    counts = [(np.abs(pixels.astype(int) - end).sum(axis=1) < 12).sum() for end in (dark, light)]
    assert min(counts) > 0.8 * max(counts) > 1000  # a cell of each end in both columns, and no others


@pytest.mark.parametrize(("rows", "side_by_side"), [(3, False), (10, True)])
def test_many_rows_of_the_lens_stand_side_by_side(tmp_path, rows, side_by_side):
    for i in range(rows):
        directory = write_run(tmp_path / "runs", "ldsd", **{"method.lr_mu": i})
        with (directory / "metrics.jsonl").open("a") as file:
            for forwards in (0, 100):
                file.write(json.dumps({"step": forwards, "forwards": forwards, "lens/cosine": 0.1 + i / 100}) + "\n")
    drawn = report.draw_lens(report.load(tmp_path / "runs"), tmp_path / "lens.svg")[0].read_text()
    assert ("Dots: looks along the run" in drawn) == side_by_side
    assert len(re.findall(r">ldsd", drawn)) >= rows  # each is named beside its line, or in the legend
