"""The real client, in its process, against a Hub on loopback that misbehaves."""

import itertools
import logging
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from pipeline.errors import ModelUnavailable
from pipeline.events import ModelState
from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry, entry_for
from pipeline.store.download import Pace
from pipeline.store.locations import Places
from pipeline.store.obtain import obtain_model
from pipeline.store.progress import follow

from .conftest import PACE
from .hub_server import COMMIT, Fault, Hub
from .models import REPOSITORY, SHARDS, T5, hidden_files, listing, model_files, needed_files, read_files, write_files


class Obtaining:
    """What obtaining a model showed and came to."""

    def __init__(self, settings: Settings, places: Places) -> None:
        self.settings, self.places = settings, places
        self.states: list[ModelState] = []

    def __call__(
        self, entry: ModelEntry, pace: Pace = PACE, watch: Callable[[ModelState], None] = lambda state: None
    ) -> Path:
        """Obtain `entry`; `watch` gets every state."""

        def report(state: ModelState) -> None:
            self.states.append(state)
            watch(state)

        self.states.clear()
        return follow(obtain_model(entry, self.settings, self.places, pace), report)

    @property
    def messages(self) -> str:
        """All that was said."""
        return "\n".join(state.message for state in self.states)


@pytest.fixture
def obtain(settings, places, caplog):
    """Obtain a model, with the log at hand."""
    caplog.set_level(logging.INFO)
    return Obtaining(settings, places)


