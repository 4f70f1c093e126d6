"""Other places and precisions of the same model."""

from dataclasses import replace

import numpy as np
import torch

from pipeline.model.loading import load_components, load_transformer
from pipeline.model.placement import choose_placement
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

from .conftest import ON_CPU
from .golden import CASES, CHECKPOINT, expected
from .recorder import Recorder


def first_output(placement, case: str = "no_guidance") -> np.ndarray:
    model = SpeechToVideo(load_components(CHECKPOINT, placement, lambda _: None), placement)
    recorder = Recorder(model)
    recorder.run(GenerationRequest.parse(CASES[case]))
    return recorder.outputs[0].numpy()


def test_streamed_blocks_and_parts_in_turn_give_the_same_numbers() -> None:
    for plan in ("stream", "offload"):
        np.testing.assert_allclose(
            first_output(replace(ON_CPU, plan=plan)), expected("no_guidance", "dit0_out"), atol=2e-5
        )


@torch.inference_mode()
def test_bfloat16_is_near_float32() -> None:
    torch.manual_seed(0)
    text, audio = torch.randn(1, 15, 4096), torch.randn(1, 25, 32, 16)
    reference, motion, noise = torch.randn(1, 16, 1, 8, 8), torch.randn(1, 16, 19, 8, 8), torch.randn(1, 16, 4, 8, 8)
    outputs = []
    for dtype in (torch.float32, torch.bfloat16):
        transformer = load_transformer(CHECKPOINT, ON_CPU.device, dtype, lambda *_: None)
        conditions = transformer.encode_conditions(text, audio, reference, motion)
        outputs.append(transformer(noise, torch.tensor([500]), conditions))
    assert outputs[1].dtype == torch.float32
    assert (outputs[1] - outputs[0]).norm() / outputs[0].norm() < 0.02


def test_without_a_card_everything_is_on_the_cpu_in_float32() -> None:
    if torch.cuda.is_available():
        assert choose_placement("auto", None, None).device.type == "cuda"
    else:
        assert choose_placement("auto", None, None) == ON_CPU
