"""The tiny golden checkpoint, loaded once."""

import pytest
import torch

from pipeline.model.loading import load_components
from pipeline.model.placement import Placement
from pipeline.model.speech_to_video import SpeechToVideo

from .golden import CHECKPOINT

# Models this small compute faster on one thread than two threads can be brought together.
torch.set_num_threads(1)

ON_CPU = Placement(torch.device("cpu"), torch.float32, "resident")


@pytest.fixture(scope="session")
def golden_model() -> SpeechToVideo:
    return SpeechToVideo(load_components(CHECKPOINT, ON_CPU, report=lambda _: None), ON_CPU)
