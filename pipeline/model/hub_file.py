"""One file that a setting names: here, alone in a folder, or on the Hub."""

import re
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from pipeline.errors import InvalidSetting
from pipeline.model.weights import reason

ON_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?(/(?P<file>.+))?")


def find_file(variable: str, source: str, suffix: str) -> Path:
    """The file that `source` stands for: a file, the only one that ends in `suffix` in a folder, or on the Hub
    OWNER/NAME[@REVISION][/FILE], which is fetched into huggingface_hub's cache.

    Raises InvalidSetting, which names the `variable`.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return path / _only([file.name for file in sorted(path.iterdir())], suffix, f"{variable}={source!r}")
    match = ON_HUB.fullmatch(source)
    if match is None:
        raise InvalidSetting(
            f"{variable}={source!r} cannot be used: give a file, a folder or OWNER/NAME/FILE on the Hub."
        )
    repository, revision, file = match["repository"], match["revision"], match["file"]
    try:
        listed = [] if file else HfApi().list_repo_files(repository, revision=revision)
        file = file or _only(listed, suffix, f"{variable}={source!r}")
        return Path(hf_hub_download(repository, file, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise InvalidSetting(f"{variable}={source!r} cannot be fetched: {reason(error)}.") from error


def _only(names: list[str], suffix: str, said: str) -> str:
    found = [name for name in names if name.endswith(suffix)]
    if len(found) != 1:
        raise InvalidSetting(f"{said} holds {len(found)} {suffix} files: name the one that is meant.")
    return found[0]
