"""The process that talks to the Hub, apart from the program so that it can be killed when it hangs.

Run as `python -m pipeline.store.hub_client`. Tasks come on stdin and reports go to stdout, one JSON object a line:
    {"do": "list", "repository", "revision"}
        -> {"commit", "files": [{"path", "size", "digest"}]}
    {"do": "fetch", "repository", "commit", "folder", "files", "workers"}
        -> {"started": file}, {"finished": file}, {"alive": bytes}, and at the end {"fetched": true}
and either may end in {"failed": the fields of Failure}. It ends with its stdin, so that it never outlives the program,
not even a killed one.
"""

import errno
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled
from tqdm import tqdm

from pipeline.store.redaction import redact
from pipeline.store.troubles import Failure

ANSWER_WITHIN_S = 30
ALIVE_EVERY_S = 0.5
# huggingface_hub writes a file, and says how far it is, every 10 MB: on a slow line eight files at once would show no
# byte for minutes, and look as a broken line does.
TELL_EVERY_BYTES = 2**20
# What a disk can say for good; the texts are for libraries that hand on the words instead of the number.
DISK_ERRORS = {
    errno.ENOSPC: ("No space left on device",),
    errno.EDQUOT: ("Disk quota exceeded", "Quota exceeded"),
    errno.EACCES: (),
    errno.EPERM: (),
    errno.EROFS: ("Read-only file system",),
}
REFUSALS = (401, 403, 404)
UNLISTED = ("RevisionNotFound", "EntryNotFound")  # what the Hub calls a 404 that is not the repository's


class Reports:
    """The way to the program: whole lines, from any thread."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log instead
        self._lock = threading.Lock()

    def send(self, **report: Any) -> None:
        """Write one report."""
        with self._lock:
            self._stream.write(json.dumps(report) + "\n")
            self._stream.flush()


class ByteCount(tqdm):
    """Counts what arrives for all files together, from the network and on the disk, and shows nothing."""

    moved = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"disable": True})

    def update(self, n: float | None = 1) -> None:
        """Take note of `n` bytes more; it matters only whether the sum moves."""
        ByteCount.moved += int(n or 0)


def main() -> None:
    """Do the tasks on stdin until it closes."""
    constants.DOWNLOAD_CHUNK_SIZE = TELL_EVERY_BYTES
    reports = Reports()
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_tasks, args=(tasks,), daemon=True).start()
    threading.Thread(target=_tell_movement, args=(reports,), daemon=True).start()
    while True:
        task = tasks.get()
        work = {"list": list_files, "fetch": fetch_files}[task.pop("do")]
        try:
            work(reports, **task)
        except Exception as error:
            reports.send(failed=asdict(failure_of(error)))


def _read_tasks(tasks: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(1)  # the program is gone: end at once, with all threads and whatever native code they are in


def _tell_movement(reports: Reports) -> None:
    told, pause = 0, threading.Event()
    while not pause.wait(ALIVE_EVERY_S):
        if ByteCount.moved != told:
            told = ByteCount.moved
            reports.send(alive=told)


def list_files(reports: Reports, repository: str, revision: str) -> None:
    """Report the commit that `revision` names and all its files."""
    info = huggingface_hub.HfApi().model_info(
        repository, revision=revision, files_metadata=True, timeout=ANSWER_WITHIN_S
    )
    files = [
        {
            "path": file.rfilename,
            "size": file.lfs.size if file.lfs else file.size,
            "digest": file.lfs.sha256 if file.lfs else file.blob_id,
        }
        for file in info.siblings or []
    ]
    reports.send(commit=info.sha, files=files)


def fetch_files(reports: Reports, repository: str, commit: str, folder: str, files: list[str], workers: int) -> None:
    """Download `files`, in this order, `workers` at a time. Raises the first error, the other files first.

    A file in flight may stand for ten gigabytes, so that one that fails does not end the others, unless the failure
    concerns them all.
    """

    def fetch(file: str) -> None:
        reports.send(started=file)
        huggingface_hub.hf_hub_download(
            repository,
            file,
            revision=commit,
            local_dir=folder,
            cache_dir=Path(folder, ".cache", "none"),  # a copy from a cache would grow under its final name
            tqdm_class=ByteCount,
        )
        reports.send(finished=file)

    failures = []
    with ThreadPoolExecutor(workers) as pool:
        fetched = {pool.submit(fetch, file): file for file in files}
        for future in as_completed(fetched):
            if error := future.exception():
                failures.append(failure_of(error, fetched[future]))
                if _is_final(failures[-1]):
                    pool.shutdown(wait=False, cancel_futures=True)
                    reports.send(failed=asdict(failures[-1]))
                    os._exit(1)
    reports.send(**{"failed": asdict(failures[0])} if failures else {"fetched": True})


def _is_final(failure: Failure) -> bool:
    return failure.errno is not None or failure.offline or failure.refused


def failure_of(error: BaseException, file: str | None = None) -> Failure:
    """What `error` and the errors behind it say."""
    errors = list(_chain(error))
    token = huggingface_hub.get_token()
    unreached = any(_is_of_network(e) for e in errors)
    response = next((found for e in errors if (found := getattr(e, "response", None)) is not None), None)
    words = next((str(e).strip().splitlines()[0] for e in reversed(errors) if str(e).strip()), "")
    return Failure(
        detail=redact(f"{type(errors[-1]).__name__}: {words}"[:300], token),
        file=file,
        status=response.status_code if response is not None else None,
        errno=next(
            (number for e in errors if (number := _disk_errno(e)) and not _is_firewall(number, unreached)), None
        ),
        offline=any(isinstance(e, OfflineModeIsEnabled) for e in errors),
        unreached=unreached,
        refused=_is_refusal(response),
        unlisted=response is not None and response.headers.get("X-Error-Code") in UNLISTED,
        token=token is not None,
        retry_after_s=_retry_after_s(response),
    )


def _is_firewall(number: int, unreached: bool) -> bool:
    """Whether it was the network, and not the disk, that forbade something."""
    return unreached and number in (errno.EACCES, errno.EPERM)


def _is_refusal(response: Any) -> bool:
    """Whether the Hub itself says no; what a file server behind it says may pass, as a link that has run out."""
    if response is None or response.status_code not in REFUSALS:
        return False
    return str(response.request.url).startswith(constants.ENDPOINT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_network(error: BaseException) -> bool:
    library = type(error).__module__.partition(".")[0]  # httpx up to version 1 of huggingface_hub, httpx2 from 2 on
    return library.startswith(("httpx", "httpcore")) or isinstance(error, (ConnectionError, TimeoutError))


def _disk_errno(error: BaseException) -> int | None:
    number = getattr(error, "errno", None)
    if number in DISK_ERRORS:
        return number
    words = str(error)
    return next((n for n, texts in DISK_ERRORS.items() if any(text in words for text in texts)), None)


def _retry_after_s(response: Any) -> float | None:
    value = response.headers.get("Retry-After", "") if response is not None else ""
    return float(value) if value.isdigit() else None


if __name__ == "__main__":
    main()
