"""The plain addresses of a job."""

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from pipeline.web import plain

from .bench_watchers import FOLLOWERS, READERS, measure
from .conftest import Served
from .scripted import STEPS
from .test_api import files
from .test_assistants import BASIC, OWNER


def test_a_status_is_the_one_that_the_api_gives(served: Served, client: Client, portrait: Path, voice: Path) -> None:
    job = client.predict(**files(portrait, voice), api_name="/submit")
    served.model.let_all()
    served.wait_for_end(job)

    answer = httpx.get(f"{served.url}/jobs/{job}")

    assert (answer.status_code, answer.json()) == (200, client.predict(job, api_name="/status"))
    assert answer.headers["content-type"] == "application/json"


def test_events_are_every_status_to_the_end(served: Served, client: Client, portrait: Path, voice: Path) -> None:
    job = client.predict(**files(portrait, voice), api_name="/submit")

    with httpx.stream("GET", f"{served.url}/jobs/{job}/events", timeout=30) as answer:
        lines = answer.iter_lines()
        first = json.loads(next(lines).removeprefix("data: "))
        served.model.let_all()
        rest = [json.loads(line.removeprefix("data: ")) for line in lines if line]

    assert first["state"] in ("queued", "running")
    assert {status["step"] for status in rest if status["stage"] == "denoise"} >= set(range(1, STEPS + 1))
    assert rest[-1] == asdict(served.studio.queue.status(job))
    assert rest[-1]["state"] == "finished"


def test_where_nothing_happens_a_comment_keeps_the_line_alive(
    served: Served, client: Client, portrait: Path, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "SILENCE_S", 0.05)
    job = client.predict(**files(portrait, voice), api_name="/submit")

    with httpx.stream("GET", f"{served.url}/jobs/{job}/events", timeout=30) as answer:
        lines = answer.iter_lines()
        comments = list(islice((line for line in lines if line.startswith(":")), 3))
        served.model.let_all()
        last = [line for line in lines if line.startswith("data: ")][-1]

    assert comments == [": nothing new"] * 3
    assert json.loads(last.removeprefix("data: "))["state"] == "finished"


def test_what_is_no_job_is_not_found(served: Served) -> None:
    for path in ("/jobs/" + "0" * 32, "/jobs/x", "/jobs/x/events", "/jobs/..%2f..%2fetc"):
        answer = httpx.get(served.url + path)
        assert answer.status_code == 404, path
    assert "There is no such job here" in httpx.get(f"{served.url}/jobs/x").json()["detail"]


def test_strangers_are_told_nothing(serve: Callable[..., Served], portrait: Path, voice: Path) -> None:
    served = serve(credentials=OWNER)
    client = served.client(auth=OWNER)
    job = client.predict(**files(portrait, voice), api_name="/submit")
    for path in (f"/jobs/{job}", f"/jobs/{job}/events", "/jobs/x"):
        assert httpx.get(served.url + path).status_code == 401, path
    assert httpx.get(f"{served.url}/jobs/{job}", headers=BASIC).json()["job"] == job
    assert httpx.get(f"{served.url}/jobs/{job}", cookies=dict(client.cookies)).json()["job"] == job


def test_200_readers_and_10_followers_cost_the_server_next_to_nothing() -> None:
    """In CPU time, which other programs on the machine do not touch; the benchmark looks at answer times as well."""
    measured = measure(READERS, FOLLOWERS, pages=0, pause_s=5.0, steps=10)

    assert measured.answers >= READERS
    assert measured.events >= 10 * FOLLOWERS
    assert measured.share_of_core < 0.05
