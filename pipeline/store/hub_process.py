"""The program's hold on the process that talks to the Hub (hub_client.py)."""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.store.redaction import redact
from pipeline.store.troubles import Interrupted

DIES_WITHIN_S = 10.0
PACKAGE_ROOT = Path(__file__).parents[2]

log = logging.getLogger(__name__)


class HubProcess:
    """One process that talks to the Hub. Leaving the `with` block kills it and whatever it started.

    `xet` says whether it may use the Xet protocol, which is read when huggingface_hub is imported.
    """

    def __init__(self, xet: bool = True) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.store.hub_client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(xet),
            bufsize=0,  # nothing is held back that closing a broken pipe would have to write
            start_new_session=True,  # a process group of its own: Ctrl-C does not reach it, and it can be killed whole
        )
        self._selector = selectors.DefaultSelector()
        self._unread = {self._process.stdout.fileno(): b"", self._process.stderr.fileno(): b""}
        for descriptor in self._unread:
            self._selector.register(descriptor, selectors.EVENT_READ)

    def __enter__(self) -> "HubProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(DIES_WITHIN_S)
        except subprocess.TimeoutExpired:  # it hangs inside the file system, where not even a kill reaches it
            log.warning(
                "The process that talks to the Hub (%d) does not die: its disk does not answer.", self._process.pid
            )
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()

    def ask(self, **task: Any) -> None:
        """Give it a task. Raises Interrupted if it is gone."""
        try:
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
        except BrokenPipeError:
            raise Interrupted("the process that talks to the Hub ended by itself") from None

    def reports(self, wait_s: float) -> list[dict[str, Any]]:
        """What it reports within `wait_s` seconds; returns as soon as there is something.

        Its log lines go to the log. Raises Interrupted once it is gone and has nothing left to say.
        """
        until = time.monotonic() + wait_s
        while self._selector.get_map():
            ready = self._selector.select(max(0.0, until - time.monotonic()))
            reports = [json.loads(line) for key, _ in ready for line in self._lines(key.fd)]
            if reports or time.monotonic() >= until:
                return reports
        raise Interrupted(f"the process that talks to the Hub ended by itself ({self._process.wait()})")

    def _lines(self, descriptor: int) -> list[bytes]:
        """The whole lines of the report pipe that have come; those of the other pipe are logged."""
        block = os.read(descriptor, 65536)
        if not block:
            self._selector.unregister(descriptor)
        *lines, self._unread[descriptor] = (self._unread[descriptor] + block).split(b"\n")
        if descriptor == self._process.stdout.fileno():
            return lines
        for line in lines:
            log.info("huggingface_hub: %s", redact(line.decode(errors="replace")))
        return []


def _environment(xet: bool) -> dict[str, str]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    # Xet writes logs and parts there: on a network volume that is slow and has been seen to hang.
    environment.setdefault("HF_XET_CACHE", str(Path(tempfile.gettempdir(), "hf-xet")))
    if not xet:
        environment["HF_HUB_DISABLE_XET"] = "1"
    return environment
