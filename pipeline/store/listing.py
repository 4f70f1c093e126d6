"""Which files a model has on the Hub, and which of them are needed."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pipeline.errors import ModelUnavailable
from pipeline.store.catalogue import ModelEntry, matches
from pipeline.store.hub_process import HubProcess
from pipeline.store.manifest import Manifest, ModelFile
from pipeline.store.troubles import Failure, Interrupted, trouble


def ask_for_listing(
    process: HubProcess, entry: ModelEntry, folder: Path, poll_s: float, patience_s: float
) -> Generator[float, None, Manifest]:
    """Ask the Hub for the files of `entry`: yields the seconds waited, returns a manifest that is not complete yet.

    Raises Interrupted after `patience_s`, or what the Hub's answer comes to (ModelUnavailable, Interrupted).
    """
    process.ask(do="list", repository=entry.repository, revision=entry.revision)
    start = time.monotonic()
    while (waited := time.monotonic() - start) < patience_s:
        for report in process.reports(poll_s):
            if "failed" in report:
                raise trouble(Failure(**report["failed"]), entry.repository, entry.revision, folder)
            return _manifest(entry, report)
        yield waited
    raise Interrupted(f"the Hub has not answered for {patience_s:.0f} s")


def _manifest(entry: ModelEntry, report: dict[str, Any]) -> Manifest:
    files = tuple(ModelFile(**file) for file in report["files"] if entry.component_of(file["path"]))
    for pattern in entry.required:
        if not any(matches(file.path, pattern) for file in files):
            raise ModelUnavailable(
                f"{entry.repository} has no {pattern} at revision {entry.revision}: it is not in the official layout "
                "of Wan2.2-S2V, set MODEL to a repository that is."
            )
    return Manifest(entry.repository, entry.revision, report["commit"], files, complete=False)
