"""Try an image as its users do: python3 scripts/smoke_test.py IMAGE [--engine "podman ..."] [--run "--network host"]

As uid 1000 on a read-only root with two writable mounts (/data, /tmp) it has to answer in 10 s, ask for the password,
make a video with the sample model through the API, and end within 10 s of SIGTERM. Started again on the same volume,
without the Hub, it has to be ready with the model that lies there, and finish the job that was interrupted.

With --url a program that runs already is tried in its place, up to the video. Needs nothing but Python.
"""

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from uuid import uuid4

ASSETS = Path(__file__).parents[1] / "assets"
USER, PASSWORD = "studio", "smoke-test"
MODEL_ON_VOLUME = "example/talking-video"  # as OWNER/NAME below models/
HEALTH_SECONDS, STOP_SECONDS, VIDEO_SECONDS, READY_SECONDS = 10, 10, 600, 300
HARDENED = "--read-only --tmpfs /tmp:mode=1777 --user 1000:1000 --cap-drop ALL --security-opt no-new-privileges"


class Program:
    """A running program as its HTTP interface shows it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str, timeout_s: float = 60) -> bytes:
        with self._opener.open(self.url + path, timeout=timeout_s) as answer:
            return answer.read()

    def post(self, path: str, body: bytes, kind: str) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind})
        with self._opener.open(request, timeout=60) as answer:
            return answer.read()

    def status(self, path: str) -> int:
        """The HTTP status of `path`; 0 where nobody answers."""
        try:
            with self._opener.open(self.url + path, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def sign_in(self) -> None:
        form = urllib.parse.urlencode({"username": USER, "password": PASSWORD}).encode()
        self.post("/login", form, "application/x-www-form-urlencoded")

    def upload(self, file: Path) -> dict[str, object]:
        """Send `file`; gives what stands for it in a call."""
        mark = uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'
        body = head.encode() + file.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        answer = self.post("/gradio_api/upload", body, f"multipart/form-data; boundary={mark}")
        return {"path": json.loads(answer)[0], "meta": {"_type": "gradio.FileData"}}

    def call(self, name: str, *values: object) -> object:
        """The (first) result of the API's endpoint `name`."""
        body = json.dumps({"data": values}).encode()
        event = json.loads(self.post(f"/gradio_api/call/{name}", body, "application/json"))["event_id"]
        kind, data = self.get(f"/gradio_api/call/{name}/{event}", 120).decode().strip().split("\n")[-2:]
        require(kind == "event: complete", f"/{name} answered {kind!r}, {data!r}")
        return json.loads(data.removeprefix("data: "))[0]

    def wait_until_ready(self) -> None:
        wait_for(READY_SECONDS, "ready", lambda: self.status("/readyz") == 200)

    def wait_for_video(self, job: str) -> bytes:
        """The video of `job`, once it is finished."""

        def has_ended() -> bool:
            return self.call("status", job)["state"] in ("finished", "failed", "cancelled")

        wait_for(VIDEO_SECONDS, "the end of the job", has_ended)
        status = self.call("status", job)
        require(status["state"] == "finished", f"the job ended as {status}")
        return self.get(urllib.parse.urlsplit(self.call("result", job)["url"]).path)


def require(fact: bool, otherwise: str) -> None:
    if not fact:
        sys.exit(f"FAILED: {otherwise}")


def wait_for(seconds: float, what: str, has_come: object) -> float:
    """Ask until it has come; gives the seconds that took."""
    begun = time.monotonic()
    while not has_come():
        require(time.monotonic() - begun < seconds, f"{what} did not come within {seconds} s")
        time.sleep(0.2)  # another process is asked, which cannot be waited for
    return time.monotonic() - begun


def say(text: str) -> None:
    print(text, flush=True)


def make_video(program: Program) -> None:
    """One video from the bundled example, and that it is one."""
    begun = time.monotonic()
    video = program.wait_for_video(submit(program, seconds=2))
    require(video[4:8] == b"ftyp" and len(video) > 1000, f"what came is no MP4: {video[:40]!r}")
    say(f"a video of {len(video)} bytes in {time.monotonic() - begun:.1f} s")


