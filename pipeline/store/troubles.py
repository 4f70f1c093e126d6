"""What goes wrong between here and the Hub, and the sentence that says it."""

import errno
import os
from dataclasses import dataclass

from pipeline.errors import DiskFull, ModelUnavailable, UserError


@dataclass(frozen=True)
class Failure:
    """What the process that talks to the Hub says of an error."""

    detail: str  # the error's own words, redacted
    file: str | None = None
    status: int | None = None  # HTTP
    errno: int | None = None  # of the disk
    unreached: bool = False  # the network failed
    offline: bool = False  # HF_HUB_OFFLINE is set
    refused: bool = False  # the Hub itself says no: 401, 403 or 404
    unlisted: bool = False  # the repository is there, this revision or file of it is not
    token: bool = False  # a token was sent
    retry_after_s: float | None = None


class Interrupted(Exception):
    """The download did not come to its end, but may on another try; the message is a phrase that says why."""

    def __init__(self, phrase: str, retry_after_s: float | None = None) -> None:
        super().__init__(phrase)
        self.retry_after_s = retry_after_s


def trouble(failure: Failure, repository: str, revision: str, folder: object) -> UserError | Interrupted:
    """The exception that `failure` stands for: a UserError where trying again is of no use."""
    if failure.errno is not None:
        return _disk_trouble(failure, folder)
    if failure.offline:
        return ModelUnavailable(
            f"{repository} is not on this machine and HF_HUB_OFFLINE forbids to download it: unset HF_HUB_OFFLINE, or "
            "set MODEL to a folder that holds the model."
        )
    if failure.refused:
        return ModelUnavailable(_refusal(failure, repository, revision))
    return Interrupted(_passing(failure), failure.retry_after_s)


def _refusal(failure: Failure, repository: str, revision: str) -> str:
    if failure.status == 404 and failure.unlisted:
        what = f"its file {failure.file}" if failure.file else f"its revision {revision}"
        return f"The Hub has {repository}, but not {what} (any more): set MODEL or MODEL_REVISION to one that it has."
    if failure.status == 404:
        return f"The Hub has no repository {repository} (any more): set MODEL to one that it has, or to a folder."
    if not failure.token:
        return (
            f"The Hub gives {repository} only to some accounts, or does not have it: check the name, and set HF_TOKEN "
            "to a token of an account that may read it."
        )
    if failure.status == 401:
        return f"The Hub does not accept the token in HF_TOKEN for {repository}: set HF_TOKEN to one that is valid."
    return (
        f"The account of the token in HF_TOKEN may not read {repository}: ask for access on its page on the Hub, or "
        "set HF_TOKEN to a token of another account."
    )


def _disk_trouble(failure: Failure, folder: object) -> UserError:
    if failure.errno == errno.ENOSPC:
        return DiskFull(
            f"The disk that holds {folder} is full: make room or set MODEL_CACHE_DIR to a folder on another disk; "
            "what is already there will not be downloaded again."
        )
    if failure.errno == errno.EDQUOT:
        return DiskFull(
            f"The quota of the volume that holds {folder} is used up: make room there or use a larger volume; what is "
            "already there will not be downloaded again."
        )
    reason = os.strerror(failure.errno or 0)
    return ModelUnavailable(
        f"The model cannot be written to {folder} ({reason}): set MODEL_CACHE_DIR to another folder."
    )


def _passing(failure: Failure) -> str:
    of_file = f" for {failure.file}" if failure.file else ""
    if failure.status == 429:
        return f"the Hub answers that there were too many requests{of_file} (429)"
    if failure.status is not None:
        return f"the Hub answers with an error{of_file} ({failure.status})"
    if "Consistency check failed" in failure.detail:
        return f"the Hub sent a wrong number of bytes{of_file}"
    if failure.unreached:
        return f"the Hub cannot be reached{of_file} ({failure.detail})"
    return f"huggingface_hub failed{of_file} ({failure.detail})"
