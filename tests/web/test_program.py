"""The program as its users start it: `python app.py`, in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from .program import ROOT, START_SECONDS, free_port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts the program with these variables, and ends it with the test."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    kept["TMPDIR"] = str(tmp_path)
    programs = []

    def start(**variables: str) -> subprocess.Popen:
        environment = kept | {"MODEL": "sample", "OUTPUT_DIR": str(tmp_path / "output")} | variables
        command = [sys.executable, str(ROOT / "app.py")]
        program = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def answer(url: str, program: subprocess.Popen) -> httpx.Response:
    """The first answer of a program that is starting."""
    deadline = time.monotonic() + 3 * START_SECONDS
    while True:
        try:
            return httpx.get(url, timeout=3 * START_SECONDS)
        except httpx.TransportError:
            assert program.poll() is None, program.stderr.read()
            assert time.monotonic() < deadline


def started_in_time(start: Callable[..., subprocess.Popen]) -> tuple[subprocess.Popen, int]:
    """The program and its port, once /healthz has answered in time: at one of three starts, for other tests run too."""
    took = []
    for _ in range(3):
        port, begun = free_port(), time.monotonic()
        program = start(PORT=str(port))
        assert answer(f"http://127.0.0.1:{port}/healthz", program).status_code == 200
        took.append(time.monotonic() - begun)
        if took[-1] < START_SECONDS:
            return program, port
        program.kill()
        program.wait()
    raise AssertionError(f"It answered after {took} s.")


def test_it_answers_within_ten_seconds_keeps_others_from_its_folder_and_ends_cleanly_at_a_signal(
    start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    program, port = started_in_time(start)

    second = start(PORT=str(free_port()))
    _, log = second.communicate(timeout=30)
    assert second.returncode == 2
    assert log.startswith(f"OUTPUT_DIR: another program works in {tmp_path / 'output'}: ")
    assert log.count("\n") == 1

    with httpx.stream("GET", f"http://127.0.0.1:{port}/gradio_api/heartbeat/x", timeout=30) as page:
        next(page.iter_raw())
        program.send_signal(signal.SIGTERM)
        _, log = program.communicate(timeout=30)
    assert program.returncode == 0, log
    assert "Cancelled" not in log


def test_a_setting_that_cannot_be_used_is_one_line(start: Callable[..., subprocess.Popen]) -> None:
    program = start(PORT="99999")

    _, log = program.communicate(timeout=30)

    assert (program.returncode, log) == (2, "PORT='99999' cannot be used: give a port from 1 to 65535.\n")


def test_a_port_in_use_is_one_line(start: Callable[..., subprocess.Popen]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        program = start(PORT=str(port))
        _, log = program.communicate(timeout=30)

    assert program.returncode == 1
    assert log.count("\n") == 1
    assert f"PORT={port}" in log


def test_a_model_that_there_is_not_is_one_line(start: Callable[..., subprocess.Popen]) -> None:
    program = start(MODEL="no such model", PORT=str(free_port()))

    _, log = program.communicate(timeout=30)

    assert program.returncode == 2
    assert log.startswith("MODEL='no such model' cannot be used")
    assert log.count("\n") == 1


def test_a_program_that_others_can_reach_asks_for_the_password_in_its_log(
    start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    port = free_port()
    program = start(PORT=str(port), HOST="0.0.0.0", MODEL=str(tmp_path))  # where no model has to be loaded
    url = f"http://127.0.0.1:{port}"
    answer(f"{url}/healthz", program)
    password = (tmp_path / "output" / "password").read_text().strip()

    assert httpx.get(f"{url}/config").status_code == 401
    signed_in = httpx.post(f"{url}/login", data={"username": "studio", "password": password})
    assert httpx.get(f"{url}/config", cookies=signed_in.cookies).status_code == 200

    program.send_signal(signal.SIGINT)
    _, log = program.communicate(timeout=30)
    assert f"Sign in as studio with the password {password}" in log


def test_what_serves_the_page_is_imported_without_torch_librosa_and_the_stubs_of_gradio() -> None:
    code = """if True:
        import sys
        opened = []
        sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
        import app, pipeline.web.site
        print({"torch", "librosa", "transformers"} & set(sys.modules))
        print([name for name in opened if name.endswith(".pyi")])
    """

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert told.stdout == "set()\n[]\n"
