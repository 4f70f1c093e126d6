"""Small models in the official layout, with real headers and random weights, and what a folder of them looks like."""

import io
import json
import os
import random
import zipfile
from pathlib import Path

REPOSITORY = "somebody/small-s2v"
SHARDS = ("diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors")
T5 = "models_t5_umt5-xxl-enc-bf16.pth"


def model_files(seed: int = 0, scale: int = 1) -> dict[str, bytes]:
    """All files of a repository, those that nobody needs too. `scale` 1 gives about 5 MB."""
    randomness = random.Random(seed)
    speech = "wav2vec2-large-xlsr-53-english/"
    weights = {name: safetensors(randomness, 1_500_000 * scale) for name in SHARDS}
    index = {"weight_map": {f"tensor.{i}": name for i, name in enumerate(SHARDS)}}
    return weights | {
        "config.json": b'{"_class_name": "WanModel_S2V"}',
        "diffusion_pytorch_model.safetensors.index.json": json.dumps(index).encode(),
        T5: archive(randomness, 1_000_000 * scale),
        "Wan2.1_VAE.pth": archive(randomness, 500_000 * scale),
        "google/umt5-xxl/tokenizer.json": b'{"model": {}}',
        "google/umt5-xxl/tokenizer_config.json": b"{}",
        "google/umt5-xxl/spiece.model": randomness.randbytes(200_000),
        speech + "config.json": b"{ }",
        speech + "preprocessor_config.json": b'{"sampling_rate": 16000}',
        speech + "model.safetensors": safetensors(randomness, 300_000 * scale),
        speech + "pytorch_model.bin": randomness.randbytes(400_000),
        "README.md": b"# A model",
        "assets/picture.png": randomness.randbytes(150_000),
    }


UNNEEDED = ("wav2vec2-large-xlsr-53-english/pytorch_model.bin", "README.md", "assets/picture.png")


def needed_files(files: dict[str, bytes]) -> dict[str, bytes]:
    """Those of `files` that the program needs."""
    return {path: content for path, content in files.items() if path not in UNNEEDED}


def safetensors(randomness: random.Random, size: int) -> bytes:
    """A safetensors file with one tensor of `size` bytes."""
    header = json.dumps({"tensor.0": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + randomness.randbytes(size)


def archive(randomness: random.Random, size: int) -> bytes:
    """A zip file such as torch.save writes, around `size` bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr(zipfile.ZipInfo("archive/data/0"), randomness.randbytes(size))
    return stream.getvalue()


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Put `files` into `folder`."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    """All files in `folder` but those whose name begins with a dot."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(folder)): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


def hidden_files(folder: Path) -> list[str]:
    """The program's own files in `folder`."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.relative_to(folder).parts[0][0] == "."
    )


def listing(folder: Path) -> list[tuple]:
    """Everything in `folder` with lengths, permissions and times of change."""
    found = []
    for path in (folder, *sorted(folder.rglob("*"))):
        status = os.lstat(path)
        found.append((str(path), status.st_size, status.st_mode, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return found
