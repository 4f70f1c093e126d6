"""Small file systems of one's own, for what a full disk and a read-only disk do."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.absent import not_run

AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of `size_bytes` at `folder`. Where this user may not mount the test is skipped; in CI it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [*AS_ROOT, "mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=777", "none", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        not_run(f"this test needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([*AS_ROOT, "umount", "-l", str(folder)], check=True)


def resize(folder: Path, size_bytes: int) -> None:
    """Make the disk larger."""
    subprocess.run([*AS_ROOT, "mount", "-o", f"remount,size={size_bytes}", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Refuse every write from now on."""
    subprocess.run([*AS_ROOT, "mount", "-o", "remount,ro", str(folder)], check=True)
