"""Speech as the transformer hears it: features of wav2vec2, made window by window as the clips ask for them.

Attention over a recording takes memory and time that grow with its length, and the features are 1.6 MB a second. So a
recording of more than a minute is heard in windows of a minute that overlap. Of each only what lies away from its cut
ends is kept, and no longer than until the next window. Up to a minute the whole is heard at once, as officially.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from pipeline.model.freed_memory import freed_memory_given_back
from pipeline.request import FRAMES_PER_SECOND

SPEECH_RATE = 16_000  # samples per second that the speech encoder hears
HIDDEN_RATE = 50  # hidden states per second that it gives
FEATURE_RATE = 30  # per second, after interpolation
WINDOW_S = 60
# What a window hears beyond what is kept of it. The encoder's convolutions reach 1.3 s; from there on the distance from
# the whole recording's features does not depend on it (75 to 150 s of speech, test models: 0.03 to 0.8 %).
MARGIN_S = 5


@dataclass(frozen=True)
class Window:
    """Hidden states `first` to `end` of a recording are computed, `kept_from` to `kept_to` are used."""

    first: int
    end: int
    kept_from: int
    kept_to: int


def windows(length: int, size: int, margin: int) -> Iterator[Window]:
    """Windows of `size` over `length` hidden states, one where that is all; each hears `margin` more than is kept."""
    kept_from = 0
    while kept_from < length:
        first = max(0, min(kept_from - margin, length - size))
        end = min(first + size, length)
        kept_to = length if end == length else end - margin
        yield Window(first, end, kept_from, kept_to)
        kept_from = kept_to


class HeardSpeech:
    """The features of one recording, for clips that ask for theirs one after the other."""

    def __init__(self, extractor: Wav2Vec2FeatureExtractor, encoder: Wav2Vec2Model, samples: np.ndarray, frames: int):
        """`samples`: float32 (n,) at 16 kHz. `frames`: how many video frames there are in all."""
        self._values = extractor(samples, sampling_rate=SPEECH_RATE, return_tensors="pt").input_values  # (1, n)
        length = int(encoder._get_feat_extract_output_lengths(self._values.shape[1]))
        self._left, self._weight = _places(length, frames)
        self._windows = list(windows(length, WINDOW_S * HIDDEN_RATE, MARGIN_S * HIDDEN_RATE))
        self._kept: tuple[Window, int, torch.Tensor] | None = None

    def features(self, encoder: Wav2Vec2Model, first: int, count: int) -> torch.Tensor:
        """fp32 (layers, D, count), on the CPU: a column for each video frame from `first` on.

        All hidden states of the encoder, interpolated to 30 a second; each frame takes the one row next to it in time,
        or zeros past the end of the sound.
        """
        columns = torch.zeros(encoder.config.num_hidden_layers + 1, encoder.config.hidden_size, count)
        for window in self._windows:
            begin, end = self._frames_in(window)
            here = range(max(first, begin), min(first + count, end))
            if here:
                start, kept = self._columns(encoder, window)
                columns[..., here.start - first : here.stop - first] = kept[..., here.start - start : here.stop - start]
        return columns

    def _frames_in(self, window: Window) -> tuple[int, int]:
        """The first video frame that takes its features from `window`, and the one after the last."""
        first, end = np.searchsorted(self._left, [window.kept_from, window.kept_to])
        return int(first), int(end)

    def _columns(self, encoder: Wav2Vec2Model, window: Window) -> tuple[int, torch.Tensor]:
        """The first video frame of `window`, and fp32 (layers, D, frames) for all of its frames."""
        if self._kept is None or self._kept[0] != window:
            self._kept = None  # before the next takes its place
            with freed_memory_given_back() if encoder.device.type == "cpu" else nullcontext():
                self._kept = window, self._frames_in(window)[0], self._heard_in(encoder, window)
        return self._kept[1:]

    def _heard_in(self, encoder: Wav2Vec2Model, window: Window) -> torch.Tensor:
        """fp32 (layers, D, frames), on the CPU, for all video frames of `window`."""
        begin, end = self._frames_in(window)
        hidden = self._hidden(encoder, window)
        device, (length, width) = hidden[0].device, hidden[0].shape[1:]
        left = torch.from_numpy(self._left[begin:end]).to(device) - window.first
        right = (left + 1).clamp(max=length - 1)
        weight = torch.from_numpy(self._weight[begin:end]).to(device)[:, None]
        rows = torch.empty(len(hidden), end - begin, width)
        for layer, states in zip(rows, hidden, strict=True):
            layer.copy_(states[0, left] * (1 - weight) + states[0, right] * weight)
        return rows.transpose(1, 2)

    def _hidden(self, encoder: Wav2Vec2Model, window: Window) -> tuple[torch.Tensor, ...]:
        """All hidden states of `window`, for each layer fp32 (1, T, D)."""
        strides = list(accumulate(encoder.config.conv_stride, mul, initial=1))
        stride = strides.pop()  # samples from one hidden state to the next
        heard = 1 + sum((size - 1) * step for size, step in zip(encoder.config.conv_kernel, strides, strict=True))
        end = None if window == self._windows[-1] else (window.end - 1) * stride + heard
        values = self._values[:, window.first * stride : end].to(encoder.device)
        return encoder(values, output_hidden_states=True).hidden_states


def _places(length: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """For each video frame that hears something, between which of `length` hidden states: the left one, int64 (n,).

    And the weight of the right one, fp32 (n,). In fp32 and in this order, as PyTorch interpolates.
    """
    rows = int(length / HIDDEN_RATE * FEATURE_RATE)
    seconds = np.linspace(0, frames / FRAMES_PER_SECOND, frames, endpoint=False)
    nearest = np.round(seconds * FEATURE_RATE).astype(np.int64)
    step = np.float32(length - 1) / np.float32(max(1, rows - 1))
    place = nearest[nearest < rows].astype(np.float32) * step
    left = np.minimum(place.astype(np.int64), length - 1)
    return left, place - left.astype(np.float32)
