"""The sign-in for all that is not Gradio's page: a page's cookie, or the name and the password (HTTP Basic).

A password is looked at slowly each time and never remembered as right: that would tell it from wrong ones at once.
"""

import base64
from collections.abc import Awaitable, Callable

from gradio.routes import App
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.web.signin import Doorkeeper

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
    except ValueError:  # not base64, or not UTF-8 in it
        return None
    return (name, password) if colon else None
