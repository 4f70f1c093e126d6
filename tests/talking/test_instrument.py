"""The instrument on drawn videos, where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from assets.sample_model.training.acting import act
from assets.sample_model.training.faces import UPRIGHT, Face, Movement, draw_portrait, draw_video, make_face

from .instrument import likeness, lip_sync, mouth_opening, move_to_frames, seam, sound_envelope

RATE, FRAMES = 16_000, 80


def babble(seed: int) -> np.ndarray:
    """Five seconds of a hum that goes on and off like syllables, float32."""
    rng = np.random.default_rng(seed)
    ticks = np.arange(5 * RATE) / RATE
    levels = np.interp(ticks, np.arange(0, 6, 0.11), rng.choice([0.001, 0.03, 0.2, 1.0], 55))
    return (levels * np.sin(2 * np.pi * 220 * ticks)).astype(np.float32)


@pytest.fixture(scope="module", params=[(128, 128), UPRIGHT], ids=["square", "upright"])
def face(request: pytest.FixtureRequest) -> Face:
    return make_face(np.random.default_rng(5), request.param)


def measured_opening(face: Face, movement: Movement) -> np.ndarray:
    frames, portrait = draw_video(face, movement), np.asarray(draw_portrait(face))
    portraits = move_to_frames(portrait, frames, (face.mouth_box, face.eyes_box))
    return mouth_opening(frames, portraits, face.mouth_box)


def test_a_face_drawn_to_its_sound_is_in_time(face: Face) -> None:
    sound = babble(1)
    sync = lip_sync(measured_opening(face, act(sound, FRAMES)), sound_envelope(sound, FRAMES))
    assert sync.correlation > 0.9
    assert sync.lag == 0


def test_a_wrong_sound_under_the_same_video_is_found_out(face: Face) -> None:
    opening = measured_opening(face, act(babble(1), FRAMES))
    wrong = [lip_sync(opening, sound_envelope(babble(seed), FRAMES)).correlation for seed in range(10, 16)]
    assert np.mean(wrong) < 0.3


@pytest.mark.parametrize("late", [-3, 2])
def test_a_late_or_early_mouth_is_told_by_its_lag(face: Face, late: int) -> None:
    sound = babble(1)
    movement = act(sound, FRAMES)
    moved = replace(movement, opening=np.roll(movement.opening, late))
    assert lip_sync(measured_opening(face, moved), sound_envelope(sound, FRAMES)).lag == late


def test_a_still_mouth_has_no_correlation(face: Face) -> None:
    movement = act(babble(1), FRAMES)
    shut = replace(movement, opening=0 * movement.opening, width=0 * movement.width)
    assert lip_sync(measured_opening(face, shut), sound_envelope(babble(1), FRAMES)).correlation < 0.5


def measured_likeness(face: Face, frames: np.ndarray) -> float:
    moving = (face.mouth_box, face.eyes_box)
    return likeness(frames, move_to_frames(np.asarray(draw_portrait(face)), frames, moving), moving)


def test_likeness_does_not_mind_sway_and_talk_but_noise_and_another_face(face: Face) -> None:
    frames = draw_video(face, act(babble(1), FRAMES))[::4]
    assert measured_likeness(face, frames) > 30
    noisy = np.clip(frames + np.random.default_rng(0).normal(0, 16, frames.shape), 0, 255).astype(np.uint8)
    assert measured_likeness(face, noisy) == pytest.approx(24, abs=1)
    other = np.asarray(draw_portrait(make_face(np.random.default_rng(6), face.size)))
    assert measured_likeness(face, other[None]) < 20


def test_a_jump_between_clips_is_a_seam_and_talk_is_none(face: Face) -> None:
    frames = draw_video(face, act(babble(1), FRAMES))
    assert seam(frames, [40]) < 2
    jumping = frames.copy()
    jumping[40:] = np.clip(jumping[40:].astype(int) + 12, 0, 255)
    assert seam(jumping, [40]) > 3
