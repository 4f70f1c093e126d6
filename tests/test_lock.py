"""The image's environment is what requirements.txt asks for, and every file of it is known by its hash."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FOR_THE_IMAGE = (ROOT / "requirements.txt", ROOT / "requirements-serverless.txt")
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def requirements() -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for file in FOR_THE_IMAGE for line in file.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


def locked() -> dict[str, Version]:
    return {canonicalize_name(name): Version(version) for name, version, _ in PINNED.findall(LOCK)}


def test_everything_that_is_asked_for_is_locked_at_a_version_that_is_accepted() -> None:
    versions = locked()
    for requirement in requirements():
        version = versions.get(canonicalize_name(requirement.name))
        assert version in requirement.specifier, f"{requirement}: the lock has {version}, run scripts/lock.sh"


def test_the_lock_is_nothing_but_versions_with_hashes() -> None:
    rest = PINNED.sub("", LOCK)
    assert [line for line in rest.splitlines() if not line.startswith("#")] == []


def test_the_lock_names_no_index() -> None:
    assert "://" not in LOCK
    assert "-index" not in LOCK


def test_torch_is_the_one_whose_wheels_carry_the_cuda_that_the_drivers_know() -> None:
    versions = locked()
    assert versions["torch"].release[:2] == (2, 10)
    assert versions["nvidia-cuda-runtime-cu12"].release[:2] == (12, 8)


def test_the_space_has_the_version_of_gradio_that_is_locked() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"\nsdk_version: {locked()['gradio']}\n" in readme
