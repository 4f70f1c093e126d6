"""The page in a real browser, used as people use it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from pipeline.media.audio import measure_audio

from .conftest import Served
from .scripted import SEED, STEPS, write_voice

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

Visit = Callable[..., "Page"]


def expect(locator: "Locator") -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=20_000)  # the page looks once a second, and machines can be busy
    return expect(locator)


def upload(page: "Page", portrait: Path, voice: Path) -> None:
    """Fill in what has to be, and wait until its plan is told."""
    give(page, "portrait", portrait)
    give(page, "audio", voice)
    expect(page.locator("#plan")).to_contain_text("of audio")


def give(page: "Page", name: str, file: Path) -> None:
    """Put `file` into the input `name`. It is found by name: the inputs of a page appear one by one, in any order."""
    page.locator(f"#{name} input[type=file]").set_input_files(file)


def generate(page: "Page", portrait: Path, voice: Path) -> None:
    upload(page, portrait, voice)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".card.job")).not_to_have_class("card job none")


def duration_of(page: "Page") -> float:
    """Seconds of the video that is shown, once the browser knows them."""
    video = page.locator("#video video")
    page.wait_for_function("() => document.querySelector('#video video')?.duration > 0")
    return video.evaluate("video => video.duration")


# On the page, however far it is scrolled.
PLACE = "box => ({top: box.getBoundingClientRect().top + window.scrollY, height: box.offsetHeight})"


def place_of_video(page: "Page") -> dict[str, float]:
    return page.locator("#video").evaluate(PLACE)


def require_calm(page: "Page", before: dict[str, float], running: dict[str, float]) -> None:
    """Nothing has jumped until the end, where the video lay so before and while the job ran, and nothing sticks out."""
    finished = place_of_video(page)
    assert before["height"] == running["height"] == finished["height"]
    assert running["top"] == pytest.approx(finished["top"], abs=1)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= page.viewport_size["width"]
    expect(page.get_by_role("button", name="Use via API or MCP")).to_be_visible()


def test_a_visitor_uploads_generates_sees_the_status_move_and_plays_the_result(
    served: Served, visit: Visit, portrait: Path, voice: Path
) -> None:
    """All the while the browser asks nobody but this server and finds no fault."""
    hosts, faults = set(), []
    page = visit("about:blank")
    page.context.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(served.url)
    expect(page.locator("#model")).to_contain_text("Ready")
    upload(page, portrait, voice)
    expect(page.locator("#plan")).to_contain_text("1.0 s of audio: 1 clip, 64x64, 16 frames")
    before = place_of_video(page)

    page.get_by_role("button", name="Generate").click()
    job = page.locator("#job")
    expect(page.locator("#plan")).to_contain_text("Time: not known yet")
    for step in range(1, STEPS):
        served.model.let(1)
        expect(job).to_contain_text(f"step {step} of {STEPS}")
        expect(job).to_contain_text("clip 1 of 1")
    running = place_of_video(page)
    served.model.let_all()
    expect(job).to_contain_text("Finished")
    expect(page.locator("#plan")).to_contain_text("Time: about")
    expect(page.locator("#idle")).not_to_be_visible()  # of a machine that does not stop

    assert duration_of(page) == pytest.approx(1.0, abs=1 / 16)
    require_calm(page, before, running)
    page.locator("#video video").evaluate("video => { video.muted = true; return video.play() }")
    page.wait_for_function("() => document.querySelector('#video video').currentTime > 0.2")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"a-person-is-talking-seed-{SEED}.mp4"
    assert download.value.path().read_bytes()[4:8] == b"ftyp"

    assert hosts - {""} == {urlsplit(served.url).netloc}
    assert faults == []


def test_a_video_that_is_watched_is_left_alone_until_the_viewer_stops_and_goes_on_where_they_stood(
    served: Served, visit: Visit, portrait: Path, long_voice: Path
) -> None:
    """After a break of the connection, which the page gets over."""
    page = visit(served.url)
    generate(page, portrait, long_voice)
    served.model.let(1)
    job = page.locator("#job")
    expect(job).to_contain_text("step 1")
    with page.expect_event("requestfailed"):
        page.context.set_offline(True)
    served.model.let(STEPS - 1)
    page.context.set_offline(False)
    expect(job).to_contain_text("clip 2 of 2", timeout=30_000)
    assert duration_of(page) == pytest.approx(77 / 16, abs=1 / 16)

    # Another look of the page is none at the video.
    video = page.locator("#video video")
    first = video.get_attribute("src")
    video.evaluate("video => { video.watched = true; video.currentTime = 2 }")
    served.model.let(2)
    expect(job).to_contain_text(f"step 2 of {STEPS}")
    assert video.evaluate("video => video.watched && video.currentTime") == 2

    # A longer version waits.
    video.evaluate("video => { video.muted = true; video.playbackRate = 0.1; video.play() }")
    page.wait_for_function("() => document.querySelector('#video video').currentTime > 2")
    served.model.let_all()
    expect(job).to_contain_text("Finished")
    expect(video).to_have_attribute("src", first)
    video.evaluate("video => video.pause()")
    page.wait_for_function("() => document.querySelector('#video video').duration > 5.9")
    page.wait_for_function("() => document.querySelector('#video video').currentTime >= 2")


def test_a_second_visitor_sees_their_place_and_not_the_others_jobs(
    served: Served, visit: Visit, portrait: Path, voice: Path
) -> None:
    """The first one has a phone, on which nothing jumps either."""
    first, second = visit(served.url, width=390), visit(served.url)
    upload(first, portrait, voice)
    before = place_of_video(first)
    first.get_by_role("button", name="Generate").click()
    served.model.let(1)
    expect(first.locator("#job")).to_contain_text("step 1")
    running = place_of_video(first)

    generate(second, portrait, voice)

    expect(second.locator("#job")).to_contain_text("1 job comes before yours")
    expect(second.locator("#history .entry")).to_have_count(1)
    served.model.let_all()
    for page in (first, second):
        expect(page.locator("#job")).to_contain_text("Finished")
    duration_of(first)
    require_calm(first, before, running)


def test_an_older_video_is_kept_shown_again_and_continued_with_more_audio(
    served: Served, visit: Visit, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    served.model.let_all()
    page = visit(served.url)
    generate(page, portrait, voice)
    expect(page.locator("#job")).to_contain_text("Finished")
    expect(page.locator("#video video")).to_be_visible()
    served_first = page.locator("#video video").get_attribute("src")

    # A deletion that is not meant deletes nothing.
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete").click()
    page.get_by_label("Prompt", exact=True).fill("she sings")
    page.get_by_role("button", name="Generate").click()
    entries = page.locator("#history .entry")
    expect(entries.filter(has_text="she sings").filter(has_text="Finished")).to_have_count(1)
    expect(entries).to_have_count(2)

    entries.filter(has_text="a person is talking").click()
    expect(page.locator("#video video")).to_have_attribute("src", served_first)

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Continue with more audio").click()
    chooser.value.set_files(write_voice(tmp_path / "more.wav", 2))
    expect(entries).to_have_count(3)
    page.wait_for_function("() => document.querySelector('#video video').duration > 2.9")


def test_what_is_missing_or_wrong_is_told_in_plain_words_where_the_plan_stands(
    served: Served, visit: Visit, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    page = visit(served.url)
    expect(page.locator("#model")).to_contain_text("Ready")  # all of the page is there
    wrong, said = page.locator("#plan .wrong"), page.locator("[data-testid=toast-text]")
    ask = page.get_by_role("button", name="Generate")
    ask.click()
    expect(wrong).to_contain_text("Add a portrait and audio first.")

    # Files of another kind.
    give(page, "audio", portrait)
    expect(said.filter(has_text="audio")).to_have_text("This is not audio: my face.png")
    give(page, "portrait", voice)
    expect(said.filter(has_text="picture")).to_have_text("This is not a picture: my voice.wav")

    # Files that are not what they are called.
    give(page, "portrait", portrait)
    for name, content in (("text.wav", "no sound"), ("empty.wav", "")):
        (tmp_path / name).write_text(content)
        give(page, "audio", tmp_path / name)
        expect(wrong).to_contain_text("Audio:")
        ask.click()
        expect(wrong).to_contain_text("Audio:")
        page.locator("#audio").get_by_label("Clear").click()
        expect(page.locator("#plan")).to_contain_text("Add a portrait and audio")

    # A number.
    give(page, "audio", voice)
    expect(page.locator("#plan")).to_contain_text("16 frames")
    page.get_by_role("button", name="Advanced").click()
    page.get_by_label("Steps", exact=True).fill("0")
    expect(wrong).to_contain_text("Steps: 0 is not accepted")
    ask.click()
    expect(wrong).to_contain_text("Steps: 0 is not accepted")
    page.get_by_label("Steps", exact=True).fill("2")
    expect(page.locator("#plan")).to_contain_text("16 frames")

    expect(page.locator(".card.job")).to_have_class("card job none")
    assert served.studio.queue.all() == []


def test_a_photograph_reaches_the_job_as_it_was_taken_and_the_audio_as_its_waveform_was_trimmed(
    served: Served, visit: Visit, long_voice: Path, tmp_path: Path
) -> None:
    photograph = tmp_path / "photograph.jpg"
    orientation = Image.Exif()
    orientation[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (160, 80), "teal").save(photograph, exif=orientation)
    page = visit(served.url)
    upload(page, photograph, long_voice)
    page.get_by_label("Trim audio to selection").click()
    sides = [button.bounding_box() for button in page.locator("#audio .settings-wrapper button").all()]
    audio = page.locator("#audio").bounding_box()
    assert max(side["x"] + side["width"] for side in sides) < audio["x"] + audio["width"]
    region = page.locator("#audio").locator("[part~=region-handle-right]")
    box = region.bounding_box()
    wave = page.locator("#audio #waveform, #audio .component-wrapper").first.bounding_box()

    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(wave["x"] + wave["width"] / 3, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Trim", exact=True).click()

    expect(page.locator("#plan")).not_to_contain_text("6.0 s of audio")
    expect(page.locator("#plan")).to_contain_text("s of audio: 1 clip")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".card.job")).not_to_have_class("card job none")
    request = served.studio.queue.request(served.studio.queue.all()[0].job)
    assert request.portrait.read_bytes() == photograph.read_bytes()
    assert measure_audio(request.audio).seconds < 77 / 16


FORGET_ONE_JOB = """() => {
  const [kept] = JSON.parse(localStorage.getItem("talking-video-jobs"));
  localStorage.setItem("talking-video-jobs", JSON.stringify([null, kept]));
}"""


def test_tabs_of_one_browser_see_each_others_videos_and_forget_none(
    served: Served, visit: Visit, portrait: Path, voice: Path
) -> None:
    served.model.let_all()
    first = visit(served.url)
    second = first.context.new_page()
    second.goto(served.url)
    for page in (first, second):
        upload(page, portrait, voice)

    for page in (first, second):
        page.get_by_role("button", name="Generate").click()

    for page in (first, second):
        expect(page.locator("#history .entry")).to_have_count(2)
    # Of two tabs that store at the same moment one can undo what the other did: who knows of a job puts it back.
    second.evaluate(FORGET_ONE_JOB)
    first.reload()
    expect(first.locator("#history .entry")).to_have_count(2)


def test_a_browser_that_stores_nothing_shows_what_was_made_in_this_page(
    served: Served, visit: Visit, portrait: Path, voice: Path
) -> None:
    served.model.let_all()
    page = visit("about:blank")
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no') }})")
    page.goto(served.url)

    generate(page, portrait, voice)
    expect(page.locator("#history .entry")).to_have_count(1)
    page.get_by_role("button", name="Generate").click()

    expect(page.locator("#history .entry")).to_have_count(2)
    expect(page.locator("#job")).to_contain_text("Finished")


def test_signing_in_opens_the_page_where_a_click_on_an_example_runs_it(
    serve: Callable[..., Served], visit: Visit
) -> None:
    served = serve(credentials=("studio", "correct horse"))
    served.model.let_all()
    page = visit(served.url)
    page.get_by_label("username").fill("studio")
    page.get_by_label("password").fill("correct horse")

    page.get_by_role("button", name="Login").click()

    expect(page.locator("#model")).to_contain_text("Scripted model")

    page.locator("table img").first.click()

    expect(page.locator("#job")).to_contain_text("Finished")
    assert duration_of(page) > 0
