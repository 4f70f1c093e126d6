"""Weight files give the tensors that the libraries read from them, in sequence and with little memory."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelUnavailable
from pipeline.model import weights
from pipeline.model.weights import WeightFile, open_weights

from .golden import CHECKPOINT

CPU = torch.device("cpu")
FILES = sorted(path for path in CHECKPOINT.rglob("*") if path.suffix in (".pth", ".safetensors"))


def tensors_of(file: WeightFile, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return dict(file.tensors(CPU, lambda _: dtype, lambda _: None))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that most tensors of the golden checkpoint are longer than."""
    monkeypatch.setattr(weights, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(weights, "BUFFER_BYTES", 1024)


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_every_tensor_is_what_the_library_reads(path: Path, dtype: torch.dtype, small_blocks: None) -> None:
    expected = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    file = open_weights(path)
    assert file.shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    read = tensors_of(file, dtype)
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], tensor.to(dtype)), name


def test_a_file_is_read_from_its_start_to_its_end_and_told_of(small_blocks: None) -> None:
    path = CHECKPOINT / "models_t5_umt5-xxl-enc-bf16.pth"
    positions: list[int] = []
    for _ in open_weights(path).tensors(CPU, lambda _: torch.float32, positions.append):
        pass
    assert positions == sorted(positions)
    assert path.stat().st_size * 0.99 < positions[-1] <= path.stat().st_size


def test_turned_shared_empty_and_single_numbers_are_read(tmp_path: Path) -> None:
    numbers = torch.arange(35.0)
    state = {
        "turned": torch.randn(5, 7).t(),
        "whole": numbers,
        "part": numbers[5:12],
        "single": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    torch.save(state, tmp_path / "x.pth")
    read = tensors_of(open_weights(tmp_path / "x.pth"), torch.float32)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_weights_that_were_saved_on_a_card_are_read_where_there_is_none(tmp_path: Path) -> None:
    content = {"a": torch.randn(4, 4)}
    register = torch.serialization._package_registry
    before = list(register)
    torch.serialization.register_package(1, lambda storage: "cuda:0", lambda storage, location: None)
    torch.save(content, tmp_path / "x.pth")
    register[:] = before
    assert b"cuda:0" in (tmp_path / "x.pth").read_bytes()
    assert torch.equal(tensors_of(open_weights(tmp_path / "x.pth"), torch.float32)["a"], content["a"])


@pytest.mark.parametrize("tensor", [torch.zeros(1).expand(10), torch.zeros(4, 4)[:, :2]], ids=["repeated", "cut out"])
def test_a_tensor_whose_numbers_do_not_lie_together_is_refused(tensor: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"a": tensor}, tmp_path / "x.pth")
    with pytest.raises(ModelUnavailable, match=r"x\.pth has the tensor a in pieces"):
        open_weights(tmp_path / "x.pth")


HEADERS = {
    "no object": [],
    "unknown kind": {"a": {"dtype": "F3", "shape": [1], "data_offsets": [0, 4]}},
    "too few bytes": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
    "below zero": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}},
    "beyond the end": {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}},
    "before the start": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
    "no offsets": {"a": {"dtype": "F32", "shape": [1]}},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_cannot_be_true_is_refused(header: object, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ModelUnavailable, match=r"x\.safetensors cannot be read: "):
        open_weights(tmp_path / "x.safetensors")


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 100], ids=["empty", "short", "garbage"])
def test_a_file_without_a_header_is_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("x.safetensors", "x.pth"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelUnavailable, match=name):
            open_weights(tmp_path / name)


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(100_000)}, tmp_path / "x.safetensors")
    file = open_weights(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelUnavailable, match=r"x\.safetensors cannot be read: it ends too early"):
        tensors_of(file, torch.float32)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("x.safetensors", "x.pth"):
        with pytest.raises(ModelUnavailable, match=rf"{name} cannot be read: No such file"):
            open_weights(tmp_path / name)