def fails(obtain, entry, words, **arguments):
    """The one sentence in which obtaining `entry` ends."""
    with pytest.raises(ModelUnavailable, match=words) as raised:
        obtain(entry, **arguments)
    sentence = str(raised.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def test_the_first_start_fetches_what_is_needed_and_the_second_fetches_nothing(obtain, entry, hub, files, folder):
    assert obtain(entry) == folder
    assert read_files(folder) == needed_files(files)
    assert hidden_files(folder) == [".manifest.json"]
    assert hub.sent == {path: len(content) for path, content in needed_files(files).items()}
    hub.requests.clear()
    before = listing(folder)
    assert obtain(entry) == folder
    assert hub.requests == []
    assert listing(folder) == before
    assert [state.state for state in obtain.states] == ["checking"]


def test_progress_goes_from_nothing_to_all_and_agrees_with_what_the_hub_sent(obtain, entry, hub, files):
    hub.bytes_per_s = 1_000_000  # the longest file takes 1.5 s; a rate is told after one
    total = sum(map(len, needed_files(files).values()))
    seen = []
    obtain(entry, watch=lambda state: seen.append((state.bytes_done, hub.sent.total())))
    loading = [state for state in obtain.states if state.state == "downloading"]
    assert loading[0].bytes_done == 0
    assert loading[-1].bytes_done == total == hub.sent.total()
    assert {state.bytes_total for state in loading} == {total}
    assert all(a.bytes_done <= b.bytes_done for a, b in itertools.pairwise(loading))
    assert all(done <= sent for done, sent in seen)
    assert any(state.bytes_per_s and state.eta_s is not None for state in loading)
    assert {state.file for state in loading} & set(files)
    assert {state.attempt for state in loading} == {1}


def test_a_question_comes_before_anything_is_done_and_only_where_there_is_something_to_download(
    settings, places, entry, hub, folder
):
    states = obtain_model(replace(entry, size_bytes=5_000_000), settings, places, PACE, ask_first=True)
    assert next(states).state == "checking"
    question = next(states)
    assert (question.state, question.bytes_total) == ("asking", 5_000_000)
    assert question.message.endswith(f"it is a download of 5.0 MB into {folder}.")
    assert hub.requests == []
    assert not folder.exists()
    assert follow(states, lambda state: None) == folder
    again = [state.state for state in obtain_model(entry, settings, places, PACE, ask_first=True)]
    assert again == ["checking"]


def test_the_log_tells_where_it_looked_and_how_far_it_is(obtain, entry, hub, folder, caplog):
    hub.bytes_per_s = 1_500_000
    obtain(entry)
    assert f"passed over {folder}: there is no such folder" in caplog.text
    assert f"the model is to be downloaded into {folder}" in caplog.text
    assert "downloading 5.0 of 5.0 MB" in caplog.text
    assert f"the model is whole in {folder}" in caplog.text
    obtain(entry)
    assert f"found the model in {folder}" in caplog.text


def test_a_stall_is_killed_and_tried_again_and_finished_files_are_kept(obtain, entry, hub, files, folder, environment):
    environment.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1000")
    hub.faults.append(Fault(SHARDS[0], then="stall", after=500_000, times=1))
    obtain(entry, replace(PACE, stall_s=2))
    assert read_files(folder) == needed_files(files)
    assert "no data has come for 2 s; trying again in 0 s" in obtain.messages
    assert max(state.attempt for state in obtain.states) == 2
    wasted = hub.sent.total() - sum(map(len, needed_files(files).values()))
    assert wasted == 500_000


def test_a_stall_that_comes_back_ends_in_a_sentence(obtain, entry, hub, folder, files, environment):
    environment.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1000")
    hub.faults.append(Fault(T5, then="stall", after=1000))
    sentence = fails(
        obtain, entry, "failed 3 times in a row, at last because no data has come", pace=replace(PACE, stall_s=1)
    )
    assert "finished files are kept" in sentence
    assert T5 not in read_files(folder)
    assert read_files(folder).items() <= needed_files(files).items()
    assert not [name for name in hidden_files(folder) if "incomplete" in name]
    hub.faults.clear()
    sent = dict(hub.sent)
    obtain(entry)
    assert read_files(folder) == needed_files(files)
    assert {path for path in sent if hub.sent[path] != sent[path]} == {T5}


def test_a_volume_that_falters_is_tried_again(obtain, entry, hub, files, folder):
    held, file = hub.hold(T5), folder / T5

    def falter(state: ModelState) -> None:
        if "the volume answered with an error" in state.message:
            file.unlink(missing_ok=True)
            held.set()
        elif state.state == "downloading" and not held.is_set():
            file.symlink_to(file)  # a circle: to look at the file is an error of the file system

    obtain(entry, watch=falter)
    assert "the volume answered with an error (Too many levels of symbolic links); trying again" in obtain.messages
    assert read_files(folder) == needed_files(files)


def test_how_long_a_stall_may_last_is_a_setting(entry, hub, models, places, environment):
    environment.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1000")
    hub.faults.append(Fault(T5, then="stall", after=1000))
    settings = Settings(model_cache_dir=models, download_stall_seconds=2)
    with closing(obtain_model(entry, settings, places)) as states:
        assert any("no data has come for 2 s; trying again in 5 s" in state.message for state in states)


def test_later_tries_do_without_xet(obtain, entry, hub, environment):
    environment.delenv("HF_HUB_DISABLE_XET")
    hub.faults.append(Fault(T5, then="lie", after=1000, times=2))
    disabled = {}

    def look(state):
        for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            for child in path.read_text().split():
                if b"hub_client" in Path(f"/proc/{child}/cmdline").read_bytes():
                    variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
                    disabled.setdefault(state.attempt, b"HF_HUB_DISABLE_XET=1" in variables)

    obtain(entry, watch=look)
    assert disabled == {1: False, 2: False, 3: True}


def test_an_answer_that_never_comes_is_not_waited_for_without_end(obtain, entry, hub, environment):
    hub.faults.append(Fault("/api/models/", status=200, headers={"Content-Length": "99"}))
    fails(obtain, entry, "the Hub", pace=replace(PACE, stall_s=1, pauses_s=(0.1,)))
    assert "asking the Hub for the list of files" in obtain.messages


@pytest.mark.parametrize(
    "fault",
    [
        Fault(SHARDS[0], then="close", after=300_000, times=2),
        Fault("/api/models/", status=500, times=1),
        Fault("/api/models/", status=503, times=2),
        Fault("/api/models/", status=429, times=1, headers={"Retry-After": "1"}),
        Fault("/cdn/" + SHARDS[1], status=500, times=1),
        Fault("/cdn/" + SHARDS[1], status=429, times=1),
        Fault("config.json", method="HEAD", status=503, times=1),
        Fault("/cdn/" + SHARDS[1], status=403, times=1),
        Fault(T5, then="lie", after=1000, times=1),
    ],
    ids=lambda fault: f"{fault.method} {fault.match[:8]} {fault.status or fault.then}",
)
def test_what_passes_is_overcome(obtain, entry, hub, files, folder, fault):
    hub.faults.append(replace(fault))
    obtain(entry)
    assert hub.faults[0].times == 0
    assert read_files(folder) == needed_files(files)
    assert hidden_files(folder) == [".manifest.json"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("/api/models/", status=500), r"at last because the Hub answers with an error \(500\)"),
        (Fault("/api/models/", status=503), r"at last because the Hub answers with an error \(503\)"),
        (Fault("/api/models/", status=429), r"too many requests \(429\)"),
        (Fault("/cdn/" + T5, status=500), rf"the Hub answers with an error for {T5} \(500\)"),
        (Fault(T5, then="lie", after=1000), f"the Hub sent a wrong number of bytes for {T5}"),
        (Fault("/resolve/", method="HEAD", status=404), "The Hub has no repository"),
        (
            Fault("/resolve/", method="HEAD", status=404, headers={"X-Error-Code": "EntryNotFound"}),
            r"but not its file .* \(any more\)",
        ),
    ],
    ids=lambda value: f"{value.status or value.then} {value.match[:8]}" if isinstance(value, Fault) else "",
)
def test_what_stays_ends_in_one_true_sentence_and_leaves_no_wrong_file(
    obtain, entry, hub, files, folder, fault, words, caplog
):
    hub.faults.append(replace(fault))
    fails(obtain, entry, words)
    assert "Traceback" not in caplog.text
    assert read_files(folder).items() <= needed_files(files).items()
    assert not [name for name in hidden_files(folder) if "incomplete" in name]
    hub.faults.clear()
    obtain(entry)
    assert read_files(folder) == needed_files(files)


