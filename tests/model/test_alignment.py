"""At which frames of the video does a sound arrive? Measured on a model made so that every sound is heard once.

The speech encoder has no attention and no loudness normalisation, so that a sound changes the hidden states at its
place alone, and the transformer has one block, so that a latent frame is told of its own sound alone. Whatever then
differs between two videos, with and without the sound, differs from the frame on at which the sound arrives.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from transformers import PreTrainedTokenizerFast, Wav2Vec2FeatureExtractor

from assets.sample_model.training.plain_start import AUDIO_WIDTH, TEXT_WIDTH
from assets.sample_model.training.train_speech_encoder import make_speech_encoder
from assets.sample_model.training.words import make_text_encoder, make_tokenizer
from pipeline.model.autoencoder_on_cpu import quicken_on_cpu
from pipeline.model.loading import Components
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.model.transformer import SpeechToVideoTransformer
from pipeline.request import FRAMES_PER_SECOND, GenerationRequest

from .conftest import ON_CPU
from .recorder import Recorder

RATE = 16_000
SECONDS = 1.25


@pytest.fixture(scope="module")
def local_model() -> SpeechToVideo:
    torch.manual_seed(0)
    speech_encoder = make_speech_encoder().wav2vec2
    for layer in speech_encoder.encoder.layers:
        torch.nn.init.zeros_(layer.attention.out_proj.weight)
    position = speech_encoder.encoder.pos_conv_embed.conv
    torch.nn.init.zeros_(position.parametrizations.weight.original0)
    tokenizer = make_tokenizer()
    parts = Components(
        transformer=SpeechToVideoTransformer(
            num_attention_heads=2,
            attention_head_dim=24,
            num_layers=1,
            ffn_dim=96,
            text_dim=TEXT_WIDTH,
            audio_dim=AUDIO_WIDTH,
            audio_inject_layers=(0,),
        ).eval(),
        text_encoder=make_text_encoder(tokenizer.get_vocab_size()).eval(),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>"),
        speech_encoder=speech_encoder.eval(),
        feature_extractor=Wav2Vec2FeatureExtractor(do_normalize=False),
        vae=quicken_on_cpu(AutoencoderKLWan(base_dim=4).eval()),
    )
    return SpeechToVideo(parts, ON_CPU)


def video_of(model: SpeechToVideo, folder: Path, samples: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    Image.new("RGB", (64, 64), "gray").save(folder / "portrait.png")
    soundfile.write(folder / "audio.wav", samples, RATE, subtype="FLOAT")
    values = {"portrait": folder / "portrait.png", "audio": folder / "audio.wav", "max_area": 4096, **settings}
    request = GenerationRequest.parse(values | {"steps": 1, "guidance": 1, "seed": 0, "frames_per_clip": 24})
    return Recorder(model).run(request)


def mean_lag(model: SpeechToVideo, folder: Path, **settings: Any) -> float:
    """Frames from the sound to the group of four frames (one latent) that hears it first; the mean over its phases.

    A group that is in time begins 0 to 3 frames before the sound: -1.5 in the mean, and a frame to either side for the
    width of the speech encoder's windows and its grid of 30 a second.
    """
    hiss = np.random.default_rng(0).normal(0, 0.01, int(SECONDS * RATE)).astype(np.float32)
    burst = np.random.default_rng(1).normal(0, 0.5, RATE // 10).astype(np.float32)
    without = video_of(model, folder, hiss, settings)
    lags = []
    for frame in (9, 10, 11, 12):
        with_sound = hiss.copy()
        start = int((frame + 0.5) / FRAMES_PER_SECOND * RATE)
        with_sound[start : start + len(burst)] += burst
        change = np.abs(video_of(model, folder, with_sound, settings) - without).max(axis=(0, 2, 3))
        lags.append(np.flatnonzero(change > 1e-6)[0] - frame)
    return float(np.mean(lags))


def test_a_sound_is_in_time_with_the_lead_and_three_frames_early_without(local_model, tmp_path) -> None:
    in_time = mean_lag(local_model, tmp_path)
    assert in_time == pytest.approx(-1.5, abs=1)
    assert mean_lag(local_model, tmp_path, sync_lead_frames=0) == in_time - 3


def test_a_sound_is_in_time_in_first_frame_mode_which_needs_no_lead(local_model, tmp_path) -> None:
    in_time = mean_lag(local_model, tmp_path, first_frame=True)
    assert in_time == pytest.approx(-1.5, abs=1)
    hiss = np.random.default_rng(2).normal(0, 0.1, RATE).astype(np.float32)
    with_lead, without = (
        video_of(local_model, tmp_path, hiss, {"first_frame": True, "sync_lead_frames": lead}) for lead in (3, 0)
    )
    assert np.array_equal(with_lead, without)
