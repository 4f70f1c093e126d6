"""Fixtures: the whole site on a free port of this machine, inputs, clients and a browser."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.dependencies import models
from gradio_client import Client

from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker
from pipeline.web import signin
from pipeline.web.site import SiteServer, build_site
from pipeline.web.studio import Studio

from ..absent import not_run
from ..awaiting import result_of
from .scripted import ENTRY, PacedModel, write_portrait, write_voice

CHROMIUMS = [Path("/usr/bin", name) for name in ("chromium-headless-shell", "chromium")]  # the former computes less
CHROMIUM_OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]


class Server(SiteServer):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@dataclass
class Served:
    """A running site."""

    url: str
    studio: Studio
    model: PacedModel

    def client(self, **options: Any) -> Client:
        return Client(self.url, verbose=False, **options)

    def wait_for_model(self, state: str) -> httpx.Response:
        """Ask until the model is in this state; gives that answer."""
        deadline = time.monotonic() + 30
        while (ready := httpx.get(f"{self.url}/readyz")).json()["state"] != state:
            assert time.monotonic() < deadline, ready.text
        return ready

    def wait_for_end(self, job: str) -> None:
        async def follow() -> None:
            async for _ in self.studio.queue.follow(job):
                pass

        result_of(follow())


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    """Starts a site with a model of its own, and ends it with the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(signin, "ANSWER_S", 0.1)  # that guessing is slow has tests of its own
    running: list[tuple[PacedModel, Server, threading.Thread]] = []

    def serve(
        prepare: Callable | None = None, credentials: tuple[str, str] | None = None, max_queue: int = 20
    ) -> Served:
        model = PacedModel()
        queue = JobQueue(tmp_path / "output" / "jobs", max_queue, max_audio_seconds=20, keep_results_days=7)
        studio = Studio(queue, Worker(queue, prepare or model.prepare), ENTRY)
        door = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(build_site(studio, credentials), log_level="error", timeout_graceful_shutdown=1)
        server = Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        running.append((model, server, thread))
        assert server.listening.wait(30), "the site did not start"
        return Served(f"http://127.0.0.1:{door.getsockname()[1]}", studio, model)

    yield serve
    for model, server, thread in running:
        model.let_all()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the site did not end"
    forget_routes()


def forget_routes() -> None:
    """FastAPI remembers the functions of routes, and by them whole sites: the garbage collector would look at each."""
    for function in vars(models).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


@pytest.fixture
def client(served: Served) -> Client:
    return served.client()


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    return write_portrait(tmp_path / "my face.png")


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """1 s: 16 frames, one clip."""
    return write_voice(tmp_path / "my voice.wav", 1)


@pytest.fixture
def long_voice(tmp_path: Path) -> Path:
    """6 s: 96 frames, two clips."""
    return write_voice(tmp_path / "my long voice.wav", 6)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium. Where it cannot be had the tests are skipped, except in CI: there they fail."""
    try:
        from playwright.sync_api import sync_playwright

        chromium = next((path for path in CHROMIUMS if path.exists()), None)
        if chromium is None:
            raise FileNotFoundError("neither /usr/bin/chromium nor chromium-headless-shell is there")
    except (ImportError, FileNotFoundError) as error:
        not_run(f"The browser tests did not run: {error}. They need playwright (pip) and the package chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of tests/package.json, fetched with npm. Where that cannot be done, it is as with the browser."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(Path(__file__).parents[1] / "package.json", folder)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=240)
    except (OSError, subprocess.SubprocessError) as error:
        not_run(f"The tests that need npm did not run: {error}. They need node, npm and a package registry.")
    return folder / "node_modules"


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page as a new visitor, with a storage of their own."""
    contexts = []

    def visit(url: str, width: int = 1280, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
