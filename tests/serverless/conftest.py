"""Fixtures: the worker in a process of its own, RunPod, a bucket and a web server on this machine."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..absent import not_run
from ..file_server import FileServer
from ..forked import FORKS, run_module

ROOT = Path(__file__).parents[2]
PORTRAIT, SPEECH, MODEL = (ROOT / "tests" / "golden" / name for name in ("portrait.png", "speech.wav", "checkpoint"))
SMALLEST = {"size": 4096, "steps": 2, "seed": 11, "audio_duration": 1}
START_S = 60  # of a worker that imports much, beside others


@dataclass
class Worker:
    """A worker's process. `temporary` is where it puts what it does not keep."""

    process: BaseProcess
    temporary: Path

    @property
    def jobs_left(self) -> list[Path]:
        """The folders of jobs that it has not removed."""
        return list(self.temporary.glob("talking-video-*"))

    def exit_status(self) -> int | None:
        """Once it has ended; None if it goes on for more than START_S."""
        self.process.join(START_S)
        return self.process.exitcode

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.temporary / "log").read_text()


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    """Where a package is missing the tests are skipped, except in CI: there they fail."""
    missing = [name for name in ("runpod", "boto3", "moto", "flask") if find_spec(name) is None]
    if missing:
        not_run(f"The serverless tests did not run: {', '.join(missing)} missing; tests/requirements.txt brings them.")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Worker]]:
    """Starts a worker with these options and variables, and ends it with the module."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    kept |= {"MODEL": str(MODEL), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    workers = []

    def start(*options: str, module: str = "tests.serverless.program", **variables: str) -> Worker:
        temporary = tmp_path_factory.mktemp("temporary")
        places = {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(temporary), "XDG_DATA_HOME": str(temporary)}
        environment, log = kept | places | variables, temporary / "log"
        log.touch()
        process = FORKS.Process(target=run_module, args=(module, options, environment, log))
        process.start()
        workers.append(Worker(process, temporary))
        return workers[-1]

    yield start
    for worker in workers:
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)  # with runpod's own process, which says that it lives
        worker.process.join()
        print(worker.log)


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    """Gives /portrait.png and /speech.wav."""
    with FileServer.running() as server:
        for path in (PORTRAIT, SPEECH):
            server.gives(f"/{path.name}", path.read_bytes())
        yield server


@dataclass(frozen=True)
class S3:
    """A bucket on this machine."""

    url: str
    name: str = "videos"

    @property
    def client(self) -> Any:
        """What S3 is administered with."""
        import boto3

        access = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, **access)

    @contextmanager
    def missing(self) -> Iterator[None]:
        """Meanwhile there is no such bucket; what was in it is gone."""
        objects = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        for found in objects:
            self.client.delete_object(Bucket=self.name, Key=found["Key"])
        self.client.delete_bucket(Bucket=self.name)
        yield
        self.client.create_bucket(Bucket=self.name)

    def variables(self) -> dict[str, str]:
        """What RunPod's documentation calls them, and the bucket's name."""
        return {
            "BUCKET_ENDPOINT_URL": self.url,
            "BUCKET_ACCESS_KEY_ID": "id",
            "BUCKET_SECRET_ACCESS_KEY": "key-of-the-bucket",
            "BUCKET_NAME": self.name,
        }


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3]:
    """An S3 server with a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = S3(f"http://{host}:{port}")
    s3.client.create_bucket(Bucket=s3.name)
    yield s3
    server.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


@contextmanager
def local_api(worker: Worker, port: int) -> Iterator[httpx.Client]:
    """A client of runpod's local test server, once it answers."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=100) as client:
        deadline = time.monotonic() + START_S
        while True:
            try:
                client.get("/docs")
                break
            except httpx.TransportError:
                assert worker.process.is_alive(), worker.log
                assert time.monotonic() < deadline
        yield client
