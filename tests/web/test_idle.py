"""What the page and the API tell of a machine that stops itself when there is nothing to do."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.idle_stop import IdleState, IdleStop, has_work
from pipeline.web import site
from pipeline.web.cards import idle_line

from .conftest import Served
from .test_page import expect, generate


@pytest.fixture
def idle_served(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A site on a machine that would stop in ten minutes."""
    build = site.build_site

    def with_idle(studio: Any, credentials: Any) -> Any:
        idle = IdleStop(600, partial(has_work, studio.queue, studio.worker), lambda: None)
        return build(replace(studio, idle=idle), credentials)

    monkeypatch.setattr("tests.web.conftest.build_site", with_idle)
    return serve()


def test_a_countdown_is_told_and_work_is_not() -> None:
    assert "this machine stops in 4 min 10 s" in idle_line(IdleState(250.0))
    assert idle_line(IdleState(None)) == ""


def test_why_a_machine_could_not_be_stopped_is_told() -> None:
    assert "could not be stopped. RunPod &lt;sleeps&gt;." in idle_line(IdleState(50.0, "RunPod <sleeps>."))


def test_to_stay_begins_the_time_anew(idle_served: Served) -> None:
    idle_served.wait_for_model("ready")

    assert 590 < idle_served.client().predict(api_name="/stay")["stops_in_s"] <= 600


def test_where_nothing_stops_there_is_nothing_to_stay_for(served: Served) -> None:
    assert served.client().predict(api_name="/stay") == {"stops_in_s": None, "trouble": ""}


@pytest.mark.browser
def test_the_page_counts_down_and_one_click_stays(
    idle_served: Served, visit: Callable[..., Any], portrait: Path, voice: Path
) -> None:
    page = visit(idle_served.url)
    idle = page.locator("#idle")
    expect(idle).to_contain_text("this machine stops in 9 min 5")

    page.get_by_role("button", name="Keep it running").click()
    expect(idle).to_contain_text("this machine stops in 10 min")

    generate(page, portrait, voice)
    expect(page.locator("#stay")).not_to_be_visible()
    idle_served.model.let_all()
    expect(idle).to_contain_text("this machine stops in")
