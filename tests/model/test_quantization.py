"""Weights in less memory work from end to end, and lie as near to the exact ones as their kind allows."""

import copy
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup, _get_torchao_inner_tensor_names
from safetensors.torch import load_file

from pipeline.__main__ import main
from pipeline.errors import InvalidSetting, ModelUnavailable
from pipeline.model.loading import Changes, load_components
from pipeline.model.quantization import load_gguf_transformer, quantize_blocks
from pipeline.model.transformer import FP32_PARTS

from .conftest import ON_CPU, flow
from .golden import CASES, CHECKPOINT

Q8 = gguf.GGMLQuantizationType.Q8_0


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden transformer as others pack it: matrices of the blocks in Q8_0, all else in fp32."""
    path = tmp_path_factory.mktemp("gguf") / "golden-Q8_0.gguf"
    writer = gguf.GGUFWriter(path, "wan")
    for shard in sorted(CHECKPOINT.glob("diffusion_pytorch_model*.safetensors")):
        for name, tensor in load_file(shard).items():
            values = tensor.float().numpy()
            if name.startswith("blocks.") and values.ndim == 2 and values.shape[1] % 32 == 0:
                writer.add_tensor(name, gguf.quants.quantize(values, Q8), raw_dtype=Q8)
            else:
                writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("kind", "farthest"), [("int8", 0.02), ("fp8", 0.08)])
def test_rounded_blocks_are_near_the_exact_ones(kind: str, farthest: float, transformer) -> None:
    exact = flow(transformer)
    quantize_blocks(transformer, kind, ON_CPU.device)
    assert 1e-5 < distance(flow(transformer), exact) < farthest
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            rounded = type(module.weight.data) is not torch.Tensor
            assert rounded == (name.startswith("blocks.") and not any(part in name for part in FP32_PARTS)), name


def test_a_gguf_file_gives_what_its_rounded_weights_give(gguf_file: Path, transformer) -> None:
    packed = load_gguf_transformer(CHECKPOINT, gguf_file, ON_CPU.device, torch.float32)
    assert 1e-5 < distance(flow(packed), flow(transformer)) < 0.02
    with torch.no_grad():
        for module in transformer.blocks.modules():
            if isinstance(module, torch.nn.Linear) and module.in_features % 32 == 0:
                rounded = gguf.quants.dequantize(gguf.quants.quantize(module.weight.numpy(), Q8), Q8)
                module.weight.copy_(torch.from_numpy(rounded))
    assert distance(flow(packed), flow(transformer)) < 1e-3  # the library unpacks to fp16


@pytest.mark.parametrize("plan", ["offload", "stream"])
def test_packed_weights_move_as_others_do(plan: str, gguf_file: Path) -> None:
    placement = replace(ON_CPU, plan=plan)
    parts = load_components(CHECKPOINT, placement, lambda _: None, Changes(gguf=gguf_file))
    with placement.on_device(parts.transformer):
        moved = flow(parts.transformer)
    assert torch.equal(moved, flow(load_gguf_transformer(CHECKPOINT, gguf_file, ON_CPU.device, torch.float32)))


@pytest.mark.parametrize("variable", ["MEMORY", "GGUF"])
def test_the_command_line_makes_a_video_near_the_exact_one(
    variable: str, gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CASES["no_guidance"].items()]
    files = ["--device=cpu", f"--output={tmp_path / 'v.mp4'}"]
    made = []
    for value in (None, {"MEMORY": "int8", "GGUF": str(gguf_file)}[variable]):
        if value:
            monkeypatch.setenv(variable, value)
        made.append(tmp_path / f"{value is None}.npy")
        assert main(["generate", f"--model={CHECKPOINT}", *files, f"--frames={made[-1]}", *options]) == 0
    exact, near = (np.load(path).astype(int) for path in made)
    assert 0 < np.abs(near - exact).mean() < 3  # of 255


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_row_of_zeros_stays_zeros(kind: str, transformer) -> None:
    rounded = copy.deepcopy(transformer)
    for one in (transformer, rounded):
        with torch.no_grad():
            one.blocks[0].attn2.to_out[0].weight[3] = 0
    quantize_blocks(rounded, kind, ON_CPU.device)
    assert 0 < distance(flow(rounded), flow(transformer)) < 0.05


def test_a_kind_that_the_machine_cannot_compute_in_is_refused(transformer) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine may be able to")
    with pytest.raises(InvalidSetting, match="MEMORY=fp8-fast cannot be used on this machine"):
        quantize_blocks(transformer, "fp8-fast", ON_CPU.device)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_rounded_weights_can_be_streamed_to_a_card(kind: str, transformer) -> None:
    """To stream them diffusers pins them, part by part; without a driver it comes as far as asking for one."""
    quantize_blocks(transformer, kind, ON_CPU.device)
    weight = transformer.blocks[0].attn1.to_q.weight
    assert _get_torchao_inner_tensor_names(weight) == ["qdata", "scale"]
    try:
        assert ModuleGroup._to_cpu(weight, low_cpu_mem_usage=False).is_pinned()
    except RuntimeError as error:
        assert "no NVIDIA driver" in str(error)  # noqa: PT017


@pytest.mark.parametrize("content", [b"", b"GGUF", b"x" * 100])
def test_a_broken_gguf_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"x\.gguf"):
        load_gguf_transformer(CHECKPOINT, tmp_path / "x.gguf", ON_CPU.device, torch.float32)