def test_retry_after_is_obeyed(obtain, entry, hub):
    hub.faults.append(Fault("/api/models/", status=429, times=1, headers={"Retry-After": "2"}))
    obtain(entry)
    assert "trying again in 2 s" in obtain.messages


def test_a_hub_that_is_down_at_the_start_and_comes_up_later_is_waited_for(obtain, entry, files, folder, environment):
    with Hub(REPOSITORY, files) as reserved:
        port = reserved.server_port
    environment.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    up = []

    def start_hub(state: ModelState) -> None:
        if "trying again" in state.message and not up:
            up.append(Hub(REPOSITORY, files, port=port).__enter__())

    try:
        obtain(entry, watch=start_hub)
    finally:
        up[0].__exit__()
    assert "the Hub cannot be reached" in obtain.messages
    assert read_files(folder) == needed_files(files)


def test_a_hub_that_stays_down_ends_in_a_sentence(obtain, entry, environment):
    environment.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    sentence = fails(
        obtain, entry, "the Hub cannot be reached .*check the network", pace=replace(PACE, pauses_s=(0.1,))
    )
    assert "refused" in sentence


def test_a_repository_that_is_gone_is_told(obtain, hub, environment):
    assert "no/such" in fails(obtain, entry_for("no/such"), "The Hub has no repository no/such")


def test_a_revision_that_is_gone_is_told(obtain, hub):
    fails(obtain, entry_for(f"{REPOSITORY}@v9"), f"The Hub has {REPOSITORY}, but not its revision v9")


def test_a_repository_in_another_layout_is_told(obtain, entry, hub):
    del hub.files["Wan2.1_VAE.pth"]
    fails(obtain, entry, f"{REPOSITORY} has no Wan2.1_VAE.pth at revision main")
    assert hub.sent.total() == 0


def test_without_a_token_a_private_repository_asks_for_one(obtain, entry, hub):
    hub.token = "hf_RightRightRight"
    fails(obtain, entry, "set HF_TOKEN")
    assert len(hub.requests) <= 2


def test_a_wrong_token_is_told_and_shown_nowhere(obtain, entry, hub, environment, caplog):
    hub.token = "hf_RightRightRight"
    environment.setenv("HF_TOKEN", "hf_WrongWrongWrong")
    sentence = fails(obtain, entry, "does not accept the token in HF_TOKEN")
    assert "WrongWrong" not in sentence + caplog.text + obtain.messages


def test_an_account_without_access_is_told(obtain, entry, hub, environment):
    environment.setenv("HF_TOKEN", "hf_WrongWrongWrong")
    hub.faults.append(Fault("/api/models/", status=403, headers={"X-Error-Code": "GatedRepo"}))
    fails(obtain, entry, "may not read somebody/small-s2v: ask for access")


def test_with_the_right_token_a_private_repository_is_fetched_and_no_secret_is_told(
    obtain, entry, hub, environment, caplog, folder, files
):
    hub.token = "secret-of-another-shape"
    environment.setenv("HF_TOKEN", "secret-of-another-shape")
    hub.faults.append(Fault("/cdn/" + SHARDS[0], then="close", after=1000, times=2))  # the client logs the link
    obtain(entry)
    assert read_files(folder) == needed_files(files)
    assert "Error while downloading" in caplog.text
    everything = caplog.text + obtain.messages + "".join(path.read_text() for path in folder.glob(".*.json"))
    assert "secret" not in everything.replace("***", "")


