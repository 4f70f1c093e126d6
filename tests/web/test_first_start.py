"""The first start with an empty folder, as people see it: the program itself, and a Hub on loopback."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from gradio_client import Client, handle_file

from pipeline.__main__ import main
from pipeline.store.catalogue import entry_for
from pipeline.store.lease import LEASE
from pipeline.store.progress import share_in_units
from tests.store.hub_server import Hub
from tests.store.mounts import resize, small_disk

from .program import ROOT, START_SECONDS, Program, free_port
from .test_page import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

GOLDEN = ROOT / "tests" / "golden"
REPOSITORY = "somebody/golden-s2v"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16.pth"
LAST = "google/umt5-xxl/tokenizer_config.json"
QUICK = {"size": 4096, "steps": 1, "guidance": 1.0, "max_clips": 1, "audio_duration": 1.0}
ARRIVED = ("loading", "ready")  # the states that follow when all files are there
BAR = "#model [role=progressbar]"

# Notes every percentage that the bar shows, from when this runs.
WATCH_BAR = f"""() => {{
  window.percents = [];
  const look = () => {{
    const percent = document.querySelector("{BAR}")?.getAttribute("aria-valuenow");
    if (percent && percent !== window.percents.at(-1)) window.percents.push(percent);
  }};
  look();
  new MutationObserver(look).observe(document.querySelector("#model"), {{childList: true, subtree: true}});
}}"""

Visit = Callable[..., "Page"]
Start = Callable[..., Program]


def golden_files() -> dict[str, Path]:
    checkpoint = GOLDEN / "checkpoint"
    return {str(path.relative_to(checkpoint)): path for path in checkpoint.rglob("*") if path.is_file()}


def needed_bytes() -> int:
    entry = entry_for(REPOSITORY)
    return sum(path.stat().st_size for name, path in golden_files().items() if entry.component_of(name))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(REPOSITORY, golden_files(), bytes_per_s=1_000_000) as hub:
        yield hub


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Where models go: an empty folder."""
    return tmp_path / "models"


