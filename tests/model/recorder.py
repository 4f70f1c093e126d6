"""A model's numbers before they are rounded to pixels, by PyTorch's own hooks."""

import numpy as np
import torch

from pipeline.events import ClipFrames, StageChanged
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest


class Recorder:
    """What passes through a model while it generates: the transformer's calls, and the decoder's pixels."""

    def __init__(self, model: SpeechToVideo):
        self.model, self.outputs, self.timesteps, self.pixels = model, [], [], []
        parts = model.parts
        self.hooks = [
            parts.transformer.register_forward_hook(self._on_call),
            parts.vae.decoder.register_forward_hook(lambda _, __, pixels: self.pixels.append(pixels[0].clamp(-1, 1))),
        ]

    def _on_call(self, _: torch.nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.timesteps.append(int(arguments[1]))
        self.outputs.append(output[0])

    def run(self, request: GenerationRequest) -> np.ndarray:
        """The whole video as floats (3, T, H, W)."""
        clips = []
        for event in self.model.generate(request):
            if isinstance(event, StageChanged) and event.stage == "decode":
                self.pixels.clear()
            if isinstance(event, ClipFrames):
                clips.append(torch.cat(self.pixels, dim=1)[:, -len(event.frames) :])
        for hook in self.hooks:
            hook.remove()
        return torch.cat(clips, dim=1).numpy()
