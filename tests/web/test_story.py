"""The whole story of a video on the page, on a wide screen and on a phone, and whether everybody can use it."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.errors import DiskFull
from pipeline.events import ModelState
from pipeline.media.video import join_clips, write_clip

from .conftest import Served
from .scripted import SEED, STEPS, PacedModel, failing_once
from .test_page import duration_of, expect, generate, upload

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Visit = Callable[..., "Page"]
Prepare = Callable[[Callable[[ModelState], None]], PacedModel]
PHONE = 390
WIDTHS = (1280, PHONE)
SCHEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
HAS_SCHEME = "dark => document.body.classList.contains('dark') === dark"
COLOURS_CHANGED = """() => {
  const changing = document.getAnimations().filter((animation) => animation instanceof CSSTransition);
  return Promise.allSettled(changing.map((animation) => animation.finished));
}"""


def wait_for_end(page: "Page", state: str = "Finished") -> None:
    expect(page.locator("#job")).to_contain_text(state)


@pytest.mark.parametrize("width", WIDTHS)
def test_from_the_audio_to_the_deleted_video(
    served: Served, visit: Visit, portrait: Path, long_voice: Path, width: int
) -> None:
    page = visit(served.url, width=width)
    upload(page, portrait, long_voice)

    # Trim, by numbers, and choose a preset: a preview is the first clip alone.
    page.get_by_label("Start of the audio").fill("0.5")
    page.get_by_label("Length of the audio").fill("5")
    expect(page.locator("#plan")).to_contain_text("5.0 s of audio: 2 clips, 64x64, 80 frames")
    expect(page.locator("#plan .crop .seen")).to_be_visible()
    page.get_by_label("Preview", exact=True).check()
    expect(page.locator("#plan")).to_contain_text("1 clip, 64x64, 77 frames")
    page.get_by_label("Standard", exact=True).check()
    expect(page.locator("#plan")).to_contain_text("2 clips")

    # A preview of what it is becoming, and the first clip to play before the second is done. A double click is one.
    page.get_by_role("button", name="Generate").dblclick()
    expect(page.locator("#job")).to_contain_text("Drawing the frames")
    expect(page.locator("#job .card")).to_be_in_viewport(ratio=0.99)
    assert len(served.studio.queue.all()) == 1
    served.model.let(2)
    expect(page.locator("#video .player > img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    served.model.let(STEPS - 2)
    expect(page.locator("#job")).to_contain_text("clip 2 of 2")
    assert duration_of(page) == pytest.approx(77 / 16, abs=1 / 16)

    # A reload in the middle.
    page.reload()
    expect(page.locator("#job")).to_contain_text("clip 2 of 2")
    assert duration_of(page) == pytest.approx(77 / 16, abs=1 / 16)
    served.model.let_all()
    wait_for_end(page)
    page.wait_for_function("() => document.querySelector('#video video').duration > 4.9")

    # The settings again: the page after the reload knows nothing of them.
    expect(page.locator("#settings")).to_contain_text(f"Seed {SEED}".split()[1])
    page.get_by_role("button", name="Use these settings again").click()
    expect(page.get_by_label("Start of the audio")).to_have_value("0.5")
    expect(page.locator("#plan")).to_contain_text("5.0 s of audio: 2 clips, 64x64, 80 frames")
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(SEED))

    # The list, and the end of it.
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#history .entry")).to_have_count(2)
    wait_for_end(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#history .entry")).to_have_count(1)
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#history")).to_contain_text("The videos that you make in this browser are listed here.")
    assert served.studio.queue.all() == []


def test_settings_are_read_back_from_a_video_that_is_dropped(
    served: Served, visit: Visit, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    settings = {"prompt": "she whispers", "steps": 17, "seed": 99, "max_area": 5000, "of another version": 1}
    write_clip(np.zeros((4, 64, 64, 3), np.uint8), tmp_path / "clip.mp4")
    for name, note in (("ours.mp4", settings), ("wrong.mp4", {"steps": 0})):
        join_clips([tmp_path / "clip.mp4"], voice, 0, 0.25, tmp_path / name, note)
    page = visit(served.url)
    page.get_by_role("button", name="Advanced").click()
    dropped = page.locator("#dropped input[type=file]")

    dropped.set_input_files(tmp_path / "ours.mp4")

    expect(page.get_by_label("Prompt", exact=True)).to_have_value("she whispers")
    expect(page.locator("#said")).to_contain_text("The form has the settings of that video now")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("17")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("99")
    for name, sentence in (("clip.mp4", "was not made by this program"), ("wrong.mp4", "Steps: 0 is not accepted")):
        page.locator("#dropped input[type=file]").set_input_files(tmp_path / name)
        expect(page.locator("#said [role=alert]")).to_contain_text(sentence)


def test_ended_jobs_look_right_after_a_restart(
    serve: Callable[..., Served], visit: Visit, portrait: Path, long_voice: Path
) -> None:
    served = serve()
    page = visit(served.url)
    generate(page, portrait, long_voice)
    served.model.let(STEPS)
    duration_of(page)
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    cancel.click()
    expect(page.locator("#job")).to_contain_text("Stopping")
    served.model.let(1)
    wait_for_end(page, "Cancelled")
    expect(cancel).to_be_hidden()
    assert duration_of(page) == pytest.approx(77 / 16, abs=1 / 16)
    served.model.error = DiskFull("The disk is full.")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#job")).to_contain_text("Drawing")
    served.model.let(1)
    wait_for_end(page, "The disk is full.")
    served.model.error = None
    served.model.let_all()
    page.get_by_role("button", name="Generate").click()
    wait_for_end(page)

    storage = page.context.storage_state()
    storage["origins"][0]["origin"] = again = serve().url
    page = visit(again, storage_state=storage)

    entries = page.locator("#history .entry")
    expect(entries).to_have_count(3)
    badges = [entries.nth(i).locator(".badge").inner_text() for i in range(3)]
    assert badges == ["Finished", "Failed", "Cancelled, 1 of 2 clips kept"]
    assert [entries.nth(i).locator("img").count() for i in range(3)] == [1, 0, 1]
    entries.nth(2).click()
    expect(page.locator("#job")).to_contain_text("1 clip of 2 kept as a partial video")
    assert duration_of(page) == pytest.approx(77 / 16, abs=1 / 16)
    entries.nth(1).click()
    expect(page.locator("#job")).to_contain_text("The disk is full.")
    expect(page.locator("#video video")).to_be_hidden()


def painted_quickly(visit: Visit, url: str) -> "Page":
    """The page in a browser that has nothing of it yet; one of three at most, for other tests run meanwhile."""
    for _ in range(3):
        page = visit(url)
        expect(page.get_by_role("button", name="Generate")).to_be_visible()
        if page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 2000:
            return page
    raise AssertionError("three times the first paint took two seconds and more")


def test_the_first_paint_is_quick_and_the_keyboard_is_enough(
    served: Served, visit: Visit, portrait: Path, voice: Path
) -> None:
    served.model.let_all()
    page = painted_quickly(visit, served.url)
    upload(page, portrait, voice)
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_label("Preview", exact=True)).to_be_checked()
    page.get_by_role("button", name="Generate").focus()
    page.keyboard.press("Enter")
    wait_for_end(page)
    entry = page.locator("#history .entry")
    entry.focus()
    page.keyboard.press("Enter")
    expect(entry).to_be_focused()
    assert entry.evaluate("entry => getComputedStyle(entry).outlineStyle") == "solid"


def faults_of(page: "Page", node_modules: Path) -> list[str]:
    """What axe-core takes for a serious fault of the page as it is now, wide and light, narrow and dark."""
    if not page.evaluate("() => 'axe' in window"):
        page.add_script_tag(path=node_modules / "axe-core" / "axe.min.js")
    faults = []
    for width, scheme in zip(WIDTHS, SCHEMES, strict=True):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_function(HAS_SCHEME, arg=scheme == "dark")
        page.evaluate(COLOURS_CHANGED)
        found: list[dict[str, Any]] = page.evaluate(
            "async () => (await axe.run({resultTypes: ['violations']})).violations"
        )
        faults += [
            f"{width} {scheme} {fault['id']}: {node['html'][:120]} {node['failureSummary'][-160:]}"
            for fault in found
            if fault["impact"] in SERIOUS
            for node in fault["nodes"]
        ]
    return faults


def test_nobody_is_kept_out(served: Served, visit: Visit, node_modules: Path, portrait: Path, long_voice: Path) -> None:
    page = visit(served.url, reduced_motion="reduce")
    expect(page.locator("#model")).to_contain_text("Ready")
    assert faults_of(page, node_modules) == []
    page.get_by_role("button", name="Advanced").click()
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#plan .wrong")).to_be_visible()
    assert faults_of(page, node_modules) == []
    upload(page, portrait, long_voice)
    page.get_by_label("Trim audio to selection").click()
    expect(page.get_by_role("button", name="Trim", exact=True)).to_be_visible()
    assert faults_of(page, node_modules) == []
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#job")).to_contain_text("Drawing the frames")
    served.model.let(2)
    expect(page.locator("#job .becoming")).to_be_visible()
    assert faults_of(page, node_modules) == []
    served.model.let_all()
    wait_for_end(page)
    duration_of(page)
    assert faults_of(page, node_modules) == []


def downloading_first(prepare: Prepare, arrived: threading.Event) -> Prepare:
    """What asks before the model is downloaded, downloads until it has `arrived`, and then does what `prepare` does."""

    def prepared(report: Callable[[ModelState], None]) -> PacedModel:
        report(ModelState("asking", "script", bytes_total=45_700_000_000, message="It is a download into /models."))
        report(ModelState("downloading", "script", 12_300_000_000, 45_700_000_000, 85e6, 393.0, "a.safetensors", 2))
        assert arrived.wait(60)
        return prepare(report)

    return prepared


def test_a_job_waits_for_the_model_and_nobody_is_kept_out_where_things_go_wrong(
    serve: Callable[..., Served], visit: Visit, node_modules: Path, portrait: Path, voice: Path
) -> None:
    model, arrived = PacedModel(), threading.Event()
    model.error = DiskFull("The disk is full.")
    model.let_all()
    get = downloading_first(failing_once(model), arrived)
    page = visit(serve(get).url, width=PHONE, reduced_motion="reduce")
    ask = page.get_by_role("button", name="Download 45.7 GB")
    expect(ask).to_be_visible()
    assert faults_of(page, node_modules) == []
    ask.click()
    expect(page.locator("#model")).to_contain_text("12.3 of 45.7 GB")
    expect(ask).to_be_hidden()
    assert faults_of(page, node_modules) == []
    arrived.set()
    try_again = page.get_by_role("button", name="Try again")
    expect(try_again).to_be_visible()
    expect(page.locator("#model")).to_contain_text("The model's folder lacks Wan2.1_VAE.pth.")
    generate(page, portrait, voice)
    expect(page.locator("#job")).to_contain_text("as soon as the model is ready")
    assert faults_of(page, node_modules) == []
    try_again.click()
    expect(page.locator("#model")).to_contain_text("Ready")
    expect(try_again).to_be_hidden()
    wait_for_end(page, "The disk is full.")
    assert faults_of(page, node_modules) == []
    model.error = None
    page.get_by_role("button", name="Generate").click()
    wait_for_end(page)
