"""Several programs on one folder."""

import json
from dataclasses import replace

from pipeline.store.lease import LEASE

from .conftest import PACE
from .models import hidden_files, needed_files, read_files
from .programs import Program, programs


def leader_of(running: list[Program]) -> Program:
    """The one that downloads, once one does and the others wait."""
    for program in running:
        for line in program.follow():
            if line.get("state") in ("downloading", "waiting"):
                break
    [leader] = [program for program in running if program.said[-1]["state"] == "downloading"]
    return leader


def test_three_programs_started_together_download_once_and_all_get_it(hub, files, models, folder):
    hub.bytes_per_s = 700_000
    with programs(PACE, models, 3) as running:
        results = [program.result() for program in running]
        assert results == [{"folder": str(folder)}] * 3
        states = [{line.get("state") for line in program.said} for program in running]
        assert sum("downloading" in seen for seen in states) == 1
        assert sum("waiting" in seen for seen in states) == 2
        for program in running:
            waiting = [line for line in program.said if line.get("state") == "waiting"]
            assert not waiting or any(0 < line["bytes_done"] <= line["bytes_total"] for line in waiting)
            assert all("another program downloads the model" in line["message"] for line in waiting)
    assert hub.sent.total() == sum(map(len, needed_files(files).values()))
    assert read_files(folder) == needed_files(files)
    assert hidden_files(folder) == [".manifest.json"]


def test_when_the_downloading_one_is_killed_another_takes_over(hub, files, models, folder):
    hub.bytes_per_s = 500_000
    with programs(PACE, models, 3) as running:
        leader = leader_of(running)
        hub.wait_until_sent(500_000)
        leader.kill()
        others = [program for program in running if program is not leader]
        assert [program.result() for program in others] == [{"folder": str(folder)}] * 2
        assert sum(any(line.get("state") == "downloading" for line in program.said) for program in others) == 1
    assert read_files(folder) == needed_files(files)


def test_one_that_is_suspended_is_replaced_and_steps_back_when_it_wakes(hub, files, models, folder):
    hub.bytes_per_s = 500_000
    with programs(replace(PACE, stall_s=30), models, 2) as running:
        leader = leader_of(running)
        [other] = [program for program in running if program is not leader]
        hub.wait_until_sent(300_000)
        leader.suspend()
        other.wait_for("downloading")
        hub.wait_until_sent(hub.sent.total() + 300_000)  # so that it has files in flight
        leader.resume()
        assert other.result() == {"folder": str(folder)}
        assert leader.result() == {"folder": str(folder)}
        assert max(line.get("attempt", 0) for line in other.said) == 1
        assert "another program has taken over the download" in leader.log
    assert read_files(folder) == needed_files(files)
    assert hidden_files(folder) == [".manifest.json"]


def test_a_lease_that_another_machine_left_behind_is_taken_over_after_a_while(hub, files, models, folder):
    folder.mkdir(parents=True)
    values = {"token": "t", "host": "another-machine", "place": "x", "pid": 1, "beat": 3, "state": None}
    (folder / LEASE).write_text(json.dumps(values))
    with programs(PACE, models) as [program]:
        assert program.result() == {"folder": str(folder)}
        waiting = [line["message"] for line in program.said if line.get("state") == "waiting"]
        assert "waiting: another program downloads the model (another-machine)" in program.log
        assert waiting[0] == "another program downloads the model (another-machine)"
    assert read_files(folder) == needed_files(files)
    assert hidden_files(folder) == [".manifest.json"]
