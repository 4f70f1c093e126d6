"""What a browser fetches before it shows anything: compressed, and the hundred scripts and styles of Gradio once only.

Gradio reads and compresses each of them anew for every visitor, and the page itself, 300 kB, not at all: a visit cost
the server 0.65 s of a core, and with this 0.37. How long they may be kept browsers had to guess.
"""

import gzip
import re
from functools import lru_cache, partial
from pathlib import Path

import brotli
from gradio.routes import BUILD_PATH_LIB, App
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

NAME = re.compile(r"[\w.-]+\.(js|css)", re.ASCII)
TYPES = {".js": "text/javascript", ".css": "text/css"}
ENCODERS = {"br": partial(brotli.compress, quality=5, mode=brotli.MODE_TEXT), "gzip": partial(gzip.compress, mtime=0)}
REMEMBERED = 2048  # more than there are in both encodings, which take 10 MB
KEPT = {
    "Cache-Control": "public, max-age=31536000, immutable",  # there is a hash of the content in every name
    "Vary": "Accept-Encoding",
    "Access-Control-Allow-Origin": "*",  # for pages elsewhere that show this one; what is here is in Gradio's package
}


def frontend_routes(pages: App) -> list[Route]:
    """The routes, in front of those of `pages`."""
    page = GZipMiddleware(pages, compresslevel=5)
    return [Route("/", page, methods=["GET", "HEAD"]), Route("/assets/{name}", KeptAssets(pages))]


class KeptAssets:
    """Gradio's scripts and styles as browsers ask for them; all else is left to `app`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = _answer(scope["path_params"]["name"], scope["method"], Headers(scope=scope)) or self.app
        await answer(scope, receive, send)


def _answer(name: str, method: str, headers: Headers) -> Response | None:
    """The file `name`, compressed in a way that is accepted; None where that is not what was asked for."""
    accepted = headers.get("accept-encoding", "")
    encoding = next((encoding for encoding in ENCODERS if encoding in accepted), None)
    if method != "GET" or not encoding or "range" in headers or not NAME.fullmatch(name):
        return None
    file = Path(BUILD_PATH_LIB, name)
    if not file.is_file():
        return None
    return Response(_encoded(file, encoding), 200, KEPT | {"Content-Encoding": encoding}, TYPES[file.suffix])


@lru_cache(REMEMBERED)
def _encoded(file: Path, encoding: str) -> bytes:
    return ENCODERS[encoding](file.read_bytes())
