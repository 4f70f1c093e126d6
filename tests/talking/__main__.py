"""Measure a model on what it never saw: python -m tests.talking [--model FOLDER] [--videos N] [--sheet FILE.png]

Twenty videos of one clip, then three of five clips in a row; a line for each, then the means.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from assets.sample_model.training.faces import draw_portrait
from pipeline.model.loading import load_components
from pipeline.model.placement import Placement
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.store.catalogue import entry_for

from .performance import Performance, judge, perform

ONE_CLIP, TWO_CLIPS, FIVE_CLIPS = 4.8, 9.8, 24.8  # seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.talking", description=__doc__)
    parser.add_argument("--model", type=Path, default=entry_for("sample").folder)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--long-videos", type=int, default=3)
    parser.add_argument("--sheet", type=Path, help="a picture of the first ten videos: each one's portrait and frames")
    options = parser.parse_args()
    model = load_model(options.model)
    short = [perform(model, number, ONE_CLIP) for number in range(options.videos)]
    if options.sheet:
        Image.fromarray(contact_sheet(short[:10])).save(options.sheet)
    print_table(short)
    print_table([perform(model, 100 + number, FIVE_CLIPS) for number in range(options.long_videos)])


def load_model(folder: Path) -> SpeechToVideo:
    """The checkpoint in `folder`, on the CPU."""
    placement = Placement(torch.device("cpu"), torch.float32, "resident")
    return SpeechToVideo(load_components(folder, placement, report=lambda _: None), placement)


def print_table(performances: list[Performance]) -> None:
    """A line per video, with the sound of the next one as the wrong one."""
    verdicts = []
    for number, performance in enumerate(performances):
        other = performances[(number + 1) % len(performances)]
        verdict = judge(performance, [other.sound])
        verdicts.append(verdict)
        seam = "" if verdict.seam is None else f"  seam {verdict.seam:.2f}"
        likenesses = " ".join(f"{value:.1f}" for value in verdict.likeness)
        print(
            f"{number:3}  correlation {verdict.sync.correlation:.2f}  lag {verdict.sync.lag:+d}  "
            f"wrong sound {verdict.wrong:+.2f}  likeness {likenesses} dB{seam}",
            flush=True,
        )
    if verdicts:
        correlations, first = [v.sync.correlation for v in verdicts], [v.likeness[0] for v in verdicts]
        print(
            f"mean correlation {np.mean(correlations):.2f}, least {min(correlations):.2f}, "
            f"within a frame {np.mean([abs(v.sync.lag) <= 1 for v in verdicts]):.0%}, "
            f"wrong sound {np.mean([v.wrong for v in verdicts]):.2f}, "
            f"likeness {np.mean(first):.1f} dB, least {min(first):.1f}"
        )


def contact_sheet(performances: list[Performance]) -> np.ndarray:
    """A row for each square video, the portrait and seven frames."""
    rows = []
    for performance in performances:
        portrait, frames = np.asarray(draw_portrait(performance.face)), performance.frames
        shown = [portrait, *frames[np.linspace(8, len(frames) - 1, 7).astype(int)]]
        rows.append(np.concatenate([picture[:128] for picture in shown], axis=1))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
