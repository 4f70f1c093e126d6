"""What the image is searched for, tried on images of a few bytes."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from scripts import inspect_image

TOKEN = "hf_" + "a" * 34


def write_image(folder: Path, files: dict[str, bytes], environment: tuple[str, ...] = ("HOST=0.0.0.0",)) -> Path:
    """An image of one layer, in the way in which registries and buildah's dir: have it."""
    config = {
        "config": {"Env": list(environment)},
        "history": [
            {"created_by": "/bin/sh -c #(nop) COPY dir:1 in /app"},
            {"created_by": "/bin/sh -c #(nop) USER 1000", "empty_layer": True},
        ],
    }
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    parts = [write_blob(folder, part) for part in (json.dumps(config).encode(), gzip.compress(layer.getvalue()))]
    (folder / "manifest.json").write_text(json.dumps({"config": parts[0], "layers": parts[1:]}))
    return folder


def write_blob(folder: Path, content: bytes) -> dict[str, str]:
    digest = hashlib.sha256(content).hexdigest()
    (folder / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}"}


def faults(folder: Path) -> list[str]:
    return list(inspect_image.faults_of(folder, inspect_image.read_layers(folder)))


def test_an_image_of_the_program_alone_is_accepted_and_weighed(tmp_path: Path, capsys) -> None:
    image = write_image(tmp_path, {"app/app.py": b"x" * 2_000_000, "app/assets/sample_model/a.pth": b"x"})
    assert inspect_image.main(image) == 0
    assert "| `COPY in /app` | 0.0 | 2.0 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data/models/model.safetensors", b"x" * 10_000),
        ("app/settings.txt", TOKEN.encode()),
        ("home/app/.netrc", b"x"),
        ("usr/bin/gcc", b"x"),
        ("root/.cache/pip/http/a", b"x"),
        ("app/tests/test_app.py", b"x"),
        ("app/assets/sample_model/large.pth", b"x" * 16_000_001),
    ],
)
def test_what_must_not_be_in_a_layer_is_found(name: str, content: bytes, tmp_path: Path, capsys) -> None:
    image = write_image(tmp_path, {name: content})
    assert len(faults(image)) == 1
    assert inspect_image.main(image) == 1
    assert TOKEN not in capsys.readouterr().err


def test_a_secret_in_the_configuration_is_found_and_not_repeated(tmp_path: Path) -> None:
    found = faults(write_image(tmp_path, {}, ("APP_PASSWORD=hunter2", f"X={TOKEN}")))
    assert len(found) == 2
    assert "hunter2" not in "".join(found)
    assert TOKEN not in "".join(found)


def test_an_image_that_is_too_large_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inspect_image, "UNPACKED_LIMIT", 10)
    assert faults(write_image(tmp_path, {"a": b"x" * 11})) == ["the image has 0.00 GB unpacked, more than 0.00"]
