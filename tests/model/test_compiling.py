"""Compiled blocks give the official numbers."""

from dataclasses import replace

import numpy as np
import pytest
from torch._dynamo.utils import counters
from torch._inductor.cpu_vec_isa import VecISA

from pipeline.model.compiling import compile_blocks, obstacle
from pipeline.model.loading import load_components
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

from ..absent import not_run
from .conftest import ON_CPU
from .golden import CASES, CHECKPOINT, expected
from .recorder import Recorder


def test_compiled_blocks_give_the_official_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch starts Python anew, several times, to see whether this processor does what it says of itself.
    monkeypatch.setattr(VecISA, "check_build", lambda self, code: True)
    if (reason := obstacle(ON_CPU)) is not None:
        not_run(reason)
    parts = load_components(CHECKPOINT, ON_CPU, lambda _: None)
    compile_blocks(parts.transformer, ON_CPU)
    recorder = Recorder(SpeechToVideo(parts, ON_CPU))
    counters.clear()
    recorder.run(GenerationRequest.parse(CASES["no_guidance"]))
    assert counters["stats"]["unique_graphs"] == 2  # blocks that hear the speech, and those that do not
    for i in (0, 1):
        np.testing.assert_allclose(recorder.outputs[i], expected("no_guidance", f"dit{i}_out"), rtol=0, atol=2e-5)


def test_what_keeps_blocks_from_being_compiled_is_said(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    parts = load_components(CHECKPOINT, ON_CPU, lambda _: None)
    compile_blocks(parts.transformer, replace(ON_CPU, plan="stream"))
    monkeypatch.setenv("PATH", "/nowhere")
    compile_blocks(parts.transformer, ON_CPU)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "COMPILE=on is not followed: with the plan stream the weights move.",
        "COMPILE=on is not followed: this machine has no C++ compiler.",
    ]