def test_offline_is_told_and_a_model_that_is_there_is_used_all_the_same(obtain, entry, hub, environment):
    environment.setenv("HF_HUB_OFFLINE", "1")
    fails(obtain, entry, "HF_HUB_OFFLINE forbids")
    environment.delenv("HF_HUB_OFFLINE")
    folder = obtain(entry)
    environment.setenv("HF_HUB_OFFLINE", "1")
    assert obtain(entry) == folder


def test_a_file_of_the_wrong_length_is_never_used_but_fetched_again(obtain, entry, hub, files, folder):
    obtain(entry)
    (folder / T5).write_bytes(files[T5][:-1])
    (folder / "config.json").unlink()
    hub.sent.clear()
    obtain(entry)
    assert read_files(folder) == needed_files(files)
    assert set(hub.sent) == {T5, "config.json"}


def test_another_revision_fetches_only_what_differs_even_where_lengths_are_the_same(obtain, entry, hub, files, folder):
    obtain(entry)
    newer = files | {
        SHARDS[0]: model_files(seed=1)[SHARDS[0]],
        "config.json": files["config.json"].replace(b"S2V", b"s2v"),
    }
    newer.pop("google/umt5-xxl/spiece.model")
    assert len(newer[SHARDS[0]]) == len(files[SHARDS[0]])
    with Hub(REPOSITORY, newer, port=0) as second:
        second.commit = "f" * 40
        second.revisions = {"f" * 40}
        os.environ["HF_ENDPOINT"] = second.endpoint
        obtain(replace(entry, revision="f" * 40))
        assert read_files(folder) == needed_files(newer)
        assert set(second.sent) == {SHARDS[0], "config.json"}


def test_files_of_unknown_origin_are_hashed_and_the_good_ones_kept(obtain, entry, hub, files, folder):
    given = needed_files(files)
    del given[T5]
    given[SHARDS[1]] = bytes(len(files[SHARDS[1]]))
    write_files(folder, given)
    obtain(entry)
    assert read_files(folder) == needed_files(files)
    assert set(hub.sent) == {T5, SHARDS[1]}
    assert "checking a file that was there already" in obtain.messages


def test_leftovers_of_dead_downloads_are_swept_and_other_files_left_alone(obtain, entry, hub, folder):
    flight = folder / ".cache" / "huggingface" / "download"
    write_files(flight, {"x.aaaa.incomplete": b"1" * 1000, "google/y.bbbb.incomplete": b"2", "z.lock": b""})
    write_files(folder, {".manifest.json.12345678.tmp": b"{", "notes.txt": b"mine"})
    obtain(entry)
    assert hidden_files(folder) == [".manifest.json"]
    assert (folder / "notes.txt").read_bytes() == b"mine"


def test_a_hugging_face_cache_with_a_hole_is_not_copied_from(obtain, entry, hub, files, places, environment):
    cache = places.hub_caches[0]
    environment.setenv("HF_HUB_CACHE", str(cache))
    snapshot = Path(huggingface_hub.snapshot_download(REPOSITORY, cache_dir=cache, endpoint=hub.endpoint))
    (snapshot / SHARDS[0]).unlink()
    hub.sent.clear()
    obtain(entry)
    assert hub.sent == {path: len(content) for path, content in needed_files(files).items()}


def test_a_full_hugging_face_cache_is_used_without_a_request_for_the_14b_model_by_its_commit(
    obtain, entry, hub, files, places
):
    snapshot = places.hub_caches[0] / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / COMMIT
    write_files(snapshot, files)
    before = listing(places.hub_caches[0])
    assert obtain(replace(entry, revision=COMMIT)) == snapshot
    assert hub.requests == []
    assert listing(places.hub_caches[0]) == before


def test_closing_the_generator_stops_the_download_and_gives_the_lease_back(settings, places, entry, hub, folder):
    hub.bytes_per_s = 300_000
    with closing(obtain_model(entry, settings, places, PACE)) as states:
        assert any(state.bytes_done > 0 for state in states)
    sent = hub.sent.total()
    assert ".manifest.json" in hidden_files(folder)
    assert not [name for name in hidden_files(folder) if "incomplete" in name or "lease" in name]
    assert not hub.wait_until_sent(sent + 2_000_000, timeout_s=1)
