"""Programs that obtain the model, as processes that can be killed, and what is known of them."""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.store.download import Pace

from .models import REPOSITORY

ROOT = Path(__file__).parents[2]


class Program:
    """One run of runner.py. `said` are the lines that it has said, newest last."""

    def __init__(self, pace: Pace, models: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("runner.py")), REPOSITORY, json.dumps(asdict(pace))]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MODEL_CACHE_DIR": str(models)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.said: list[dict[str, Any]] = []
        self.log = ""
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=read) for read in (self._read_states, self._read_log)]
        for thread in self._threads:
            thread.start()

    def _read_states(self) -> None:
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _read_log(self) -> None:
        self.log = self.process.stderr.read()

    def follow(self, timeout_s: float = 60) -> Iterator[dict[str, Any]]:
        """What it says from now on, to its end."""
        while (line := self._lines.get(timeout=timeout_s)) is not None:
            self.said.append(line)
            yield line

    def wait_for(self, state: str) -> None:
        """Wait until it says that it is in `state`."""
        for line in self.follow():
            if line.get("state") == state:
                return
        raise AssertionError(f"it ended without {state}: {self.said[-1:]} {self.log}")

    def result(self) -> dict[str, Any]:
        """Its last word: {"folder"} or {"error"}."""
        for _ in self.follow():
            pass
        return self.said[-1]

    def children(self) -> list[int]:
        """The processes that it started."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def kill(self) -> None:
        """Kill it, and wait until what it started has ended by itself."""
        children = [os.pidfd_open(pid) for pid in self.children()]
        self.process.kill()
        self.process.wait()
        for descriptor in children:
            ended, _, _ = select.select([descriptor], [], [], 10)
            os.close(descriptor)
            assert ended, "the process that talks to the Hub outlives the program"

    def suspend(self) -> None:
        """Stop it in its tracks, and what it started."""
        for pid in (self.process.pid, *self.children()):
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for pid in (*self.children(), self.process.pid):
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()


@contextmanager
def programs(pace: Pace, models: Path, count: int = 1) -> Iterator[list[Program]]:
    """`count` programs started together, ended at the end."""
    started = [Program(pace, models) for _ in range(count)]
    try:
        yield started
    finally:
        for program in started:
            program.close()
