"""What is told about a job, event after event."""

import dataclasses
import json
from pathlib import Path

from pipeline.events import (
    Cancelled,
    ClipReady,
    Event,
    Failed,
    Finished,
    FramesDecoded,
    StageChanged,
    Started,
    StepDone,
)
from pipeline.jobs.status import Status, after, interrupted, queued, stopping
from pipeline.request import ClipPlan

PLAN = ClipPlan(height=64, width=64, frames=20, clips=3, frames_per_clip=8, warm_up_frames=3, lead_frames=3)
VIDEO = Path("result.mp4")
FIELDS = [
    "job",
    "state",
    "position",
    "stage",
    "clip",
    "clips",
    "step",
    "steps",
    "elapsed_s",
    "eta_s",
    "message",
    "seed",
    "part",
    "parts",
    "stopping",
]


def told(*events: Event) -> Status:
    """The status after `events`, one a second."""
    status = Status(job="a", steps=40)
    for second, event in enumerate(events, start=1):
        status = after(status, event, float(second))
    return status


def test_a_status_has_the_promised_fields_and_is_json():
    status = dataclasses.asdict(told(Started(PLAN, 7), StepDone(1, 1, 40)))
    assert list(status) == FIELDS
    assert json.loads(json.dumps(status)) == status


def test_counters_are_zero_before_the_first():
    status = told(Started(PLAN, 7), StageChanged("text", 0))
    assert (status.state, status.clip, status.clips, status.step, status.steps) == ("running", 0, 3, 0, 40)
    assert (status.seed, status.stage, status.message) == (7, "text", "Reading the prompt.")


def test_each_clip_counts_its_steps_from_the_start():
    events = [Started(PLAN, 7), StageChanged("denoise", 1), StepDone(1, 40, 40), StageChanged("denoise", 2)]
    assert (told(*events).clip, told(*events).step) == (2, 0)
    status = told(*events, StepDone(2, 14, 40))
    assert (status.clip, status.step, status.message) == (2, 14, "Clip 2 of 3: step 14 of 40.")


def test_decoding_and_writing_are_told():
    status = told(Started(PLAN, 7), StageChanged("decode", 1), FramesDecoded(1, 5, 20))
    assert (status.stage, status.message) == ("decode", "Clip 1 of 3: 5 of 20 parts decoded.")
    assert (status.part, status.parts) == (5, 20)
    status = told(Started(PLAN, 7), FramesDecoded(1, 5, 20), StageChanged("encode", 1))
    assert (status.part, status.parts) == (0, 0)
    assert (status.stage, status.message) == ("encode", "Clip 1 of 3: writing the video.")
    assert told(Started(PLAN, 7), ClipReady(1, 3, VIDEO, 5)).message == "Clip 1 of 3 is ready."


def test_the_ends_have_their_states_and_sentences():
    assert told(Started(PLAN, 7), Finished(VIDEO)).state == "finished"
    failed = told(Started(PLAN, 7), Failed("The disk is full."))
    assert (failed.state, failed.message) == ("failed", "The disk is full.")
    assert told(Started(PLAN, 7), Cancelled()).state == "cancelled"


def test_a_wish_to_end_is_told_until_it_has_ended():
    wanted = stopping(told(Started(PLAN, 7), StageChanged("denoise", 1)))
    assert (wanted.state, wanted.stopping, wanted.message) == ("running", True, "Stopping after the present step.")
    assert after(wanted, StepDone(1, 1, 40), 3).stopping
    assert not after(wanted, Cancelled(), 3).stopping


def test_seconds_of_work_are_those_of_the_last_event():
    assert told(Started(PLAN, 7), StageChanged("text", 0), StepDone(1, 1, 40)).elapsed_s == 3.0


def test_places_in_the_queue_are_told():
    assert queued(Status("a"), 1).message == "Next in line."
    third = queued(Status("a"), 3)
    assert (third.state, third.position, third.message) == ("queued", 3, "Number 3 in line.")


def test_an_interrupted_job_says_where_it_goes_on():
    status = told(Started(PLAN, 7), ClipReady(1, 3, VIDEO, 5), StageChanged("denoise", 2), StepDone(2, 9, 40))
    status = queued(interrupted(status, clip=1), 1)
    assert (status.state, status.clip, status.step, status.seed) == ("queued", 1, 0, 7)
    assert status.message == "Next in line, to go on after clip 1 of 3."
