import logging
import os
import shutil

import pytest

from pipeline.errors import DiskFull
from pipeline.store import disk_space
from pipeline.store.disk_space import file_system_of, free_bytes, require_space, used_bytes, volume_of

from .mounts import small_disk

MB = 10**6


def test_the_file_system_is_asked_also_for_a_folder_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b", None) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.01)


def test_too_little_room_is_told_with_both_numbers(tmp_path):
    with small_disk(tmp_path / "disk", 4 * MB) as disk:
        require_space(disk / "models", 3 * MB, None)
        with pytest.raises(DiskFull, match=r"needs 5\.0 MB more in .*, but only 4\.\d MB are free") as raised:
            require_space(disk / "models", int(4.99 * MB), None)
        assert "MODEL_CACHE_DIR" in str(raised.value)


def test_a_declared_size_counts_less_what_is_there(tmp_path):
    with small_disk(tmp_path / "disk", 20 * MB) as disk:
        (disk / "old").write_bytes(bytes(4 * MB))
        assert free_bytes(disk, 0.010) == pytest.approx(6 * MB, abs=0.1 * MB)
        assert free_bytes(disk, 0.001) == 0
        assert free_bytes(disk, 1000) == pytest.approx(16 * MB, abs=0.1 * MB)


def test_the_files_of_a_volume_are_added_up_without_other_volumes_in_it(tmp_path):
    with small_disk(tmp_path / "disk", 20 * MB) as disk, small_disk(disk / "inner", 20 * MB) as inner:
        (disk / "a").write_bytes(bytes(MB))
        (disk / "folder").mkdir()
        (disk / "folder" / "b").write_bytes(bytes(2 * MB))
        (inner / "c").write_bytes(bytes(4 * MB))
        os.symlink("/", disk / "link")
        assert used_bytes(disk) == pytest.approx(3 * MB, abs=1000)
        assert volume_of(disk / "folder") == disk
        assert volume_of(inner) == inner


def test_network_volumes_are_known_by_their_kind(tmp_path):
    volume = volume_of(tmp_path)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"none {volume} ext4 rw 0 0\nmfs#euro-3.example:9421 {volume} fuse rw,allow_other 0 0\n")
    assert file_system_of(tmp_path, mounts) == "fuse"
    mounts.write_text("none /no/such ext4 rw 0 0\n")
    assert file_system_of(tmp_path, mounts) == ""
    assert file_system_of(tmp_path, tmp_path / "none") == ""


def test_a_cluster_that_poses_as_a_volume_is_doubted_and_a_declared_size_believed(tmp_path, monkeypatch, caplog):
    with small_disk(tmp_path / "disk", 20 * MB) as disk:
        (disk / "old").write_bytes(bytes(4 * MB))
        monkeypatch.setattr(disk_space, "ABSURD_TOTAL_BYTES", 10 * MB)
        with caplog.at_level(logging.WARNING):
            require_space(disk, 5 * MB, None)
        assert "MODEL_VOLUME_GB" in caplog.text
        with pytest.raises(DiskFull, match=r"only 4\.0 MB are free"):
            require_space(disk, 5 * MB, 0.008)
