"""Faster ways that are not exact: each saves passes through the blocks, and stays near the exact video."""

import numpy as np
import pytest

from pipeline.events import ClipFrames
from pipeline.model import step_cache
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

from .golden import CASES

STEPS = 8


class Passes:
    """Counts how often the middle block of a model computes, and how often the whole is asked."""

    def __init__(self, model: SpeechToVideo):
        blocks = model.parts.transformer.blocks
        self.whole, self.middle = 0, 0
        self.hooks = [
            model.parts.transformer.register_forward_hook(self._on_whole),
            blocks[1].ffn.register_forward_hook(self._on_middle),
        ]

    def _on_whole(self, *_: object) -> None:
        self.whole += 1

    def _on_middle(self, *_: object) -> None:
        self.middle += 1


def made(model: SpeechToVideo, **settings: object) -> tuple[np.ndarray, int, float]:
    """The frames of (up to) two clips, the number of passes, and the share of them that computed the middle block."""
    request = GenerationRequest.parse(CASES["two_clips"] | {"frames_per_clip": 16, "steps": STEPS} | settings)
    passes = Passes(model)
    frames = [event.frames.astype(int) for event in model.generate(request) if isinstance(event, ClipFrames)]
    for hook in passes.hooks:
        hook.remove()
    return np.concatenate(frames), passes.whole, passes.middle / (2 * passes.whole)  # once for each kind of tokens


def test_each_cache_saves_passes_stays_near_and_leaves_nothing_behind(
    golden_model: SpeechToVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_cache, "FIRST_BLOCK_THRESHOLD", 0.3)  # random weights change more than trained ones
    exact, asked, computed = made(golden_model)
    assert (asked, computed) == (2 * 2 * STEPS, 1)
    for speed in ("first-block", "magnitude", "taylor"):
        near, asked, computed = made(golden_model, speed=speed)
        assert asked == 2 * 2 * STEPS, speed
        assert 0.1 < computed < 0.9, speed
        assert 0 < np.abs(near - exact).mean() < 16, speed  # of 255
    again, _, _ = made(golden_model)
    assert np.array_equal(again, exact)


def test_guidance_in_part_of_the_steps_saves_its_passes(golden_model: SpeechToVideo) -> None:
    one_clip = {"max_clips": 1}
    _, asked, _ = made(golden_model, guidance_share=0.25, **one_clip)
    assert asked == STEPS + STEPS // 4
    alone, asked, _ = made(golden_model, guidance_share=0, **one_clip)
    assert asked == STEPS
    assert np.array_equal(alone, made(golden_model, guidance=1, **one_clip)[0])
