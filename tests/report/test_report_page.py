"""The page about a sweep, and the pictures of a whole table."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from helpers.written import write_run
from PIL import Image

from zobench import report
from zobench.report.__main__ import main
from zobench.report.pictures.colours import DASHES, MARKERS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Outline(html.parser.HTMLParser):
    """Tags with their attributes; raises AssertionError where they do not nest."""

    VOID = frozenset(("meta", "link", "br", "path", "use", "rect"))

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two tasks, two methods, three seeds; an interrupted and a failed run, a torn record, and one without curves."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        for task in ("sst2", "rte"):
            write_run(folder, "mezo", seed, task=task, test=0.6 + seed / 100, peak_gib=2.0)
            write_run(folder, "kerzoo", seed, task=task, test=0.7 + seed / 50, cpu_hours=0.02)
    stopped = {"test_metric": None, "dev_metric": None}
    write_run(folder, "mezo", 7, state="interrupted", reason="SIGINT after step 3 of 100", **stopped)
    write_run(folder, "mezo", 8, state="failed", reason="OutOfMemory: <b>not bold</b>", **stopped)
    (write_run(folder, "mezo", 9) / "summary.json").write_text('{"state": "fin')
    (write_run(folder, "kerzoo", 9) / "metrics.jsonl").unlink()
    return folder


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """The page as the command line writes it."""
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    assert main([str(runs), "--html", str(path)]) == 0
    return path


def test_the_page_is_whole(page):
    text = page.read_text()
    tags = Outline(text).tags
    # The heat map; curves against three things, costs, times, and a legend for each of these but costs.
    assert text.count("<svg") == 1 + 2 * (3 * 3 + 2 + 1 + 4)
    for said in ("Runs", "interrupted", "SIGINT after step 3 of 100", "torn or not JSON", "metrics.jsonl", "2.13.0",
                 "method.lr", "to see 2 points", "&lt;b&gt;not bold&lt;/b&gt;"):  # fmt: skip
        assert said in text, said
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 100
    used = re.findall(r'(?:url\(|href=")#([^")]+)', text)
    assert used
    assert set(used) <= set(ids)


def test_the_page_loads_and_runs_nothing(page):
    text = page.read_text()
    for tag, attributes in Outline(text).tags:
        assert tag not in ("script", "iframe", "object", "embed", "img", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value.startswith(("#", "data:")), value
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}


def test_the_page_can_be_read_aloud(page):
    tags = Outline(page.read_text()).tags
    assert ("html", {"lang": "en"}) in tags
    figures = [attributes for tag, attributes in tags if attributes.get("role") == "img" and tag == "div"]
    assert len(figures) == 11
    assert all(len(figure["aria-label"]) > 40 for figure in figures)
    assert any("mezo 0.610" in figure["aria-label"] for figure in figures)
    assert {attributes.get("scope") for tag, attributes in tags if tag == "th"} == {"col", "row"}


def test_pictures_of_costs(runs, tmp_path):
    frame = report.load(runs)
    one = frame[frame["task"].eq("sst2")]
    pareto = report.draw_pareto(one, tmp_path / "pareto.svg")[0].read_text()
    times = report.draw_times(one, tmp_path / "times.svg")[0].read_text()
    heatmap = report.draw_heatmap(frame, tmp_path / "map")
    assert ">training time (CPU, s)" in pareto
    assert ">peak memory (MiB)" in pareto
    for name in ("forward passes", "outside them", "evaluation"):
        assert f">{name}<" in times
    assert ">cache<" not in times
    assert [path.suffix for path in heatmap] == [".png", ".svg"]
    for said in ("rte", "sst2", "mezo", "kerzoo", "0.610", "0.720"):
        assert f">{said}" in heatmap[1].read_text(), said


def test_curves_against_three_things_are_told_apart_in_grey(runs, tmp_path):
    frame = report.load(runs)
    one = frame[frame["task"].eq("sst2")]
    drawn = report.draw_curves(one, tmp_path / "c.svg", ("forwards", "step", "seconds"))[0].read_text()
    for name in ("forward passes", "steps", "training seconds"):
        assert drawn.count(f">{name}<") == 3
    # Without their colour two methods still differ, in dash and marker; the first method's line is whole.
    assert len(set(re.findall(r"stroke-dasharray: ([^;]+)", drawn))) >= 2
    styles = {(str(DASHES[i % len(DASHES)]), MARKERS[i % len(MARKERS)]) for i in range(len(DASHES) * len(MARKERS))}
    assert len(styles) == len(DASHES) * len(MARKERS)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_shows_it(page, tmp_path, width):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    options += ["--allow-file-access-from-files", "--virtual-time-budget=5000", f"--user-data-dir={tmp_path}"]
    frame = f"""<!DOCTYPE html><iframe src="{page.as_uri()}" width="{width}" height="3000" onload="
      const shown = this.contentDocument.documentElement;
      document.title = shown.scrollWidth + ' of ' + shown.clientWidth"></iframe>"""
    (tmp_path / "frame.html").write_text(frame)
    command = [CHROMIUM, *options, "--dump-dom", (tmp_path / "frame.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in shown.stderr
    assert f"<title>{width} of {width}</title>" in shown.stdout  # nothing makes the page scroll sideways
    picture = tmp_path / "shot.png"
    command = [CHROMIUM, *options, f"--window-size={width},3000", f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (3000, width)
    assert (pixels < 128).mean() > 0.01
