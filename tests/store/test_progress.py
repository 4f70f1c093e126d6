import threading
from pathlib import Path

import pytest

from pipeline.events import ModelState
from pipeline.store.download import bytes_on_disk
from pipeline.store.manifest import ModelFile
from pipeline.store.progress import Meter, ProgressLog, describe, follow


def test_the_rate_is_that_of_the_last_twenty_seconds():
    meter = Meter()
    assert meter.bytes_per_s is None
    for second in range(31):
        meter.note(second * 10, second)
    for second in range(31, 61):
        meter.note(300 + (second - 30) * 100, second)
    assert meter.bytes_per_s == pytest.approx(100)
    assert meter.seconds_for(1000) == pytest.approx(10)


def test_the_rate_goes_to_zero_when_nothing_comes_and_then_there_is_no_time_left():
    meter = Meter()
    for second in range(60):
        meter.note(min(second, 10) * 10, second)
    assert meter.bytes_per_s == 0
    assert meter.seconds_for(1000) is None


def test_a_file_that_is_begun_anew_starts_the_measure_anew():
    meter = Meter()
    for second, done in enumerate([0, 100, 200, 50, 60, 70]):
        meter.note(done, second)
    assert meter.bytes_per_s == pytest.approx(10)


def test_the_log_gets_a_line_every_five_percent_every_thirty_seconds_and_at_each_change():
    lines = []
    note = ProgressLog(lines.append).note
    for percent in range(101):
        note(ModelState("downloading", "m", percent, 100), percent)
    assert len(lines) == 21
    for second in range(1, 91):
        note(ModelState("downloading", "m", 100, 100), 100 + second)
    assert len(lines) == 24
    note(ModelState("downloading", "m", 100, 100, attempt=2), 191)
    note(ModelState("waiting", "m", 100, 100, attempt=2), 191)
    assert len(lines) == 26


def test_a_small_model_does_not_fill_the_log():
    lines = []
    note = ProgressLog(lines.append).note
    for percent in range(101):
        note(ModelState("loading", "m", percent, 100), percent / 80)
    assert len(lines) == 3


def test_a_state_in_words():
    state = ModelState("downloading", "m", 12_300_000_000, 45_700_000_000, 72e6, 464, "a.pth", 2, "no data for 12 s")
    assert describe(state) == ("downloading 12.3 of 45.7 GB, 72.0 MB/s, 8 min left, a.pth, attempt 2: no data for 12 s")
    assert describe(ModelState("checking", "m")) == "checking"


def test_following_reports_every_state_and_returns_the_end():
    def work():
        yield 1
        yield 2
        return "end"

    seen = []
    assert follow(work(), seen.append) == "end"
    assert seen == [1, 2]


def test_a_report_that_raises_stops_the_work():
    stopped = []

    def work():
        try:
            yield 1
        finally:
            stopped.append(True)

    def refuse(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(work(), refuse)
    assert stopped


def test_a_file_that_is_finished_while_it_is_counted_counts_once(tmp_path: Path) -> None:
    files = [ModelFile(f"{number}.bin", 1000, "") for number in range(500)]
    flight = tmp_path / ".cache" / "huggingface"
    flight.mkdir(parents=True)
    for file in files:
        (flight / f"{file.path}.incomplete").write_bytes(b"0" * file.size)

    def finish_all() -> None:
        for file in files:
            (flight / f"{file.path}.incomplete").rename(tmp_path / file.path)

    thread = threading.Thread(target=finish_all)
    thread.start()
    done = bytes_on_disk(tmp_path, [*files, ModelFile("still to come.bin", 10_000_000, "")])
    thread.join()
    assert done == 500_000
