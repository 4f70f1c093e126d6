"""How long a job will take: by arithmetic, by what the queue has measured, and by the sample model's own journals."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.events import ClipReady, Event, StageChanged, Started, StepDone
from pipeline.jobs.forecast import clip_tokens, expected_rest_s, expected_s, latents_of, measure
from pipeline.jobs.journal import Line, Maker, StopAsked
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.rendering import render
from pipeline.jobs.worker import Worker
from pipeline.request import ClipPlan, GenerationRequest

from .bench_forecast import compare, requests
from .scripted import Script, follow

PLAN = ClipPlan(height=64, width=64, frames=150, clips=2, frames_per_clip=80, warm_up_frames=3, lead_frames=3)
REQUEST = GenerationRequest(portrait="x", audio="x", steps=4, guidance=1)


def journal(times: Iterable[tuple[float, Event]]) -> list[Line]:
    return [Line(0.0, now, event) for now, event in times]


def clip_of(clip: int, began: float, first_s: float, step_s: float, decode_s: float) -> list[tuple[float, Event]]:
    """A clip of four steps, one second of writing after."""
    decoding = began + first_s + 3 * step_s
    return [
        (began, StageChanged("denoise", clip)),
        (began + first_s, StepDone(clip, 1, 4)),
        (decoding, StageChanged("decode", clip)),
        (decoding + decode_s, StageChanged("encode", clip)),
        (decoding + decode_s + 1, ClipReady(clip, 2, Path("result.mp4"), 77)),
    ]


COLD = [(30.0, Started(PLAN, 7)), (30.0, StageChanged("text", 0)), (31.0, StageChanged("speech", 0))]
JOB = [*COLD, *clip_of(1, 32.0, 60.0, 2.0, 4.0), *clip_of(2, 103.0, 3.0, 2.0, 4.0)]


def test_nothing_is_known_before_a_clip_is_done():
    assert measure(REQUEST, journal(JOB[:7])) is None
    assert expected_s(REQUEST, PLAN, []) is None
    assert expected_rest_s(REQUEST, PLAN, []) is None


def test_the_same_again_takes_as_long_without_what_only_a_new_process_does():
    steps_s, fixed_s, rest_s = 2 * 4 * 2.0, 2.0 + 2 * 1.0, 2 * (4.0 + 1.0)
    assert expected_s(REQUEST, PLAN, [measure(REQUEST, journal(JOB))]) == pytest.approx(
        steps_s + fixed_s + rest_s, rel=0.1
    )


def test_what_follows_the_steps_is_known_for_itself():
    assert expected_rest_s(REQUEST, PLAN, [measure(REQUEST, journal(JOB))]) == pytest.approx(4.0 + 1.0, rel=0.15)


def test_steps_guidance_and_clips_each_count():
    known = [measure(REQUEST, journal(JOB))]

    def expected(plan: ClipPlan = PLAN, **changes: float) -> float:
        return expected_s(REQUEST.model_copy(update=changes), plan, known)

    once = expected()
    assert expected(steps=8) - once == pytest.approx(expected(guidance=2.0) - once)
    assert expected(steps=8) - once == pytest.approx(16.0, rel=0.1)
    assert expected(replace(PLAN, clips=4)) == pytest.approx(2 * once - 2.0, rel=0.1)


def test_guidance_counts_in_the_steps_that_have_it():
    known = [measure(REQUEST, journal(JOB))]
    none, half, all_steps = (
        expected_s(REQUEST.model_copy(update={"guidance": 4.5, "guidance_share": share}), PLAN, known)
        for share in (0, 0.5, 1)
    )
    assert none == expected_s(REQUEST, PLAN, known)
    assert half - none == pytest.approx(all_steps - half)
    assert all_steps > half


def test_jobs_that_skip_are_judged_by_their_like_or_by_those_that_do_not():
    exact, taylor = REQUEST, REQUEST.model_copy(update={"speed": "taylor"})
    quick = [*COLD, *clip_of(1, 32.0, 60.0, 0.5, 4.0), *clip_of(2, 98.5, 1.5, 0.5, 4.0)]
    slow, fast = measure(exact, journal(JOB)), measure(taylor, journal(quick))
    assert expected_s(exact, PLAN, [slow, fast]) == expected_s(exact, PLAN, [slow])
    assert expected_s(taylor, PLAN, [fast, slow]) < expected_s(exact, PLAN, [slow])
    assert expected_s(taylor, PLAN, [slow]) == expected_s(exact, PLAN, [slow])
    assert expected_s(exact, PLAN, [fast]) is None


def test_a_clip_with_a_wish_between_its_lines_is_not_counted():
    decoded = next(i for i, (_, event) in enumerate(JOB) if event == StageChanged("encode", 2))
    asked = [*JOB[:decoded], (JOB[decoded][0], StopAsked()), *JOB[decoded:]]
    assert measure(REQUEST, journal(asked)) == measure(REQUEST, journal(JOB[: decoded - 3]))
    only = [(time, event) for time, event in asked if getattr(event, "clip", 2) != 1]
    assert measure(REQUEST, journal(only)) is None


def test_time_grows_faster_than_the_pixels_that_are_planned():
    known = [measure(REQUEST, journal(JOB))]
    smaller, larger = (
        expected_s(REQUEST, replace(PLAN, height=height, width=width), known)
        for height, width in ((448, 832), (704, 1280))
    )
    pixels = 704 * 1280 / (448 * 832)
    assert 1.3 * pixels < larger / smaller < pixels**2


def test_the_job_nearest_in_size_is_the_judge_and_the_newest_of_those():
    large = replace(PLAN, height=512, width=512)
    slow = [(now * 50, Started(large, 7) if isinstance(event, Started) else event) for now, event in JOB]
    twice = [(now * 2, event) for now, event in JOB]
    known = [measure(REQUEST, journal(times)) for times in (JOB, slow, twice)]
    assert expected_s(REQUEST, large, known) > 50 * expected_s(REQUEST, PLAN, known[:1]) / 2
    assert 1.5 < expected_s(REQUEST, PLAN, known) / expected_s(REQUEST, PLAN, known[:1]) < 2.1


def test_an_interrupted_job_counts_only_what_was_worked_on():
    waited = [(now + 1000, event) for now, event in JOB[8:]]
    resumed = [*JOB[:8], (1000.0, Started(PLAN, 7)), (1001.0, StageChanged("text", 0)), *waited]
    assert measure(REQUEST, journal(resumed)).step_s == measure(REQUEST, journal(JOB)).step_s


def test_a_journal_of_an_older_program_measures_nothing():
    assert measure(REQUEST, journal([entry for entry in JOB if not isinstance(entry[1], StepDone)])) is None


def test_tokens_and_latents_are_those_of_the_model():
    assert clip_tokens(REQUEST, PLAN, 1) == 21 * 16
    assert clip_tokens(REQUEST, PLAN, 2) == 22.5 * 16
    assert latents_of(REQUEST, PLAN, 1) == 1 + 20 + 9.5
    assert latents_of(REQUEST, PLAN, 2) == 19 + 20


def test_what_was_measured_is_kept_over_a_restart_and_is_no_measure_for_another_model(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue = open_queue()
    job = queue.submit(inputs)
    plan = replace(PLAN, frames_per_clip=8)
    assert queue.expected_s(inputs, plan) is None
    worker = start(queue, Script())
    assert follow(queue, job)[-1].state == "finished"
    assert queue.expected_s(inputs, plan) > 0
    worker.stop(30)
    again = queue.submit(inputs)
    statuses = follow(queue, again, then=lambda: start(queue, Script()))
    assert next(status.eta_s for status in statuses if status.stage == "text") is not None
    queue = open_queue()
    queue.makers = {Maker("script")}
    assert queue.expected_s(inputs, plan) > 0
    queue.makers = {Maker("another model")}
    assert queue.expected_s(inputs, plan) is None


def test_a_job_is_foreseen_by_what_the_card_that_works_on_it_has_measured(queue: JobQueue, inputs: GenerationRequest):
    one, other = Maker("script", "on card A"), Maker("script", "on card B")
    for maker in (one, other):
        queue.admit(maker)
        queue.submit(inputs)
    work_as(one, queue)
    assert queue.expected_s(inputs, replace(PLAN, frames_per_clip=8)) > 0
    assert foreseen(other, queue) is None
    queue.submit(inputs)
    assert foreseen(one, queue) is not None


def work_as(maker: Maker, queue: JobQueue) -> None:
    """Do the next job."""
    job = queue.take(lambda: False, maker)
    for event in render(Script().generate, job.request, job.folder.path):
        queue.record(job, event)


def foreseen(maker: Maker, queue: JobQueue) -> float | None:
    """The seconds that the next job is told to take when `maker` begins with it."""
    job = queue.take(lambda: False, maker)
    queue.record(job, next(Script().generate(job.request)))
    return job.status.eta_s


def clip_events(clip: int, steps: int, clips: int) -> list[Event]:
    """What the forecast looks at in a clip."""
    return [
        StageChanged("denoise", clip),
        StepDone(clip, 1, steps),
        StageChanged("decode", clip),
        StageChanged("encode", clip),
        ClipReady(clip, clips, Path("result.mp4"), 29),
    ]


BEGIN = [StageChanged(stage, 0) for stage in ("text", "speech", "portrait")]
SMALL_PLAN = ClipPlan(height=64, width=64, frames=16, clips=1, frames_per_clip=32, warm_up_frames=3, lead_frames=3)
LARGER_PLAN = ClipPlan(height=128, width=128, frames=48, clips=2, frames_per_clip=32, warm_up_frames=3, lead_frames=3)
SMALL_JOB = [Started(SMALL_PLAN, 1), *BEGIN, *clip_events(1, 6, 1)]
LARGER_JOB = [Started(LARGER_PLAN, 1), *BEGIN, *clip_events(1, 10, 2), *clip_events(2, 10, 2)]
# When each of those events came, in seconds, as `python -m tests.jobs.bench_forecast --times` printed it on an idle
# machine, with one and with two threads: of three runs each the middle one.
TIMES = {
    "one core": (
        [0.889, 0.889, 0.915, 0.935, 0.965, 1.004, 1.170, 1.866, 1.969],
        [0.040, 0.041, 0.056, 0.084, 0.163, 0.263, 1.132, 6.710, 6.841, 6.841, 6.960, 7.979, 15.821, 15.930],
    ),
    "two cores": (
        [0.974, 0.974, 0.996, 1.032, 1.078, 1.137, 1.311, 2.174, 2.288],
        [0.044, 0.045, 0.071, 0.122, 0.225, 0.319, 1.157, 5.969, 6.079, 6.079, 6.194, 7.132, 13.269, 13.394],
    ),
}


@pytest.mark.parametrize("cores", TIMES)
def test_after_one_job_of_the_sample_model_another_is_foreseen_within_30_percent(cores: str, tmp_path: Path):
    jobs = zip(TIMES[cores], (SMALL_JOB, LARGER_JOB), strict=True)
    small, larger = (journal(zip(times, events, strict=True)) for times, events in jobs)
    foresight = compare(*requests(tmp_path), (small, larger))
    assert abs(foresight.difference_percent) < 30
