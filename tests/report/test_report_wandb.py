"""Runs read from a server by wandb's own client, and the page sent to wandb, read back from its offline files."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from helpers.waiting import wait_for
from helpers.written import write_run

from zobench import report
from zobench.errors import UserError
from zobench.report.__main__ import main

KEY = "0" * 40


class Project(BaseHTTPRequestHandler):
    """What a server of wandb says of one project: every question gets the same answer, with more than was asked."""

    runs: ClassVar = {}  # id -> (summary, logged lines)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        asked = json.loads(body).get("variables") or {} if body.startswith(b"{") else {}
        nodes = {name: self._run(name, *found) for name, found in self.runs.items()}
        edges = [{"cursor": "", "node": node} for node in nodes.values()]
        project = {
            "internalId": "1", "readOnly": False, "runCount": len(nodes),
            "runs": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}},
            "run": nodes.get(asked.get("name") or asked.get("runName") or asked.get("run")),
        }  # fmt: skip
        viewer = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
        known = asked.get("project") in (None, "sweep")
        answer = json.dumps({"data": {"viewer": viewer, "project": project if known else None}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    @staticmethod
    def _run(name, summary, lines):
        numbered = [json.dumps({"_step": n, **line}) for n, line in enumerate(lines)]
        keys = {"lastStep": len(lines) - 1, "keys": {"_step": {}}}
        return {
            "id": name, "name": name, "displayName": name, "state": "finished", "config": "{}", "tags": [],
            "group": None, "jobType": None, "commit": None, "readOnly": False, "description": "", "notes": "",
            "sweepName": None, "projectId": "1", "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00", "user": {"name": "me", "username": "me"}, "systemMetrics": "{}",
            "historyLineCount": len(lines), "summaryMetrics": json.dumps({"_runtime": 1, **summary}),
            "historyKeys": keys, "history": numbered,
            "parquetHistory": {"parquetUrls": [], "liveData": [{"_step": 0}]},
        }  # fmt: skip

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server on this machine, which wandb's client is told to ask."""
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Project)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("WANDB_BASE_URL", f"http://127.0.0.1:{serving.server_port}"), ("WANDB_API_KEY", KEY),
            ("WANDB_ERROR_REPORTING", "false"), ("HOME", str(home)), ("WANDB_CACHE_DIR", str(home)),
        ):  # fmt: skip
            patch.setenv(name, value)
        yield
    serving.shutdown()


def test_a_project_gives_what_the_records_give(server, tmp_path, monkeypatch):
    folders = {f"id{seed}": write_run(tmp_path, seed=seed) for seed in range(2)}
    monkeypatch.setattr(Project, "runs", {
        name: (json.loads((folder / "summary.json").read_text()),
               [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()])
        for name, folder in folders.items()
    } | {"report": ({}, [])})  # fmt: skip
    records, sent = report.load(tmp_path), report.load("wandb://me/sweep")
    assert list(sent["directory"]) == [f"wandb://me/sweep/{name}" for name in folders]
    assert sent.attrs["left_out"] == [
        ("wandb://me/sweep/report", "not of a zobench run: it lacks state, method, task, model")
    ]
    assert sent.drop(columns="directory").equals(records.drop(columns="directory"))
    lines, sent_lines = report.curves(records), report.curves(sent)
    assert sent_lines[lines.columns].drop(columns="directory").equals(lines.drop(columns="directory"))
    assert len(lines)
    with pytest.raises(UserError, match="wandb://me/other: wandb says: "):
        report.load("wandb://me/other")


def test_the_page_and_its_numbers_go_to_wandb(tmp_path, monkeypatch, capsys):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        write_run("runs", "mezo", seed, test=0.6 + seed / 100)
        write_run("runs", "kerzoo", seed, test=0.7 + seed / 50)
    assert main(["runs", "--wandb", "--wandb-group", "trial"]) == 0
    said = capsys.readouterr().out
    folder = tmp_path / said.split("written: ")[1].split(" (send it with `wandb sync ")[0]
    (page,) = folder.rglob("*.html")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "stylesheet" not in text  # wandb adds none: the page loads nothing
    assert all(f">{said}<" in text for said in ("0.720 ± 0.020 (3)", "dev accuracy"))
    (table,) = (json.loads(path.read_text()) for path in folder.rglob("*.table.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["row"], row["test_metric"]) for row in rows] == [
        ("mezo", pytest.approx(0.61)), ("kerzoo", pytest.approx(0.72))
    ]  # fmt: skip
    (sent,) = folder.glob("*.wandb")
    wait_for(lambda: all(word in sent.read_bytes() for word in (b"trial", b"zobench", b"report")))


def test_without_a_key_nothing_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "online")
    write_run(tmp_path / "runs")
    assert main([str(tmp_path / "runs"), "--wandb"]) == 1
    assert "WANDB_MODE=online: no API key" in capsys.readouterr().err
    assert main(["wandb://someone/zobench"]) == 1
    assert "wandb://someone/zobench: no API key; run `wandb login`" in capsys.readouterr().err


def test_an_address_needs_entity_and_project():
    with pytest.raises(UserError, match="expected wandb://ENTITY/PROJECT"):
        report.load("wandb://zobench")
