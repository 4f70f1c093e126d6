"""A pod without work: the countdown, what starts it anew, and what is asked of RunPod, by a server on this machine."""

import json
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline import idle_stop
from pipeline.errors import InvalidSetting, ModelUnavailable, UserError
from pipeline.events import ModelState
from pipeline.idle_stop import IdleStop, Pod, has_work, stop_pod, this_pod
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker
from pipeline.request import GenerationRequest

from .forked import start_app
from .web.scripted import PacedModel, write_portrait, write_voice

ROOT = Path(__file__).parents[1]
STOPPED = (200, {"data": {"podStop": {"id": "pod-1", "desiredStatus": "EXITED"}}})


class RunPodApi(ThreadingHTTPServer):
    """Answers the next of `answers` (status and JSON, or text) to whatever is asked, which is in `asked`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, object]] = []
        self.asked: queue.Queue[dict] = queue.Queue()
        self.pod = Pod("pod-1", "secret-key", f"http://127.0.0.1:{self.server_address[1]}")


class Handler(BaseHTTPRequestHandler):
    server: RunPodApi

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())
        self.server.asked.put({"path": self.path, "key": self.headers["Authorization"], **content})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[RunPodApi]:
    with RunPodApi() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., IdleStop]]:
    """Starts to count, in hundredths of the usual times, and ends that with the test."""
    monkeypatch.setattr(idle_stop, "LOOK_S", 0.01)
    monkeypatch.setattr(idle_stop, "AGAIN_S", 0.2)
    watches = []

    def watch(idle_s: float, is_busy: Callable[[], bool], stop: Callable[[], None]) -> IdleStop:
        watches.append(IdleStop(idle_s, is_busy, stop))
        watches[-1].start()
        return watches[-1]

    yield watch
    for each in watches:
        each.close()


def test_a_pod_without_work_is_stopped_through_the_api(api: RunPodApi, watch: Callable[..., IdleStop]) -> None:
    api.answers = [STOPPED] * 100

    idle = watch(0.1, lambda: False, lambda: stop_pod(api.pod))

    asked = api.asked.get(timeout=10)
    assert asked["path"] == "/graphql"
    assert asked["key"] == "Bearer secret-key"
    assert "podStop" in asked["query"]
    assert asked["variables"] == {"pod": "pod-1"}
    api.asked.get(timeout=10)  # again: the first answer has been read
    assert idle.state.trouble == ""


def test_the_time_counts_from_the_last_work(watch: Callable[..., IdleStop]) -> None:
    stopped, looked = threading.Event(), threading.Semaphore(0)
    work = threading.Event()
    work.set()

    def is_busy() -> bool:
        looked.release()
        return work.is_set()

    idle = watch(0.1, is_busy, stopped.set)
    for _ in range(50):  # looks, a hundredth of a second each: longer than the time
        assert looked.acquire(timeout=10)
    assert not stopped.is_set()
    assert idle.state.stops_in_s is None

    work.clear()

    assert stopped.wait(10)


def test_a_model_on_its_way_and_a_job_are_work_and_nothing_else_is(tmp_path: Path) -> None:
    model, arrived = PacedModel(), threading.Event()

    def prepare(report: Callable[[ModelState], None]) -> PacedModel:
        assert arrived.wait(10)
        return model.prepare(report)

    queue = JobQueue(tmp_path / "jobs", 5, max_audio_seconds=20, keep_results_days=7)
    worker = Worker(queue, prepare)
    request = GenerationRequest(
        portrait=write_portrait(tmp_path / "face.png"), audio=write_voice(tmp_path / "voice.wav", 1), max_area=4096
    )
    assert has_work(queue, worker), "the model is on its way"
    worker.start()
    arrived.set()
    wait_until(lambda: not has_work(queue, worker))

    job = queue.submit(request)
    assert has_work(queue, worker), "a job waits or is done"
    model.let_all()
    wait_until(lambda: not has_work(queue, worker))

    assert queue.status(job).state == "finished"
    worker.stop()


def test_to_wait_for_a_model_that_failed_is_no_work(tmp_path: Path) -> None:
    def prepare(report: Callable[[ModelState], None]) -> PacedModel:
        raise ModelUnavailable("There is no GPU.")

    queue = JobQueue(tmp_path / "jobs", 5, max_audio_seconds=20, keep_results_days=7)
    worker = Worker(queue, prepare)
    queue.submit(
        GenerationRequest(
            portrait=write_portrait(tmp_path / "face.png"), audio=write_voice(tmp_path / "voice.wav", 1), max_area=4096
        )
    )
    assert has_work(queue, worker)
    worker.start()
    wait_until(lambda: not has_work(queue, worker))
    worker.stop()


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_the_countdown_goes_down_and_to_stay_begins_it_anew() -> None:
    idle = IdleStop(1000, lambda: False, lambda: None)
    first = idle.state.stops_in_s

    assert first <= 1000
    assert idle.state.stops_in_s < first
    idle.stay()
    assert idle.state.stops_in_s > first - 1


def test_who_stays_is_not_stopped(watch: Callable[..., IdleStop]) -> None:
    looked, stopped = threading.Semaphore(0), threading.Event()
    watched: list[IdleStop] = []

    def is_busy() -> bool:
        looked.release()
        for idle in watched:
            idle.stay()
        return False

    watched.append(watch(0.2, is_busy, stopped.set))
    for _ in range(60):
        assert looked.acquire(timeout=10)

    assert not stopped.is_set()


def test_a_pod_that_runs_on_is_stopped_again(api: RunPodApi, watch: Callable[..., IdleStop]) -> None:
    api.answers = [(500, "down"), (200, {"errors": [{"message": "no"}], "data": None}), *[STOPPED] * 100]

    idle = watch(0.1, lambda: False, lambda: stop_pod(api.pod))

    for _ in range(4):  # the fourth begins after the third, the first good one, has ended
        api.asked.get(timeout=10)
    assert idle.state.trouble == ""


def test_what_went_wrong_is_told(watch: Callable[..., IdleStop], caplog: pytest.LogCaptureFixture) -> None:
    tries = threading.Semaphore(0)

    def fail() -> None:
        tries.release()
        raise UserError("RunPod sleeps.")

    idle = watch(0.05, lambda: False, fail)
    assert tries.acquire(timeout=10)
    assert tries.acquire(timeout=10)

    assert idle.state.trouble == "RunPod sleeps."
    assert "The pod runs on without work: RunPod sleeps." in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"errors": [{"message": "secret-key is wrong"}]}),
        (200, {"data": {"podStop": None}}),
        (200, {"data": {"podStop": {"desiredStatus": "RUNNING"}}}),
        (200, "no JSON"),
        (200, []),
        (401, {"error": "secret-key"}),
        (500, "secret-key"),
    ],
)
def test_an_answer_that_does_not_say_stopped_is_one_sentence_without_the_key(
    api: RunPodApi, caplog: pytest.LogCaptureFixture, answer: tuple[int, object]
) -> None:
    caplog.set_level(logging.DEBUG)
    api.answers = [answer]

    with pytest.raises(UserError, match=f"RunPod did not stop the pod .status {answer[0]}.") as failure:
        stop_pod(api.pod)

    assert "secret-key" not in str(failure.value) + caplog.text


def test_an_api_that_cannot_be_reached_is_one_sentence() -> None:
    api = RunPodApi()
    api.server_close()

    with pytest.raises(UserError, match="RunPod's API could not be reached"):
        stop_pod(api.pod)


def test_the_key_is_not_shown() -> None:
    assert "secret-key" not in repr(Pod("pod-1", "secret-key"))


def test_the_pod_is_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "pod-1")
    monkeypatch.setenv("RUNPOD_API_KEY", "secret-key")

    assert this_pod() == Pod("pod-1", "secret-key", "https://api.runpod.io")


@pytest.mark.parametrize("missing", ["RUNPOD_POD_ID", "RUNPOD_API_KEY"])
def test_elsewhere_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "pod-1")
    monkeypatch.setenv("RUNPOD_API_KEY", "secret-key")
    monkeypatch.delenv(missing)

    with pytest.raises(InvalidSetting, match=f"{missing} is not set") as refused:
        this_pod()
    assert "secret-key" not in str(refused.value)


@pytest.mark.parametrize("others", [{}, {"MAX_QUEUE": "many"}], ids=["well", "with a setting that cannot be read"])
def test_the_program_stops_its_pod(others: dict[str, str], api: RunPodApi, tmp_path: Path) -> None:
    """app.py with the sample model: the time begins once the model is there, or it is clear that it never will."""
    api.answers = [STOPPED] * 100
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    variables = {"MODEL": "sample", "OUTPUT_DIR": str(tmp_path), "PORT": str(port), "OMP_NUM_THREADS": "1"}
    variables |= {"RUNPOD_POD_ID": "pod-1", "RUNPOD_API_KEY": "secret-key", "RUNPOD_API_BASE_URL": api.pod.api}
    variables |= {"IDLE_STOP_MINUTES": "0.02", "TMPDIR": str(tmp_path)} | others
    program = start_app(variables, tmp_path / "log")
    try:
        assert api.asked.get(timeout=100)["variables"] == {"pod": "pod-1"}
    finally:
        program.terminate()
        program.join(30)
        log = (tmp_path / "log").read_text()

    assert program.exitcode == 0, log
    assert "the pod is stopped" in log
    assert "secret-key" not in log


def test_the_program_elsewhere_refuses_the_setting_in_one_line(tmp_path: Path) -> None:
    variables = {"IDLE_STOP_MINUTES": "5", "OUTPUT_DIR": str(tmp_path), "RUNPOD_POD_ID": "", "RUNPOD_API_KEY": ""}
    told = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=100
    )

    assert told.returncode == 2
    assert told.stderr.startswith("IDLE_STOP_MINUTES is for RunPod's pods alone")
    assert told.stderr.count("\n") == 1
