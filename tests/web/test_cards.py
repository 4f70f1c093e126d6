"""What the page says, in its own words."""

import re
from dataclasses import replace

import pytest

from pipeline.events import FramesDecoded, ModelState, StageChanged
from pipeline.jobs.status import Status, after, stopping
from pipeline.media.audio import AudioFacts
from pipeline.media.planning import PlannedRequest
from pipeline.request import ClipPlan
from pipeline.web.cards import duration, job_card, model_card, notice_line, plan_error, plan_line

from .scripted import ENTRY

RUNNING = Status("0" * 32, "running", 0, "denoise", 2, 3, 5, 10, 90.0, 150.0, "Clip 2 of 3: step 5 of 10.", 7)
FACTS = AudioFacts(seconds=7.42, peak=0.5, rms=0.1, sample_rate=16000, channels=1, clipped=0.0)


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

    assert text_of(job_card(waiting, ahead=2)).endswith("2 jobs come before yours.")
    assert text_of(job_card(replace(waiting, position=1), ahead=1)).endswith("1 job comes before yours.")
    assert "model is ready" in job_card(replace(waiting, position=1), ahead=0)


def test_ends_tell_what_is_kept_and_why() -> None:
    assert text_of(job_card(replace(RUNNING, state="finished"))) == "Finished 3 clips 1 min 30 s of work · seed 7"
    assert "the clips that are done are kept" in job_card(replace(RUNNING, state="cancelled"))
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


def test_the_plan_is_one_line_and_its_hints() -> None:
    plan = ClipPlan(height=448, width=832, frames=119, clips=2, frames_per_clip=80, warm_up_frames=3, lead_frames=3)

    line = plan_line(PlannedRequest(plan, ("The audio is silent.",), FACTS), 61.0)

    assert (
        text_of(line) == "7.4 s of audio: 2 clips, 832x448, 119 frames; it takes about 1 min 1 s The audio is silent."
    )
    unknown = plan_line(PlannedRequest(plan, (), FACTS), None)
    assert text_of(unknown).endswith("119 frames; how long that takes is known after the first video")


def test_what_comes_from_outside_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    entry = replace(ENTRY, title=evil, notice=evil)
    for html in (
        plan_error(evil),
        notice_line(entry),
        model_card(ModelState("failed", evil, message=evil), entry),
        model_card(ModelState("downloading", evil, 1, 2, file=evil, message=evil), entry),
        job_card(replace(RUNNING, state="failed", message=evil)),
    ):
        assert "<img" not in html


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (250, "4 min 10 s"), (3599, "59 min"), (7500, "2 h 5 min")],
)
def test_durations_are_rounded_as_people_would(seconds: float, words: str) -> None:
    assert duration(seconds) == words
