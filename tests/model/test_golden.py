"""The numbers of the official program on a tiny checkpoint: through the recipe, and through the command line."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

from .golden import CASES, CHECKPOINT, expected, expected_video
from .recorder import Recorder


@pytest.mark.parametrize("case", CASES)
def test_the_recipe_gives_the_official_numbers(case: str, golden_model: SpeechToVideo) -> None:
    recorder = Recorder(golden_model)
    video = recorder.run(GenerationRequest.parse(CASES[case]))
    assert recorder.timesteps == expected(case, "timesteps").tolist()
    for i in (0, 1):
        np.testing.assert_allclose(recorder.outputs[i], expected(case, f"dit{i}_out"), rtol=0, atol=2e-5)
    assert video.shape == tuple(expected(case, "shape"))
    numbers, pixels = expected_video(case)
    np.testing.assert_allclose(video[:, numbers], pixels, rtol=0, atol=2e-4)


@pytest.mark.parametrize("case", ["dpm", "pose"])
def test_the_command_line_writes_the_official_frames(case: str, tmp_path: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CASES[case].items()]
    files = ["--device=cpu", f"--output={tmp_path / 'video.mp4'}", f"--frames={tmp_path / 'frames.npy'}"]
    assert main(["generate", f"--model={CHECKPOINT}", *files, *options]) == 0
    frames = np.load(tmp_path / "frames.npy")
    numbers, pixels = expected_video(case)
    levels = (pixels.transpose(1, 2, 3, 0) + 1) * 127.5
    assert np.abs(frames[numbers] - levels).max() <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.npy", "video.mp4"]
