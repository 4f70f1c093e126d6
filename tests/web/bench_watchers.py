"""What those who watch a job cost the server: 200 that ask for its status and 10 that follow its events.

    python -m tests.web.bench_watchers [--pause 5] [--steps 40] [--readers 200] [--followers 10] [--pages 0]

The server is a process of its own whose model does nothing but wait a second for each step, so that its CPU time is
that of serving. A job is made with nobody watching, then the same again with all of them; the difference, over the
seconds of the second job, is what watching costs. All the while /healthz is asked and timed.
"""

import argparse
import asyncio
import json
import os
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client, handle_file

from ..awaiting import result_of
from ..forked import start_fork
from .program import free_port
from .scripted import write_portrait, write_voice

READERS, FOLLOWERS = 200, 10
STEP_S = 1.0


@dataclass(frozen=True)
class Watching:
    """What was measured."""

    job_s: float  # the job with watchers took
    alone_cpu_s: float  # of the server over the same job with nobody watching
    watched_cpu_s: float
    share_of_core: float  # for all watchers together, over the job
    answers: int  # that readers and pages got
    events: int  # that followers got
    health_p99_s: float


def serve(port: int, folder: Path) -> None:
    """The site with a model that takes STEP_S for a step, until the process is ended."""
    from pipeline.jobs.queue import JobQueue
    from pipeline.jobs.worker import Worker
    from pipeline.web.site import build_server, build_site
    from pipeline.web.studio import Studio

    from .scripted import ENTRY, PacedModel

    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")

    class Clock(PacedModel):
        def _wait(self) -> None:
            threading.Event().wait(STEP_S)

    queue = JobQueue(folder / "jobs", 20, 300, 7)
    site = build_site(Studio(queue, Worker(queue, Clock().prepare), ENTRY), None)
    build_server(site).run(sockets=[socket.create_server(("127.0.0.1", port), backlog=512)])


@contextmanager
def server(folder: Path) -> Any:
    """The server's address and process id."""
    port = free_port()
    process = start_fork(serve, port, folder)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.is_alive(), "the server ended"
            threading.Event().wait(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.join(30)


def cpu_s(pid: int) -> float:
    """Seconds that the process has worked, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def read(client: httpx.AsyncClient, job: str, pause_s: float, delay_s: float, done: asyncio.Event) -> int:
    """Ask for the status every `pause_s` until the job is done; gives how often."""
    count = 0
    await asyncio.sleep(delay_s)
    while not done.is_set():
        (await client.get(f"/jobs/{job}")).raise_for_status()
        count += 1
        await asyncio.sleep(pause_s)
    return count


async def follow(client: httpx.AsyncClient, job: str) -> int:
    """Read all events; gives how many there were."""
    async with client.stream("GET", f"/jobs/{job}/events", timeout=None) as answer:
        return len([line async for line in answer.aiter_lines() if line.startswith("data:")])


async def look(client: httpx.AsyncClient, job: str, done: asyncio.Event) -> int:
    """Ask what an open page asks, once a second, until the job is done; gives how often."""
    events = (await client.get("/config")).json()["dependencies"]
    tick = next(event["id"] for event in events if any(kind == "tick" for _, kind in event["targets"]))
    known, page, count = [{"job": job, "at": time.time()}], os.urandom(6).hex(), 0
    while not done.is_set():
        asked = {"data": [known, None, None], "fn_index": tick, "session_hash": page}
        (await client.post("/gradio_api/run/predict", json=asked)).raise_for_status()
        count += 1
        await asyncio.sleep(1)
    return count


async def ask_health(client: httpx.AsyncClient, done: asyncio.Event) -> list[float]:
    """The seconds that each answer took, ten a second."""
    took = []
    while not done.is_set():
        began = time.perf_counter()
        (await client.get("/healthz")).raise_for_status()
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.1)
    return took


async def watch(
    url: str, job: str, readers: int, followers: int, pages: int, pause_s: float
) -> tuple[int, int, list[float]]:
    """Watch the job to its end: answers, events, and how long /healthz took each time."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:
        done = asyncio.Event()
        health = asyncio.ensure_future(ask_health(client, done))
        delays = [pause_s * i / max(1, readers) for i in range(readers)]
        reading = [asyncio.ensure_future(read(client, job, pause_s, delay, done)) for delay in delays]
        reading += [asyncio.ensure_future(look(client, job, done)) for _ in range(pages)]
        events = await asyncio.gather(*(follow(client, job) for _ in range(max(1, followers))))
        done.set()
        return sum(await asyncio.gather(*reading)), sum(events), await health


def measure(readers: int, followers: int, pages: int, pause_s: float, steps: int) -> Watching:
    """Make a job alone and one with watchers, and compare."""
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, pid):
        inputs = [write_portrait(Path(name) / "face.png"), write_voice(Path(name) / "voice.wav", 1)]
        client, cpu, took, seen = Client(url, verbose=False), [], [], None
        list(client.submit(*map(handle_file, inputs), steps=1, api_name="/generate"))  # what is done only once
        for watching in (0, 1):
            job = client.predict(*map(handle_file, inputs), steps=steps, api_name="/submit")
            before, began = cpu_s(pid), time.monotonic()
            watched = watch(url, job, watching * readers, watching * followers, watching * pages, pause_s)
            seen = result_of(watched, limit_s=10 * STEP_S * steps)
            cpu.append(cpu_s(pid) - before)
            took.append(time.monotonic() - began)
        client.close()
    answers, events, health = seen
    p99 = sorted(health)[int(0.99 * len(health))]
    return Watching(took[1], cpu[0], cpu[1], (cpu[1] - cpu[0]) / took[1], answers, events, p99)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two questions of a reader")
    parser.add_argument("--readers", type=int, default=READERS)
    parser.add_argument("--followers", type=int, default=FOLLOWERS)
    parser.add_argument("--pages", type=int, default=0, help="open pages, which look once a second")
    parser.add_argument("--steps", type=int, default=40, help="of the job, a second each")
    options = parser.parse_args()
    measured = measure(options.readers, options.followers, options.pages, options.pause, options.steps)
    print(json.dumps(asdict(measured), indent=1))