@pytest.fixture
def start(tmp_path: Path, models: Path) -> Iterator[Start]:
    """Starts the program with these variables, waits until it answers, and ends it with the test."""
    programs = []
    usual = {
        "MODEL": REPOSITORY,
        "MODEL_CACHE_DIR": str(models),
        "HF_HOME": str(tmp_path / "hf-home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "300",  # a file that is held back is not asked for again
    }

    def start(**variables: str) -> Program:
        programs.append(Program(tmp_path, **usual | variables))
        programs[-1].wait_until(lambda state: True, timeout_s=3 * START_SECONDS)
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def ask_model(program: Program) -> dict[str, Any]:
    return Client(program.url, verbose=False).predict(api_name="/model")


def generate_quickly(program: Program) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The (video, status) of each step of a job that is submitted now."""
    inputs = {"portrait": handle_file(GOLDEN / "portrait.png"), "audio": handle_file(GOLDEN / "speech.wav")}
    return iter(Client(program.url, verbose=False).submit(**inputs, **QUICK, api_name="/generate"))


@pytest.mark.browser
def test_the_bar_goes_from_0_to_100_the_waiting_job_is_done_and_the_next_start_fetches_nothing(
    hub: Hub, start: Start, visit: Visit
) -> None:
    everything, total = hub.hold(""), needed_bytes()
    program = start(HF_ENDPOINT=hub.endpoint)
    page, other_page = visit(program.url), visit(program.url)
    expect(page.locator(BAR)).to_have_attribute("aria-valuenow", "0")
    page.evaluate(WATCH_BAR)

    text_encoder, last = hub.hold(TEXT_ENCODER), hub.hold(LAST)
    everything.set()
    job = generate_quickly(program)
    assert next(job)[1]["state"] == "queued"
    assert hub.wait_until_sent(total - hub.size(TEXT_ENCODER) - hub.size(LAST))
    state = program.wait_until(lambda state: state["bytes_done"] == hub.sent.total())
    assert state["bytes_total"] == total
    assert ask_model(program)["bytes_done"] == state["bytes_done"]
    for each in (page, other_page):
        expect(each.locator("#model")).to_contain_text(share_in_units(state["bytes_done"], total))
    other_page.reload()
    expect(other_page.locator("#model")).to_contain_text(share_in_units(state["bytes_done"], total))

    text_encoder.set()
    expect(page.locator(BAR)).to_have_attribute("aria-valuenow", "100")
    percents = [float(percent) for percent in page.evaluate("window.percents")]
    assert percents == sorted(percents)
    assert percents[0] == 0
    rest = 100 * state["bytes_done"] / total
    assert [percent for percent in percents if rest + 1 < percent < 99]  # from within one file
    last.set()
    program.wait_for("ready")
    assert hub.sent.total() == total
    expect(page.locator("#model")).to_contain_text("Ready")
    video, status = list(job)[-1]
    assert status["state"] == "finished"
    assert Path(video["video"] if isinstance(video, dict) else video).stat().st_size > 0
    assert re.search(r"downloading [\d.]+ of 8\.\d MB", program.log)

    assert program.stop() == 0
    requests = list(hub.requests)
    start(HF_ENDPOINT=hub.endpoint).wait_for(*ARRIVED)
    assert hub.requests == requests


def require_sentence(sentence: str, program: Program, page: "Page") -> None:
    """The model has failed, and that is why: on the page, in /readyz, in /model and in the log."""
    state = program.wait_until(lambda state: state["state"] == "failed" and state["message"].startswith(sentence))
    assert state["message"].count("\n") == 0
    assert ask_model(program) == state
    expect(page.locator("#model")).to_contain_text(state["message"])
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert state["message"] in program.log


@pytest.mark.browser
def test_what_goes_wrong_is_one_sentence_everywhere_a_click_tries_again_and_a_stop_gives_the_download_back(
    models: Path, start: Start, visit: Visit
) -> None:
    """One thing after another: no Hub, a refused token, no such repository, a full disk, and data that do not come."""
    port = free_port()
    with small_disk(models, 4_000_000):
        program = start(HF_ENDPOINT=f"http://127.0.0.1:{port}", HF_TOKEN="hf_wrong")
        page = visit(program.url)
        try_again = page.get_by_role("button", name="Try again")
        state = program.wait_until(lambda state: "trying again" in state["message"])
        assert state["message"].startswith("the Hub cannot be reached")

        with Hub(REPOSITORY, golden_files(), port=port, token="hf_right") as hub:  # it is waited for
            require_sentence(f"The Hub does not accept the token in HF_TOKEN for {REPOSITORY}", program, page)

            hub.token, hub.repository = None, "somebody/else"
            try_again.click()
            require_sentence(f"The Hub has no repository {REPOSITORY} (any more)", program, page)

            hub.repository = REPOSITORY
            try_again.click()
            require_sentence("The model needs 8.", program, page)
            assert hub.sent.total() == 0

            resize(models, 100_000_000)
            hub.hold(TEXT_ENCODER)
            try_again.click()
            assert hub.wait_until_sent(needed_bytes() - hub.size(TEXT_ENCODER))
            expect(try_again).to_be_hidden()
            expect(page.locator("#model")).to_contain_text("; after 120 s the download is tried anew")
            expect(page.locator("#model")).to_contain_text("No data for 1")

            folder = models / REPOSITORY
            assert (folder / LEASE).exists()
            assert program.stop() == 0
            assert not (folder / LEASE).exists()
            assert not list(folder.rglob("*.incomplete"))
            assert "Traceback" not in program.log
            assert "hf_" not in program.log


@pytest.mark.browser
def test_a_second_program_on_the_folder_shows_the_downloads_progress_of_the_first(
    hub: Hub, start: Start, visit: Visit
) -> None:
    held = hub.hold(TEXT_ENCODER)
    first = start(HF_ENDPOINT=hub.endpoint)
    first.wait_until(lambda state: state["bytes_done"] > 0)
    second = start(HF_ENDPOINT=hub.endpoint)
    waiting = second.wait_until(lambda state: state["state"] == "waiting" and state["bytes_done"] > 0)
    assert waiting["bytes_total"] == needed_bytes()
    page = visit(second.url)
    expect(page.locator("#model")).to_contain_text("Another program downloads the model")
    expect(page.locator("#model")).to_contain_text("of 8.")
    held.set()
    first.wait_for(*ARRIVED)
    second.wait_for(*ARRIVED)
    assert hub.sent.total() == needed_bytes()


@pytest.fixture
def own_computer(tmp_path: Path) -> Iterator[tuple[Hub, dict[str, str]]]:
    """The Hub with the 14B model (which is small there), and the variables of somebody's computer with a large card."""
    entry = entry_for(None)
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 570.124.06'\n")
    driver.chmod(0o755)
    with Hub(entry.repository, golden_files()) as hub:
        hub.commit = entry.revision
        hub.revisions = {entry.revision}
        path = f"{driver.parent}{os.pathsep}{os.environ['PATH']}"
        yield hub, {"MODEL": "", "PATH": path, "HF_ENDPOINT": hub.endpoint}


@pytest.mark.browser
def test_somebodys_own_computer_asks_with_size_and_place_and_a_click_begins(
    own_computer: tuple[Hub, dict[str, str]], models: Path, start: Start, visit: Visit
) -> None:
    hub, variables = own_computer
    program = start(**variables)
    page = visit(program.url)
    model = page.locator("#model")
    expect(model).to_contain_text("Not downloaded yet")
    expect(model).to_contain_text(f"a download of 45.7 GB into {models / entry_for(None).repository}")
    assert httpx.get(f"{program.url}/readyz").status_code == 503
    assert program.wait_for("asking")["bytes_total"] == 45_700_000_000
    assert hub.requests == []
    assert not models.exists()

    page.get_by_role("button", name="Download 45.7 GB").click()

    program.wait_for(*ARRIVED)
    expect(model).to_contain_text(re.compile("Loading the model|Ready"))
    expect(page.get_by_role("button", name="Download 45.7 GB")).to_be_hidden()


def test_generate_says_what_to_run_instead_of_downloading(
    own_computer: tuple[Hub, dict[str, str]],
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    hub, variables = own_computer
    for name, value in (variables | {"MODEL_CACHE_DIR": str(models)}).items():
        monkeypatch.setenv(name, value)
    inputs = [f"--portrait={GOLDEN / 'portrait.png'}", f"--audio={GOLDEN / 'speech.wav'}"]
    assert main(["generate", *inputs, f"--output={tmp_path / 'video.mp4'}"]) == 1
    said = capsys.readouterr().err
    assert "a download of 45.7 GB" in said
    assert said.endswith("; run `python -m pipeline download` to have it fetched.\n")
    assert hub.requests == []
