"""Devices and dtypes as they are on a card, checked without one: PyTorch's fake tensors compute nothing but these."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.machine import SMALLEST_CARD_BYTES
from pipeline.model.loading import Components, load_components
from pipeline.model.placement import OFFLOAD_BYTES, Placement, plan_for
from pipeline.model.ring_attention import attend_with_sums
from pipeline.model.video_latents import decode_video, encode_video

from .golden import CHECKPOINT

CARD = torch.device("cuda")
MODULES = ("transformer", "text_encoder", "speech_encoder", "vae")


def put_on_card(module: torch.nn.Module, mode: FakeTensorMode) -> None:
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    with mode:
                        fake = mode.from_tensor(tensor.data).to(CARD)
                    tensors[name] = fake if tensors is part._buffers else torch.nn.Parameter(fake, requires_grad=False)


@pytest.fixture
def on_card() -> tuple[Components, FakeTensorMode]:
    placement = Placement(torch.device("cpu"), torch.bfloat16, "resident")
    parts = load_components(CHECKPOINT, placement, lambda *_: None)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for name in MODULES:
        put_on_card(getattr(parts, name), mode)
    return parts, mode


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, device=CARD)


def test_all_parts_work_together_on_a_card_in_bfloat16(on_card: tuple[Components, FakeTensorMode]) -> None:
    parts, mode = on_card
    with torch.inference_mode(), mode:
        mask = torch.ones(1, 512, dtype=torch.long, device=CARD)
        text = parts.text_encoder(mask, attention_mask=mask).last_hidden_state
        heard = parts.speech_encoder(zeros(1, 32000), output_hidden_states=True).hidden_states
        reference = encode_video(parts.vae, torch.zeros(3, 1, 64, 64))
        motion = encode_video(parts.vae, torch.zeros(3, 73, 64, 64))
        conditions = parts.transformer.encode_conditions(
            text[:, :17], zeros(1, 25, 32, 16), reference[None], motion[None], pose=zeros(1, 16, 4, 8, 8)
        )
        other = parts.transformer.with_other_words_and_sound(conditions, text, zeros(1, 25, 32, 16))
        flow = parts.transformer(zeros(1, 16, 4, 8, 8), torch.full((1,), 500, device=CARD), other)
        pixels = list(decode_video(parts.vae, flow[0]))

    assert {x.device.type for x in (text, heard[-1], reference, motion, conditions.text, flow, *pixels)} == {"cuda"}
    assert {x.dtype for x in (heard[-1], reference, motion, flow, *pixels)} == {torch.float32}
    assert {x.dtype for x in (text, conditions.text, conditions.audio_tokens)} == {torch.bfloat16}
    assert {x.dtype for x in (conditions.other_tokens, conditions.pose_tokens, *conditions.rotary)} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_a_ring_joins_has_its_shapes_and_dtypes_on_a_card(dtype: torch.dtype) -> None:
    with torch.inference_mode(), FakeTensorMode():
        query, key = (torch.zeros(2, tokens, 3, 128, device=CARD, dtype=dtype) for tokens in (77, 131))
        out, sums = attend_with_sums(query, key, key)
    assert (out.shape, out.dtype, out.device.type) == (query.shape, dtype, "cuda")
    assert (sums.shape, sums.dtype, sums.device.type) == ((2, 77, 3), torch.float32, "cuda")


def test_every_weight_of_a_block_is_used_by_its_own_module(golden_model) -> None:
    """Streaming brings a module's weights when the module is called; weights that others read would stay behind."""
    transformer = golden_model.parts.transformer
    called = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.add(module))
        for module in transformer.blocks.modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    with torch.inference_mode():
        reference, noise = torch.zeros(1, 16, 1, 8, 8), torch.zeros(1, 16, 4, 8, 8)
        conditions = transformer.encode_conditions(torch.zeros(1, 15, 4096), torch.zeros(1, 25, 32, 16), reference)
        transformer(noise, torch.tensor([500]), conditions)
    for hook in hooks:
        hook.remove()
    assert len(called) == len(hooks)


def test_the_plan_follows_from_the_cards_memory() -> None:
    plans = ["stream", "int8", "int8", "offload", "resident", "resident"]
    assert [plan_for(gb * 10**9) for gb in (16, 24, 42, 51, 85, 150)] == plans
    packed = ["stream", "offload", "offload", "offload", "resident", "resident"]
    assert [plan_for(gb * 10**9, packed=True) for gb in (16, 24, 42, 51, 85, 150)] == packed
    assert SMALLEST_CARD_BYTES == OFFLOAD_BYTES
