"""A checkpoint is loaded exactly or not at all, and the error names what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelUnavailable
from pipeline.model.loading import load_components
from pipeline.model.transformer import FP32_PARTS

from .conftest import ON_CPU
from .golden import CHECKPOINT

SHARD = "diffusion_pytorch_model-00001-of-00002.safetensors"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16.pth"
VAE = "Wan2.1_VAE.pth"
SPEECH_ENCODER = "wav2vec2-large-xlsr-53-english/model.safetensors"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")


def edit_safetensors(path: Path, edit: Callable[[dict], None]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def edit_pickle(path: Path, edit: Callable[[dict], None]) -> None:
    tensors = torch.load(path, weights_only=True)
    edit(tensors)
    torch.save(tensors, path)


EDITS = {SHARD: edit_safetensors, SPEECH_ENCODER: edit_safetensors, TEXT_ENCODER: edit_pickle, VAE: edit_pickle}
TENSORS = {
    SHARD: "blocks.0.self_attn.q.weight",
    SPEECH_ENCODER: "wav2vec2.encoder.layers.3.attention.q_proj.weight",
    TEXT_ENCODER: "blocks.1.attn.q.weight",
    VAE: "decoder.middle.0.residual.2.weight",
}


def load(folder: Path) -> None:
    load_components(folder, ON_CPU, report=lambda _: None)


@pytest.mark.parametrize("file", EDITS)
def test_a_missing_tensor_is_named(file: str, copy: Path) -> None:
    EDITS[file](copy / file, lambda tensors: tensors.pop(TENSORS[file]))
    with pytest.raises(ModelUnavailable, match="lacks"):
        load(copy)


@pytest.mark.parametrize("file", [SHARD, TEXT_ENCODER])
def test_a_missing_tensor_has_its_official_name(file: str, copy: Path) -> None:
    EDITS[file](copy / file, lambda tensors: tensors.pop(TENSORS[file]))
    with pytest.raises(ModelUnavailable, match=TENSORS[file]):
        load(copy)


@pytest.mark.parametrize("file", EDITS)
def test_an_unknown_tensor_is_named(file: str, copy: Path) -> None:
    EDITS[file](copy / file, lambda tensors: tensors.update({"stranger.weight": torch.zeros(1)}))
    with pytest.raises(ModelUnavailable, match=r"unknown tensor .*stranger"):
        load(copy)


@pytest.mark.parametrize("file", EDITS)
def test_a_misshapen_tensor_is_named(file: str, copy: Path) -> None:
    name = TENSORS[file]
    EDITS[file](copy / file, lambda tensors: tensors.update({name: tensors[name][:-1].clone()}))
    with pytest.raises(ModelUnavailable) as error:
        load(copy)
    assert str(error.value).count("\n") == 0
    assert "shape" in str(error.value)


@pytest.mark.parametrize(
    ("switch", "value"),
    [("enable_adain", False), ("zero_timestep", False), ("framepack_drop_mode", "drop"), ("enable_tsm", True)],
)
def test_a_switch_that_is_not_supported_is_named(switch: str, value: object, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {switch: value}))
    with pytest.raises(ModelUnavailable, match=switch):
        load(copy)


def test_a_file_of_code_is_not_run(copy: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path.touch, (copy / "was_run",))

    torch.save({"encoder.conv1.weight": Hostile()}, copy / VAE)
    with pytest.raises(ModelUnavailable, match=VAE):
        load(copy)
    assert not (copy / "was_run").exists()


@pytest.mark.parametrize("file", [SHARD, TEXT_ENCODER, VAE, SPEECH_ENCODER, "config.json"])
def test_a_file_that_is_cut_off_is_named(file: str, copy: Path) -> None:
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelUnavailable, match=Path(file).parent.name or Path(file).name):
        load(copy)


def test_bfloat16_leaves_the_parts_that_must_be_exact_in_float32() -> None:
    from dataclasses import replace

    transformer = load_components(CHECKPOINT, replace(ON_CPU, dtype=torch.bfloat16), lambda _: None).transformer
    for name, tensor in transformer.state_dict().items():
        precise = any(part in name for part in FP32_PARTS)
        assert tensor.dtype == (torch.float32 if precise else torch.bfloat16), name
