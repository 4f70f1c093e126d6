"""The model that comes with the program, on faces and voices that its training never saw."""

import pytest

from pipeline.store.catalogue import entry_for

from .__main__ import load_model
from .performance import Performance, judge, perform

SECONDS = 3.0


@pytest.fixture(scope="module")
def performances() -> list[Performance]:
    model = load_model(entry_for("sample").folder)
    return [perform(model, number, SECONDS) for number in (0, 1, 3)]


def test_its_mouths_follow_the_voice_and_no_other(performances: list[Performance]) -> None:
    for performance, other in zip(performances, performances[1:] + performances[:1], strict=True):
        verdict = judge(performance, other.sound)
        assert verdict.sync.correlation >= 0.7
        assert abs(verdict.sync.lag) <= 1
        assert verdict.wrong < verdict.sync.correlation - 0.2


def test_its_faces_stay_who_they_are(performances: list[Performance]) -> None:
    for performance in performances:
        assert min(judge(performance, performance.sound).likeness) >= 26
