"""A Hub on loopback, an environment that knows nothing of this machine, and a quick pace."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry, entry_for
from pipeline.store.download import Pace
from pipeline.store.locations import Places

from .hub_server import Hub
from .models import REPOSITORY, model_files

PACE = Pace(poll_s=0.05, stall_s=10, lease_stale_s=1.5, pauses_s=(0.1, 0.1))


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    """The files of the repository."""
    return model_files()


@pytest.fixture
def hub(files: dict[str, bytes], environment: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The repository on a Hub of its own."""
    with Hub(REPOSITORY, files) as hub:
        environment.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment variables of Hub and program, those of this machine left out."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "MODEL", "MODEL_REVISION", "MODEL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    return monkeypatch


@pytest.fixture
def entry() -> ModelEntry:
    """The repository as a user names it."""
    return entry_for(REPOSITORY)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Where models go."""
    return tmp_path / "models"


@pytest.fixture
def folder(models: Path) -> Path:
    """Where the model goes."""
    return models / REPOSITORY


@pytest.fixture
def settings(models: Path) -> Settings:
    """Settings that send models there."""
    return Settings(model_cache_dir=models)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A machine with no models on it."""
    return Places(hub_caches=(tmp_path / "hub",), volumes=(), user_cache=tmp_path / "cache")
