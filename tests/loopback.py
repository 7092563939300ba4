"""A hub on this machine: the few answers that huggingface_hub asks for, and the faults a network can have."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

LARGE = (".safetensors", ".bin", ".parquet")


@dataclass
class Hub:
    """A hub: what is served, {(kind, "owner/name"): {revision: (commit, folder)}}, and what goes wrong."""

    address: str
    served: dict[tuple[str, str], dict[str, tuple[str, Path]]] = field(default_factory=dict)
    drops: dict[str, list[int]] = field(default_factory=dict)
    """Bytes after which each of the next answers with this file's content breaks off."""
    gets: list[tuple[str, str]] = field(default_factory=list)
    """(file, the range asked for) of every answer that had content."""
    asked: list[str] = field(default_factory=list)
    """The address of every request, answered or not."""

    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process take the hub for the real one."""
        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        path = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.address + path)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def add(self, name: str, folder: Path, *revisions: str, kind: str = "model") -> str:
        """Serve a folder under these revisions and its commit; the commit."""
        commit = hashlib.sha1(f"{name} {sorted(revisions)}".encode()).hexdigest()
        known = self.served.setdefault((kind, name), {})
        known |= dict.fromkeys([*revisions, commit], (commit, folder))
        return commit


def _listing(folder: Path) -> list[dict]:
    found = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        entry = {"type": "file", "path": file.relative_to(folder).as_posix(), "size": len(content)}
        entry["oid"] = hashlib.sha1(content).hexdigest()
        if file.suffix in LARGE:
            entry["lfs"] = {
                "oid": hashlib.sha256(content).hexdigest(),
                "size": len(content),
                "pointerSize": 9,
            }
        found.append(entry)
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        self.hub.asked.append(self.path)
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api":
            kind = parts[1].removesuffix("s")
            name, (what, revision) = "/".join(parts[2:4]), (parts[4], "/".join(parts[5:]))
        else:
            kind = "dataset" if parts[0] == "datasets" else "model"
            parts = parts[1:] if kind == "dataset" else parts
            name, (what, revision) = "/".join(parts[:2]), parts[2:4]
        if (kind, name) not in self.hub.served:
            return self._refuse("RepoNotFound")
        if revision not in self.hub.served[kind, name]:
            return self._refuse("RevisionNotFound")
        commit, folder = self.hub.served[kind, name][revision]
        if what == "revision":
            return self._json({"id": name, "sha": commit, "siblings": []})
        if what == "tree":
            return self._json(_listing(folder))
        return self._file(folder, "/".join(parts[4:]), commit, body)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, folder: Path, name: str, commit: str, body: bool) -> None:
        content = (folder / name).read_bytes()
        asked = self.headers.get("Range", "") if body else ""
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        self.hub.gets.append((name, asked))
        if self.hub.drops.get(name):
            self.wfile.write(content[start:][: self.hub.drops[name].pop(0)])
            self.close_connection = True
            return
        self.wfile.write(content[start:])


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A running hub; it ends with the block."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler.hub
    finally:
        server.shutdown()
        server.server_close()
