"""The program in a process of its own, with its libraries loaded (tests/web/test_program.py starts it as users do)."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from ..forked import run_app, start_fork

ROOT = Path(__file__).parents[2]
START_SECONDS = 10  # within which a start has to answer
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "SSL_CERT_DIR")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


class Program:
    """One run of the program with these variables. Its log goes into a file in `folder`."""

    def __init__(self, folder: Path, **variables: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = folder / f"log-{port}.txt"
        kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
        own = {"OUTPUT_DIR": str(folder / f"output-{port}"), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        self.process = start_fork(run_app, kept | own | variables | {"PORT": str(port)}, self.log_file)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_file.read_text()

    def wait_until(self, is_so: Callable[[dict[str, Any]], bool], timeout_s: float = 90) -> dict[str, Any]:
        """The first state of the model (as /readyz tells it) of which that is so."""
        deadline, pause, state = time.monotonic() + timeout_s, threading.Event(), None
        while time.monotonic() < deadline:
            assert self.process.is_alive(), self.log
            try:
                state = httpx.get(f"{self.url}/readyz", timeout=START_SECONDS).json()
            except httpx.TransportError:  # it does not listen yet
                state = None
            if state is not None and is_so(state):
                return state
            pause.wait(0.1)
        raise AssertionError(f"{state} {self.log}")

    def wait_for(self, *names: str) -> dict[str, Any]:
        """Wait until the model is in one of these states; gives all that is told of it."""
        return self.wait_until(lambda state: state["state"] in names)

    def stop(self) -> int:
        """Tell it to end as a service manager does; gives its exit status."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.join(30)
        return self.process.exitcode

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.join()
