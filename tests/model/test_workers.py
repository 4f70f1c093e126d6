"""Two models in one process that each make a video at the same time."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.events import Event, ModelState, Resume, StepDone
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.rendering import render
from pipeline.jobs.status import State
from pipeline.jobs.team import Team
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.preparation import prepare_model
from pipeline.request import GenerationRequest
from pipeline.settings import Settings
from pipeline.store.catalogue import entry_for
from tests.jobs.scripted import decoded

from ..awaiting import result_of
from .golden import CASES, CHECKPOINT


class Meeting:
    """A model that waits after each step until the other has come as far."""

    def __init__(self, model: SpeechToVideo, at: threading.Barrier) -> None:
        self.model, self.at = model, at

    def generate(self, request: GenerationRequest, resume: Resume | None = None) -> Iterator[Event]:
        for event in self.model.generate(request, resume):
            if isinstance(event, StepDone):
                self.at.wait(200)
            yield event


async def end_of(queue: JobQueue, job: str) -> State:
    """How the job ends, once it has."""
    return [status async for status in queue.follow(job)][-1].state


def test_two_workers_make_two_videos_step_by_step_together_each_as_if_alone(tmp_path: Path) -> None:
    requests = [GenerationRequest.parse(CASES["no_guidance"] | {"seed": seed, "max_clips": 2}) for seed in (1, 2)]
    models, barrier = [], threading.Barrier(2)

    def prepare(worker: int, report: Callable[[ModelState], None]) -> Meeting:
        entry, options = entry_for(str(CHECKPOINT)), {"device": "cpu", "worker": worker, "workers": 2}
        models.append(prepare_model(entry, Settings(), report, **options))
        return Meeting(models[-1], barrier)

    queue = JobQueue(tmp_path / "jobs", 20, 60, 7)
    jobs = [queue.submit(request) for request in requests]
    team = Team(queue, [partial(prepare, worker) for worker in range(2)])
    team.start()
    assert [result_of(end_of(queue, job), limit_s=120) for job in jobs] == ["finished", "finished"]
    team.stop()
    one, other = ({id(tensor) for tensor in model.parts.transformer.parameters()} for model in models)
    assert not one & other
    for job, request in zip(jobs, requests, strict=True):
        alone = tmp_path / job
        alone.mkdir()
        *_, finished = render(models[0].generate, request, alone)
        np.testing.assert_array_equal(decoded(queue.video(job)), decoded(finished.video))
