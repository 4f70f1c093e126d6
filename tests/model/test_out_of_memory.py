"""Where memory does not suffice, the work goes on from its last step with a smaller plan. The failures are real."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import OutOfMemory, is_out_of_memory
from pipeline.events import ClipFrames, Event, StepDone
from pipeline.model.loading import load_components
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

from .conftest import ON_CPU
from .golden import CASES, CHECKPOINT, expected_video

REQUEST = GenerationRequest.parse(CASES["two_clips"])
MORE_THAN_THERE_IS = 2**58


@pytest.fixture
def model() -> SpeechToVideo:
    return SpeechToVideo(load_components(CHECKPOINT, ON_CPU, lambda _: None), ON_CPU)


def ask_for_too_much(model: SpeechToVideo, part: str, from_call: int, plans: tuple[str, ...]) -> None:
    """From its `from_call`th call on, `part` needs more memory than there is while the model follows one of `plans`."""
    calls = []

    def greedy(*_: object) -> None:
        calls.append(1)
        if len(calls) >= from_call and model.placement.plan in plans:
            torch.empty(MORE_THAN_THERE_IS)

    module = model.parts.vae.decoder if part == "decoder" else model.parts.transformer
    module.register_forward_pre_hook(greedy)


@pytest.mark.parametrize(("part", "call", "plans", "last"), [
    ("transformer", 4, ("resident",), "offload"),
    ("transformer", 9, ("resident", "offload"), "stream"),
    ("decoder", 3, ("resident",), "offload"),
])  # fmt: skip
def test_it_goes_on_from_the_last_step_with_the_same_numbers(
    part: str, call: int, plans: tuple[str, ...], last: str, model: SpeechToVideo
) -> None:
    ask_for_too_much(model, part, call, plans)
    events = list(model.generate(REQUEST))
    steps = [(event.clip, event.step) for event in events if isinstance(event, StepDone)]
    assert steps == [(clip, step) for clip in (1, 2) for step in (1, 2, 3)]
    assert model.placement.plan == last
    frames = np.concatenate([event.frames for event in events if isinstance(event, ClipFrames)])
    numbers, pixels = expected_video("two_clips")
    assert np.abs(frames[numbers] - (pixels.transpose(1, 2, 3, 0) + 1) * 127.5).max() <= 1


def test_rounded_weights_go_on_block_by_block_with_the_same_numbers() -> None:
    placement, made = replace(ON_CPU, plan="int8"), []
    for greedy in (False, True):
        model = SpeechToVideo(load_components(CHECKPOINT, placement, lambda _: None), placement)
        if greedy:
            ask_for_too_much(model, "transformer", 4, ("int8",))
        events = model.generate(REQUEST)
        made.append(np.concatenate([event.frames for event in events if isinstance(event, ClipFrames)]))
    assert model.placement.plan == "stream"
    assert np.array_equal(*made)


def test_where_no_plan_suffices_it_is_said_and_finished_clips_were_handed_out(model: SpeechToVideo) -> None:
    ask_for_too_much(model, "transformer", 7, ("resident", "offload", "stream"))  # in the second clip
    finished: list[int] = []

    def keep(events: Iterator[Event]) -> None:
        finished.extend(event.clip for event in events if isinstance(event, ClipFrames))

    with pytest.raises(OutOfMemory, match="choose a smaller one"):
        keep(model.generate(REQUEST))
    assert finished == [1]


def test_a_smaller_plan_is_not_tried_where_it_would_not_help(model: SpeechToVideo) -> None:
    """Decoding has the device for itself by "offload" already; "stream" would only make all later videos slow."""
    ask_for_too_much(model, "decoder", 3, ("resident", "offload"))
    with pytest.raises(OutOfMemory, match="choose a smaller one"):
        list(model.generate(REQUEST))
    assert model.placement.plan == "offload"


def test_other_errors_are_not_taken_for_it(model: SpeechToVideo) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not fit")

    model.parts.transformer.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(model.generate(REQUEST))
    assert model.placement.plan == "resident"


@pytest.mark.parametrize("error", [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
])  # fmt: skip
def test_all_ways_to_say_it_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)