def submit(program: Program, seconds: float | None = None) -> str:
    portrait = program.upload(next((ASSETS / "examples").glob("portrait-1.*")))
    voice = program.upload(next((ASSETS / "examples").glob("voice-1.*")))
    as_usual = [None] * 9  # from the prompt to the number of clips
    return program.call("submit", portrait, voice, *as_usual, 0, seconds, None, None)


class Container:
    """The image as a container with a volume, on a port of this machine."""

    def __init__(self, image: str, engine: str, options: str, volume: Path, patience: float) -> None:
        self.image, self.engine, self.options, self.volume = image, shlex.split(engine), shlex.split(options), volume
        self.health_s, self.stop_s = HEALTH_SECONDS * patience, STOP_SECONDS * patience
        self.name = f"smoke-{uuid4().hex[:8]}"

    def run(self, *arguments: str) -> str:
        told = subprocess.run([*self.engine, *arguments], capture_output=True, text=True)
        require(told.returncode == 0, f"{' '.join(arguments)}: {told.stderr}")
        return told.stdout.strip()

    @contextmanager
    def started(self, **variables: str) -> Iterator[Program]:
        """The program, from its start to its end by SIGTERM."""
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = str(door.getsockname()[1])
        own_network = "--network" not in self.options
        where = ["--publish", f"127.0.0.1:{port}:7860"] if own_network else ["--env", f"PORT={port}"]
        settings = {"APP_PASSWORD": PASSWORD} | variables
        environment = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
        begun = time.monotonic()
        self.run(
            *("run", "--detach", "--name", self.name, *shlex.split(HARDENED), "--volume", f"{self.volume}:/data"),
            *(*where, *environment, *self.options, self.image),
        )
        try:
            program = Program(f"http://127.0.0.1:{port}")
            wait_for(6 * self.health_s, "/healthz", lambda: program.status("/healthz") == 200)
            took = time.monotonic() - begun
            say(f"/healthz answers {took:.1f} s after the start")
            require(took < self.health_s, "that is too late")
            yield program
            self.end()
        except BaseException:
            say(subprocess.run([*self.engine, "logs", self.name], capture_output=True, text=True).stderr[-4000:])
            raise
        finally:
            subprocess.run([*self.engine, "rm", "--force", self.name], capture_output=True)

    def end(self) -> None:
        begun = time.monotonic()
        self.run("kill", "--signal", "TERM", self.name)
        status = self.run("wait", self.name)
        took = time.monotonic() - begun
        say(f"SIGTERM ends it in {took:.1f} s, status {status}")
        require(took < self.stop_s and status == "0", "it has to end sooner, with status 0")


def try_program(program: Program) -> None:
    require(program.status("/config") == 401, "somebody who has not signed in gets in")
    program.sign_in()
    require(b"<html" in program.get("/").lower(), "the page is none")
    program.wait_until_ready()
    make_video(program)


def fill(volume: Path) -> None:
    """Put the sample model where the program looks for models, readable for everybody."""
    source, model = ASSETS / "sample_model", volume / "models" / MODEL_ON_VOLUME
    for file in source.rglob("*"):
        if file.is_file() and "training" not in file.parts:
            copy = model / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())


def try_image(container: Container) -> None:
    with container.started(MODEL="sample") as program:
        try_program(program)
        interrupted = submit(program)
        wait_for(60, "the job's start", lambda: program.call("status", interrupted)["stage"] == "denoise")
    fill(container.volume)
    with container.started(MODEL=MODEL_ON_VOLUME, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9") as program:
        program.sign_in()
        say(f"ready {wait_for(READY_SECONDS, 'ready', lambda: program.status('/readyz') == 200):.1f} s later, offline")
        program.wait_for_video(interrupted)
        say("the interrupted job was finished")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?")
    parser.add_argument("--engine", default="docker", help="docker, or podman with its options")
    parser.add_argument("--run", default="", help="more options for the engine's run")
    parser.add_argument("--patience", type=float, default=1, help="times as long as usual, on a machine that is busy")
    parser.add_argument("--url", help="of a program that runs already")
    options = parser.parse_args()
    if options.url:
        return try_program(Program(options.url))
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "volume"
        volume.mkdir()
        volume.chmod(0o777)  # as network volumes are
        try_image(Container(options.image, options.engine, options.run, volume, options.patience))
    return say("all is well")


if __name__ == "__main__":
    os.umask(0o022)
    main()
