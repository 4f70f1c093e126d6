"""Plans: every file is opened, and what may disappoint is said before."""

import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InvalidRequest, QueueFull
from pipeline.media.planning import PlannedRequest, plan_request
from pipeline.request import GenerationRequest

from .samples import noise, write_movie, write_sound


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    Image.new("RGB", (512, 512)).save(tmp_path / "face.png")
    write_sound(tmp_path / "voice.wav", after_silence(noise(7.2, 16_000)), 16_000)
    return {"portrait": tmp_path / "face.png", "audio": tmp_path / "voice.wav"}


def after_silence(samples: np.ndarray) -> np.ndarray:
    """0.2 s of silence, then `samples`, at 16 kHz."""
    return np.concatenate([np.zeros((3_200, 1)), samples])


def planned(values: dict[str, Any], **more: Any) -> PlannedRequest:
    return plan_request(GenerationRequest.parse(values | more), max_audio_seconds=300)


def refusal(values: dict[str, Any], **more: Any) -> str:
    with pytest.raises(InvalidRequest) as refused:
        planned(values, **more)
    return str(refused.value)


def test_a_plan_counts_frames_and_clips_from_the_decoded_sound(inputs: dict[str, Any]) -> None:
    result = planned(inputs)
    assert result.audio.seconds == 7.4
    assert (result.plan.frames, result.plan.clips) == (119, 2)
    assert (result.plan.height, result.plan.width) == (512, 512)
    assert result.hints == ()


def test_the_chosen_part_counts(inputs: dict[str, Any]) -> None:
    result = planned(inputs, audio_start=1.0, audio_duration=2.0)
    assert (result.audio.seconds, result.plan.frames) == (2.0, 32)


def test_the_upright_picture_counts(inputs: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (512, 320)).save(inputs["portrait"], exif=exif)
    plan = planned(inputs).plan
    assert (plan.height, plan.width) == (512, 320)


def test_silence_is_allowed_with_a_hint(inputs: dict[str, Any]) -> None:
    write_sound(inputs["audio"], np.zeros((16_000, 1)), 16_000)
    assert planned(inputs).hints == ("The audio is silent: the lips will hardly move.",)


def test_quiet_sound_is_allowed_with_a_hint(inputs: dict[str, Any]) -> None:
    write_sound(inputs["audio"], after_silence(noise(1.0, 16_000, level=0.003)), 16_000)
    (hint,) = planned(inputs).hints
    assert "very quiet" in hint


def test_clipped_sound_is_allowed_with_a_hint(inputs: dict[str, Any]) -> None:
    loud = np.clip(noise(1.0, 16_000, level=0.3) * 4, -1, 0.99997)
    write_sound(inputs["audio"], after_silence(loud), 16_000)
    (hint,) = planned(inputs).hints
    assert "clipped" in hint


def test_words_that_start_at_once_are_allowed_with_a_hint(inputs: dict[str, Any]) -> None:
    (hint,) = planned(inputs, audio_start=1.0).hints
    assert "start at once" in hint


def test_minutes_of_audio_at_a_large_size_are_allowed_with_a_hint(inputs: dict[str, Any]) -> None:
    write_sound(inputs["audio"], after_silence(noise(130, 16_000)), 16_000)
    Image.new("RGB", (1280, 720)).save(inputs["portrait"])
    assert planned(inputs).hints == ()
    (hint,) = planned(inputs, max_area="720p").hints
    assert hint.startswith("2 minutes at 1280x704 take long")


def test_the_plan_shows_what_the_model_sees(inputs: dict[str, Any]) -> None:
    Image.new("RGB", (900, 300), "teal").save(inputs["portrait"])
    result = planned(inputs, max_area=256 * 128)
    assert (result.plan.width, result.plan.height) == (256, 128)
    assert (result.crop.left, result.crop.top) == pytest.approx(((1 - 256 / 384) / 2, 0))
    assert (result.crop.width, result.crop.height) == pytest.approx((256 / 384, 1))
    with Image.open(io.BytesIO(result.sketch)) as sketch:
        assert sketch.size == (192, 64)


def test_a_small_portrait_is_allowed_with_a_hint(inputs: dict[str, Any]) -> None:
    Image.new("RGB", (400, 255)).save(inputs["portrait"])
    (hint,) = planned(inputs).hints
    assert "small (400x255 pixels)" in hint
    assert planned(inputs, max_area=128 * 192).hints == ()  # which is not larger


def test_every_file_is_checked(inputs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no medium at all")
    assert "portrait: 'text.txt' is not a JPEG" in refusal(inputs, portrait=tmp_path / "text.txt")
    assert "audio: 'text.txt' cannot be read" in refusal(inputs, audio=tmp_path / "text.txt")
    assert "pose_video: 'text.txt' holds no video" in refusal(inputs, pose_video=tmp_path / "text.txt")
    assert planned(inputs, pose_video=write_movie(tmp_path / "pose.mp4", 16, 16))


@pytest.mark.parametrize("field", ["portrait", "audio", "pose_video"])
def test_a_missing_file_and_a_folder_are_named_without_their_place(
    inputs: dict[str, Any], tmp_path: Path, field: str
) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("gone", "folder"):
        sentence = refusal(inputs, **{field: tmp_path / name})
        assert sentence.startswith(f"{field}: ")
        assert f"'{name}'" in sentence
        assert str(tmp_path) not in sentence


def test_the_limit_is_the_callers(inputs: dict[str, Any]) -> None:
    request = GenerationRequest.parse(inputs)
    assert plan_request(request, max_audio_seconds=7.4)
    with pytest.raises(InvalidRequest, match="at most 7 s are accepted"):
        plan_request(request, max_audio_seconds=7)


def test_a_plan_is_quick(inputs: dict[str, Any]) -> None:
    write_sound(inputs["audio"], noise(10.0, 44_100, 2), 44_100)
    planned(inputs)
    started = time.monotonic()
    planned(inputs)
    assert time.monotonic() - started < 0.5


def test_two_plans_are_made_at_a_time_and_a_few_wait(inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened, go_on, open_picture = threading.Semaphore(0), threading.Event(), Image.open

    def open_and_wait(*arguments: Any, **options: Any) -> Image.Image:
        opened.release()
        assert go_on.wait(30)
        return open_picture(*arguments, **options)

    monkeypatch.setattr(Image, "open", open_and_wait)
    with ThreadPoolExecutor(11) as threads:
        plans = [threads.submit(planned, inputs) for _ in range(11)]
        assert all(opened.acquire(timeout=30) for _ in range(2))
        refused = next(as_completed(plans, timeout=30))
        with pytest.raises(QueueFull, match="try again in a few seconds"):
            refused.result()
        assert not opened.acquire(timeout=0.3)
        go_on.set()
        assert all(plan.result(30).audio.seconds == 7.4 for plan in plans if plan is not refused)


def test_planning_loads_no_heavy_library() -> None:
    code = "import sys, pipeline.media.planning, pipeline.media.video; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "librosa", "moviepy", "gradio", "scipy"} & set(done.stdout.split())
