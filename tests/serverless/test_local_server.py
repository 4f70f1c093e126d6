"""The worker behind runpod's own test server, with a bucket on this machine."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.media.pose import read_pose_frames
from pipeline.media.video import read_note_from

from ..file_server import FileServer
from .conftest import PORTRAIT, S3, SMALLEST, SPEECH, Worker, free_port, local_api


@pytest.fixture(scope="module")
def worker(start: Callable[..., Worker], bucket: S3) -> Worker:
    port = free_port()
    worker = start("--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", str(port), **bucket.variables())
    worker.port = port
    return worker


@pytest.fixture(scope="module")
def api(worker: Worker) -> Iterator[httpx.Client]:
    with local_api(worker, worker.port) as client:
        yield client


@pytest.fixture
def ask(api: httpx.Client, files: FileServer) -> Callable[..., dict]:
    """Has a job done: the smallest there is, changed by what is given."""

    def ask(**fields: Any) -> dict:
        sources = {"portrait": files.url("/portrait.png"), "audio": files.url("/speech.wav")}
        return api.post("/runsync", json={"input": sources | SMALLEST | fields}).json()

    return ask


def test_a_video_goes_to_the_bucket(ask: Callable[..., dict], worker: Worker, bucket: S3, tmp_path: Path) -> None:
    told = ask()

    assert told["status"] == "COMPLETED", told
    output = told["output"]
    assert (output["seed"], output["width"], output["height"], output["seconds"]) == (11, 64, 64, 1.0)
    assert output["video"].startswith(f"{bucket.url}/{bucket.name}/{told['id']}/video.mp4?")
    given = httpx.get(output["video"])
    assert given.headers["content-type"] == "video/mp4"
    (tmp_path / "video.mp4").write_bytes(given.content)
    assert len(read_pose_frames(tmp_path / "video.mp4", 0, 100)) == 16
    assert read_note_from(tmp_path / "video.mp4")["settings"]["seed"] == 11
    assert worker.jobs_left == []
    assert "key-of-the-bucket" not in worker.log


def test_a_job_of_run_is_done_when_it_is_asked_for(api: httpx.Client, files: FileServer) -> None:
    sources = {"portrait": files.url("/portrait.png"), "audio": files.url("/speech.wav")}
    job = api.post("/run", json={"input": sources | SMALLEST}).json()["id"]

    assert "video" in api.post(f"/status/{job}").json()["output"]


def test_files_can_be_base64(ask: Callable[..., dict]) -> None:
    portrait = "data:image/png;base64," + base64.b64encode(PORTRAIT.read_bytes()).decode()
    audio = base64.encodebytes(SPEECH.read_bytes()).decode()  # in lines

    assert "video" in ask(portrait=portrait, audio=audio)["output"]


def announces(server: FileServer, path: str, size: int) -> str:
    return server.does(path, lambda handler: handler.head(Content_Length=size))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"portrait": "http://127.0.0.1:{port}/missing"}, "portrait: the address answers with status 404"),
        ({"portrait": "http://127.0.0.1:1/x"}, "portrait: port 1 is not asked"),
        ({"portrait": "http://10.0.0.1/x"}, "portrait: '10.0.0.1' is not on the public internet"),
        ({"audio": "file:///etc/passwd"}, "audio: only addresses that begin with http:// or https://"),
        ({"audio": "/etc/passwd"}, "audio: this is neither an address nor base64"),
        ({"audio": "http://127.0.0.1:{port}/large"}, "audio: the file is larger than the 500 MB"),
        ({"portrait": "http://127.0.0.1:{port}/speech.wav"}, "portrait: "),
        ({"portrait": "aGVsbG8="}, "portrait: "),
        ({"portrait": None}, "portrait is missing: give the address of a file, or the file itself as base64."),
        ({"audio": ""}, "audio is missing"),
        ({"audio": 7}, "audio: a text is expected"),
        ({"pose_video": "http://127.0.0.1:{port}/portrait.png"}, "pose_video: "),
        ({"steps": 0}, "steps: 0 is not accepted; give a whole number from 1 to 200."),
        ({"size": "huge"}, "size: 'huge' is not accepted"),
        ({"colour": "blue"}, "colour: there is no such setting."),
    ],
)
def test_a_wrong_job_is_told_in_one_sentence(
    ask: Callable[..., dict], files: FileServer, worker: Worker, fields: dict, said: str
) -> None:
    files.does("/missing", lambda handler: handler.head(404))
    announces(files, "/large", 500_000_001)
    given = {k: v.replace("{port}", str(files.port)) if isinstance(v, str) else v for k, v in fields.items()}

    told = ask(**given)

    assert told["status"] == "FAILED"
    assert told["error"].startswith(said)
    assert told["error"].count("\n") == 0
    assert "Traceback" not in told["error"]
    assert str(worker.temporary) not in told["error"]
    assert worker.jobs_left == []


def test_nothing_is_fetched_for_a_job_that_is_wrong_otherwise(ask: Callable[..., dict], files: FileServer) -> None:
    files.asked.clear()

    assert ask(steps=0)["status"] == "FAILED"
    assert files.asked == []


def test_a_bucket_that_does_not_take_the_video_is_a_sentence(
    ask: Callable[..., dict], worker: Worker, bucket: S3
) -> None:
    with bucket.missing():
        told = ask()

    assert told["error"] == "The video is made, but the bucket did not take it: the worker's log says why."
    assert "NoSuchBucket" in worker.log
    assert worker.jobs_left == []


@pytest.mark.parametrize("missing", ["BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY"])
def test_half_a_bucket_is_one_line_at_the_start(start: Callable[..., Worker], bucket: S3, missing: str) -> None:
    variables = {name: value for name, value in bucket.variables().items() if name != missing}
    worker = start(module="pipeline.serverless", **variables)

    assert worker.exit_status() == 2
    assert worker.log.startswith(f"{missing} is not set")
