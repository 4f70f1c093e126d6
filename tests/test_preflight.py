"""What a start finds out, with stand-ins for NVIDIA's program and for torch where there is no card."""

import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import pytest

from pipeline.errors import InvalidSetting, ModelUnavailable
from pipeline.events import ModelState
from pipeline.machine import SMALLEST_CARD_BYTES, Card, Gpu, look_at_gpu, public_url
from pipeline.preflight import findings, plan_start, require_machine, unfit
from pipeline.settings import read_settings
from pipeline.store.catalogue import entry_for
from pipeline.store.progress import in_units

from .forked import start_app

CARD = Card("NVIDIA H100 80GB HBM3", 85_520_809_984, "570.124.06")
OLD = Card("NVIDIA A100-SXM4-80GB", 85_899_345_920, "470.82.01")
LARGE, SAMPLE = entry_for(None), entry_for("sample")


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "abc123")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes a shell program of this name, which is found before all others."""

    def write(name: str, script: str) -> Path:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}{os.pathsep}{os.environ['PATH']}")
        return file

    return write


def test_the_large_model_is_refused_where_there_is_no_gpu() -> None:
    at_least = in_units(SMALLEST_CARD_BYTES)
    assert f"needs an NVIDIA GPU with at least {at_least}, and there is none here" in unfit(LARGE, Gpu(()))


def test_the_large_model_is_refused_where_torch_cannot_use_the_driver() -> None:
    reason = unfit(LARGE, Gpu((OLD,), "RuntimeError: The NVIDIA driver on your system is too old"))
    assert "driver 470.82.01" in reason
    assert "redeploy with the CUDA 12.8 filter" in reason


def test_a_machine_that_fits_and_the_sample_model_are_not_refused() -> None:
    assert unfit(LARGE, Gpu((CARD,))) is None
    assert unfit(SAMPLE, Gpu(())) is None


def test_torch_is_asked_only_where_there_is_a_card(program, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", str(program("python", "echo 'RuntimeError: too old' >&2; exit 1")))
    program("nvidia-smi", "exit 9")
    assert look_at_gpu() == Gpu(())
    program("nvidia-smi", "echo 'NVIDIA A100-SXM4-80GB, 81920, 470.82.01'")
    assert look_at_gpu() == Gpu((OLD,), "RuntimeError: too old")


def test_torch_that_works_on_the_card_is_no_trouble(program, monkeypatch) -> None:
    program("nvidia-smi", "echo 'NVIDIA A100-SXM4-80GB, 81920, 470.82.01'")
    monkeypatch.setattr(sys, "executable", str(program("python", "exit 0")))
    assert look_at_gpu() == Gpu((OLD,))


def test_a_card_with_a_driver_too_old_for_torch_serves_the_sample_model(program) -> None:
    program("nvidia-smi", "echo 'NVIDIA A100-SXM4-80GB, 81920, 470.82.01'")
    assert plan_start(forgiving=False).entry == SAMPLE


def test_too_many_workers_end_the_start_and_on_a_pod_are_its_trouble(program, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("WORKERS", "2")
    program("nvidia-smi", "echo 'NVIDIA A100-SXM4-80GB, 81920, 570.124.06'")
    with pytest.raises(InvalidSetting, match=r"WORKERS=2 cannot be used: .* this machine has 1"):
        plan_start(forgiving=False)
    assert "WORKERS=2 cannot be used" in str(plan_start(forgiving=True).trouble)


def test_what_needs_action_is_marked() -> None:
    start = plan_start(forgiving=False)
    lines = list(findings(start, Gpu((OLD,), "too old")))
    assert any(line.startswith("! torch cannot use the GPU (too old)") for line in lines)
    assert not [line for line in findings(start, Gpu((CARD,))) if line.startswith("!")]


def test_a_hosted_machine_refuses_before_anything_is_fetched_and_says_what_it_is(pod, monkeypatch, caplog) -> None:
    monkeypatch.setenv("MODEL", "wan2.2-s2v-14b")
    caplog.set_level("INFO")
    told: list[ModelState] = []
    with pytest.raises(ModelUnavailable, match="there is none here"):
        require_machine(plan_start(forgiving=True), told.append)
    assert [(state.state, state.model) for state in told] == [("checking", "wan2.2-s2v-14b")]
    lines = [record.message for record in caplog.records if record.name == "pipeline.preflight"]
    assert 8 <= len(lines) <= 12
    for word in ("Python", "torch", "CUDA", "memory", "model", "Results go to"):
        assert any(word in line for line in lines)


def test_on_somebodys_own_computer_the_large_model_needs_a_card_and_no_more_is_looked_at(program, monkeypatch) -> None:
    monkeypatch.setenv("MODEL", "wan2.2-s2v-14b")
    told: list[ModelState] = []
    program("nvidia-smi", "exit 9")
    with pytest.raises(ModelUnavailable, match="and there is none here"):
        require_machine(plan_start(forgiving=False), told.append)
    program("nvidia-smi", "echo 'NVIDIA GeForce RTX 4090, 24564, 570.86'")
    require_machine(plan_start(forgiving=False), told.append)
    assert told == []


@pytest.mark.parametrize(("name", "value"), [("PORT", "x"), ("MEMORY", "lots"), ("MODEL", "no such model")])
def test_a_wrong_setting_ends_a_program_of_ones_own_and_is_told_by_a_hosted_one(
    name: str, value: str, monkeypatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting):
        plan_start(forgiving=False)
    start = plan_start(forgiving=True)
    assert f"{name}={value!r} cannot be used" in str(start.trouble)
    assert (start.settings.port, start.settings.memory, start.entry) == (7860, "auto", SAMPLE)


def test_results_that_cannot_be_kept_are_told(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "file" / "outputs"))
    start = plan_start(forgiving=True)
    assert "OUTPUT_DIR" in str(start.trouble)
    assert not start.folder.exists()


def test_the_page_of_a_pod_is_where_its_proxy_shows_it(pod) -> None:
    assert public_url(read_settings()) == "https://abc123-7860.proxy.runpod.net"


def test_a_space_listens_on_every_address_and_has_narrower_limits(monkeypatch) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/talking-video")
    settings = read_settings()
    assert (settings.host, settings.max_audio_seconds, settings.keep_results_days) == ("0.0.0.0", 30, 1)
    monkeypatch.setenv("HOST", "127.0.0.1")
    assert read_settings().host == "127.0.0.1"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MEMORY": "lots"}, "MEMORY='lots' cannot be used: give auto, resident, "),
        ({"MODEL": "wan2.2-s2v-14b"}, "and there is none here: take a machine with one"),
        ({"MODEL": "Wan-AI/Wan2.2-S2V-14B"}, "and there is none here: take a machine with one"),
        ({"MODEL": "~nobody-of-this-name/x"}, "MODEL='~nobody-of-this-name/x' cannot be used"),
        ({"MODEL_CACHE_DIR": "~nobody-of-this-name/x"}, "MODEL_CACHE_DIR='~nobody-of-this-name/x' cannot be used"),
        ({"HOST": "0.0.0.0"}, "out/password cannot be used"),
        ({"OUTPUT_DIR": "/proc/nowhere"}, "OUTPUT_DIR: /proc/nowhere cannot be written to"),
    ],
)
def test_a_container_that_cannot_serve_lives_and_says_why(variables: dict[str, str], said: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    kept = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    (tmp_path / "out" / "password").mkdir(parents=True)  # which is to be a file
    log = tmp_path / "log"
    program = start_app(kept | {"container": "oci", "PORT": str(port)} | variables, log)
    try:
        state = refusal(f"http://127.0.0.1:{port}", program)
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        assert said in state["message"]
    finally:
        program.terminate()
        program.join(30)
    assert program.exitcode == 0
    assert f"The model is not ready: {state['message']}" in log.read_text()


def refusal(url: str, program: BaseProcess) -> dict[str, str]:
    """What /readyz says once the model has failed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and program.is_alive():
        try:
            answer = httpx.get(f"{url}/readyz", timeout=30)
        except httpx.TransportError:
            continue
        if answer.json()["state"] == "failed":
            assert answer.status_code == 503
            return answer.json()
    raise AssertionError(f"the program did not refuse (exit status {program.exitcode})")
