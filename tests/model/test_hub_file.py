"""A setting's file from the Hub. In a process of its own: huggingface_hub reads its address when it is imported."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.hub_server import Hub

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pipeline.errors import InvalidSetting
from pipeline.model.hub_file import find_file
for source in sys.argv[1:]:
    try:
        print(find_file("LORA", source, ".safetensors").read_bytes().decode())
    except InvalidSetting as error:
        print(error)
"""
SAID = {
    "somebody/loras/a/one.safetensors": "the one",
    "somebody/loras@main/two.safetensors": "the two",
    "somebody/loras": "holds 2 .safetensors files: name the one that is meant",
    "somebody/loras/three.safetensors": "cannot be fetched",
    "somebody/else/two.safetensors": "cannot be fetched",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {"a/one.safetensors": b"the one", "two.safetensors": b"the two", "readme.md": b"x"}
    with Hub("somebody/loras", files) as server:
        yield server


def test_files_on_the_hub_are_fetched_or_it_is_said_why_not(hub: Hub, tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, *SAID],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for said, (source, expected) in zip(told.stdout.splitlines(), SAID.items(), strict=True):
        assert expected in said, source
