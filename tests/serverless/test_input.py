"""What a job's input may be, apart from where it comes from."""

import base64
from pathlib import Path

import pytest

from pipeline.errors import InvalidRequest
from pipeline.fetching import is_public
from pipeline.serverless import read_input


@pytest.mark.timeout(20)
@pytest.mark.parametrize("endless", ["data:" + "a" * 1_000_000, "data:" + ";a" * 500_000], ids=["kind", "parameters"])
def test_data_that_says_without_end_what_it_is_is_refused_at_once(endless: str, tmp_path: Path) -> None:
    given = {"portrait": base64.b64encode(b"a picture").decode(), "audio": endless}
    with pytest.raises(InvalidRequest, match="audio: this is no address of the web"):
        read_input(given, tmp_path, {}, is_public)


def test_base64_is_taken_with_and_without_a_head(tmp_path: Path) -> None:
    text = base64.b64encode(b"content").decode()
    read_input({"portrait": text, "audio": f"data:audio/wav;codecs=1;base64,{text}"}, tmp_path, {}, is_public)
    assert (tmp_path / "portrait").read_bytes() == (tmp_path / "audio").read_bytes() == b"content"
