"""The named endpoints, called as programs call them: by gradio_client and by plain HTTP over loopback."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pipeline.errors import DiskFull, UserError
from pipeline.media.planning import plan_request
from pipeline.request import GenerationRequest
from pipeline.web.studio import INTERNAL_ERROR

from .conftest import Served
from .scripted import ENTRY, SEED, STEPS, write_portrait, write_voice

ENDPOINTS = {"/generate", "/submit", "/status", "/result", "/cancel", "/history", "/plan", "/model", "/stay"}
ENDPOINTS |= {"/extend", "/delete"}
DEFAULTS = {
    "portrait": None,
    "audio": None,
    "prompt": "a person is talking",
    "negative_prompt": "",
    "size": ENTRY.defaults["max_area"],
    "steps": STEPS,
    "guidance": 1.0,
    "shift": 3.0,
    "solver": "unipc",
    "seed": -1,
    "max_clips": None,
    "audio_start": 0.0,
    "audio_duration": None,
    "pose_video": None,
    "first_frame": False,
}  # of the arguments, in their order


def files(portrait: Path, voice: Path) -> dict[str, Any]:
    return {"portrait": handle_file(portrait), "audio": handle_file(voice)}


def frames_of(video: str) -> int:
    return imageio_ffmpeg.count_frames_and_secs(video)[0]


def test_generate_streams_a_status_for_every_step_and_ends_with_the_video(
    served: Served, client: Client, portrait: Path, voice: Path
) -> None:
    served.model.let_all()

    answers = list(client.submit(**files(portrait, voice), api_name="/generate"))

    statuses = [status for _, status in answers]
    steps = [status["step"] for status in statuses if status["stage"] == "denoise"]
    assert [step for step in steps if step] == list(range(1, STEPS + 1))
    video, last = answers[-1]
    assert (last["state"], last["seed"], last["clips"]) == ("finished", SEED, 1)
    assert frames_of(video) == 16
    assert sorted({status["state"] for status in statuses} - {"queued"}) == ["finished", "running"]


def test_generate_gives_the_video_so_far_after_each_clip_and_the_whole_at_the_end(
    served: Served, client: Client, portrait: Path, long_voice: Path
) -> None:
    served.model.let(STEPS)

    answers = []
    for answer in client.submit(**files(portrait, long_voice), api_name="/generate"):
        answers.append(answer)
        if answer[0]:
            served.model.let_all()

    videos = [frames_of(video) for video, _ in answers if video]
    assert videos[0] == 77
    assert videos[-1] == 96
    assert answers[0][0] is None
    assert answers[-1][0] is not None


def test_a_client_that_goes_away_does_not_cancel_its_job(
    served: Served, portrait: Path, voice: Path, long_voice: Path
) -> None:
    leaving = served.client()
    stream = leaving.submit(**files(portrait, voice), api_name="/generate")
    job = next(status["job"] for _, status in stream if status["state"] == "running")
    stream.cancel()
    leaving.close()

    served.model.let_all()

    other = served.client()
    served.wait_for_end(job)
    assert other.predict(job, api_name="/status")["state"] == "finished"


def test_a_cancelled_job_ends_generate_with_its_clips_as_a_video(
    served: Served, client: Client, portrait: Path, long_voice: Path
) -> None:
    stream = client.submit(**files(portrait, long_voice), api_name="/generate")
    served.model.let(STEPS)
    job = next(status["job"] for video, status in stream if video)

    assert served.client().predict(job, api_name="/cancel")["message"].startswith("Stopping")
    served.model.let_all()

    video, last = list(stream)[-1]
    assert last["state"] == "cancelled"
    assert frames_of(video) == 77


def test_a_failed_job_ends_generate_with_its_sentence(
    served: Served, client: Client, portrait: Path, voice: Path
) -> None:
    served.model.error = DiskFull("The disk that holds the videos is full: free some space and try again.")
    served.model.let_all()

    with pytest.raises(AppError, match=r"^The disk that holds the videos is full"):
        client.submit(**files(portrait, voice), api_name="/generate").result()


def test_a_submitted_job_is_found_by_its_id_alone(served: Served, client: Client, portrait: Path, voice: Path) -> None:
    job = client.predict(**files(portrait, voice), seed=5, api_name="/submit")

    assert re.fullmatch(r"[0-9a-f]{32}", job)
    other = served.client()
    assert other.predict(job, api_name="/status")["seed"] == 5
    with pytest.raises(AppError, match="There is no video yet, the job is"):
        other.predict(job, api_name="/result")

    served.model.let_all()
    served.wait_for_end(job)
    assert frames_of(other.predict(job, api_name="/result")) == 16


def test_history_tells_of_the_jobs_that_exist_newest_first(client: Client, portrait: Path, voice: Path) -> None:
    first, second = (client.predict(**files(portrait, voice), api_name="/submit") for _ in range(2))

    history = client.predict([first, "0" * 32, second], api_name="/history")

    assert [status["job"] for status in history] == [second, first]


def test_two_clients_each_get_their_own_video_and_the_second_sees_its_place(
    served: Served, portrait: Path, voice: Path, long_voice: Path
) -> None:
    one, two = served.client(), served.client()
    first = one.submit(**files(portrait, long_voice), api_name="/generate")
    assert next(status for _, status in first if status["state"] == "running")
    second = two.submit(**files(portrait, voice), api_name="/generate")
    assert next(status["position"] for _, status in second) == 1

    served.model.let_all()

    assert frames_of(list(first)[-1][0]) == 96
    assert frames_of(list(second)[-1][0]) == 16


def test_a_finished_video_is_extended_and_an_unwanted_one_is_deleted(
    served: Served, client: Client, portrait: Path, voice: Path, long_voice: Path
) -> None:
    served.model.let_all()
    first = client.predict(**files(portrait, voice), api_name="/submit")
    served.wait_for_end(first)

    longer = client.predict(first, handle_file(long_voice), api_name="/extend")
    shown = served.studio.video(served.studio.queue.status(first))
    assert shown.is_file()
    client.predict(first, api_name="/delete")
    assert not shown.exists()

    served.wait_for_end(longer)
    assert frames_of(client.predict(longer, api_name="/result")) == 16 + 96
    assert [status["job"] for status in client.predict([first, longer], api_name="/history")] == [longer]
    with pytest.raises(AppError, match="There is no such job here"):
        client.predict(first, handle_file(voice), api_name="/extend")


def test_plan_says_what_a_request_comes_to(client: Client, portrait: Path, long_voice: Path) -> None:
    plan = client.predict(**files(portrait, long_voice), size="480p", audio_duration=5.5, api_name="/plan")

    hints = plan.pop("hints")
    assert plan == {"clips": 2, "frames": 88, "width": 128, "height": 128, "seconds": 5.5, "work_seconds": None}
    assert any("small" in hint for hint in hints)


def test_plan_judges_the_work_by_the_jobs_that_were_done(
    served: Served, client: Client, portrait: Path, voice: Path
) -> None:
    served.model.let(1)
    job = client.predict(**files(portrait, voice), api_name="/submit")
    assert client.predict(**files(portrait, voice), api_name="/plan")["work_seconds"] is None
    served.model.let_all()
    served.wait_for_end(job)

    once, often = (client.predict(**files(portrait, voice), steps=n, api_name="/plan") for n in (STEPS, 200))

    assert 0 < once["work_seconds"] < often["work_seconds"]


def test_model_tells_its_state(served: Served, client: Client, portrait: Path, voice: Path) -> None:
    served.model.let_all()
    served.wait_for_end(client.predict(**files(portrait, voice), api_name="/submit"))

    state = client.predict(api_name="/model")

    assert (state["state"], state["model"]) == ("ready", "script")


WRONG_NUMBERS = {
    "steps": 0,
    "guidance": -1,
    "seed": "abc",
    "size": "481p",
    "shift": 0,
    "solver": "euler",
    "max_clips": 0,
    "audio_start": -1,
    "audio_duration": 0.05,
    "first_frame": "perhaps",
    "prompt": "x" * 4001,
}


def test_wrong_values_give_the_sentence_that_names_them(client: Client, portrait: Path, voice: Path) -> None:
    for endpoint, (name, value) in product(("/generate", "/submit", "/plan"), WRONG_NUMBERS.items()):
        with pytest.raises(AppError) as caught:
            client.submit(**files(portrait, voice), **{name: value}, api_name=endpoint).result()
        assert caught.value.message == sentence_for(portrait, voice, **{name: value}), endpoint


def sentence_for(portrait: Path, audio: Path, **values: Any) -> str:
    """What the request itself says of these values, as the command line does."""
    fields = {"max_area" if name == "size" else name: value for name, value in values.items()}
    with pytest.raises(UserError) as caught:
        plan_request(GenerationRequest.parse({"portrait": portrait, "audio": audio, **fields}), 20)
    return str(caught.value)


def test_wrong_files_give_one_sentence_and_leave_nothing(
    served: Served, client: Client, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is no sound")
    empty = tmp_path / "empty.wav"
    empty.touch()
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(portrait.read_bytes()[:300])
    wrong = [
        (portrait, text),
        (portrait, empty),
        (portrait, write_voice(tmp_path / "short.wav", 0.05)),
        (portrait, write_voice(tmp_path / "long.wav", 21)),
        (write_portrait(tmp_path / "tiny.png", 1, 1), voice),
        (truncated, voice),
        (voice, voice),
    ]
    for picture, sound in wrong:
        with pytest.raises(AppError) as caught:
            client.predict(**files(picture, sound), api_name="/submit")
        message = caught.value.message
        assert "\n" not in message
        assert "Traceback" not in message
        assert message != INTERNAL_ERROR, (picture, sound)
    assert list(served.studio.queue.folder.iterdir()) == []


def test_a_full_queue_refuses_with_a_sentence(serve: Callable[..., Served], portrait: Path, voice: Path) -> None:
    client = serve(max_queue=1).client()
    stream = client.submit(**files(portrait, voice), api_name="/generate")
    assert next(status for _, status in stream if status["state"] == "running")
    client.predict(**files(portrait, voice), api_name="/submit")

    with pytest.raises(AppError, match=r"queue|wait"):
        client.predict(**files(portrait, voice), api_name="/submit")


def test_what_nobody_expected_is_told_without_its_traceback(
    served: Served, client: Client, portrait: Path, voice: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(served.studio.queue.folder)

    with pytest.raises(AppError) as caught:
        client.predict(**files(portrait, voice), api_name="/submit")

    assert caught.value.message == INTERNAL_ERROR
    assert "FileNotFoundError" in caplog.text


def test_an_id_that_is_no_job_gives_a_sentence(client: Client) -> None:
    ids = ("0" * 32, "../../etc", 5, None, {"path": "/etc/passwd"})
    for endpoint, job in product(("/status", "/result", "/cancel", "/delete"), ids):
        with pytest.raises(AppError) as caught:
            client.predict(job, api_name=endpoint)
        assert "job" in caught.value.message.lower(), (endpoint, job)
        assert caught.value.message != INTERNAL_ERROR, (endpoint, job)


def call(url: str, endpoint: str, data: list[Any]) -> str:
    """What the endpoint's stream says, by plain HTTP."""
    event = httpx.post(f"{url}/gradio_api/call/{endpoint}", json={"data": data}).json()["event_id"]
    return httpx.get(f"{url}/gradio_api/call/{endpoint}/{event}", timeout=30).text


