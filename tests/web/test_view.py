"""What a browser is shown."""

from typing import Any

import pytest

from pipeline.web.view import REMEMBERED_JOBS, KnownJob, known_jobs


@pytest.mark.parametrize("stored", [None, "x", 5, {}, [None, 5, "x", {}, {"job": 5, "at": 1}, {"job": "a", "at": "b"}]])
def test_rubbish_in_the_browsers_storage_is_passed_over(stored: Any) -> None:
    assert known_jobs(stored) == []


def test_a_browser_remembers_its_newest_jobs() -> None:
    stored = [{"job": str(number), "at": number} for number in range(REMEMBERED_JOBS + 5)]

    assert known_jobs(stored)[0] == KnownJob("0", 0.0)
    assert len(known_jobs(stored)) == REMEMBERED_JOBS
