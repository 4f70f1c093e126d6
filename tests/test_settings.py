"""The environment as settings."""

import pytest
from pydantic import ValidationError

from pipeline.errors import InvalidSetting
from pipeline.settings import read_settings


def test_without_variables_everything_has_its_default() -> None:
    settings = read_settings()
    assert (settings.model, settings.host, settings.port, settings.memory) == (None, "127.0.0.1", 7860, "auto")
    assert settings.workers == 1
    assert (settings.max_queue, settings.max_audio_seconds, settings.keep_results_days) == (20, 300, 7)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("PORT", "x", "give a port from 1 to 65535"),
        ("MEMORY", "lots", "give auto, resident, offload, int8, fp8, fp8-fast or stream"),
        ("MAX_QUEUE", "0", "give a whole number from 1 to 10000"),
        ("WORKERS", "0", "give a whole number, 1 or more"),
        ("WORKERS", "1.5", "give a whole number, 1 or more"),
        ("MODEL_VOLUME_GB", "nan", "give the volume's size in GB, above 0"),
        ("APP_AUTH", "maybe", "give on or off"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(name: str, value: str, accepted: str, monkeypatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting) as error:
        read_settings()
    assert str(error.value) == f"{name}={value!r} cannot be used: {accepted}."


def test_an_empty_variable_is_as_none(monkeypatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert read_settings().port == 7860


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read_settings().port = 1
