"""Which frame of a pose video goes with which frame of the result."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from pipeline.model.conditions import pose_pixels
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

from .golden import CASES


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A video at 16 frames a second, each as bright as its number."""
    path = tmp_path / "numbered.mp4"
    writer = imageio_ffmpeg.write_frames(str(path), (64, 64), fps=16, quality=10, macro_block_size=1)
    writer.send(None)
    for number in range(40):
        writer.send(np.full((64, 64, 3), 16 + 5 * number, np.uint8).tobytes())
    writer.close()
    return path


def shown_to_the_encoder(model: SpeechToVideo, pose: Path, **settings: object) -> list[int]:
    """Numbers of the pose frames of the first clip, in the order in which the encoder sees them (-1: black)."""
    seen = []
    hook = model.parts.vae.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    generation = model.generate(GenerationRequest.parse(CASES["pose"] | {"pose_video": pose} | settings))
    for event in generation:
        if type(event).__name__ == "StageChanged" and event.stage == "denoise":
            seen.clear()
        if type(event).__name__ == "StepDone":
            break
    generation.close()
    hook.remove()
    levels = (torch.cat(seen, dim=2).mean(dim=(0, 1, 3, 4)) + 1) * 127.5
    return [round((level - 16) / 5) if level > 8 else -1 for level in levels.tolist()]


def test_without_the_lead_the_pose_begins_with_its_first_frame_as_in_the_official_program(
    golden_model, numbered
) -> None:
    assert shown_to_the_encoder(golden_model, numbered) == [0, *range(16)]


def test_with_the_lead_the_pose_waits_as_the_sound_does(golden_model, numbered) -> None:
    assert shown_to_the_encoder(golden_model, numbered, sync_lead_frames=3) == [0, 0, 0, 0, *range(13)]


def test_past_the_end_of_the_pose_there_is_black() -> None:
    pixels = pose_pixels(np.full((2, 32, 32, 3), 255, np.uint8), 4, 64, 64)
    assert pixels[:, :2].eq(1).all()
    assert pixels[:, 2:].eq(-1).all()
    assert pose_pixels(np.empty((0, 0, 0, 3), np.uint8), 4, 64, 64).eq(-1).all()
