"""The page about a sweep, and the pictures of a whole table."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from helpers.written import write_run
from PIL import Image

from zobench import report
from zobench.report.__main__ import main
from zobench.report.pictures.colours import DASHES, MARKERS, class_of, colour_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Outline(html.parser.HTMLParser):
    """Tags with their attributes; raises AssertionError where they do not nest."""

    VOID = frozenset(("meta", "link", "br", "input", "path", "use", "rect"))

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


def test_the_page_loads_nothing_and_runs_the_script_alone_that_its_policy_names(page):
    text = page.read_text()
    tags = Outline(text).tags
    for tag, attributes in tags:
        assert tag not in ("iframe", "object", "embed", "img", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value.startswith(("#", "data:")), value
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert [attributes for tag, attributes in tags if tag == "script"] == [{}]
    (policy,) = [attributes["content"] for _, attributes in tags if attributes.get("http-equiv")]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert text.index("Content-Security-Policy") < text.index("<style") < text.index("<script")


def test_a_check_box_for_each_method_hides_its_rows_lines_and_names(page):
    text = page.read_text()
    tags = Outline(text).tags
    boxes = [attributes["id"] for tag, attributes in tags if attributes.get("type") == "checkbox"]
    assert boxes == [class_of("mezo"), class_of("kerzoo")]
    # one of the headline, one of the differences, two of the details, and the runs
    for method, rows in {"mezo": 1 + 1 + 2 + 8, "kerzoo": 1 + 1 + 2 + 7}.items():
        mine = [tag for tag, attributes in tags if attributes.get("class") == class_of(method)]
        assert mine.count("tr") == rows
        assert mine.count("g") > 50
        assert f":root:has(#{class_of(method)}:not(:checked)) :is(.{class_of(method)}," in text
        assert f'<i style="background: {colour_of(method)}"></i>{method}</label>' in text
    free = [row for row in re.findall(r"<tr>.*?</tr>", text) if 'scope="row"' in row]
    assert {re.search(r'scope="row">([^<]+)<', row)[1] for row in free} == {"zero-shot", "majority class", "chance"}


def test_a_page_of_one_run_has_no_check_boxes(tmp_path):
    write_run(tmp_path)
    page = report.page(report.load(tmp_path))
    assert 'type="checkbox"' not in page
    assert "not(:checked)" not in page
    assert Outline(page).tags


def test_curves_of_many_methods_are_drawn_once_each_in_a_panel_that_can_be_hidden(tmp_path):
    methods = ["mezo", *(f"name{i}" for i in range(6))]
    for method in methods:
        write_run(tmp_path, method)
    page = report.page(report.load(tmp_path))
    assert "Against forward passes" in page
    assert "Against steps" not in page
    for method in methods:  # the group of a panel begins with its background
        assert len(re.findall(rf'<g class="{class_of(method)}">\s+<g id="[^"]+patch_2"', page)) == 3, method


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
    frame = f"""<!DOCTYPE html><script>
      function look(page) {{
        const root = page.documentElement, table = page.querySelector("table"), head = table.tHead.rows[0].cells[1];
        const rows = () => [...table.tBodies[0].rows].filter(row => row.checkVisibility());
        const names = () => rows().map(row => row.cells[0].textContent);
        const said = {{width: [root.scrollWidth, root.clientWidth], first: names(), sorted: []}};
        for (let i = 0; i < 3; i++) {{
          head.querySelector("button").click();
          said.sorted.push([head.getAttribute("aria-sort"), names()]);
        }}
        page.querySelector("input").click();
        said.hidden = names();
        document.title = JSON.stringify(said);
      }}</script>
      <iframe src="{page.as_uri()}" width="{width}" height="3000" onload="look(this.contentDocument)"></iframe>"""
    (tmp_path / "frame.html").write_text(frame)
    command = [CHROMIUM, *options, "--dump-dom", (tmp_path / "frame.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in shown.stderr
    said = json.loads(html.unescape(re.search("<title>(.*?)</title>", shown.stdout)[1]))
    assert said["width"] == [width, width]  # nothing makes the page scroll sideways
    first = ["mezo", "kerzoo", "zero-shot", "majority class", "chance"]
    best = ["kerzoo", "mezo", "zero-shot", "majority class", "chance"]
    worst = ["zero-shot", "majority class", "chance", "mezo", "kerzoo"]
    assert said["first"] == first
    assert said["sorted"] == [["descending", best], ["ascending", worst], [None, first]]
    assert said["hidden"] == first[1:]
    picture = tmp_path / "shot.png"
    command = [CHROMIUM, *options, f"--window-size={width},3000", f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (3000, width)
    assert (pixels < 128).mean() > 0.01
