"""Other places and precisions of the same model."""

from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
import torch

from pipeline.errors import InvalidRequest, InvalidSetting
from pipeline.model.loading import load_components, load_transformer
from pipeline.model.placement import choose_placement, device_of
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

from ..forked import in_fork
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


def test_each_worker_has_the_card_of_its_number() -> None:
    assert [device_of(worker, 2, None, cards=4) for worker in range(2)] == [torch.device("cuda", i) for i in range(2)]
    assert device_of(0, 1, "cuda", cards=1) == torch.device("cuda", 0)
    with pytest.raises(InvalidSetting, match=r"WORKERS=3 cannot be used: .* this machine has 2"):
        device_of(0, 3, None, cards=2)


def test_without_a_card_and_where_it_is_wanted_every_worker_is_on_the_cpu() -> None:
    assert device_of(1, 2, None, cards=0) == device_of(3, 4, "cpu", cards=1) == torch.device("cpu")
    with pytest.raises(InvalidRequest, match="no usable CUDA card"):
        device_of(0, 1, "cuda", cards=0)


def threads_of_workers(count: int) -> list[int]:
    """How many threads a process with four computes on, and then each of its workers on a thread of its own."""
    torch.set_num_threads(4)
    told = [torch.get_num_threads()]

    def begin(worker: int) -> None:
        choose_placement("auto", None, "cpu", worker, count)
        told.append(torch.get_num_threads())

    for worker in range(count):
        thread = Thread(target=begin, args=(worker,))
        thread.start()
        thread.join()
    return told


def test_workers_on_the_cpu_share_its_cores() -> None:
    """What one sets is not the others'."""
    assert in_fork(threads_of_workers, 2) == [4, 2, 2]
