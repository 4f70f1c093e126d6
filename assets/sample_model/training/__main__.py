"""The sample model from nothing: python -m assets.sample_model.training [--folder WORK] [--output FOLDER]

Needs espeak-ng and two cores: an hour and a half with AVX-512, two and a half without. What is done stays in WORK;
started again it goes on there.
"""

import argparse
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from assets.sample_model.training.clips import make_clips
from assets.sample_model.training.official_layout import (
    save_speech_encoder,
    save_text_encoder,
    save_transformer,
    save_vae,
)
from assets.sample_model.training.runs import together, write_log
from assets.sample_model.training.scenes import make_scenes
from assets.sample_model.training.train_decoder import finished_vae, train_decoder
from assets.sample_model.training.train_speech_encoder import train_speech_encoder, trained_speech_encoder
from assets.sample_model.training.train_transformer import make_features, train_transformer, trained_transformer
from assets.sample_model.training.train_vae import train_vae
from assets.sample_model.training.words import make_text_encoder, make_tokenizer

STAGES: tuple[Callable[[Path], None], ...] = (
    make_scenes,
    train_vae,
    train_speech_encoder,
    make_features,
    make_clips,
    train_transformer,
    train_decoder,
)

# glibc gives large tensors back to the system and fetches them again page by page, unless it is told to keep them.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34), "OMP_NUM_THREADS": "1"}

log = logging.getLogger(__name__)


def main() -> None:
    """Stage after stage, then the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m assets.sample_model.training", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/sample-training"), help="what is done is kept here"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1], help="where the checkpoint goes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(KEEP_MEMORY)
    for stage in STAGES:
        started = time.monotonic()
        log.info("%s ...", stage.__name__)
        together(stage, options.folder)
        write_log(options.folder, {"stage": stage.__name__, "s": time.monotonic() - started})
    save_checkpoint(options.folder, options.output)
    log.info("The checkpoint is in %s, the log in %s.", options.output, options.folder / "log.jsonl")


def save_checkpoint(folder: Path, output: Path) -> None:
    """The trained parts from the work folder as a checkpoint in the official layout."""
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    save_vae(output, finished_vae(folder), torch.bfloat16)
    save_speech_encoder(output, trained_speech_encoder(folder))
    save_text_encoder(output, make_text_encoder(tokenizer.get_vocab_size()), tokenizer)
    save_transformer(output, trained_transformer(folder))


if __name__ == "__main__":
    main()
