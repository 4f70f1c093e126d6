"""The whole program, killed in the middle of a job: app.py with a tiny model, over its API."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file

from pipeline.media.pose import read_pose_frames
from pipeline.request import FRAMES_PER_SECOND

from .forked import start_app

ROOT = Path(__file__).parents[1]
PORTRAIT, SPEECH, MODEL = (ROOT / "tests" / "golden" / name for name in ("portrait.png", "speech.wav", "checkpoint"))
REQUEST = {"size": "4096", "steps": 3, "guidance": 1.0, "seed": 11}  # the smallest
FRAMES = 3 * 80 - 3


class Program:
    """A running app.py and a client of it."""

    def __init__(self, outputs: Path, audio: Path, workers: int):
        self.audio = audio
        with socket.create_server(("127.0.0.1", 0)) as door:
            self.port = door.getsockname()[1]
        variables = {"MODEL": str(MODEL), "OUTPUT_DIR": str(outputs), "PORT": str(self.port), "OMP_NUM_THREADS": "1"}
        variables["WORKERS"] = str(workers)
        self.process = start_app(variables)

    def wait_for_page(self) -> None:
        """Wait until it answers; from then on there is a client."""
        deadline = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < deadline
        self.client = Client(f"http://127.0.0.1:{self.port}", verbose=False)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            assert self.process.is_alive()
            return False

    def submit(self) -> str:
        inputs = {"portrait": handle_file(PORTRAIT), "audio": handle_file(self.audio)}
        return self.client.predict(**inputs, **REQUEST, api_name="/submit")

    def wait_until(self, job: str, reached: Callable[[dict], bool]) -> dict:
        """The first status of which that is so."""
        with httpx.stream("GET", f"http://127.0.0.1:{self.port}/jobs/{job}/events", timeout=100) as events:
            told = (json.loads(line.removeprefix("data: ")) for line in events.iter_lines() if line)
            return next(status for status in told if reached(status))

    def status(self, job: str) -> dict:
        return httpx.get(f"http://127.0.0.1:{self.port}/jobs/{job}", timeout=30).json()

    def wait_for_workers(self, count: int) -> None:
        """Wait until all of them have their model."""
        deadline, told = time.monotonic() + 120, ""
        while f"{count} of {count} workers are ready" not in told:
            assert time.monotonic() < deadline, told
            told = httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=30).json()["message"]

    def frames(self, job: str) -> np.ndarray:
        video = self.client.predict(job, api_name="/result")
        return read_pose_frames(Path(video), 0, 1000)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    speech, rate = soundfile.read(SPEECH)
    audio = tmp_path / "three_clips.wav"
    soundfile.write(audio, np.tile(speech, 5)[: rate * FRAMES // FRAMES_PER_SECOND], rate)
    programs = []

    def start(workers: int) -> Program:
        programs.append(Program(tmp_path / "outputs", audio, workers))
        programs[-1].wait_for_page()
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def clips_made(folder: Path, job: str) -> list[int]:
    """The clips that the job's journal tells of, each time that one was made."""
    journal = (folder / "outputs" / "jobs" / job / "events.jsonl").read_text().splitlines()
    return [line["clip"] for line in map(json.loads, journal) if line["event"] == "clip_ready"]


def test_killed_jobs_go_on_after_a_restart_and_give_the_frames_of_an_unbroken_one(start, tmp_path) -> None:
    first = start(workers=2)
    first.wait_for_workers(2)
    *broken, unbroken = [first.submit() for _ in range(3)]  # the third waits for one of the others to end
    for job in broken:
        first.wait_until(job, lambda status: status["clip"] >= 2)  # one may be ahead of the other
    told = [first.status(job) for job in (*broken, unbroken)]
    assert [(status["state"], status["position"]) for status in told] == [("running", 0), ("running", 0), ("queued", 1)]
    first.kill()

    second = start(workers=2)
    for job in broken:
        status = second.wait_until(job, lambda status: status["state"] != "queued" and status["clip"] >= 2)
        assert status["state"] in ("running", "finished")
    for job in (*broken, unbroken):
        status = second.wait_until(job, lambda status: status["state"] not in ("queued", "running"))
        assert (status["state"], status["seed"]) == ("finished", REQUEST["seed"])
        assert clips_made(tmp_path, job) == [1, 2, 3]  # none was made again
    whole = second.frames(unbroken)
    assert len(whole) == FRAMES
    for job in broken:
        np.testing.assert_array_equal(second.frames(job), whole)
