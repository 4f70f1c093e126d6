"""The worker as RunPod runs it: it asks for jobs, tells how far they are, and is told to stop one."""

import base64
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline import serverless
from pipeline.media.pose import read_pose_frames

from ..awaiting import result_of
from ..file_server import FileServer
from .conftest import MODEL, PORTRAIT, ROOT, SMALLEST, SPEECH, Worker
from .runpod_server import RunPod

FILES = {"portrait": PORTRAIT, "audio": SPEECH}


@pytest.fixture(scope="module")
def runpod() -> Iterator[RunPod]:
    with RunPod.running() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def worker(start: Callable[..., Worker], runpod: RunPod) -> Worker:
    return start(**runpod.variables())


@pytest.fixture
def submit(runpod: RunPod, files: FileServer) -> Callable[..., None]:
    """Hands the worker a job: the smallest there is, changed by what is given."""
    sources = {"portrait": files.url("/portrait.png"), "audio": files.url("/speech.wav")}

    def submit(id: str, **fields: Any) -> None:
        runpod.submit(id, **(sources | SMALLEST | fields))

    return submit


def progress_until(runpod: RunPod, reached: Callable[[dict], bool]) -> list[dict]:
    """What the worker reports, up to what is waited for."""
    told = []
    while not told or not reached(told[-1]):
        _, report = runpod.report()
        assert report["status"] == "IN_PROGRESS", report
        told.append(report["output"])
    return told


def test_a_small_video_comes_inline(
    runpod: RunPod, submit: Callable[..., None], worker: Worker, tmp_path: Path
) -> None:
    submit("small")

    output = runpod.result("small")["output"]

    assert (output["seed"], output["width"], output["height"]) == (11, 64, 64)
    (tmp_path / "video.mp4").write_bytes(base64.b64decode(output["video_base64"]))
    assert len(read_pose_frames(tmp_path / "video.mp4", 0, 100)) == 16
    assert output["video_base64"][:40] not in worker.log
    assert list(ROOT.glob(".runpod*")) == [], "runpod's notes on jobs are in a folder that workers may share"
    assert worker.jobs_left == []


def test_how_far_a_job_is_can_be_read_while_it_runs(runpod: RunPod, submit: Callable[..., None]) -> None:
    submit("long", frames_per_clip=8, steps=12, audio_duration=1.2)

    told, result = [], None
    while result is None:
        _, report = runpod.report()
        if report.get("status") == "IN_PROGRESS":
            told.append(report["output"])
        else:
            result = report

    assert result["output"]["seconds"] == pytest.approx(1.25)
    assert told[0]["message"] == "Starting."
    ready = [report["clip"] for report in told if report["message"] == f"Clip {report['clip']} of 3 is ready."]
    assert ready == [1, 2]
    assert {report["clips"] for report in told} == {3}
    assert {report["seed"] for report in told} == {11}
    assert all(report["eta_s"] >= 0 for report in told if report["clip"] > 1)
    times = [
        report["elapsed_s"]
        for report in told
        if report["message"] not in ("Clip 1 of 3 is ready.", "Clip 2 of 3 is ready.")
    ]
    assert all(later - earlier >= 0.9 for earlier, later in pairwise(times))


def test_a_cancelled_job_ends_and_the_next_one_is_done(
    runpod: RunPod, submit: Callable[..., None], worker: Worker
) -> None:
    submit("endless", size=128 * 128, steps=200, frames_per_clip=160)
    progress_until(runpod, lambda report: report["step"] >= 1)
    assert len(worker.jobs_left) == 1

    runpod.stops.put("endless")
    submit("next")

    told = [runpod.report()]
    while told[-1][0] != "next" or told[-1][1].get("status") == "IN_PROGRESS":
        told.append(runpod.report())
    assert "video_base64" in told[-1][1]["output"]
    of_the_cancelled = [report for job, report in told if job == "endless"]
    assert len(of_the_cancelled) <= 2, "it went on"  # it takes many seconds, each of which is told
    assert all(report["status"] == "IN_PROGRESS" for report in of_the_cancelled)
    assert worker.jobs_left == []


def test_a_wrong_job_is_told_in_one_sentence(runpod: RunPod, submit: Callable[..., None]) -> None:
    submit("wrong", solver="magic")

    assert runpod.result("wrong") == {"error": "solver: 'magic' is not accepted; give unipc or dpm++."}


def test_an_input_that_is_no_object_is_told(runpod: RunPod) -> None:
    runpod.jobs.put({"id": "text", "input": "hello"})

    assert runpod.result("text")["error"].startswith("The input is not an object")


def test_a_worker_without_the_model_does_not_pass_its_check(
    start: Callable[..., Worker], runpod: RunPod, tmp_path: Path
) -> None:
    worker = start(MODEL=str(tmp_path), **runpod.variables())

    assert worker.exit_status() == 1
    assert "Fitness check failed: check | ModelUnavailable" in worker.log
    assert "does not hold a whole model" in worker.log


@pytest.mark.parametrize("model", ["wan2.2-s2v-14b", ""], ids=["asked for", "by default"])
def test_a_worker_without_a_gpu_does_not_pass_its_check_with_the_large_model(
    model: str, start: Callable[..., Worker], runpod: RunPod
) -> None:
    worker = start(MODEL=model, PATH="", **runpod.variables())

    assert worker.exit_status() == 1
    assert "needs an NVIDIA GPU" in worker.log


def test_a_video_that_grows_too_large_to_be_returned_ends_at_that_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, where the limit can be one that a small video reaches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL", str(MODEL))
    monkeypatch.setattr(serverless, "INLINE_BYTES", 30_000)
    sources = {name: base64.b64encode(path.read_bytes()).decode() for name, path in FILES.items()}
    job = {"id": "grows", "input": sources | SMALLEST | {"frames_per_clip": 8}}

    told = result_of(serverless.build_worker().handle(job), limit_s=120)

    assert told["error"].startswith("The video has 0.0 MB, and without a bucket 0.03 MB can be returned")
    assert "BUCKET_ENDPOINT_URL" in told["error"]
    assert "refresh_worker" not in told
