"""Uploads to a full disk, and those that break off."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.web.upload_room import NO_ROOM
from tests.store.mounts import small_disk
from tests.test_idle_stop import wait_until

from .conftest import Served
from .test_page import expect, give

ROOM = 3_000_000  # the page keeps its examples there, too


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Path]:
    """The folder for uploads, on a small disk."""
    with small_disk(tmp_path / "uploads", ROOM) as folder:
        yield folder


@pytest.fixture
def cramped(uploads: Path, serve: Callable[..., Served]) -> Served:
    return serve()


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_an_upload_that_does_not_fit_is_refused_in_a_sentence_and_leaves_nothing(
    cramped: Served, uploads: Path
) -> None:
    before = files_in(uploads)
    answer = httpx.post(f"{cramped.url}/gradio_api/upload", files={"files": ("a.wav", b"0" * 2 * ROOM)})
    assert (answer.status_code, answer.text) == (507, NO_ROOM)
    assert files_in(uploads) == before

    answer = httpx.post(f"{cramped.url}/gradio_api/upload", files={"files": ("a.wav", b"0" * 1000)})
    assert answer.status_code == 200


def test_a_disk_that_fills_up_meanwhile_is_told_likewise(cramped: Served, uploads: Path) -> None:
    before = files_in(uploads)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'

    def body() -> Iterator[bytes]:  # of a length that is not announced
        yield head
        for _ in range(2 * ROOM // 10_000):
            yield b"0" * 10_000
        yield b"\r\n--x--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{cramped.url}/gradio_api/upload", content=body(), headers=kind)

    assert (answer.status_code, answer.text) == (507, NO_ROOM)
    assert files_in(uploads) == before


def test_an_upload_that_breaks_off_leaves_nothing(served: Served, tmp_path: Path) -> None:
    before, door = files_in(tmp_path / "uploads"), httpx.URL(served.url)
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    head += b"Content-Length: 1000000\r\n\r\n--x\r\n"
    with socket.create_connection((door.host, door.port)) as line:
        line.sendall(head + b'Content-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n' + b"0" * 10_000)
        wait_until(lambda: files_in(tmp_path / "uploads") != before)
    wait_until(lambda: files_in(tmp_path / "uploads") == before)


def test_a_file_under_another_name_than_the_pages_is_not_kept(served: Served, tmp_path: Path) -> None:
    before = files_in(tmp_path / "uploads")
    httpx.post(f"{served.url}/gradio_api/upload", files={"other": ("a.wav", b"0" * 1000)})
    wait_until(lambda: files_in(tmp_path / "uploads") == before)


@pytest.mark.browser
def test_the_page_says_so(cramped: Served, visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "large.wav").write_bytes(b"0" * 2 * ROOM)
    page = visit(cramped.url)

    give(page, "audio", tmp_path / "large.wav")

    expect(page.locator("body")).to_contain_text("There is no room for this file")
