"""What all tests share."""

import gc
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.importing import importing
from pipeline.settings import Settings

loading = ExitStack()
loading.enter_context(importing())
# Tests run side by side, one to a core: more threads in each would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What people have from the Hub is not looked at; huggingface_hub reads this when it is imported.
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir(), "hf-home-of-tests"))
# Nothing is asked for over TLS: to read the world's certificates would take each client of httpx 0.06 s.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(tempfile.gettempdir(), "no-certificates"))
sys.path.insert(0, str(Path(__file__).parents[1]))


def pytest_collection_finish() -> None:
    """All tests are imported, and all that they use."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    loading.close()
    # Where there is no card, PyTorch keeps a stand-in for its driver in the thread that first needs one, also when that
    # thread is gone: the next to ask for it would end this process.
    with FakeTensorMode():
        pass
    gc.freeze()  # what is loaded is never garbage
    gc.set_threshold(10_000, 10, 100)  # of what tests make, little is in cycles


def pytest_sessionfinish() -> None:
    """What is left needs no look for garbage any more, which pytest would take at its end."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's folders, or obeys the settings of the shell that started it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    hosts = ("SPACE_ID", "SPACE_HOST", "GRADIO_SERVER_NAME", "RUNPOD_POD_ID", "container")
    for name in (*(field.upper() for field in Settings.model_fields), *hosts):
        monkeypatch.delenv(name, raising=False)
