"""What load balancers and orchestrators ask."""

import threading
from collections.abc import Callable

import httpx

from pipeline.errors import ModelUnavailable
from pipeline.events import ModelState

from .conftest import Served
from .scripted import PacedModel


def test_health_answers_and_readiness_tells_how_far_the_model_is_while_it_arrives(
    serve: Callable[..., Served],
) -> None:
    reported, go_on = threading.Event(), threading.Event()

    def prepare(report: Callable[[ModelState], None]) -> PacedModel:
        report(ModelState("downloading", "script", 30, 100, 5.0, 14.0, "a.safetensors", 1))
        reported.set()
        assert go_on.wait(30)
        return PacedModel().prepare(report)

    served = serve(prepare)
    assert reported.wait(30)
    assert httpx.get(f"{served.url}/healthz").json() == {"status": "alive"}
    ready = httpx.get(f"{served.url}/readyz")
    assert ready.status_code == 503
    assert ready.json() == {
        "state": "downloading",
        "model": "script",
        "bytes_done": 30,
        "bytes_total": 100,
        "bytes_per_s": 5.0,
        "eta_s": 14.0,
        "file": "a.safetensors",
        "attempt": 1,
        "message": "",
    }

    go_on.set()

    assert served.wait_for_model("ready").status_code == 200


def test_readiness_says_why_there_is_no_model(serve: Callable[..., Served]) -> None:
    def prepare(report: Callable[[ModelState], None]) -> PacedModel:
        raise ModelUnavailable("The model's folder lacks Wan2.1_VAE.pth.")

    ready = serve(prepare).wait_for_model("failed")

    assert ready.status_code == 503
    assert ready.json()["message"] == "The model's folder lacks Wan2.1_VAE.pth."


def test_health_answers_to_head_as_to_get(served: Served) -> None:
    served.wait_for_model("ready")
    for path in ("/healthz", "/readyz"):
        assert httpx.head(served.url + path).status_code == 200
