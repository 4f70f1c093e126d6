"""What this machine does: the environment variables of the README, read once and frozen."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import InvalidSetting


def on_space(value: Any, elsewhere: Any) -> Callable[[], Any]:
    """A default that is `value` on a Hugging Face Space: what is open to everybody has narrower limits."""
    return lambda: value if os.environ.get("SPACE_ID") else elsewhere


def usual_host() -> str:
    """Every address on a Space, or the one that whoever runs Gradio programs there gives; else this machine alone."""
    return os.environ.get("GRADIO_SERVER_NAME") or on_space("0.0.0.0", "127.0.0.1")()


def whole_path(folder: Path) -> Path:
    """`folder` from the root on, "~" replaced. Raises ValueError where that home is not there."""
    try:
        return folder.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


Folder = Annotated[Path, AfterValidator(whole_path)]


class Settings(BaseSettings):
    """Each field is the environment variable of its name in capitals; its description says what is accepted."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, allow_inf_nan=False)

    model: Annotated[
        str | None, Field(description="wan2.2-s2v-14b, sample, a folder, or a Hub repository OWNER/NAME[@REVISION]")
    ] = None
    model_variant: Annotated[str | None, Field(description="the name of a variant in the catalogue")] = None
    model_cache_dir: Annotated[Folder | None, Field(description="a folder")] = None
    model_revision: Annotated[str | None, Field(description="a commit of the model repository")] = None
    model_volume_gb: Annotated[float | None, Field(gt=0, description="the volume's size in GB, above 0")] = None
    download_stall_seconds: Annotated[float, Field(ge=1, le=86_400, description="seconds, from 1 to 86400")] = 120
    memory: Annotated[
        Literal["auto", "resident", "offload", "int8", "fp8", "fp8-fast", "stream"],
        Field(description="auto, resident, offload, int8, fp8, fp8-fast or stream"),
    ] = "auto"
    lora: Annotated[str | None, Field(description="a file, a folder, or OWNER/NAME[@REVISION][/FILE] on the Hub")] = (
        None
    )
    lora_strength: Annotated[float, Field(ge=-10, le=10, description="a number from -10 to 10")] = 1.0
    gguf: Annotated[str | None, Field(description="a file, a folder, or OWNER/NAME[@REVISION]/FILE.gguf")] = None
    compile: Annotated[Literal["on", "off"], Field(description="on or off")] = "off"
    workers: Annotated[int, Field(ge=1, description="a whole number, 1 or more")] = 1
    output_dir: Annotated[Folder | None, Field(description="a folder")] = None
    host: Annotated[str, Field(min_length=1, description="an address to listen on", default_factory=usual_host)]
    port: Annotated[int, Field(ge=1, le=65535, description="a port from 1 to 65535")] = 7860
    app_username: Annotated[str, Field(min_length=1, description="a name")] = "studio"
    app_password: Annotated[str | None, Field(min_length=1, description="a password")] = None
    app_auth: Annotated[Literal["on", "off"], Field(description="on or off")] = "on"
    idle_stop_minutes: Annotated[float | None, Field(gt=0, description="minutes, above 0")] = None
    max_queue: Annotated[
        int, Field(ge=1, le=10_000, description="a whole number from 1 to 10000", default_factory=on_space(10, 20))
    ]
    max_audio_seconds: Annotated[
        float, Field(ge=1, le=86_400, description="seconds, from 1 to 86400", default_factory=on_space(30, 300))
    ]
    keep_results_days: Annotated[float, Field(ge=0, description="days, 0 or more", default_factory=on_space(1, 7))]


def read_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """The settings that the environment gives, and `given` ones (by field) in their place.

    Raises InvalidSetting, one line with the variable, its value and what is accepted.
    """
    try:
        return Settings(**(given or {}))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        shown = "***" if "password" in name else repr(first["input"])
        accepted = Settings.model_fields[name].description
        raise InvalidSetting(f"{name.upper()}={shown} cannot be used: give {accepted}.") from None


def usable_settings() -> Settings:
    """The settings with the default in place of every value that cannot be used: enough for a page that says so."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = {str(each["loc"][0]) for each in error.errors()}
        fields = Settings.model_fields
        return Settings(**{name: fields[name].get_default(call_default_factory=True) for name in wrong})
