"""How long a job has still to go."""

from dataclasses import replace
from pathlib import Path

from pipeline.events import ClipReady, Event, FramesDecoded, StageChanged, Started, StepDone
from pipeline.jobs.pace import Pace, measured
from pipeline.request import ClipPlan

PLAN = ClipPlan(height=64, width=64, frames=20, clips=3, frames_per_clip=8, warm_up_frames=3, lead_frames=3)


def eta_after(*happened: tuple[float, Event]) -> float | None:
    """Seconds left after the events, each with the second in which it happened."""
    pace = Pace()
    for now, event in happened:
        pace = measured(pace, event, now)
    return pace.eta_s


BEGUN = [(1.0, Started(PLAN, 7)), (2.0, StageChanged("text", 0)), (50.0, StageChanged("denoise", 1))]
STEPPED = [*BEGUN, *((50.0 + 10 * step, StepDone(1, step, 4)) for step in (1, 2, 3, 4))]
DECODED = [*STEPPED, (90.0, StageChanged("decode", 1)), (92.0, FramesDecoded(1, 1, 2)), (94.0, FramesDecoded(1, 2, 2))]
READY = [*DECODED, (95.0, StageChanged("encode", 1)), (96.0, ClipReady(1, 3, Path("result.mp4"), 5))]


def test_nothing_is_said_before_something_is_measured():
    assert eta_after(*BEGUN) is None


def test_the_conditions_at_the_start_do_not_count_as_steps():
    assert eta_after(*BEGUN, (60.0, StepDone(1, 1, 4))) == 11 * 10 + 3 * 10  # 11 steps; decoding counts as one


def test_what_earlier_jobs_took_besides_their_steps_counts_until_it_is_measured():
    pace = replace(measured(Pace(), Started(PLAN, 7), 0.0), rest_s=6.0)
    for now, event in BEGUN[1:]:
        pace = measured(pace, event, now)
    assert measured(pace, StepDone(1, 1, 4), 60.0).eta_s == 11 * 10 + 3 * 6


def test_decoding_is_measured_once_it_happens():
    assert eta_after(*DECODED[:-1]) == 2 + 2 * (40 + 4)
    assert eta_after(*DECODED) == 2 * (40 + 4)


def test_after_a_clip_its_whole_time_is_known():
    assert eta_after(*READY) == 2 * (40 + 6)


def test_a_slower_machine_is_believed_at_once():
    later = [*READY, (97.0, StageChanged("denoise", 2)), (117.0, StepDone(2, 1, 4))]
    assert eta_after(*later) == 7 * 20 + 2 * 6


def test_nothing_is_left_after_the_last_clip():
    assert eta_after(*READY, (200.0, StageChanged("decode", 3)), (206.0, ClipReady(3, 3, Path("r"), 20))) == 0


def test_a_resumed_job_counts_only_the_clips_that_are_left():
    resumed = [(200.0, Started(PLAN, 7)), (201.0, StageChanged("denoise", 3)), (203.0, StepDone(3, 1, 4))]
    assert eta_after(*READY, *resumed) == 3 * 2 + 2
