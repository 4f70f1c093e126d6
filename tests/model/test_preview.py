"""The picture of what a clip is becoming."""

import time

import numpy as np
import pytest
import torch

from pipeline.events import StepDone, event_json
from pipeline.model.preview import draw, fit_colours
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.preparation import prepare_model
from pipeline.request import GenerationRequest
from pipeline.settings import Settings
from pipeline.store.catalogue import SAMPLE

from .golden import PORTRAIT, SPEECH


def test_a_linear_map_is_found_again():
    torch.manual_seed(0)
    latents, weights = torch.randn(16, 1, 8, 8), 0.1 * torch.randn(16, 3)
    small = torch.einsum("chw,cd->dhw", latents[:, 0], weights) + 0.2
    pixels = small.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]

    drawn = draw(latents[None].repeat(1, 1, 3, 1, 1), fit_colours(latents, pixels))

    expected = ((small + 1) * 127.5).clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(drawn - expected).max() < 8


def test_a_plain_grey_picture_gives_tame_colours():
    colours = fit_colours(torch.zeros(16, 1, 8, 8), torch.zeros(3, 1, 64, 64))

    assert draw(torch.randn(1, 16, 1, 8, 8), colours).tolist() == [[[128, 128, 128]] * 8] * 8


@pytest.fixture(scope="module")
def model() -> SpeechToVideo:
    return prepare_model(SAMPLE, Settings(), lambda state: None)


def request(**changes: object) -> GenerationRequest:
    return GenerationRequest.parse({**SAMPLE.defaults, "portrait": PORTRAIT, "audio": SPEECH, **changes})


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_every_step_has_its_small_picture(model: SpeechToVideo, solver: str):
    settings = {"max_area": 64 * 64, "frames_per_clip": 16, "max_clips": 1, "solver": solver, "steps": 4}
    previews = [event.draw() for event in model.generate(request(**settings)) if isinstance(event, StepDone)]

    assert {(preview.shape, preview.dtype) for preview in previews} == {((8, 8, 3), np.dtype("uint8"))}
    assert any((previews[0] != other).any() for other in previews[1:])


def test_events_are_told_without_their_preview():
    assert event_json(StepDone(1, 2, 3, lambda: None)) == {"event": "step_done", "clip": 1, "step": 2, "steps": 3}


def test_a_preview_at_every_second_step_takes_at_most_2_percent_of_the_steps(model: SpeechToVideo):
    """At the sample model's own size, in seconds that this process works; the first one fits the colours."""
    drawing_s, steps_s, before = 0.0, 0.0, None
    for event in model.generate(request(max_clips=1, steps=16)):
        if not isinstance(event, StepDone):
            continue
        now = time.process_time()
        steps_s += 0.0 if before is None else now - before
        if event.step % 2 == 0:
            event.draw()
        before = time.process_time()
        drawing_s += before - now
        if event.step == event.steps:
            break
    assert drawing_s <= 0.02 * steps_s
