"""How long the parts around the transformer take: text, speech, and the two ways through the video autoencoder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.benchmarks.operations import timings
from pipeline.benchmarks.steps import PeakMemory
from pipeline.events import ModelState
from pipeline.model.conditions import NEGATIVE_PROMPT, encode_prompt
from pipeline.model.speech import SPEECH_RATE, HeardSpeech
from pipeline.model.speech_to_video import SPATIAL_STRIDE, SpeechToVideo
from pipeline.model.video_latents import decode_video, encode_video
from pipeline.preparation import prepare_model
from pipeline.request import FRAMES_PER_SECOND, LATENT_STRIDE, MOTION_FRAMES
from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry


@dataclass(frozen=True)
class PartFigures:
    """Seconds and memory of one part; `what` says of which work."""

    what: str
    seconds: float
    peak_bytes: int


def measure_parts(
    entry: ModelEntry, settings: Settings, latents: tuple[int, int, int], audio_s: float, **options: Any
) -> list[PartFigures]:
    """Measure the parts of `entry` for clips of `latents` and `audio_s` seconds of sound.

    `options` are those of prepare_model. Raises what it raises.
    """
    model = prepare_model(entry, settings, _nobody, **options)
    frames, rows, columns = latents
    height, width = rows * SPATIAL_STRIDE, columns * SPATIAL_STRIDE
    works: dict[str, tuple[torch.nn.Module, Callable[[torch.nn.Module], Any]]] = {
        "text, the longest prompt": (
            model.parts.text_encoder,
            lambda encoder: encode_prompt(model.parts.tokenizer, encoder, NEGATIVE_PROMPT),
        ),
        f"speech, {audio_s:g} s": (model.parts.speech_encoder, lambda encoder: _speech(model, encoder, audio_s)),
        f"encode {MOTION_FRAMES} frames {width}x{height}": (
            model.parts.vae,
            lambda vae: encode_video(vae, torch.zeros(3, MOTION_FRAMES, height, width)),
        ),
        f"decode {frames * LATENT_STRIDE} frames {width}x{height}": (
            model.parts.vae,
            lambda vae: [chunk.cpu() for chunk in decode_video(vae, torch.zeros(16, 1 + frames, rows, columns))],
        ),
    }
    return [_measured(model, what, part, work) for what, (part, work) in works.items()]


@torch.inference_mode()
def _measured(
    model: SpeechToVideo, what: str, part: torch.nn.Module, work: Callable[[torch.nn.Module], Any]
) -> PartFigures:
    memory = PeakMemory(model.placement.device)
    with model.placement.on_device(part) as placed:
        taken = timings(lambda: work(placed), 1)
    return PartFigures(what, taken[0].wall_s, memory.peak_bytes())


def _speech(model: SpeechToVideo, encoder: torch.nn.Module, audio_s: float) -> None:
    """Hear all of it, a second after the other."""
    samples = np.random.default_rng(0).normal(0, 0.1, int(audio_s * SPEECH_RATE)).astype(np.float32)
    frames = int(audio_s * FRAMES_PER_SECOND)
    speech = HeardSpeech(model.parts.feature_extractor, encoder, samples, frames)
    for first in range(0, frames, FRAMES_PER_SECOND):
        speech.features(encoder, first, FRAMES_PER_SECOND)


def _nobody(_: ModelState) -> None:
    """The loading is not told of."""
