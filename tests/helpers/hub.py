"""A Hugging Face hub on this machine, which serves folders as repositories and notes what it is asked for."""

import json
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlparse

COMMIT = sha1(b"the one commit").hexdigest()


class Hub:
    """``repositories``: id → folder; ``gated``: ids that ask for a login; ``asked``: the paths, in order."""

    def __init__(self):
        self.repositories, self.gated, self.asked = {}, set(), []
        #: a file that breaks off after so many bytes, by name
        self.broken = {}
        self.url = ""


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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        id = f"{owner}/{name}"
        folder = self.hub.repositories.get(id)
        if folder is None:
            return self.send(401, {"X-Error-Code": "RepoNotFound"}, b"", body)
        if api and rest[:1] == ["revision"]:
            files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
            facts = {"_id": "0", "id": id, "modelId": id, "sha": COMMIT, "siblings": files}
            return self.send(200, {"Content-Type": "application/json"}, json.dumps(facts).encode(), body)
        if api and rest[:1] == ["tree"]:
            files = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
                for file in sorted(folder.iterdir())
            ]
            return self.send(200, {"Content-Type": "application/json"}, json.dumps(files).encode(), body)
        if id in self.hub.gated:
            return self.send(403, {"X-Error-Code": "GatedRepo"}, b"", body)
        file = folder / rest[-1]
        if rest[0] != "resolve" or not file.is_file():
            return self.send(404, {"X-Error-Code": "EntryNotFound"}, b"", body)
        content = file.read_bytes()
        headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self.send(200, headers, content, body, self.hub.broken.get(file.name))

    def send(self, code, headers, content, body, broken=None):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[:broken])
            if broken is not None:
                self.close_connection = True

    def log_message(self, *_):
        pass
