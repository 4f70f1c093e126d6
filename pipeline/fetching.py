"""A file from an address that a stranger has given: from the public internet alone, within a size and a time.

Whoever may name an address could make this machine ask its own network for them. So every connection goes through
PublicInternet, which resolves a name once, looks at what came out, and connects to just that: notations of numbers,
names that point inwards, names that change their mind and redirects all end there.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpcore
import httpx

from pipeline.errors import InvalidRequest
from pipeline.media.files import whole_or_absent

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What Python does not know or, before 3.13, did not: the host of Azure's machines, and addresses for documentation.
NOT_FOR_EVERYBODY = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("3fff::/20"))
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is given out in IPv6; the rest translates or is special
WEB_PORTS = (80, 443)
FREE_PORTS = range(1024, 65536)  # below these, what listens may take an HTTP request for something else
LONGEST_URL = 8192  # characters; signed addresses of buckets have two thousand
LONGEST_FETCH_S = 120.0
MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
TIMEOUTS = {"connect": 10.0, "read": 20.0, "write": 10.0, "pool": 10.0}  # seconds, of each single wait
HEADERS = {"User-Agent": "talking-video", "Accept": "*/*", "Accept-Encoding": "identity"}


def is_public(address: Address) -> bool:
    """Whether everybody on the internet means the same machine by `address`.

    IPv6 addresses that carry an IPv4 address (mapped, 6to4, Teredo, NAT64) are not: they can lead to any.
    """
    if any(address in network for network in NOT_FOR_EVERYBODY):
        return False
    if address.version == 6 and (address not in GLOBAL_UNICAST or address.sixtofour or address.teredo):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def fetch(
    url: str,
    path: Path,
    field: str,
    largest_bytes: int,
    is_allowed: Callable[[Address], bool] = is_public,
    longest_s: float = LONGEST_FETCH_S,
) -> None:
    """Write what `url` gives to `path`, whole or not at all; `field` is what the caller calls the address.

    `is_allowed` says which addresses may be connected to. Proxies of the environment are not used: they would
    resolve names themselves. Raises InvalidRequest and DiskFull.
    """
    internet = PublicInternet(field, is_allowed)
    with httpcore.ConnectionPool(network_backend=internet) as pool, internet.hung_up_after(longest_s):
        try:
            with _answer(pool, url, field) as response, whole_or_absent(path) as part, part.open("wb") as file:
                for chunk in _within(response, field, largest_bytes):
                    file.write(chunk)
                _require_time(internet, field)  # an answer that was cut off can look as if it had ended
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            _require_time(internet, field)
            raise InvalidRequest(
                f"{field}: the connection to the address failed; check that it can be reached from the internet."
            ) from error


class PublicInternet(httpcore.NetworkBackend):
    """Opens connections to allowed addresses, and cuts them when the time is up."""

    def __init__(self, field: str, is_allowed: Callable[[Address], bool]) -> None:
        self.field = field
        self.is_allowed = is_allowed
        self.is_late = False
        self._lines: list[socket.socket] = []

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of `host` that answers. Raises InvalidRequest if one of them is not allowed."""
        failure: Exception | None = None
        for address in self._addresses(host, port):
            if self.is_late:
                break
            try:
                stream = httpcore.SyncBackend().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            self._lines.append(stream.get_extra_info("socket").dup())  # TLS takes the socket itself over
            if self.is_late:
                self._hang_up()
            return stream
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise InvalidRequest(f"{self.field}: there is no address for the name {host!r}; check it.") from None
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        if not all(map(self.is_allowed, addresses)):
            raise InvalidRequest(
                f"{self.field}: {host!r} is not on the public internet and is not asked; "
                "give an address that everybody can reach."
            )
        return list(dict.fromkeys(addresses))

    @contextmanager
    def hung_up_after(self, seconds: float) -> Iterator[None]:
        """Cut all connections if what is done inside takes longer, however slowly the other side keeps talking."""
        timer = threading.Timer(seconds, self._hang_up)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            for line in self._lines:
                line.close()

    def _hang_up(self) -> None:
        self.is_late = True
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


@contextmanager
def _answer(pool: httpcore.ConnectionPool, url: str, field: str) -> Iterator[httpcore.Response]:
    """The answer to `url`, after the redirects, its body not yet read."""
    address = _parsed(url, field)
    for _ in range(MOST_REDIRECTS + 1):
        target = httpcore.URL(
            scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=address.raw_path
        )
        with pool.stream("GET", target, headers=HEADERS, extensions={"timeout": TIMEOUTS}) as response:
            location = {name.lower(): value for name, value in response.headers}.get(b"location")
            if response.status not in REDIRECTS or location is None:
                _require_success(response, field)
                yield response
                return
        address = _parsed(location.decode("latin-1"), field, address)
    raise InvalidRequest(f"{field}: the address redirects more than {MOST_REDIRECTS} times; give the last one.")


def _parsed(url: str, field: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        if len(url) > LONGEST_URL:
            raise httpx.InvalidURL("too long")
        address = base.join(url) if base else httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise InvalidRequest(f"{field}: this is no address of the web; give one like https://example.com/it.") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise InvalidRequest(
            f"{field}: only addresses that begin with http:// or https:// are fetched; give such a one."
        )
    if address.userinfo:
        raise InvalidRequest(f"{field}: an address with a name or a password in it is not fetched; give one without.")
    if address.port not in (None, *WEB_PORTS) and address.port not in FREE_PORTS:
        raise InvalidRequest(f"{field}: port {address.port} is not asked; give 80, 443 or one from {FREE_PORTS.start}.")
    return address


def _require_success(response: httpcore.Response, field: str) -> None:
    if response.status != 200:
        raise InvalidRequest(f"{field}: the address answers with status {response.status} instead of a file; check it.")


def _require_time(internet: PublicInternet, field: str) -> None:
    if internet.is_late:
        raise InvalidRequest(f"{field}: the address took too long to give the file; use a faster one.")


def _within(response: httpcore.Response, field: str, largest_bytes: int) -> Iterator[bytes]:
    """The body, as long as it is not larger than it may be: by what is announced first, then as it comes."""
    lengths = [value for name, value in response.headers if name.lower() == b"content-length"]
    received = 0
    if not lengths or int(lengths[0]) <= largest_bytes:  # the parser lets digits pass, and nothing else
        for chunk in response.iter_stream():
            received += len(chunk)
            if received > largest_bytes:
                break
            yield chunk
        else:
            return
    raise InvalidRequest(
        f"{field}: the file is larger than the {largest_bytes / 1e6:g} MB that are accepted; give a smaller one."
    )
