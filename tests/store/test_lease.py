import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from pipeline.events import ModelState
from pipeline.store.lease import LEASE, LeaseLost, LeaseWatch, acquire, read_holder

STATE = ModelState("downloading", "m", 1, 2)


def of_another_machine(folder):
    """Make the lease in `folder` look as if another machine had written it."""
    values = json.loads((folder / LEASE).read_text())
    (folder / LEASE).write_text(json.dumps(values | {"place": "elsewhere", "host": "other", "pid": 1}))


def test_one_program_holds_the_lease_until_it_gives_it_back(tmp_path):
    with acquire(tmp_path) as lease:
        assert acquire(tmp_path) is None
        lease.beat(STATE)
        assert read_holder(tmp_path / LEASE).state == STATE
        assert acquire(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with acquire(tmp_path):
        assert acquire(tmp_path) is None


def test_of_many_at_once_one_gets_it(tmp_path):
    start, got = threading.Barrier(20), []

    def compete():
        start.wait()
        got.append(acquire(tmp_path))

    threads = [threading.Thread(target=compete) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20
    assert sum(lease is not None for lease in got) == 1


def test_a_beat_is_seen_as_a_sign_of_life_whatever_the_clocks_say(tmp_path):
    lease, watch = acquire(tmp_path), LeaseWatch(tmp_path)
    of_another_machine(tmp_path)
    assert watch.look().host == "other"
    os.utime(tmp_path / LEASE, (0, 0))
    silent = watch.silent_s
    watch.look()
    assert 0 <= silent <= watch.silent_s < 5
    lease.beat(STATE)
    os.utime(tmp_path / LEASE, (time.time() + 1e6,) * 2)
    of_another_machine(tmp_path)
    before = time.monotonic()
    assert watch.look().state == STATE
    assert watch.silent_s <= time.monotonic() - before + 0.1


def test_a_dead_program_on_the_same_machine_is_known_to_be_dead(tmp_path):
    program = f"from pathlib import Path; from pipeline.store.lease import acquire; acquire(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", program], check=True)
    watch = LeaseWatch(tmp_path)
    assert watch.look() is not None
    assert watch.silent_s == math.inf
    assert watch.take_over() is not None


def test_a_holder_that_was_replaced_steps_back_and_leaves_the_lease_alone(tmp_path):
    with acquire(tmp_path) as old:
        watch = LeaseWatch(tmp_path)
        watch.look()
        with watch.take_over() as new:
            with pytest.raises(LeaseLost):
                old.beat(STATE)
            old.__exit__()
            new.beat(STATE)
            assert read_holder(tmp_path / LEASE).state == STATE
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_moved_since_it_was_seen_is_not_taken_over(tmp_path):
    lease, watch = acquire(tmp_path), LeaseWatch(tmp_path)
    watch.look()
    lease.beat(STATE)
    assert watch.take_over() is None
    lease.beat(STATE)


def test_of_many_that_take_over_at_once_one_gets_it(tmp_path):
    acquire(tmp_path)
    watches = [LeaseWatch(tmp_path) for _ in range(10)]
    start, got = threading.Barrier(10), []

    def compete(watch):
        watch.look()
        start.wait()
        got.append(watch.take_over())

    threads = [threading.Thread(target=compete, args=(watch,)) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 10
    assert sum(lease is not None for lease in got) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": 1}'])
def test_a_lease_that_cannot_be_read_counts_as_held_until_it_has_been_silent(tmp_path, content):
    (tmp_path / LEASE).write_bytes(content)
    assert acquire(tmp_path) is None
    watch = LeaseWatch(tmp_path)
    assert watch.look() is None
    assert not watch.is_free
    assert watch.silent_s < 60
    assert watch.take_over() is not None


def test_a_lease_that_cannot_be_read_at_the_moment_is_somebodys(tmp_path):
    (tmp_path / LEASE).mkdir()  # to read it is an OSError, as on a volume that falters
    watch = LeaseWatch(tmp_path)
    assert watch.look() is None
    assert not watch.is_free
    assert watch.silent_s < 10


def test_a_volume_that_falters_takes_no_lease_away(tmp_path):
    lease = acquire(tmp_path)
    kept = (tmp_path / LEASE).rename(tmp_path / "kept")
    (tmp_path / LEASE).mkdir()
    lease.beat(STATE)
    (tmp_path / LEASE).rmdir()
    kept.rename(tmp_path / LEASE)
    lease.beat(STATE)
    assert lease.is_held


def test_a_lease_that_vanished_is_lost(tmp_path):
    lease = acquire(tmp_path)
    (tmp_path / LEASE).unlink()
    with pytest.raises(LeaseLost):
        lease.beat(replace(STATE, bytes_done=2))
    watch = LeaseWatch(tmp_path)
    assert watch.look() is None
    assert watch.is_free
