"""A Hub on loopback: the part of its protocol that the real huggingface_hub uses to list and fetch a model.

Large files are behind a redirect to another host name, as the real ones are behind a redirect to a CDN. What goes wrong
is switched on per test (`Fault`). Bytes sent are counted per file.
"""

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE_BYTES = 100_000  # files from this length on are LFS files
BLOCK_BYTES = 64 * 1024


@dataclass
class Fault:
    """Something that goes wrong, `times` times, at requests whose path contains `match`.

    `status` answers with it. `after` bytes of a body the server does what `then` says: "stall" (until the server
    closes), "close", or "lie" (Content-Length agrees with a body that ends there). "flip" sends wrong bytes.
    """

    match: str
    method: str = "GET"
    status: int | None = None
    then: str = ""
    after: int = 0
    times: int = 10**9
    headers: Mapping[str, str] = None


class Hub(ThreadingHTTPServer):
    """Serves `files` (path -> bytes or a file) as `repository` at COMMIT, which it also knows as `revisions`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        repository: str,
        files: Mapping[str, bytes | Path],
        port: int = 0,
        token: str | None = None,
        bytes_per_s: float | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.repository, self.files, self.token, self.bytes_per_s = repository, dict(files), token, bytes_per_s
        self.commit, self.revisions = COMMIT, {COMMIT, "main"}
        self.faults: list[Fault] = []
        self.sent: Counter[str] = Counter()  # bytes of bodies, by path; a block counts when it is about to go
        self.requests: list[str] = []
        self.closing = threading.Event()
        self.holds: dict[str, threading.Event] = {}
        self.changed = threading.Condition()
        self._digests: dict[str, tuple[str, str]] = {}

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to say."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for gate in self.holds.values():
            gate.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed leave broken connections: no matter."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def fault_at(self, method: str, path: str) -> Fault | None:
        """The fault that is due at this request; one occurrence of it is used up."""
        for fault in self.faults:
            if fault.times > 0 and fault.method == method and fault.match in path:
                fault.times -= 1
                return fault
        return None

    def hold(self, match: str) -> threading.Event:
        """From now on send nothing of files whose path contains `match`, until what this returns is set."""
        return self.holds.setdefault(match, threading.Event())

    def wait_for_release(self, path: str) -> None:
        """Wait as long as the file is held back."""
        while held := [gate for match, gate in list(self.holds.items()) if match in path and not gate.is_set()]:
            held[0].wait()

    def count(self, path: str, size: int) -> None:
        """Note that `size` bytes of the file are on their way."""
        with self.changed:
            self.sent[path] += size
            self.changed.notify_all()

    def wait_until_sent(self, size: int, timeout_s: float = 60) -> bool:
        """Wait until so many bytes of files were sent in all; whether that came about."""
        with self.changed:
            return self.changed.wait_for(lambda: self.sent.total() >= size, timeout_s)

    def size(self, path: str) -> int:
        """Length of a file."""
        content = self.files[path]
        return content.stat().st_size if isinstance(content, Path) else len(content)

    def digests(self, path: str) -> tuple[str, str]:
        """SHA-256 of a file, and git's SHA-1 of its blob."""
        if path not in self._digests:
            content = self.files[path]
            data = content.read_bytes() if isinstance(content, Path) else content
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            self._digests[path] = hashlib.sha256(data).hexdigest(), blob
        return self._digests[path]

    def is_large(self, path: str) -> bool:
        """Whether it is an LFS file."""
        return self.size(path) >= LARGE_BYTES


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_HEAD(self) -> None:
        """Headers alone."""
        self.answer()

    def do_GET(self) -> None:
        """Everything else."""
        self.answer()

    def answer(self) -> None:
        """Answer one request, or do what a fault says."""
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {self.path}")
        fault = self.server.fault_at(self.command, path)
        if fault is not None and fault.status is not None:
            self.refuse(fault.status, **dict(fault.headers or {}))
        elif path.startswith("/cdn/"):
            self.send_content(path.removeprefix("/cdn/"), fault)
        elif self.server.token is not None and self.headers["Authorization"] != f"Bearer {self.server.token}":
            given = self.headers["Authorization"] is not None
            words = "Invalid credentials in Authorization header" if given else "Invalid username or password."
            self.refuse(401, **{"X-Error-Message": words})
        elif path.startswith("/api/models/"):
            self.send_api(path.removeprefix("/api/models/"))
        else:
            self.send_file(path, fault)

    def send_api(self, path: str) -> None:
        """The model's information at a revision, or its tree."""
        if not path.startswith(self.server.repository):
            return self.refuse(404, **{"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        kind, _, revision = path.removeprefix(self.server.repository).strip("/").partition("/")
        if kind and revision not in self.server.revisions:
            words = f"Invalid rev id: {revision}"
            return self.refuse(404, **{"X-Error-Code": "RevisionNotFound", "X-Error-Message": words})
        if kind == "tree":
            return self.send_json([self.tree_entry(path) for path in self.server.files])
        siblings = [self.sibling(path) for path in self.server.files]
        return self.send_json({"id": self.server.repository, "sha": self.server.commit, "siblings": siblings})

    def sibling(self, path: str) -> dict:
        """A file, as the model's information lists it."""
        sha256, blob = self.server.digests(path)
        entry = {"rfilename": path, "size": self.server.size(path), "blobId": blob}
        if self.server.is_large(path):
            entry["lfs"] = {"size": self.server.size(path), "sha256": sha256, "pointerSize": 130}
        return entry

    def tree_entry(self, path: str) -> dict:
        """A file, as the tree lists it."""
        sha256, blob = self.server.digests(path)
        entry = {"type": "file", "path": path, "size": self.server.size(path), "oid": blob}
        if self.server.is_large(path):
            entry["lfs"] = {"size": self.server.size(path), "oid": sha256, "pointerSize": 130}
        return entry

    def send_file(self, path: str, fault: Fault | None) -> None:
        """A file by name: itself, or where it is."""
        repository, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repository != self.server.repository or revision not in self.server.revisions:
            return self.refuse(404, **{"X-Error-Code": "RepoNotFound"})
        if name not in self.server.files:
            return self.refuse(404, **{"X-Error-Code": "EntryNotFound"})
        if not self.server.is_large(name):
            return self.send_content(name, fault)
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.server.server_port}/cdn/{name}?Signature=very-secret")
        self.send_header("X-Linked-Size", str(self.server.size(name)))
        self.send_header("X-Linked-ETag", f'"{self.server.digests(name)[0]}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def send_content(self, name: str, fault: Fault | None) -> None:
        """The bytes of a file, from where the Range header says."""
        size = self.server.size(name)
        first = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0]) if self.headers["Range"] else 0
        end = min(size, first + fault.after) if fault is not None and fault.then else size
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{self.server.digests(name)[1]}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("Accept-Ranges", "bytes")
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        lies = fault is not None and fault.then == "lie"
        self.send_header("Content-Length", str((end if lies else size) - first))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.wait_for_release(name)
        flip = fault is not None and fault.then == "flip"
        for block in self.blocks(name, first, size if flip else end):
            self.server.count(name, len(block))  # before it can be anywhere else
            self.wfile.write(bytes(byte ^ 1 for byte in block) if flip else block)
        if fault is not None and fault.then == "stall":
            self.server.closing.wait()
        if fault is not None and fault.then in ("stall", "close"):
            self.close_connection = True

    def blocks(self, name: str, first: int, end: int) -> Iterator[bytes]:
        """The file's bytes, at the server's speed."""
        content = self.server.files[name]
        start = time.monotonic()
        for position in range(first, end, BLOCK_BYTES):
            last = min(position + BLOCK_BYTES, end)
            if isinstance(content, Path):
                with content.open("rb") as stream:
                    stream.seek(position)
                    yield stream.read(last - position)
            else:
                yield content[position:last]
            if self.server.bytes_per_s:
                self.server.closing.wait(max(0, start + (last - first) / self.server.bytes_per_s - time.monotonic()))

    def send_json(self, values: object) -> None:
        """An answer of the API."""
        body = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, **headers: str) -> None:
        """An answer that says no."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
