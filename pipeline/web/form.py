"""The form: portrait, voice and prompt, and all other settings folded away."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.base import Component

from pipeline.request import SIZES, GenerationRequest
from pipeline.web.studio import MORE_NAMES

EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"


def build_form(defaults: dict[str, Any]) -> dict[str, Component]:
    """The inputs by the name of their value, laid out where this is called.

    Uploads stay as they are: nothing is converted, a photograph keeps its orientation tag.
    """
    with gr.Row(elem_id="inputs"):
        portrait = gr.Image(
            label="Portrait", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=280, buttons=[]
        )
        audio = gr.Audio(label="Voice", type="filepath", sources=["upload", "microphone"], buttons=[])
    prompt = gr.Textbox(defaults["prompt"], label="Prompt", lines=2, max_length=4000)
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        advanced = _build_advanced(defaults)
    inputs = {"portrait": portrait, "audio": audio, "prompt": prompt} | advanced
    return {name: inputs[name] for name in MORE_NAMES}


def _build_advanced(defaults: dict[str, Any]) -> dict[str, Component]:
    inputs: dict[str, Component] = {}
    inputs["negative_prompt"] = gr.Textbox(
        defaults["negative_prompt"], label="Negative prompt", info="what should not be seen", max_length=4000
    )
    with gr.Row():
        inputs["size"] = _size(defaults["size"])
        inputs["seed"] = _number("seed", defaults, label="Seed", precision=0)
    with gr.Row():
        inputs["steps"] = _number("steps", defaults, label="Steps", precision=0)
        inputs["guidance"] = _number("guidance", defaults, label="Guidance", step=0.1)
    with gr.Row():
        inputs["solver"] = gr.Dropdown(["unipc", "dpm++"], value=defaults["solver"], label="Solver")
        inputs["shift"] = _number("shift", defaults, label="Shift", step=0.1)
    with gr.Row():
        inputs["audio_start"] = _number("audio_start", defaults, label="Start of the audio", step=0.1)
        inputs["audio_duration"] = _number("audio_duration", defaults, label="Length of the audio", step=0.1)
    with gr.Row():
        inputs["max_clips"] = _number("max_clips", defaults, label="At most so many clips", precision=0)
        inputs["frames_per_clip"] = _number("frames_per_clip", defaults, label="Frames per clip", precision=0, step=4)
    with gr.Row():
        inputs["sync_lead_frames"] = _number("sync_lead_frames", defaults, label="Sync lead (frames)", precision=0)
        inputs["first_frame"] = gr.Checkbox(
            defaults["first_frame"], label="First frame", info="the video begins with the portrait itself"
        )
    inputs["pose_video"] = gr.Video(label="Pose video", sources=["upload"], height=200, buttons=[])
    return inputs


def _size(default: str | int) -> gr.Dropdown:
    own = [] if default in SIZES else [(f"{default} pixels", default)]
    choices = [(f"{name} ({pixels // 1000},000 pixels)", name) for name, pixels in SIZES.items()]
    return gr.Dropdown(
        own + choices, value=default, label="Size", info="or an area in pixels, typed", allow_custom_value=True
    )


def _number(name: str, defaults: dict[str, Any], **properties: Any) -> gr.Number:
    return gr.Number(defaults[name], info=GenerationRequest.model_fields[name].description, **properties)


def example_pairs() -> list[list[str]]:
    """[portrait, voice] of each example: the files of EXAMPLES, paired in their order."""
    portraits, voices = (sorted(EXAMPLES.glob(pattern)) for pattern in ("*.png", "*.wav"))
    return [[str(portrait), str(voice)] for portrait, voice in zip(portraits, voices, strict=False)]
