"""What the page says, in its own words."""

import re
from dataclasses import replace

import pytest

from pipeline.events import FramesDecoded, ModelState, StageChanged
from pipeline.jobs.status import Status, after, stopping
from pipeline.media.audio import AudioFacts
from pipeline.media.planning import PlannedRequest
from pipeline.media.portrait import Crop
from pipeline.request import ClipPlan, GenerationRequest
from pipeline.web.cards import (
    GalleryEntry,
    Shown,
    duration,
    gallery,
    in_words_of_form,
    job_card,
    model_card,
    notice_line,
    plan_error,
    plan_line,
    settings_card,
)

from .scripted import ENTRY

RUNNING = Status("0" * 32, "running", 0, "denoise", 2, 3, 5, 10, 90.0, 150.0, "Clip 2 of 3: step 5 of 10.", 7)
FACTS = AudioFacts(seconds=7.42, peak=0.5, rms=0.1, sample_rate=16000, channels=1, clipped=0.0, opening_rms=0)


CROP = Crop(left=0.25, top=0.0, width=0.5, height=1.0)
REQUEST = GenerationRequest(portrait="x", audio="x")


def text_of(html: str) -> str:
    """What is read of it, the bars left out."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_running_job_tells_stage_clip_step_and_time() -> None:
    card = job_card(RUNNING)

    assert text_of(card) == "Drawing the frames clip 2 of 3 step 5 of 10 · 1 min 30 s so far · about 2 min 30 s left"
    assert "width: 48.3%" in card


def test_a_running_job_tells_how_much_of_a_clip_is_decoded() -> None:
    decoding = after(after(RUNNING, StageChanged("decode", 2), 91), FramesDecoded(2, 7, 20), 92)

    assert "7 of 20 parts decoded · 1 min 32 s so far" in text_of(job_card(decoding))


def test_a_job_that_is_to_end_says_so() -> None:
    assert text_of(job_card(stopping(RUNNING))).endswith("left · Stopping after the present step.")


def test_a_waiting_job_tells_its_place() -> None:
    waiting = Status("0" * 32, "queued", position=2, steps=10)

    assert text_of(job_card(waiting, Shown(ahead=2))).endswith("2 jobs come before yours.")
    assert text_of(job_card(replace(waiting, position=1), Shown(ahead=1))).endswith("1 job comes before yours.")
    assert "model is ready" in job_card(replace(waiting, position=1))


def test_ends_tell_what_is_kept_and_why() -> None:
    assert text_of(job_card(replace(RUNNING, state="finished"))) == "Finished 3 clips 1 min 30 s of work · seed 7"
    cancelled = text_of(job_card(replace(RUNNING, state="cancelled"), Shown(done=1)))
    assert cancelled == "Cancelled clip 2 of 3 1 clip of 3 kept as a partial video · 1 min 30 s of work"
    assert "kept" not in job_card(replace(RUNNING, state="cancelled"))
    assert "The disk is full." in job_card(replace(RUNNING, state="failed", message="The disk is full."))


def test_the_model_tells_how_far_it_has_come() -> None:
    state = ModelState("downloading", "x", 12_300_000_000, 45_700_000_000, 85e6, 393.0, "a.safetensors", 2)

    title, progress = "Scripted model Downloading the model", "12.3 of 45.7 GB · 85.0 MB/s · 6 min 33 s left"
    assert text_of(model_card(state, ENTRY)) == f"{title} {progress} · a.safetensors · attempt 2"


def test_a_question_is_no_bar_and_a_download_that_stands_still_says_why() -> None:
    asking = model_card(ModelState("asking", "x", bytes_total=45_700_000_000, message="It is not here yet."), ENTRY)
    assert text_of(asking) == "Scripted model Not downloaded yet It is not here yet."
    assert "progressbar" not in asking

    stalled = model_card(ModelState("downloading", "x", 5, 10, message="no data for 12 s"), ENTRY)
    assert text_of(stalled) == "Scripted model Downloading the model 5 of 10 bytes No data for 12 s"
    assert 'aria-valuenow="50"' in stalled


def test_the_plan_says_what_is_made_in_what_time_and_what_may_disappoint() -> None:
    plan = ClipPlan(height=448, width=832, frames=119, clips=2, frames_per_clip=80, warm_up_frames=3, lead_frames=3)

    line = plan_line(PlannedRequest(plan, ("The audio is silent.",), FACTS, b"jpeg", CROP), 61.0)

    made = "7.4 s of audio: 2 clips, 832x448, 119 frames"
    assert text_of(line) == f"{made} Time: about 1 min 1 s The audio is silent."
    unknown = plan_line(PlannedRequest(plan, (), FACTS, b"jpeg", CROP), None)
    assert text_of(unknown).endswith(f"{made} Time: not known yet")


def test_the_plan_shows_what_the_model_sees_of_the_portrait() -> None:
    plan = ClipPlan(height=448, width=832, frames=119, clips=2, frames_per_clip=80, warm_up_frames=3, lead_frames=3)

    line = plan_line(PlannedRequest(plan, (), FACTS, b"jpeg", CROP), None)

    assert "left:25.00%;top:0.00%;width:50.00%;height:100.00%" in line
    assert "what lies in the frame becomes the video, 832x448 pixels" in line
    assert "data:image/jpeg;base64,anBlZw==" in line


def test_a_card_shows_what_is_becoming_and_tells_the_player_what_there_is() -> None:
    card = job_card(RUNNING, Shown(0, 1, "data:image/jpeg;base64,AA", True, "gradio_api/file=/x/a.mp4"))

    assert 'class="picture becoming"><img src="data:image/jpeg;base64,AA" alt="What clip 2 is becoming"' in card
    assert 'data-video="gradio_api/file=/x/a.mp4"' in card
    assert RUNNING.job not in card


def test_settings_are_those_that_matter_and_those_that_are_not_usual() -> None:
    usual = {name: field.get_default() for name, field in GenerationRequest.model_fields.items()}

    assert text_of(settings_card(REQUEST, 7, usual)) == (
        "Prompt a person is talking Size 480p Steps 40 Guidance 4.5 Seed 7"
    )
    changed = REQUEST.model_copy(update={"first_frame": True, "audio_start": 2.5, "max_area": 5000, "solver": "dpm++"})
    told = text_of(settings_card(changed, None, usual))
    assert told.endswith("Seed to be drawn Solver dpm++ Start of the audio 2.5 s First frame yes")
    assert "Size up to 5,000 pixels" in told


def test_the_gallery_tells_the_videos_apart() -> None:
    states = [("finished", 3), ("cancelled", 1), ("failed", 0), ("queued", 0)]
    entries = [GalleryEntry(replace(RUNNING, state=state), done, "she sings", 5.0, "p.jpg") for state, done in states]

    told = gallery(entries, None)

    assert re.findall(r'badge">([^<]*)', told) == ["Finished", "Cancelled, 1 of 3 clips kept", "Failed", "Waiting"]
    assert 'data-at="5"' in told
    assert "The videos that you make in this browser are listed here." in gallery([], None)
    assert 'aria-pressed="true"' in gallery(entries[:1], RUNNING.job)


def test_what_comes_from_outside_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    entry = replace(ENTRY, title=evil, notice=evil)
    for html in (
        plan_error(evil),
        notice_line(entry),
        model_card(ModelState("failed", evil, message=evil), entry),
        model_card(ModelState("downloading", evil, 1, 2, file=evil, message=evil), entry),
        job_card(replace(RUNNING, state="failed", message=evil)),
        settings_card(REQUEST.model_copy(update={"prompt": evil}), 7, {}),
        gallery([GalleryEntry(RUNNING, 1, evil, 0.0, "")], None),
    ):
        assert "<img" not in html


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (250, "4 min 10 s"), (3599, "59 min"), (7500, "2 h 5 min")],
)
def test_durations_are_rounded_as_people_would(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("audio_start: '-1' is not accepted", "Start of the audio: '-1' is not accepted"),
        ("audio: 'me.mp3' is empty", "Audio: 'me.mp3' is empty"),
        (
            "audio: 'a' is 99 s long; choose a part of it with audio_start and audio_duration.",
            "Audio: 'a' is 99 s long; choose a part of it with “Start of the audio” and “Length of the audio”.",
        ),
        ("The queue is full: 20 jobs wait", "The queue is full: 20 jobs wait"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_the_form(sentence: str, shown: str) -> None:
    assert in_words_of_form(sentence) == shown
