"""Pictures: what a method looks like in all of them, and what noise may not draw."""

import html
import itertools
import json
import re

import numpy as np
import pytest
from helpers.written import write_run
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from zobench import report
from zobench.config.folders import conf_dir
from zobench.report.compare.board import make_board
from zobench.report.compare.front import supported_front
from zobench.report.pictures.colours import METHODS, colour_of, styles
from zobench.report.pictures.comparison import JOINED, heatmap_picture, pareto_picture, times_picture
from zobench.report.pictures.curves import curves_picture, lens_picture
from zobench.report.pictures.names import names_of
from zobench.report.pictures.picture import GREY, PALE

NAMES = (r"$x_{", r"a$b$c", r"\frac{1}", "<b>&", "^_^", "$")


def test_a_method_looks_the_same_whatever_stands_beside_it():
    assert set(METHODS) <= {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
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
    panels = pareto_picture(board).figure().axes
    drawn = [line for panel in panels for line in panel.get_lines() if line.get_label() == JOINED]
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


ROWS = [
    *((method, {}) for method in ("mezo", "loren", "ldsd", "kerzoo", "pgap", "hizoo", "mine")),
    ("ldsd", {"method.lr_mu": 0.0}), ("ldsd", {"method.lr_mu": 0.5}), ("loren", {"method.variant": "iso_rloo"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Every kind of picture, of ten rows that lie close together."""
    folder = tmp_path_factory.mktemp("pictures")
    for (i, (method, settings)), task in itertools.product(enumerate(ROWS), ("rte", "sst2")):
        usual = {"method.lr_mu": 0.1 if method == "ldsd" else None, "method.variant": "paper"}
        costs = {"cpu_hours": 0.01 + i % 3 / 1000, "peak_gib": 1 + i % 2 / 100}
        directory = write_run(folder, method, task=task, test=0.7 + i % 5 / 200, **costs, **usual | settings)
        with (directory / "metrics.jsonl").open("a") as file:
            for at in (0, 100):
                looks = {"lens/cosine": 1e-4 * i, "lens/variance_per_forward": 1e7 + i}
                file.write(json.dumps({"step": at, "forwards": at, **looks}) + "\n")
    board = make_board(report.load(folder), ["method", "task"])
    sst2 = board.slices[1]
    made = {"curves": curves_picture(sst2), "lens": lens_picture(sst2), "pareto": pareto_picture(board, sst2),
            "times": times_picture(sst2), "map": heatmap_picture(board)}  # fmt: skip
    return {name: picture.figure() for name, picture in made.items()}


def title(panel):
    return panel.get_title(loc="left").replace("\n", " ")


def test_a_method_has_one_colour_in_every_picture(pictures):
    seen = {title(panel): set() for panel in pictures["curves"].axes}
    for panel in pictures["curves"].axes:
        seen[title(panel)] |= {line.get_color() for line in panel.get_lines()} - {PALE, GREY}
    for panel in pictures["pareto"].axes:
        colours = {tuple(line.get_xydata()[0]): line.get_color() for line in panel.get_lines()}
        for name in names_of(panel):
            seen[name.get_text().replace("\n", " ")].add(colours[name.xy])
    for kind in ("lens", "times", "map"):
        panel = pictures[kind].axes[0]
        marks = {line.get_xydata()[0][1]: line.get_color() for line in panel.get_lines() if line.get_color() != GREY}
        for height, label in zip(panel.get_yticks(), panel.get_yticklabels(), strict=True):
            seen[label.get_text()].add(marks[height])
    assert len(seen) == len(ROWS)
    assert seen == {row: {colour_of(row)} for row in seen}


def test_ten_rows_of_curves_stand_in_a_panel_each_on_shared_axes(pictures):
    panels = pictures["curves"].axes
    assert len(panels) == 3 * len(ROWS)
    assert [title(panel) for panel in panels[::3]] == [title(panel) for panel in panels[2::3]]
    for column in range(3):
        assert np.ptp([[*panel.get_xlim(), *panel.get_ylim()] for panel in panels[column::3]], axis=0).max() < 1e-9
    for panel in panels:
        assert sum(line.get_color() == PALE for line in panel.get_lines()) == len(ROWS) - 1


@pytest.mark.parametrize("kind", ["curves", "lens", "pareto", "times", "map"])
def test_no_text_covers_another_or_is_cut(pictures, kind):
    figure = pictures[kind]
    figure.draw_without_rendering()
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    outside = {label for axis in axes for label in axis.get_ticklabels(which="both") if not in_view(label, axis)}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = {text: Text.get_window_extent(text) for text in texts if text not in outside}
    assert len(boxes) > 10
    for one, other in itertools.combinations(boxes, 2):
        shared = Bbox.intersection(boxes[one], boxes[other])
        assert shared is None or min(shared.width, shared.height) < 1, (one.get_text(), other.get_text())
    edge = figure.bbox.padded(1)
    for text, box in boxes.items():
        assert edge.x0 <= box.x0 <= box.x1 <= edge.x1, text.get_text()
        assert edge.y0 <= box.y0 <= box.y1 <= edge.y1, text.get_text()


def in_view(label, axis):
    """Whether the tick of a label lies within its axis."""
    low, high = sorted(axis.get_view_interval())
    return low <= label.get_position()[axis.axis_name == "y"] <= high


def test_each_column_of_the_heat_map_has_a_scale_of_its_own(tmp_path):
    """A task on which all are near chance shows its differences beside one on which all are near 1."""
    for (task, level), (method, gain) in itertools.product(
        (("rte", 0.5), ("sst2", 0.9)), (("mezo", 0), ("ldsd", 0.01), ("loren", 0.03))
    ):
        write_run(tmp_path, method, task=task, test=level + gain)
    (panel,) = heatmap_picture(make_board(report.load(tmp_path), ["method", "task"])).figure().axes
    (image,) = panel.get_images()
    assert sorted(np.asarray(image.get_array())[:, 0]) == pytest.approx([0, 1 / 3, 1])
    assert sorted(np.asarray(image.get_array())[:, 1]) == pytest.approx([0, 1 / 3, 1])
    assert image.get_clim() == (0, 1)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["rte\naccuracy", "sst2\naccuracy"]
    for text in panel.texts:
        column, row = text.get_position()
        dark = np.asarray(image.get_array())[row, column] < 0.4
        assert text.get_color() == ("white" if dark else "black")


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
