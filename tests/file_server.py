"""A web server on this machine that gives files, redirects, and behaves badly where a test wants that."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with what its server knows for the path."""

    server: "FileServer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append(self.path)
        self.server.answers[self.path](self)

    def head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class FileServer(ThreadingHTTPServer):
    """Listens on a free port of `address`; `asked` are the paths that somebody got through to."""

    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1") -> None:
        if ":" in address:
            self.address_family = socket.AF_INET6
        super().__init__((address, 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()  # what waits for ever waits for this

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # IPv4, too
        super().server_bind()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def gives(self, path: str, content: bytes) -> str:
        """Serve `content`; gives its address."""

        def answer(handler: Handler) -> None:
            handler.head(Content_Length=len(content))
            handler.wfile.write(content)

        return self.does(path, answer)

    def redirects(self, path: str, target: str, status: int = 302) -> str:
        return self.does(path, lambda handler: handler.head(status, Location=target, Content_Length=0))

    def does(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.url(path)

    def keeps_silent(self, path: str) -> str:
        """Announce a file and never send it."""

        def answer(handler: Handler) -> None:
            handler.head(Content_Length=100)
            self.closing.wait()

        return self.does(path, answer)

    def dribbles(self, path: str, **headers: object) -> str:
        """Send a byte now and then, for ever."""

        def answer(handler: Handler) -> None:
            handler.head(**headers)
            with suppress(OSError):
                while not self.closing.wait(0.05):
                    handler.wfile.write(b".")

        return self.does(path, answer)

    @classmethod
    @contextmanager
    def running(cls, address: str = "127.0.0.1") -> Iterator[Self]:
        """A server for as long as the context lasts."""
        with cls(address) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield server
            finally:
                server.closing.set()
                server.shutdown()
                thread.join()
