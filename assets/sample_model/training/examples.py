"""Write the examples that the page offers: python -m assets.sample_model.training.examples [FOLDER]

Drawn portraits and spoken sentences, none of which the training has seen.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile

from assets.sample_model.training.faces import SQUARE, UPRIGHT, draw_portrait, make_face
from assets.sample_model.training.voices import RATE, speak

SEED = 2000
SILENCE_S = 0.3  # before the first word, which the mouth might miss otherwise
EXAMPLES = (
    (17, SQUARE, "en-us+m6", 182, 60, "Hello! I was drawn by a program. I hear you, and my mouth follows."),
    (16, SQUARE, "de+f5", 140, 40, "Guten Tag. Ich bin nur gezeichnet, aber ich rede gern. Hören Sie mir kurz zu?"),
    (22, UPRIGHT, "en-gb-scotland+f5", 150, 70, "Give me your own picture and your own voice, and a larger model will "
     "do the same for you. It only takes a little patience, and a good graphics card."),
)  # fmt: skip


def main(folder: Path) -> None:
    """portrait-N.png and voice-N.wav."""
    for number, (look, size, voice, speed, pitch, text) in enumerate(EXAMPLES, 1):
        face = make_face(np.random.default_rng((SEED, look)), size)
        draw_portrait(face).save(folder / f"portrait-{number}.png")
        silence = np.zeros(round(SILENCE_S * RATE), np.float32)
        speech = 0.7 * speak(text, voice, speed, pitch)
        soundfile.write(folder / f"voice-{number}.wav", np.concatenate([silence, speech]), RATE)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "examples")