def test_files_of_the_server_are_no_inputs(served: Served, client: Client, portrait: Path, voice: Path) -> None:
    marked = {"meta": {"_type": "gradio.FileData"}}
    rest = [parameter["parameter_default"] for parameter in parameters_of(served, "/plan")[2:]]
    for named in (str(portrait), {"path": str(portrait)}, {"path": str(portrait)} | marked, "/etc/passwd", 7, [], True):
        answer = call(served.url, "plan", [named, named, *rest])
        assert answer.startswith("event: error"), named
        assert "upload" in answer, named
    assert not list((served.studio.queue.folder.parents[1] / "uploads").rglob("my face*"))


def parameters_of(served: Served, endpoint: str) -> list[dict[str, Any]]:
    return httpx.get(f"{served.url}/gradio_api/info").json()["named_endpoints"][endpoint]["parameters"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/portrait.png", "https://example.com/portrait.png"])
def test_addresses_are_no_inputs_and_nothing_is_fetched(
    address: str, served: Served, client: Client, voice: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody_asks:
        nobody_asks.settimeout(0)
        url = address.format(port=nobody_asks.getsockname()[1])
        portrait = {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}}
        for name in ("/submit", "/generate", "/plan"):
            with pytest.raises(AppError, match="An address is no file here"):
                client.predict(portrait=portrait, audio=handle_file(voice), api_name=name)
        with pytest.raises(BlockingIOError):
            nobody_asks.accept()


def test_files_of_jobs_are_not_served_by_their_path(
    served: Served, client: Client, portrait: Path, voice: Path
) -> None:
    served.model.let_all()
    job = client.predict(**files(portrait, voice), api_name="/submit")
    served.wait_for_end(job)
    folder = served.studio.queue.folder / job
    (served.studio.queue.folder.parent / "password").write_text("secret")
    for file in [*folder.iterdir(), folder.parent.parent / "password", Path("/etc/hostname"), Path("app.py").resolve()]:
        for route in (f"/gradio_api/file={file}", f"/gradio_api/file/{file}", f"/file={file}"):
            assert httpx.get(served.url + route).status_code in (403, 404), route


def test_the_api_is_what_was_promised(served: Served) -> None:
    info = httpx.get(f"{served.url}/gradio_api/info").json()["named_endpoints"]

    assert set(info) == ENDPOINTS
    names = [parameter["parameter_name"] for parameter in info["/generate"]["parameters"]]
    assert names == list(DEFAULTS)
    assert names == [parameter["parameter_name"] for parameter in info["/submit"]["parameters"]]
    assert set(names) == {parameter["parameter_name"] for parameter in info["/plan"]["parameters"]}
    for parameter in info["/generate"]["parameters"]:
        name = parameter["parameter_name"]
        assert parameter["parameter_has_default"] == (name not in ("portrait", "audio")), name
        assert parameter["python_type"]["description"], name
    defaults = {p["parameter_name"]: p["parameter_default"] for p in info["/generate"]["parameters"]}
    assert defaults == DEFAULTS
    assert "portrait=handle_file('portrait.png')" in info["/generate"]["code_snippets"]["python"]
    types = {p["parameter_name"]: p["python_type"]["type"] for p in info["/generate"]["parameters"]}
    assert (types["portrait"], types["steps"], types["first_frame"]) == ("filepath", "int", "bool")
    assert types["solver"] == "Literal['unipc', 'dpm++']"


def test_a_result_is_h264_and_aac_with_its_settings_and_no_file_names(
    served: Served, client: Client, portrait: Path, voice: Path
) -> None:
    served.model.let_all()
    video, _ = list(client.submit(**files(portrait, voice), prompt="she sings", api_name="/generate"))[-1]

    told = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", video], capture_output=True, text=True).stderr

    assert re.search(r"Video: h264.*yuv420p.* 16 fps", told)
    assert "Audio: aac" in told
    assert "she sings" in told
    assert "my face" not in told


def test_plain_http_gives_json_that_any_program_can_read(served: Served) -> None:
    kind, data = call(served.url, "model", []).strip().splitlines()[-2:]

    assert kind == "event: complete"
    assert json.loads(data.removeprefix("data: "))[0]["model"] in ("", "script")


@pytest.mark.parametrize(
    ("endpoint", "body", "status", "said"),
    [
        ("submit", {"portrait": {"path": "x"}}, 422, "audio"),
        ("submit", {}, 422, "portrait"),
        ("plan", {"stepps": 3}, 422, "stepps"),
        ("nothing", {}, 404, "no such endpoint"),
    ],
)
def test_a_call_by_names_that_are_wrong_is_told_so(
    endpoint: str, body: dict[str, Any], status: int, said: str, served: Served
) -> None:
    answer = httpx.post(f"{served.url}/gradio_api/call/v2/{endpoint}", json=body)

    assert answer.status_code == status
    assert said in answer.json()["detail"]
