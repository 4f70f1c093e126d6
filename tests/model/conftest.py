"""The tiny golden checkpoint, loaded once."""

import pytest
import torch

from pipeline.model.loading import load_components, load_transformer
from pipeline.model.placement import Placement
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.model.transformer import SpeechToVideoTransformer

from .golden import CHECKPOINT

# Models this small compute faster on one thread than two threads can be brought together.
torch.set_num_threads(1)

ON_CPU = Placement(torch.device("cpu"), torch.float32, "resident")


@pytest.fixture(scope="session")
def golden_model() -> SpeechToVideo:
    return SpeechToVideo(load_components(CHECKPOINT, ON_CPU, report=lambda _: None), ON_CPU)


@pytest.fixture
def transformer() -> SpeechToVideoTransformer:
    """The golden transformer alone, for tests that change it."""
    return load_transformer(CHECKPOINT, ON_CPU.device, torch.float32, lambda *_: None)


@torch.inference_mode()
def flow(transformer: SpeechToVideoTransformer) -> torch.Tensor:
    """What a transformer as the golden one makes of fixed noise, (1, 16, 4, 8, 8)."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((1, 15, 4096), (1, 25, 32, 16), (1, 16, 1, 8, 8), (1, 16, 19, 8, 8), (1, 16, 4, 8, 8))
    *inputs, noise = (torch.randn(shape, generator=generator) for shape in shapes)
    return transformer(noise, torch.tensor([500]), transformer.encode_conditions(*inputs))
