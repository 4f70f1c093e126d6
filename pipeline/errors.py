"""The errors that a user can meet. Each message is one sentence that says what is wrong and what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

OUT_OF_MEMORY_WORDS = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class UserError(Exception):
    """What is shown to a user as it stands; everything else is logged and shown as an internal error."""

    exit_status = 1


class InvalidRequest(UserError):
    """A request, an input file or an argument is wrong; nothing was started."""

    exit_status = 2


class InvalidSetting(UserError):
    """An environment variable has a value that cannot be used."""

    exit_status = 2


class ModelUnavailable(UserError):
    """The model's files are missing, incomplete, unreadable or not of the supported architecture."""


class DiskFull(UserError):
    """A file could not be written for want of space or quota."""


class OutOfMemory(UserError):
    """The work does not fit the memory, with the smallest plan neither."""


class QueueFull(UserError):
    """As many jobs, or plans of jobs, wait as the machine accepts."""


class NotDelivered(UserError):
    """A video was made and cannot be handed over."""


class UnknownJob(UserError):
    """No job has this id (any more)."""


@contextmanager
def disk_full_explained(folder: object) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" from what is done inside into DiskFull, naming `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"The disk that holds {folder} is full: free some space and try again.") from error
        if error.errno == errno.EDQUOT:
            raise DiskFull(f"The quota of the volume that holds {folder} is used up: free some space there.") from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that device or machine have no memory left; torch's are known by their names and texts."""
    known_kind = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known_kind or any(words in str(error) for words in OUT_OF_MEMORY_WORDS)


def is_gpu_lost(error: BaseException) -> bool:
    """Whether `error` is CUDA's, and not for want of memory: after most of these nothing works in this process."""
    return "CUDA error" in str(error) and not is_out_of_memory(error)
