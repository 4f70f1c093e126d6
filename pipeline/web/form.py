"""The form: portrait, audio, prompt and a preset, and all other settings folded away."""

from pathlib import Path
from typing import Any, get_args

import gradio as gr
from gradio.components.base import Component

from pipeline.request import SIZES, Speed
from pipeline.web.presets import HIGH, PREVIEW, STANDARD

EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"


def build_inputs(defaults: dict[str, Any]) -> dict[str, Component]:
    """The inputs that everybody needs by the name of their value, laid out where this is called.

    Uploads stay as they are: nothing is converted, a photograph keeps its orientation tag.
    """
    with gr.Row(elem_id="inputs"):
        portrait = gr.Image(
            label="Portrait",
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=280,
            buttons=[],
            elem_id="portrait",
        )
        audio = gr.Audio(
            label="Audio", type="filepath", sources=["upload", "microphone"], buttons=[], min_width=240, elem_id="audio"
        )
    with gr.Row(elem_id="part"):
        start = gr.Number(defaults["audio_start"], label="Start of the audio", info="Seconds", step=0.1, min_width=100)
        length = _optional_number("Length of the audio", "Seconds; empty: all")
    prompt = gr.Textbox(defaults["prompt"], label="Prompt", lines=2, max_length=4000)
    return {"portrait": portrait, "audio": audio, "prompt": prompt, "audio_start": start, "audio_duration": length}


def build_presets() -> gr.Radio:
    """The presets, of which the standard one holds at first."""
    return gr.Radio([PREVIEW, STANDARD, HIGH], value=STANDARD, label="Quality", elem_id="preset")


def build_advanced(defaults: dict[str, Any]) -> dict[str, Component]:
    """All other settings by the name of their value, folded away."""
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        return _build_advanced(defaults)


def _build_advanced(defaults: dict[str, Any]) -> dict[str, Component]:
    def number(name: str, label: str, info: str, **properties: Any) -> gr.Number:
        return gr.Number(defaults[name], label=label, info=info, **properties)

    inputs: dict[str, Component] = {}
    inputs["negative_prompt"] = gr.Textbox(
        defaults["negative_prompt"], label="Negative prompt", info="What should not be seen", max_length=4000
    )
    with gr.Row():
        inputs["size"] = _size(defaults["size"])
        inputs["seed"] = number("seed", "Seed", "-1 draws one", precision=0)
    with gr.Row():
        inputs["steps"] = number("steps", "Steps", "1 to 200", precision=0)
        inputs["guidance"] = number("guidance", "Guidance", "0 to 20", step=0.1)
    with gr.Row():
        solvers = ["unipc", "dpm++"]
        inputs["solver"] = gr.Dropdown(solvers, value=defaults["solver"], label="Solver", info="unipc is the usual one")
        inputs["shift"] = number("shift", "Shift", "0.1 to 20", step=0.1)
    with gr.Row():
        inputs["speed"] = gr.Dropdown(
            list(get_args(Speed)), value=defaults["speed"], label="Speed", info="All but exact change the picture"
        )
        inputs["guidance_share"] = number(
            "guidance_share", "Share of steps with guidance", "0 to 1; less is faster", step=0.1
        )
    with gr.Row():
        inputs["max_clips"] = _optional_number("Most clips", "Empty for as many as needed")
        inputs["frames_per_clip"] = number("frames_per_clip", "Frames per clip", "4, 8, ... 160", precision=0, step=4)
    with gr.Row():
        inputs["sync_lead_frames"] = number("sync_lead_frames", "Sync lead", "Frames, 0 to 16", precision=0)
        inputs["first_frame"] = gr.Checkbox(
            defaults["first_frame"], label="First frame", info="Begin with the portrait itself"
        )
    inputs["pose_video"] = gr.Video(label="Pose video", sources=["upload"], height=200, buttons=[])
    return inputs


def _size(default: str | int) -> gr.Dropdown:
    own = [] if default in SIZES else [(f"{default} pixels", default)]
    choices = [(f"{name}: up to {pixels:,} pixels", name) for name, pixels in SIZES.items()]
    return gr.Dropdown(
        own + choices, value=default, label="Size", info="Or an area in pixels, typed", allow_custom_value=True
    )


def _optional_number(label: str, info: str) -> gr.Textbox:
    """A number that may be left empty: gr.Number makes a 0 of that as soon as it is seen."""
    return gr.Textbox(label=label, info=info, min_width=100)


def example_pairs() -> list[list[str]]:
    """[portrait, audio] of each example: the files of EXAMPLES, paired in their order."""
    portraits, voices = (sorted(EXAMPLES.glob(pattern)) for pattern in ("*.png", "*.wav"))
    return [[str(portrait), str(voice)] for portrait, voice in zip(portraits, voices, strict=False)]
