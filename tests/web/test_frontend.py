"""Gradio's scripts and styles: as Gradio has them, compressed, to be kept, and nothing beside them."""

from pathlib import Path

import httpx
import pytest
from gradio.routes import BUILD_PATH_LIB

from .conftest import Served

SCRIPT = next(Path(BUILD_PATH_LIB).glob("index-*.js"))
STYLE = next(Path(BUILD_PATH_LIB).glob("index-*.css"))
FONT = next(Path(BUILD_PATH_LIB).glob("*.woff2"))


@pytest.mark.parametrize("encoding", ["br", "gzip"])
@pytest.mark.parametrize(("file", "kind"), [(SCRIPT, "text/javascript"), (STYLE, "text/css")])
def test_scripts_and_styles_come_compressed_and_may_be_kept(
    served: Served, file: Path, kind: str, encoding: str
) -> None:
    answer = httpx.get(f"{served.url}/assets/{file.name}", headers={"Accept-Encoding": encoding})

    assert answer.status_code == 200
    assert answer.content == file.read_bytes()
    assert answer.headers["content-encoding"] == encoding
    assert int(answer.headers["content-length"]) < file.stat().st_size / 2
    assert answer.headers["content-type"].startswith(kind)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["vary"] == "Accept-Encoding"


def test_all_else_is_answered_as_by_gradio(served: Served) -> None:
    plain = httpx.get(f"{served.url}/assets/{SCRIPT.name}", headers={"Accept-Encoding": "identity"})
    assert plain.content == SCRIPT.read_bytes()
    assert "content-encoding" not in plain.headers
    assert httpx.get(f"{served.url}/assets/{FONT.name}").content == FONT.read_bytes()
    assert httpx.post(f"{served.url}/assets/{SCRIPT.name}").status_code == 405


@pytest.mark.parametrize("name", ["nothing.js", "..js", "%2e%2e/index.html", "..%2findex.html", "%2fetc%2fpasswd", ""])
def test_what_is_no_such_file_is_not_served(served: Served, name: str) -> None:
    answer = httpx.get(f"{served.url}/assets/{name}")

    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 200


def test_the_page_comes_compressed(served: Served) -> None:
    answer = httpx.get(served.url)

    assert answer.headers["content-encoding"] == "gzip"
    assert "window.gradio_config" in answer.text
    assert int(answer.headers["content-length"]) < len(answer.content) / 5
