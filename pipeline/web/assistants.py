"""The program for assistants: the MCP server that Gradio brings, behind the same sign-in as all else.

Gradio leaves its MCP server open where the page asks who comes, and calls the program by the address that a request
names. Here it lets in those who send a page's cookie or the name and the password (HTTP Basic), and calls the program
by the address at which the request came in. A password is looked at slowly each time and never remembered as right:
that would tell it from wrong ones at once.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from gradio.mcp import GradioMCPServer
from gradio.routes import App
from gradio_client import Client
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.web.signin import Doorkeeper

MCP = "/gradio_api/mcp"
Admits = Callable[[Request], Awaitable[bool]]


class Guarded:
    """`app`, for those alone whom `admits` knows."""

    def __init__(self, app: ASGIApp, admits: Admits) -> None:
        self.app = app
        self.admits = admits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or answer 401."""
        if await self.admits(Request(scope)):
            await self.app(scope, receive, send)
        else:
            wanted = {"WWW-Authenticate": 'Basic realm="sign-in"'}
            await JSONResponse({"detail": "Not authenticated"}, 401, wanted)(scope, receive, send)


def admitting(pages: App, doorkeeper: Doorkeeper | None) -> Admits:
    """Tells who may come in besides by the page itself: who has signed in there, or sends name and password."""

    async def admits(request: Request) -> bool:
        if doorkeeper is None:
            return True
        names = (f"access-token-{pages.cookie_id}", f"access-token-unsecure-{pages.cookie_id}")
        if any(request.cookies.get(name) in pages.tokens for name in names):
            return True
        given = _name_and_password(request.headers.get("authorization", ""))
        return given is not None and await doorkeeper.admits(*given)

    return admits


def _name_and_password(header: str) -> tuple[str, str] | None:
    kind, _, coded = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(coded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None


def guard_assistants(pages: App, server: GradioMCPServer, admits: Admits, credentials: tuple[str, str] | None) -> None:
    """Let `server`, a part of `pages`, serve those alone whom `admits` knows; itself it signs in with `credentials`."""
    place = next(route for route in pages.routes if isinstance(route, Mount) and route.path == MCP)
    place.app = Guarded(place.app, admits)

    def client() -> Client:
        if server._client_instance is None:
            address = own_address(server.mcp_server.request_context.request.scope)
            options = {"download_files": False, "verbose": False, "analytics_enabled": False}
            server._client_instance = Client(address, auth=credentials, headers={"x-gradio-user": "mcp"}, **options)
        return server._client_instance

    server._get_or_create_client = client


def own_address(scope: Scope) -> str:
    """Where the program was reached by the request `scope`, whatever host the request names."""
    host, port = scope["server"]
    return f"http://[{host}]:{port}" if ip_address(host).version == 6 else f"http://{host}:{port}"
