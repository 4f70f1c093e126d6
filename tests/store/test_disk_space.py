import logging
import os

import pytest

from pipeline.errors import DiskFull
from pipeline.store import disk_space
from pipeline.store.disk_space import file_system_of, require_space, used_bytes, volume_of

from .mounts import small_disk

MB = 10**6


def require(folder, megabytes, volume_gb=None):
    """Require space for so much in `folder`; returns what was counted on the way."""
    return list(require_space(folder, int(megabytes * MB), volume_gb))


def test_the_file_system_is_asked_also_for_a_folder_that_is_not_there_yet(tmp_path):
    assert require(tmp_path / "a" / "b", 1) == []
    with pytest.raises(DiskFull):
        require(tmp_path / "a" / "b", 10**9)


def test_too_little_room_is_told_with_both_numbers(tmp_path):
    with small_disk(tmp_path / "disk", 4 * MB) as disk:
        require(disk / "models", 3)
        with pytest.raises(DiskFull, match=r"needs 5\.0 MB more in .*, but only 4\.\d MB are free") as raised:
            require(disk / "models", 4.99)
        assert "MODEL_CACHE_DIR" in str(raised.value)


def test_a_declared_size_counts_less_what_is_there(tmp_path):
    with small_disk(tmp_path / "disk", 20 * MB) as disk:
        (disk / "old").write_bytes(bytes(4 * MB))
        require(disk, 5.8, 0.010)
        with pytest.raises(DiskFull, match=r"only [56]\.\d MB are free"):
            require(disk, 6.1, 0.010)
        with pytest.raises(DiskFull, match="only 0 bytes are free"):
            require(disk, 1, 0.001)
        with pytest.raises(DiskFull, match=r"only 1[56]\.\d MB are free"):
            require(disk, 17, 1000)


def test_the_files_of_a_volume_are_added_up_without_other_volumes_in_it(tmp_path):
    with small_disk(tmp_path / "disk", 20 * MB) as disk, small_disk(disk / "inner", 20 * MB) as inner:
        (disk / "a").write_bytes(bytes(MB))
        (disk / "folder").mkdir()
        (disk / "folder" / "b").write_bytes(bytes(2 * MB))
        (inner / "c").write_bytes(bytes(4 * MB))
        os.symlink("/", disk / "link")
        assert list(used_bytes(disk)) == [pytest.approx(3 * MB, abs=1000)]
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
            require(disk, 5)
        assert "MODEL_VOLUME_GB" in caplog.text
        assert require(disk, 3.9, 0.008) == [pytest.approx(4 * MB, abs=1000)]
        with pytest.raises(DiskFull, match=r"only 4\.0 MB are free"):
            require(disk, 5, 0.008)


def test_a_volume_of_many_files_is_counted_in_steps_so_that_nobody_takes_the_work_for_dead(tmp_path):
    for number in range(2500):
        (tmp_path / str(number)).write_bytes(b"12")
    assert list(used_bytes(tmp_path)) == [2000, 4000, 5000]
