"""Weigh an image and look through it: python3 scripts/inspect_image.py FOLDER

FOLDER is what `skopeo copy --format v2s2 --dest-compress --dest-compress-level 7 containers-storage:IMAGE dir:FOLDER`
writes, the image just as a registry gives it. Fails where it is too large, or where a layer or the history holds what
must not be in it. Prints a table of the layers, in GitHub's jobs into the summary, too.
"""

import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPRESSED_LIMIT, UNPACKED_LIMIT = 4_500_000_000, 8_500_000_000
WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".gguf", ".onnx", ".bin", ".npz")
SMALLEST_WEIGHTS = 10_000  # bytes; Python has files named .pth, too, of a line or two
SAMPLE_MODEL, SAMPLE_MODEL_LIMIT = "app/assets/sample_model/", 16_000_000
UNWANTED = re.compile(
    r"(usr/bin/(gcc|g\+\+|cc|make|pip3?|git)$)|(^app/tests/)|(\.cache/pip/)|"
    r"(\.netrc|\.pypirc|\.git-credentials|id_(rsa|ed25519)|\.aws/credentials|\.docker/config\.json|/\.env)$"
)
SECRET_NAME = re.compile(r"\b\w*(TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL)\w*=\S", re.IGNORECASE)
SECRET = re.compile(
    rb"\b(hf_[A-Za-z0-9]{34}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60,}|AKIA[0-9A-Z]{16}|rpa_[A-Z0-9]{40,})\b|"
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
FROM_ELSEWHERE = ("usr/", "opt/", "var/lib/dpkg/")  # distribution and package index, which vouch for it by their hashes
LARGEST_TEXT = 1_000_000


@dataclass(frozen=True)
class Layer:
    """One layer: how it was made, its bytes as pulled and as unpacked, and what is wrong in it."""

    made_by: str
    compressed: int
    unpacked: int
    faults: tuple[str, ...]


def read_layers(folder: Path) -> list[Layer]:
    """The layers of the image in `folder`, the lowest first."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    config = json.loads(blob(folder, manifest["config"]).read_bytes())
    made = [entry.get("created_by", "") for entry in config["history"] if not entry.get("empty_layer")]
    return [look_through(blob(folder, each), how) for each, how in zip(manifest["layers"], made, strict=True)]


def blob(folder: Path, descriptor: dict[str, str]) -> Path:
    return folder / descriptor["digest"].partition(":")[2]


def look_through(layer: Path, made_by: str) -> Layer:
    unpacked, sample_model, faults = 0, 0, []
    with tarfile.open(layer, "r|*") as archive:
        for member in archive:
            unpacked += member.size
            if member.name.startswith(SAMPLE_MODEL):
                sample_model += member.size
            elif member.name.endswith(WEIGHTS) and member.size >= SMALLEST_WEIGHTS:
                faults.append(f"{member.name} looks like a model's weights")
            if UNWANTED.search(member.name):
                faults.append(f"{member.name} does not belong in an image")
            if is_ours(member) and SECRET.search(archive.extractfile(member).read()):
                faults.append(f"{member.name} holds what looks like a secret")
    if sample_model > SAMPLE_MODEL_LIMIT:
        faults.append(f"{SAMPLE_MODEL} is larger than the sample model has to be")
    return Layer(made_by, layer.stat().st_size, unpacked, tuple(faults))


def is_ours(member: tarfile.TarInfo) -> bool:
    return member.isfile() and member.size <= LARGEST_TEXT and not member.name.startswith(FROM_ELSEWHERE)


def faults_of_config(folder: Path) -> Iterator[str]:
    """What the image's environment and history should not tell."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    config = json.loads(blob(folder, manifest["config"]).read_bytes())
    for text in (*config["config"].get("Env", ()), *(entry.get("created_by", "") for entry in config["history"])):
        if SECRET_NAME.search(text) or SECRET.search(text.encode()):
            yield f"the image's configuration holds what looks like a secret: {text.partition('=')[0][:80]}"


def faults_of(folder: Path, layers: list[Layer]) -> Iterator[str]:
    yield from faults_of_config(folder)
    for layer in layers:
        yield from layer.faults
    for what, size, limit in (
        ("as pulled", sum(layer.compressed for layer in layers), COMPRESSED_LIMIT),
        ("unpacked", sum(layer.unpacked for layer in layers), UNPACKED_LIMIT),
    ):
        if size > limit:
            yield f"the image has {size / 1e9:.2f} GB {what}, more than {limit / 1e9:.2f}"


def table(layers: list[Layer]) -> str:
    rows = [(shortened(layer.made_by), layer.compressed, layer.unpacked) for layer in layers]
    rows.append(("**all**", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = ["| layer | MB as pulled (gzip) | MB unpacked |", "|---|---:|---:|"]
    return "\n".join(
        [*lines, *(f"| {name} | {pulled / 1e6:,.1f} | {size / 1e6:,.1f} |" for name, pulled, size in rows)]
    )


def shortened(made_by: str) -> str:
    words = (
        re.sub(r"\b(dir|file|multi):[0-9a-f]+ ", "", made_by)
        .replace("/bin/sh -c #(nop)", "")
        .replace("/bin/sh -c", "RUN")
        .replace("|", " ")
        .split()
    )
    text = " ".join(words)
    return f"`{text[:70]}`" if text else "base"


def main(folder: Path) -> int:
    layers = read_layers(folder)
    report = table(layers)
    print(report)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a") as out:
            out.write(f"{report}\n")
    faults = list(faults_of(folder, layers))
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
