"""The program as an assistant uses it, by MCP."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from pipeline.web.assistants import own_address

from ..awaiting import result_of
from .conftest import Served
from .test_api import ENDPOINTS

OWNER = ("studio", "correct horse")
BASIC = {"Authorization": f"Basic {base64.b64encode(':'.join(OWNER).encode()).decode()}"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def ask(url: str, talk: Callable[[ClientSession], Any], headers: dict[str, str] | None = None) -> Any:
    """What comes of talking to the server."""

    async def session() -> Any:
        async with (
            streamablehttp_client(f"{url}/gradio_api/mcp/", headers=headers) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await talk(session)

    return result_of(session(), limit_s=120)


def data_url(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


async def make_video(session: ClientSession, portrait: Path, voice: Path) -> str:
    """What the assistant is told in the end."""
    inputs = {"portrait": data_url(portrait, "image/png"), "audio": data_url(voice, "audio/wav"), "seed": 5}
    result = await session.call_tool("generate", inputs)
    assert not result.isError, result.content
    return "".join(content.text for content in result.content)


def address_in(told: str) -> str:
    return re.search(r"http://[^'\" ]+\.mp4", told)[0]


def test_its_tools_are_the_endpoints(served: Served) -> None:
    tools = ask(served.url, lambda session: session.list_tools()).tools

    assert {f"/{tool.name}" for tool in tools} == ENDPOINTS
    generate = next(tool for tool in tools if tool.name == "generate")
    assert "Submit a job and follow it" in generate.description
    assert {"portrait", "audio", "prompt", "steps"} <= set(generate.inputSchema["properties"])


def test_an_assistant_makes_a_video(served: Served, portrait: Path, voice: Path) -> None:
    served.model.let_all()

    told = ask(served.url, lambda session: make_video(session, portrait, voice))

    assert "'seed': 5" in told
    assert "'state': 'finished'" in told
    print(told)
    assert httpx.get(address_in(told)).content[4:8] == b"ftyp"


def test_a_wrong_call_is_told_in_the_sentence_that_everybody_gets(served: Served) -> None:
    result = ask(served.url, lambda session: session.call_tool("status", {"job": "0" * 32}))

    assert result.isError
    assert "There is no such job here" in result.content[0].text


def test_strangers_are_not_let_in_and_the_password_opens(
    serve: Callable[..., Served], portrait: Path, voice: Path
) -> None:
    served = serve(credentials=OWNER)
    wrong = {"Authorization": f"Basic {base64.b64encode(b'studio:battery').decode()}"}
    garbage = {"Authorization": "Basic !"}
    accept = {"Accept": "application/json, text/event-stream"}
    for path in ("", "/", "/schema", "/sse", "/messages/?session_id=0", "/http"):
        for headers in ({}, wrong, garbage, {"Authorization": "Basic é".encode()}):
            for method in ("GET", "POST"):
                url = f"{served.url}/gradio_api/mcp{path}"
                answer = httpx.request(method, url, json=HELLO, headers=accept | headers, follow_redirects=True)
                assert answer.status_code == 401, (method, path, headers)

    served.model.let_all()
    told = ask(served.url, lambda session: make_video(session, portrait, voice), BASIC)
    assert "'state': 'finished'" in told
    assert httpx.get(address_in(told)).status_code == 401
    assert httpx.get(address_in(told), headers=BASIC).status_code == 401


def test_the_cookie_of_a_sign_in_opens_as_well(serve: Callable[..., Served], portrait: Path, voice: Path) -> None:
    served = serve(credentials=OWNER)
    served.model.let_all()
    signed_in = httpx.post(f"{served.url}/login", data=dict(zip(("username", "password"), OWNER, strict=True)))
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in signed_in.cookies.items())}

    told = ask(served.url, lambda session: make_video(session, portrait, voice), cookie)

    assert "'state': 'finished'" in told
    assert httpx.get(address_in(told), headers=cookie).status_code == 200


def test_the_program_calls_itself_and_nobody_whom_a_request_names() -> None:
    headers = [(b"host", b"evil.example")]
    assert own_address({"server": ("127.0.0.1", 80), "headers": headers}) == "http://127.0.0.1:80"
    assert own_address({"server": ("::1", 80), "headers": headers}) == "http://[::1]:80"
