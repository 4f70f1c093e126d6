"""Programs that obtain the model, as processes that can be killed, and what is known of them."""

import logging
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.settings import read_settings
from pipeline.store.catalogue import entry_for
from pipeline.store.download import Pace
from pipeline.store.obtain import obtain_model
from pipeline.store.progress import follow

from ..forked import FORKS, be_program, start_fork
from .models import REPOSITORY


def obtain(pace: Pace, environment: Mapping[str, str], log: Path, said: Connection) -> None:
    """Obtain the model in this environment, telling every state and at the end {"folder"} or {"error"}."""
    be_program(environment, log)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        states = obtain_model(entry_for(REPOSITORY), read_settings(), pace=pace)
        said.send({"folder": str(follow(states, lambda state: said.send(asdict(state))))})
    except UserError as error:
        said.send({"error": str(error)})


class Program:
    """One process that obtains the model. `said` is what it has said, newest last."""

    def __init__(self, pace: Pace, models: Path) -> None:
        self.said: list[dict[str, Any]] = []
        self._heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        models.parent.mkdir(exist_ok=True)
        self._log = models.parent / f"program-{time.monotonic_ns()}.log"
        receiver, sender = FORKS.Pipe(duplex=False)
        self.process = start_fork(obtain, pace, os.environ | {"MODEL_CACHE_DIR": str(models)}, self._log, sender)
        sender.close()
        self._listener = threading.Thread(target=self._listen, args=(receiver,))
        self._listener.start()

    def _listen(self, receiver: Connection) -> None:
        with receiver, suppress(EOFError):
            while True:
                self._heard.put(receiver.recv())
        self._heard.put(None)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def follow(self, timeout_s: float = 60) -> Iterator[dict[str, Any]]:
        """What it says from now on, to its end."""
        while (line := self._heard.get(timeout=timeout_s)) is not None:
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
        """The processes that it started; none once it has ended."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def kill(self) -> None:
        """Kill it, and wait until what it started has ended by itself."""
        children = [os.pidfd_open(pid) for pid in self.children()]
        self.process.kill()
        self.process.join()
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
        self.process.kill()
        self.process.join()
        self._listener.join()


@contextmanager
def programs(pace: Pace, models: Path, count: int = 1) -> Iterator[list[Program]]:
    """`count` programs started together, ended at the end."""
    started = [Program(pace, models) for _ in range(count)]
    try:
        yield started
    finally:
        for program in started:
            program.close()
