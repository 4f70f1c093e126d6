"""Uploads that do not come to their end: one sentence where there is no room, and nothing half-written is left."""

import errno
import shutil
import time
from contextlib import suppress
from pathlib import Path

from gradio.routes import App
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD = "/gradio_api/upload"
NO_ROOM = "There is no room for this file: the disk for uploads is full. Tell whoever runs this program."
WANT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
ABANDONED_S = 600  # without a byte, after which an upload is not waited for any more


class RoomForUploads:
    """`app`, which writes uploads into `folder`, for those that fit there; others get 507 and the sentence."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self.app = app
        self.folder = folder
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one upload, or read it to its end and refuse it: who still sends would not hear the answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        announced = Headers(scope=scope).get("content-length", "")
        fits = not announced.isdigit() or int(announced) <= shutil.disk_usage(self.folder).free
        self._under_way += 1
        try:
            is_taken = fits and await self._taken(scope, receive, send)
        finally:
            self._under_way -= 1
            self._clear()
        if not is_taken:
            await _drop(receive)
            await PlainTextResponse(NO_ROOM, 507)(scope, receive, send)

    async def _taken(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the upload was answered; not where it found no room. Raises what else goes wrong, once answered."""
        held: list[Message] = []

        async def hold(message: Message) -> None:  # the answer to a failure, until its cause is known
            if held or message.get("status") == 500:
                held.append(message)
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold)
        except OSError as error:
            if error.errno in WANT_OF_SPACE:
                held.clear()
                return False
            raise
        finally:
            for message in held:
                await send(message)
        return True

    def _clear(self) -> None:
        """Remove what uploads have left that broke off, which Gradio forgets: what nobody writes to any more."""
        for file in self.folder.glob("tmp*"):
            with suppress(OSError):  # gone meanwhile
                if not self._under_way or time.time() - file.stat().st_mtime > ABANDONED_S:
                    file.unlink()


async def _drop(receive: Receive) -> None:
    message: Message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()


def upload_route(pages: App) -> Route:
    """The way for uploads to `pages`, which goes before their own."""
    return Route(UPLOAD, RoomForUploads(pages, Path(pages.uploaded_file_dir)), methods=["POST"])
