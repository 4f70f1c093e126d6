"""Addresses from strangers: what gives a file, and every way to the inside, tried."""

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpcore
import pytest

from pipeline.errors import InvalidRequest
from pipeline.fetching import MOST_REDIRECTS, Address, PublicInternet, fetch, is_public

from .file_server import FileServer, Handler

LARGEST = 1000  # bytes
CONTENT = bytes(range(200))

# Ways to write this machine, or addresses that get there.
LOOPBACK = [
    *("127.0.0.1", "127.1.2.3", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
    *("0.0.0.0", "0", "localhost", "LOCALHOST", "localhost.", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "１２７.0.0.1", "127。0。0。1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"),
]
# Others that are not for everybody. Nothing is sent there, whatever may be listening.
INSIDE = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "0xa9fea9fe", "100.64.0.1"),
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "0.1.2.3", "[::127.0.0.1]", "[::ffff:10.0.0.1]", "[::ffff:0:127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a00:1::1]", "[2001:0:7f00:1::]"),
    *("[100::1]", "[2001:db8::1]", "[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fec0::1]", "[ff02::1]"),
]


def on_this_machine(address: Address) -> bool:
    return address.is_loopback


def everywhere(_: Address) -> bool:
    return True


def only(allowed: str) -> Any:
    return lambda address: str(address) == allowed


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Reachable by IPv4 and IPv6."""
    with FileServer.running("::") as server:
        server.gives("/file", CONTENT)
        yield server


def refusal(url: str, folder: Path, is_allowed: Any = is_public, longest_s: float = 5) -> str:
    """The sentence with which the address is refused, with nothing left behind."""
    with pytest.raises(InvalidRequest) as refused:
        fetch(url, folder / "file", "portrait", LARGEST, is_allowed, longest_s)
    assert list(folder.iterdir()) == []
    sentence = str(refused.value)
    assert sentence.startswith("portrait: ")
    assert sentence.endswith(".")
    return sentence


def test_a_file_is_fetched_whole(server: FileServer, tmp_path: Path) -> None:
    fetch(server.url("/file"), tmp_path / "file", "portrait", LARGEST, on_this_machine)

    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_redirects_are_followed(server: FileServer, tmp_path: Path) -> None:
    server.redirects("/b?x=1", "/file", 307)
    url = server.redirects("/a", server.url("/b?x=1", "[::1]"))

    fetch(url, tmp_path / "file", "portrait", LARGEST, on_this_machine)

    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_is_not_asked_however_it_is_written(server: FileServer, tmp_path: Path, host: str) -> None:
    sentence = refusal(server.url("/file", host), tmp_path)

    assert "not on the public internet" in sentence or "no address" in sentence
    assert server.asked == []


def test_those_ways_do_lead_here_where_they_are_allowed(server: FileServer, tmp_path: Path) -> None:
    reached = []
    for host in LOOPBACK:
        try:
            fetch(server.url("/file", host), tmp_path / "file", "portrait", LARGEST, everywhere)
            reached.append(host)
        except InvalidRequest:  # not a name for this resolver
            continue

    assert {"127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::1]", "[::ffff:7f00:1]"} <= set(reached)


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_that_are_not_for_everybody_are_not_asked(tmp_path: Path, host: str) -> None:
    assert "not on the public internet" in refusal(f"http://{host}/latest/meta-data/", tmp_path)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("target", ["http://127.0.0.2:{port}/file", "http://[::1]:{port}/file", "//127.0.0.2:{port}/x"])
def test_a_redirect_to_the_inside_is_not_followed(server: FileServer, tmp_path: Path, target: str) -> None:
    url = server.redirects("/out", target.format(port=server.port))

    assert "not on the public internet" in refusal(url, tmp_path, only("127.0.0.1"))
    assert server.asked == ["/out"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "data:,x"])
def test_a_redirect_to_another_scheme_is_not_followed(server: FileServer, tmp_path: Path, target: str) -> None:
    assert "http:// or https://" in refusal(server.redirects("/out", target), tmp_path, on_this_machine)


def test_redirects_end(server: FileServer, tmp_path: Path) -> None:
    assert "redirects more than" in refusal(server.redirects("/round", "/round"), tmp_path, on_this_machine)
    assert len(server.asked) == MOST_REDIRECTS + 1


def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is looked at, and something else a moment later."""
    resolve, answers = socket.getaddrinfo, iter(["127.0.0.1", "127.0.0.2"])

    def rebinding(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve(next(answers) if name == "rebinding.example" else host, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    fetch(server.url("/file", "rebinding.example"), tmp_path / "file", "portrait", LARGEST, only("127.0.0.1"))

    assert (tmp_path / "file").read_bytes() == CONTENT
    assert next(answers) == "127.0.0.2", "the name was resolved twice"


def test_a_name_with_one_address_inside_is_not_asked(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def two(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        return resolve("127.0.0.1", port, *more, **named) + resolve("127.0.0.2", port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", two)

    assert "not on the public internet" in refusal(server.url("/file", "two.example"), tmp_path, only("127.0.0.1"))
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "http:// or https://"),
        ("ftp://example.com/x", "http:// or https://"),
        ("unix:///var/run/docker.sock", "http:// or https://"),
        ("http+unix://%2Fvar%2Frun%2Fdocker.sock/x", "http:// or https://"),
        ("/etc/passwd", "http:// or https://"),
        ("http:///x", "http:// or https://"),
        ("http://", "http:// or https://"),
        ("http://me:secret@127.0.0.1/", "name or a password"),
        ("http://8.8.8.8@127.0.0.1/", "name or a password"),
        ("http://127.0.0.1:22/", "port 22"),
        ("http://127.0.0.1:25/", "port 25"),
        ("http://127.0.0.1:99999/", "port 99999"),
        ("http://127.0.0.1:x/", "no address of the web"),
        ("http://127.0.0.1\r\nHost: x/", "no address of the web"),
        ("http://[::1/", "no address of the web"),
        ("http://" + "a" * 9000, "no address of the web"),
        ("http://" + "a" * 300 + "/", "no address"),
        ("http://no-such-name.invalid/", "no address for the name"),
    ],
)
def test_what_is_no_address_of_a_file_is_refused(tmp_path: Path, url: str, said: str) -> None:
    assert said in refusal(url, tmp_path, everywhere)


def test_proxies_of_the_environment_are_not_used(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileServer.running() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        fetch(server.url("/file"), tmp_path / "file", "portrait", LARGEST, on_this_machine)

    assert proxy.asked == []


def test_a_file_as_large_as_allowed_is_fetched(server: FileServer, tmp_path: Path) -> None:
    fetch(server.gives("/full", bytes(LARGEST)), tmp_path / "file", "portrait", LARGEST, on_this_machine)

    assert (tmp_path / "file").stat().st_size == LARGEST


def test_a_file_that_announces_too_much_is_not_read(server: FileServer, tmp_path: Path) -> None:
    begun = time.monotonic()
    url = server.dribbles("/large", Content_Length=LARGEST + 1)

    assert "larger than the 0.001 MB" in refusal(url, tmp_path, on_this_machine, longest_s=60)
    assert time.monotonic() - begun < 10


def test_a_file_that_announces_nothing_is_counted(server: FileServer, tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        handler.head()
        for _ in range(1000):
            handler.wfile.write(bytes(100))

    assert "larger than" in refusal(server.does("/endless", answer), tmp_path, on_this_machine)


@pytest.mark.parametrize("headers", [{"Content_Length": 500}, {}], ids=["announced", "unannounced"])
def test_a_file_that_drips_ends_with_the_time(server: FileServer, tmp_path: Path, headers: dict) -> None:
    url = server.dribbles("/slow", **headers)

    assert "took too long" in refusal(url, tmp_path, on_this_machine, longest_s=0.5)


def test_an_answer_that_does_not_come_ends_with_the_time(server: FileServer, tmp_path: Path) -> None:
    url = server.keeps_silent("/silent")

    assert "took too long" in refusal(url, tmp_path, on_this_machine, longest_s=0.5)


def test_headers_that_drip_end_with_the_time(tmp_path: Path) -> None:
    """Each byte comes in time, all of them never do."""
    with FileServer.running() as server:
        server.RequestHandlerClass = DrippingHeaders

        assert "took too long" in refusal(server.url("/"), tmp_path, on_this_machine, longest_s=0.5)


class DrippingHeaders(Handler):
    def handle_one_request(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            while not self.server.closing.wait(0.05):
                self.wfile.write(b"H")


def test_once_the_time_is_up_no_further_address_is_tried(server: FileServer) -> None:
    internet = PublicInternet("portrait", lambda _: True)
    internet.is_late = True
    with pytest.raises(httpcore.ConnectError):
        internet.connect_tcp("127.0.0.1", server.server_port)


def test_a_file_that_breaks_off_is_refused(server: FileServer, tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        handler.head(Content_Length=100)
        handler.wfile.write(b"half")

    assert "connection" in refusal(server.does("/half", answer), tmp_path, on_this_machine)


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
def test_an_answer_without_a_file_is_refused(server: FileServer, tmp_path: Path, status: int) -> None:
    url = server.does("/none", lambda handler: handler.head(status))

    assert f"status {status}" in refusal(url, tmp_path, on_this_machine)


def test_nobody_who_listens_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]

    assert "connection" in refusal(f"http://127.0.0.1:{port}/", tmp_path, on_this_machine)
