"""How much a request may send. Frameworks read all of it, into memory, before anybody is asked for a password."""

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_BYTES = 1_000_000  # prompts and settings, many times over; files go another way
TOO_LARGE = "This request is too large: it may have {} MB; files can be sent to /gradio_api/upload."


class LimitedBodies:
    """`app`, for requests of at most `limit` bytes; others get 413 and a sentence. Below `exempt` all come through."""

    def __init__(self, app: ASGIApp, limit: int = REQUEST_BYTES, exempt: tuple[str, ...] = ()) -> None:
        self.app = app
        self.limit = limit
        self.exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request once all of it is there, or refuse it."""
        if scope["type"] != "http" or any(f"{scope['path']}/".startswith(f"{path}/") for path in self.exempt):
            return await self.app(scope, receive, send)
        announced = Headers(scope=scope).get("content-length", "")
        is_large = announced.isdecimal() and int(announced) > self.limit
        body = None if is_large else await _whole_body(receive, self.limit)
        if body is None:
            return await PlainTextResponse(TOO_LARGE.format(self.limit // 1_000_000), 413)(scope, receive, send)
        messages = iter(body)

        async def receive_again() -> Message:
            return next(messages, None) or await receive()

        return await self.app(scope, receive_again, send)


async def _whole_body(receive: Receive, limit: int) -> list[Message] | None:
    """The messages of a body of at most `limit` bytes, None where it is longer."""
    messages, size = [], 0
    while not messages or messages[-1].get("more_body"):
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
        if size > limit:
            return None
    return messages
