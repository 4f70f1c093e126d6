"""kill -9, of the program and of the process that talks to the Hub."""

import os
import random
import signal

from .conftest import PACE
from .models import needed_files, read_files
from .programs import programs


def test_killed_at_ten_random_moments_no_finished_file_is_fetched_twice_and_none_is_ever_wrong(
    hub, files, models, folder
):
    needed = needed_files(files)
    total = sum(map(len, needed.values()))
    hub.bytes_per_s = 4_000_000
    randomness = random.Random(7)
    finished_after = []
    for _ in range(10):
        with programs(PACE, models) as [program]:
            program.wait_for("downloading")
            hub.wait_until_sent(hub.sent.total() + randomness.randrange(1, total // 2), timeout_s=3)
            program.kill()
        present = read_files(folder)
        assert present.items() <= needed.items()
        finished_after.append((set(present), dict(hub.sent)))
    with programs(PACE, models) as [program]:
        assert program.result() == {"folder": str(folder)}
    assert read_files(folder) == needed
    for finished, sent in finished_after:
        assert all(hub.sent[path] == sent.get(path, 0) for path in finished)


def test_as_long_as_files_arrive_the_download_goes_on(hub, files, models, folder):
    hub.bytes_per_s = 1_000_000
    kills, needed = [], needed_files(files)
    with programs(PACE, models) as [program]:
        for _ in program.follow():
            finished = sum((folder / path).exists() for path in needed)
            if finished not in kills and len(kills) < 5 and (children := program.children()):
                kills.append(finished)
                os.kill(children[0], signal.SIGKILL)
        assert program.said[-1] == {"folder": str(folder)}
    assert len(kills) == 5 > len(PACE.pauses_s)
    assert read_files(folder) == needed


def test_the_process_that_talks_to_the_hub_is_started_anew_when_it_is_killed(hub, files, models, folder):
    hub.bytes_per_s = 1_000_000
    with programs(PACE, models) as [program]:
        program.wait_for("downloading")
        hub.wait_until_sent(200_000)
        [child] = program.children()
        os.kill(child, signal.SIGKILL)
        assert program.result() == {"folder": str(folder)}
        assert any("ended by itself (-9)" in said.get("message", "") for said in program.said)
    assert read_files(folder) == needed_files(files)
