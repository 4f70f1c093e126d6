"""Speech features: as officially up to a minute, and in windows that overlap beyond it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from pipeline.model import speech
from pipeline.model.freed_memory import keep_freed_memory
from pipeline.model.speech import SPEECH_RATE, HeardSpeech, Window, windows

from ..forked import in_fork, peak_bytes


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, int(seconds * SPEECH_RATE)).astype(np.float32)


def all_at_once(parts, samples: np.ndarray, frames: int) -> torch.Tensor:
    """The official way: all hidden states, interpolated by PyTorch, one row for each frame."""
    values = parts.feature_extractor(samples, sampling_rate=SPEECH_RATE, return_tensors="pt").input_values
    hidden = torch.cat(parts.speech_encoder(values, output_hidden_states=True).hidden_states)
    length = int(hidden.shape[1] / 50 * 30)
    rows = F.interpolate(hidden.transpose(1, 2), size=length, mode="linear", align_corners=True)
    nearest = np.round(np.linspace(0, frames / 16, frames, endpoint=False) * 30).astype(np.int64)
    heard = int((nearest < length).sum())
    return F.pad(rows[..., torch.from_numpy(nearest[:heard])], (0, frames - heard))


@pytest.mark.parametrize("seconds", [0.2, 1.0, 7.3, 59.9])
@torch.inference_mode()
def test_up_to_a_minute_the_features_are_the_official_ones(seconds: float, golden_model) -> None:
    parts, frames = golden_model.parts, 80 * (int(seconds / 5) + 1)
    heard = HeardSpeech(parts.feature_extractor, parts.speech_encoder, noise(seconds), frames)
    ours = [heard.features(parts.speech_encoder, first, 80) for first in range(0, frames, 80)]
    expected = all_at_once(parts, noise(seconds), frames)
    torch.testing.assert_close(torch.cat(ours, dim=-1), expected, rtol=0, atol=2e-6)


def test_windows_overlap_and_every_state_is_kept_once() -> None:
    assert list(windows(3000, 3000, 250)) == [Window(0, 3000, 0, 3000)]
    for length in (3001, 5500, 5501, 30_000):
        made = list(windows(length, 3000, 250))
        assert [window.kept_from for window in made[1:]] == [window.kept_to for window in made[:-1]]
        assert (made[0].kept_from, made[-1].kept_to, made[-1].end) == (0, length, length)
        for window in made:
            assert window.end - window.first == 3000
            assert window.first == 0 or window.kept_from - window.first >= 250
            assert window.end == length or window.end - window.kept_to >= 250


@torch.inference_mode()
def test_beyond_a_minute_windows_come_near_to_the_whole_and_nothing_is_lost(golden_model) -> None:
    parts, frames = golden_model.parts, 1200
    samples = noise(75)
    heard = HeardSpeech(parts.feature_extractor, parts.speech_encoder, samples, frames)
    ours = torch.cat([heard.features(parts.speech_encoder, first, 100) for first in range(0, frames, 100)], dim=-1)
    whole = all_at_once(parts, samples, frames)
    assert (ours[0] - whole[0]).abs().max() < 1e-3  # before attention, a state sees its neighbours alone
    assert ((ours - whole).norm() / whole.norm()) < 0.05
    assert ours[..., -1].abs().max() > 0


@torch.inference_mode()
def test_a_clip_across_two_windows_gets_the_states_of_both(golden_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "WINDOW_S", 4)
    monkeypatch.setattr(speech, "MARGIN_S", 1)
    parts = golden_model.parts
    one_by_one, together = (
        HeardSpeech(parts.feature_extractor, parts.speech_encoder, noise(11), 176) for _ in range(2)
    )
    frames = [one_by_one.features(parts.speech_encoder, first, 1) for first in range(176)]
    torch.testing.assert_close(torch.cat(frames, dim=-1), together.features(parts.speech_encoder, 0, 176))


def peaks_bytes() -> tuple[int, int]:
    """The most memory that this process has taken after the first of two windows of 20 seconds, and at the end.

    Of an encoder as wide as the 14B model's, but not as deep.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    speech.WINDOW_S, seconds, peaks = 20, 30, []
    encoder = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=1024,
            num_hidden_layers=2,
            num_attention_heads=16,
            intermediate_size=64,
            conv_dim=(512,) * 7,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            conv_bias=True,
            num_conv_pos_embedding_groups=64,
            attn_implementation="sdpa",
        )
    ).eval()
    encoder.register_forward_hook(lambda *_: peaks.append(peak_bytes()))
    with torch.inference_mode():
        heard = HeardSpeech(Wav2Vec2FeatureExtractor(), encoder, noise(seconds), seconds * 16)
        for first in range(0, seconds * 16, 80):
            assert heard.features(encoder, first, 80).shape == (3, 1024, 80)
    assert len(peaks) == 2
    return peaks[0], peak_bytes()


def test_two_windows_take_hardly_more_memory_than_one() -> None:
    one, two = in_fork(peaks_bytes)
    assert two - one < 50e6
