"""A Hugging Face hub on this machine, which serves folders as repositories and notes what it is asked for."""

import json
import os
import time
from contextlib import contextmanager, suppress
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlparse

import pyarrow as pa
import yaml
from pyarrow import parquet

import zobench

ROOT = Path(zobench.__file__).resolve().parent.parent

COMMIT = sha1(b"the one commit").hexdigest()
#: kept beside git, as the hub keeps large files
LARGE = (".safetensors", ".bin", ".parquet")


class Hub:
    """What it has, how it fails, and what it was asked.

    Attributes:
        repositories: id → folder; data sets as ``datasets/id``.
        gated: ids whose files need a login; ``token`` is the one that may read them.
        asked: (method, path), in order; tokens: all that were sent.
        broken: name of a file → bytes after which each download breaks off.
        damaged: name of a file → what is sent in its place.
        fails: HTTP status of all answers but the list of files; slow: seconds before each answer.
        revisions: what the one commit is called, besides its own name.
        below: the path that all requests begin with, as on a mirror; elsewhere: the address that large files are at.
    """

    def __init__(self):
        self.repositories, self.gated, self.token = {}, set(), "hf_friend"
        self.asked, self.tokens = [], set()
        self.broken, self.damaged = {}, {}
        self.fails, self.slow = None, 0.0
        self.revisions, self.below, self.elsewhere = {"main"}, "", None
        self.url = ""

    @property
    def paths(self):
        return [path for _, path in self.asked]


@contextmanager
def serving():
    """A hub at ``url`` on a free port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_data_set(folder, subsets, readme=True):
    """Lay a data set out as the hub has it: subset → split → files, each a list of rows."""
    configs = []
    for subset, splits in subsets.items():
        (folder / subset).mkdir(parents=True)
        patterns = [{"split": split, "path": f"{subset}/{split}-*"} for split in splits]
        configs.append({"config_name": subset, "data_files": patterns})
        for split, parts in splits.items():
            for number, rows in enumerate(parts):
                name = f"{split}-{number:05}-of-{len(parts):05}.parquet"
                parquet.write_table(pa.Table.from_pylist(rows), folder / subset / name)
    if readme:
        (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n# A data set\n")
    return folder


def environment(url, home, **more):
    """The variables of a process that has this hub for its hub, and a cache of its own."""
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def do_POST(self):
        self.wanted = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
        self.answer(body=True)

    def answer(self, body):
        path = urlparse(self.path).path
        if not path.startswith(f"{self.hub.below}/"):
            return self.send(404, {}, b"", body)
        path = path.removeprefix(self.hub.below)
        if path == "/api/agent-harnesses":  # what huggingface_hub asks for itself, once a day
            return self.send(404, {}, b"", body)
        self.hub.asked.append((self.command, unquote(path)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.tokens.add(token)
        time.sleep(self.hub.slow)
        if self.hub.fails and not (body and "/tree/" in path):
            return self.send(self.hub.fails, {}, b"", body)
        id, rest = self.repository(path)
        folder = self.hub.repositories.get(id)
        if folder is None:
            return self.send(404 if token else 401, {"X-Error-Code": "RepoNotFound"}, b"", body)
        action, revision, *names = rest or ["revision", "main"]
        if revision not in {*self.hub.revisions, COMMIT}:
            return self.send(404, {"X-Error-Code": "RevisionNotFound"}, b"", body)
        found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        if action == "tree":
            return self.send_json(self.tree(found, "".join(f"{name}/" for name in names)), body)
        if action == "paths-info":
            return self.send_json([listed(name, file) for name, file in found.items() if name in self.wanted], body)
        if action == "revision":
            facts = {"_id": "0", "id": id.removeprefix("datasets/"), "sha": COMMIT}
            return self.send_json(facts | {"siblings": [{"rfilename": name} for name in found]}, body)
        if id in self.hub.gated and token != self.hub.token:
            return self.send(403 if token else 401, {"X-Error-Code": "GatedRepo"}, b"", body)
        name = "/".join(names)
        if action != "resolve" or name not in found:
            return self.send(404, {"X-Error-Code": "EntryNotFound"}, b"", body)
        entry = listed(name, found[name])
        content = self.hub.damaged.get(found[name].name, found[name].read_bytes())
        headers = {"ETag": f'"{entry.get("lfs", entry)["oid"]}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if self.hub.elsewhere and "lfs" in entry:
            there = {"Location": self.hub.elsewhere + self.path, "X-Linked-Etag": headers["ETag"]}
            return self.send(302, headers | there | {"X-Linked-Size": str(len(content))}, b"", body)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        broken = self.hub.broken.get(found[name].name) if body else None
        return self.send(206 if first else 200, headers, content[first:], body, broken)

    def repository(self, path):
        """The repository that a path is about, and what of it: an action, a revision, a file."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "api":
            start = parts[2:4] if parts[1] == "models" else parts[1:4]
            return "/".join(start), parts[4:]
        length = 3 if parts[0] == "datasets" else 2
        return "/".join(parts[:length]), parts[length:]

    def tree(self, found, start):
        """The files below a folder; without ``recursive`` those right in it, and its folders."""
        below = {name: file for name, file in found.items() if name.startswith(start)}
        if "recursive=true" in self.path.lower():
            return [listed(*item) for item in below.items()]
        folders = {start + name[len(start) :].partition("/")[0] for name in below if "/" in name[len(start) :]}
        files = [listed(name, file) for name, file in below.items() if "/" not in name[len(start) :]]
        return files + [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(folders)]

    def send_json(self, said, body):
        return self.send(200, {"Content-Type": "application/json"}, json.dumps(said).encode(), body)

    def send(self, code, headers, content, body, broken=None):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            with suppress(BrokenPipeError):  # the other side had waited long enough
                self.wfile.write(content[:broken])
            if broken is not None:
                self.close_connection = True

    def log_message(self, *_):
        pass


def listed(name, file):
    """A file as the hub lists it; of a large one git has a note alone, and its SHA-1."""
    content = file.read_bytes()
    entry = {"type": "file", "path": name, "size": len(content)}
    in_git = content
    if name.endswith(LARGE):
        in_git = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
            sha256(content).hexdigest().encode(),
            len(content),
        )
        entry["lfs"] = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": len(in_git)}
    entry["oid"] = sha1(b"blob %d\0" % len(in_git) + in_git).hexdigest()
    return entry
