"""Two plain addresses for programs that watch a job, each at next to no cost, however many there are.

    GET /jobs/ID          its status, as /status gives it
    GET /jobs/ID/events   every status from now to the end, as server-sent events

A status is put into JSON once, not once for each who asks.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, request_response

from pipeline.errors import UnknownJob
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.status import Status
from pipeline.web.guard import Admits, Guarded

REMEMBERED_TEXTS = 256
SILENCE_S = 15  # between two signs of life; RunPod's proxy cuts a line off after 100
FRESH = {"Cache-Control": "no-store"}


@lru_cache(REMEMBERED_TEXTS)
def _text_of(status: Status) -> bytes:
    return json.dumps(asdict(status)).encode()


def job_routes(queue: JobQueue, admits: Admits) -> list[Route]:
    """The routes, for those alone whom `admits` knows."""

    async def status(request: Request) -> Response:
        try:
            return _answer(200, _text_of(queue.status(request.path_params["job"])))
        except UnknownJob as error:
            return _answer(404, json.dumps({"detail": str(error)}).encode())

    async def events(request: Request) -> Response:
        try:
            statuses = queue.follow(request.path_params["job"])
        except UnknownJob as error:
            return _answer(404, json.dumps({"detail": str(error)}).encode())
        return StreamingResponse(_told(statuses), media_type="text/event-stream", headers=FRESH)

    return [
        Route("/jobs/{job}", Guarded(request_response(status), admits), methods=["GET"]),
        Route("/jobs/{job}/events", Guarded(request_response(events), admits), methods=["GET"]),
    ]


async def _told(statuses: AsyncIterator[Status]) -> AsyncIterator[bytes]:
    """The events, and a comment where there has been none for a while, so that no proxy takes the line for dead."""
    coming = asyncio.ensure_future(anext(statuses, None))
    try:
        while True:
            await asyncio.wait([coming], timeout=SILENCE_S)
            if not coming.done():
                yield b": nothing new\n\n"
            elif (status := coming.result()) is None:
                return
            else:
                yield b"data: " + _text_of(status) + b"\n\n"
                coming = asyncio.ensure_future(anext(statuses, None))
    finally:
        coming.cancel()


def _answer(code: int, text: bytes) -> Response:
    return Response(text, code, FRESH, "application/json")
