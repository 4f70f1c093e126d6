"""RunPod as a worker sees it: the addresses where it asks for jobs, hears of cancelled ones and tells how far it is."""

import json
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

LONG_POLL_S = 0.5
PATIENCE_S = 100  # for a worker that starts, or a video that is made


class RunPod(ThreadingHTTPServer):
    """Hands out `jobs` and `stops`; what workers report arrives in `reports` as (job id, what was sent)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: queue.Queue[dict] = queue.Queue()
        self.stops: queue.Queue[str] = queue.Queue()
        self.reports: queue.Queue[tuple[str, dict]] = queue.Queue()

    def handle_error(self, request: object, client_address: object) -> None:
        """Workers that are killed leave broken connections: no matter."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def variables(self) -> dict[str, str]:
        """What RunPod sets in the environment of a worker."""
        base = f"http://127.0.0.1:{self.server_address[1]}/v2/endpoint"
        return {
            "RUNPOD_POD_ID": "worker",
            "RUNPOD_ENDPOINT_ID": "endpoint",
            "RUNPOD_AI_API_KEY": "key",
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=none",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",  # they ask the internet whether it is there
        }

    def submit(self, id: str, **fields: Any) -> None:
        self.jobs.put({"id": id, "input": fields})

    def report(self) -> tuple[str, dict]:
        """The next report, once there is one."""
        return self.reports.get(timeout=PATIENCE_S)

    def result(self, id: str) -> dict:
        """What comes of the job in the end."""
        while True:
            job, told = self.report()
            if job == id and told.get("status") != "IN_PROGRESS":
                return told

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with cls() as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()


class Handler(BaseHTTPRequestHandler):
    """RunPod's side of each call."""

    server: RunPod
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind = urlsplit(self.path).path.split("/")[3]
        try:
            if kind == "job-take":
                self.answer(self.server.jobs.get(timeout=LONG_POLL_S))
            elif kind == "job-stop":
                self.answer({"jobsToStop": [self.server.stops.get(timeout=LONG_POLL_S)]})
            else:
                self.answer({})
        except queue.Empty:
            self.send_response(204)
            self.end_headers()

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        *_, kind, _, job = urlsplit(self.path).path.split("/")
        assert kind == "job-done"
        self.answer({})
        self.server.reports.put((job, content))

    def answer(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
