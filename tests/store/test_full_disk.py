"""Disks that are too small, and disks that fill up."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.errors import DiskFull, ModelUnavailable
from pipeline.store.obtain import obtain_model
from pipeline.store.progress import follow

from ..absent import not_run
from .conftest import PACE
from .models import hidden_files, needed_files, read_files
from .mounts import resize, small_disk

MB = 10**6

# Lets write() into files below QUOTA_FOLDER fail as a quota does, after QUOTA_BYTES in all.
QUOTA = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static long written = 0;
ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    const char *folder = getenv("QUOTA_FOLDER");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (folder && length > 0 && !strncmp(path, folder, strlen(folder))) {
        if (__atomic_add_fetch(&written, size, __ATOMIC_SEQ_CST) > atol(getenv("QUOTA_BYTES"))) {
            errno = EDQUOT;
            return -1;
        }
    }
    return real(fd, data, size);
}
"""


@pytest.fixture
def obtain(entry, settings, places):
    """Obtain the model."""
    return lambda watch=lambda state: None: follow(obtain_model(entry, settings, places, PACE), watch)


def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(obtain, hub, models, folder, files):
    with small_disk(models, 4 * MB):
        with pytest.raises(DiskFull, match=r"needs 5\.1 MB more in .*, but only [34]\.\d MB are free there"):
            obtain()
        assert hub.sent.total() == 0
        assert read_files(folder) == {}
        assert hidden_files(folder) == []
        resize(models, 8 * MB)
        assert obtain() == folder
        assert read_files(folder) == needed_files(files)


def test_what_is_there_already_needs_no_room_again(obtain, hub, models, folder, files):
    with small_disk(models, int(5.6 * MB)):
        obtain()
        (folder / "config.json").unlink()
        assert obtain() == folder
        assert hub.sent["config.json"] == 2 * len(files["config.json"])


def test_a_disk_that_fills_up_in_the_middle_ends_in_a_sentence_and_keeps_finished_files(
    obtain, hub, models, folder, files
):
    hub.bytes_per_s = 1_000_000
    with small_disk(models, 7 * MB):

        def fill(state):
            if state.bytes_done > MB and not (models / "filler").exists():
                free = shutil.disk_usage(models).free
                (models / "filler").write_bytes(bytes(free - 64 * 1024))

        with pytest.raises(DiskFull, match=f"The disk that holds {folder} is full: "):
            obtain(fill)
        finished = read_files(folder)
        assert finished.items() <= needed_files(files).items()
        assert not [name for name in hidden_files(folder) if "incomplete" in name]
        sent = dict(hub.sent)
        (models / "filler").unlink()
        assert obtain() == folder
        assert read_files(folder) == needed_files(files)
        assert all(hub.sent[path] == sent.get(path, 0) for path in finished)


def test_a_quota_that_strikes_in_the_middle_is_told_apart_from_a_full_disk(
    obtain, hub, folder, files, environment, tmp_path
):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        not_run("this test needs a C compiler")
    (tmp_path / "quota.c").write_text(QUOTA)
    library = tmp_path / "quota.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "quota.c", "-ldl"], check=True)
    environment.setenv("LD_PRELOAD", str(library))
    environment.setenv("QUOTA_FOLDER", str(folder))
    environment.setenv("QUOTA_BYTES", "2000000")
    with pytest.raises(DiskFull, match=f"The quota of the volume that holds {folder} is used up"):
        obtain()
    finished = read_files(folder)
    assert finished.items() <= needed_files(files).items()
    assert not [name for name in hidden_files(folder) if "incomplete" in name]
    environment.delenv("LD_PRELOAD")
    assert obtain() == folder
    assert read_files(folder) == needed_files(files)


def test_a_folder_that_turns_out_not_to_be_a_folder_is_told(obtain, hub, folder):
    folder.parent.mkdir(parents=True)
    Path(folder).write_text("a file")
    with pytest.raises(ModelUnavailable, match="cannot be used for the model") as raised:
        obtain()
    assert str(raised.value).endswith(".")
