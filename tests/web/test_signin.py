"""Signing in: who has to, and that nothing but the two health routes is to be had without."""

import asyncio
import logging
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AuthenticationError

from pipeline.errors import InvalidSetting
from pipeline.settings import Settings
from pipeline.web import signin
from pipeline.web.signin import Doorkeeper, credentials, is_loopback

from ..awaiting import result_of
from .conftest import Served

OWNER = ("studio", "correct horse")
# What Gradio leaves open: the form to sign in, who is asking, and what is no use without the random name of a session.
OPEN = {"", "/login", "/logout", "/svelte/{path}", "/static/{path}", "/assets/{path}", "/favicon.ico", "/theme.css"}
OPEN |= {"/robots.txt", "/pwa_icon", "/pwa_icon/{size}", "/manifest.json"}
OPEN |= {f"/gradio_api/{name}" for name in ("user", "token", "app_id", "startup-events", "theme.css")}
SESSIONS = ("/gradio_api/stream/{", "/gradio_api/heartbeat/{", "/gradio_api/reset", "/gradio_api/cancel")
SWITCHED_OFF = ("/monitoring/{key}", "/gradio_api/runs", "/gradio_api/custom_component/{", "/gradio_api/vibe-")
SWITCHED_OFF += ("/gradio_api/undo-vibe-edit",)


@pytest.fixture(autouse=True)
def outside_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org")],
)
def test_loopback_is_told_from_what_others_can_reach(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_nobody_signs_in_on_loopback_in_a_space_or_where_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert credentials(Settings(host="127.0.0.1"), tmp_path) is None
    assert credentials(Settings(host="0.0.0.0", app_auth="off"), tmp_path) is None
    monkeypatch.setenv("SPACE_ID", "someone/something")
    assert credentials(Settings(host="0.0.0.0"), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_password_of_ones_own_is_neither_kept_nor_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for host in ("0.0.0.0", "127.0.0.1"):  # the second may be the end of a tunnel
        settings = Settings(host=host, app_username="me", app_password="my own secret")
        assert credentials(settings, tmp_path) == ("me", "my own secret")
    assert list(tmp_path.iterdir()) == []
    assert "my own secret" not in caplog.text


def test_a_made_up_password_is_told_at_each_start_and_stays_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "output"

    name, password = credentials(Settings(host="0.0.0.0"), folder)
    again = credentials(Settings(host="0.0.0.0"), folder)

    assert (name, len(password)) == ("studio", 16)
    assert again == (name, password)
    assert caplog.text.count(password) == 2
    assert [file.name for file in folder.iterdir()] == ["password"]
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600


def test_a_password_that_cannot_be_kept_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match="set APP_PASSWORD"):
        credentials(Settings(host="0.0.0.0"), tmp_path / "file")


def answers_to(*guesses: str) -> tuple[list[bool], float]:
    """What a doorkeeper says to passwords that are tried at once, the right one being "größer", and after how long."""
    doorkeeper = Doorkeeper("studio", "größer")

    async def guess() -> list[bool]:
        return await asyncio.gather(*(doorkeeper.admits("studio", guess) for guess in guesses))

    before = time.monotonic()
    return result_of(guess()), time.monotonic() - before


def test_the_right_password_is_answered_no_sooner_than_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "ANSWER_S", 0.3)
    for password, admitted in (("größer", True), ("größe", False), ("", False)):
        answers, took_s = answers_to(password)
        assert answers == [admitted]
        assert took_s >= 0.3


def test_of_many_guesses_at_once_only_some_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "ANSWER_S", 0.1)
    wrong = ["a"] * signin.MOST_WAITING
    assert answers_to(*wrong[1:], "größer")[0][-1]
    assert not any(answers_to(*wrong, "größer")[0])


def routes_of(client: httpx.Client) -> dict[str, dict]:
    """All routes that Gradio knows of itself, by their paths, with their methods."""
    return client.get("/openapi.json").json()["paths"]


def test_without_signing_in_there_is_only_the_form_and_health(serve: Callable[..., Served]) -> None:
    url = serve(credentials=OWNER).url
    with httpx.Client(base_url=url) as stranger:
        assert '"auth_required":true' in stranger.get("/").text
        assert stranger.get("/healthz").status_code == 200
        assert stranger.get("/readyz").status_code in (200, 503)
        routes = [(path, method) for path, methods in routes_of(stranger).items() for method in methods]
        assert {"/gradio_api/upload", "/gradio_api/queue/join", "/config"} < {path for path, _ in routes}
        for path, method in routes:
            with stranger.stream(method, re.sub(r"\{[^}]*\}", "x", path)) as answer:
                open_to_all = path.rstrip("/") in OPEN or path.startswith(SESSIONS)
                off = path.startswith(SWITCHED_OFF) and answer.status_code in (403, 404, 422)
                assert answer.status_code == 401 or open_to_all or off, (method, path)
        for path in ("file=/etc/hostname", "queue/data?session_hash=x", "api/predict", "call/v2/model"):
            assert stranger.get(f"/gradio_api/{path}").status_code in (401, 405), path
        wrong = stranger.post("/login", data={"username": "studio", "password": "battery staple"})
        assert wrong.status_code == 400


def test_clients_sign_in_and_fetch_files_that_strangers_do_not_get(
    serve: Callable[..., Served], portrait: Path, voice: Path
) -> None:
    served = serve(credentials=OWNER)
    served.model.let_all()
    with pytest.raises((AuthenticationError, ValueError)):
        served.client()

    client = served.client(auth=OWNER, download_files=False)
    files = {"portrait": handle_file(portrait), "audio": handle_file(voice)}
    video, status = list(client.submit(**files, api_name="/generate"))[-1]

    assert status["state"] == "finished"
    assert httpx.get(video["url"], cookies=dict(client.cookies)).status_code == 200
    assert httpx.get(video["url"]).status_code == 401
