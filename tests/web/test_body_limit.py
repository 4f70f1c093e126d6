"""Requests that send more than they can have a use for, to the whole site."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from pipeline.web.assistants import MCP, MCP_BYTES
from pipeline.web.body_limit import REQUEST_BYTES, TOO_LARGE

from .conftest import Served

OWNER = ("studio", "correct horse")


def pieces(size: int) -> Iterator[bytes]:
    """A body of a length that is not announced."""
    for start in range(0, size, 100_000):
        yield b" " * min(100_000, size - start)


@pytest.mark.parametrize(
    "path", ["/gradio_api/queue/join", "/gradio_api/call/submit", "/login", "/healthz", "/nowhere"]
)
def test_a_large_request_is_refused_before_anybody_is_asked_for_a_password(
    path: str, serve: Callable[..., Served]
) -> None:
    url = serve(credentials=OWNER).url + path
    for body in (b" " * (REQUEST_BYTES + 1), pieces(REQUEST_BYTES + 1)):
        answer = httpx.post(url, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.text) == (413, TOO_LARGE.format(1))
    fits = httpx.post(url, content=pieces(REQUEST_BYTES), headers={"Content-Type": "application/json"})
    assert fits.status_code in (400, 401, 404, 405, 422)


def test_what_assistants_send_may_hold_files(serve: Callable[..., Served]) -> None:
    served = serve()
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    taken, refused = (
        httpx.post(f"{served.url}{MCP}/", content=pieces(size), headers=accept, timeout=30)
        for size in (2 * REQUEST_BYTES, MCP_BYTES + 1)
    )
    assert taken.status_code == 400  # for what is in it
    assert (refused.status_code, refused.text) == (413, TOO_LARGE.format(64))


def test_a_body_that_breaks_off_ends_the_request(served: Served) -> None:
    def broken() -> Iterator[bytes]:
        yield b'{"data": '
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        httpx.post(f"{served.url}/gradio_api/call/plan", content=broken())
    assert httpx.get(f"{served.url}/healthz").status_code == 200
