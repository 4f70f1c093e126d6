"""A checkpoint folder in the official layout -> the parts of the model, each in its place and precision."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
import transformers
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from pipeline.errors import ModelUnavailable
from pipeline.model.autoencoder_on_cpu import quicken_on_cpu
from pipeline.model.checkpoint import (
    assign,
    check_tensors,
    official_transformer_config,
    rename,
    shapes_of,
    text_encoder_names,
    transformer_names,
    transformer_shards,
)
from pipeline.model.lora import Lora, apply_lora
from pipeline.model.placement import Placement
from pipeline.model.quantization import load_gguf_transformer
from pipeline.model.transformer import FP32_PARTS, SpeechToVideoTransformer
from pipeline.model.weights import Note, open_weights, reason, unreadable

log = logging.getLogger(__name__)

TEXT_ENCODER_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER_FOLDER = "google/umt5-xxl"
SPEECH_ENCODER_FOLDER = "wav2vec2-large-xlsr-53-english"
SPEECH_ENCODER_FILE = f"{SPEECH_ENCODER_FOLDER}/model.safetensors"
VAE_FILE = "Wan2.1_VAE.pth"


@dataclass(frozen=True)
class Reading:
    """How far the loading is: what is being read, and the bytes of all weight files together."""

    message: str
    file: str
    bytes_done: int
    bytes_total: int


Report = Callable[[Reading], None]
NoteFile = Callable[[str, Path, int], None]  # what is being read, from which file, up to which byte of it


@dataclass(frozen=True)
class Components:
    """The loaded model, without anything that belongs to one request."""

    transformer: SpeechToVideoTransformer
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerBase
    speech_encoder: Wav2Vec2Model
    feature_extractor: Wav2Vec2FeatureExtractor
    vae: AutoencoderKLWan


@dataclass(frozen=True)
class Changes:
    """What the transformer has beside or in the place of a checkpoint's."""

    lora: Lora | None = None
    gguf: Path | None = None  # a file with its weights


NO_CHANGES = Changes()


def load_components(folder: Path, placement: Placement, report: Report, changes: Changes = NO_CHANGES) -> Components:
    """Load the checkpoint in `folder`: every part where `placement` wants it, the transformer with `changes`.

    `report` is told what is being read. Raises ModelUnavailable, which names the file or tensor that is wrong, and what
    apply_lora and quantize_blocks raise.
    """
    device, dtype = placement.loading_device, placement.dtype
    shards = [] if changes.gguf else transformer_shards(folder)
    note = _progress([*(folder / name for name in (TEXT_ENCODER_FILE, SPEECH_ENCODER_FILE, VAE_FILE)), *shards], report)
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    text_encoder = load_text_encoder(folder / TEXT_ENCODER_FILE, device, dtype, note)
    speech_encoder, feature_extractor = load_speech_encoder(folder / SPEECH_ENCODER_FILE, note)
    vae = load_vae(folder / VAE_FILE, device, note)
    transformer = load_changed_transformer(folder, device, dtype, note, changes)
    for part in (transformer, text_encoder, speech_encoder, vae):
        placement.settle(part)
    return Components(transformer, text_encoder, tokenizer, speech_encoder, feature_extractor, vae)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the text encoder."""
    with _library_errors_explained(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _progress(files: Sequence[Path], report: Report) -> NoteFile:
    """What takes notes of the reading of `files`, in this order, and tells `report` how far all of it is."""
    try:
        sizes = [file.stat().st_size for file in files]
    except OSError as error:
        raise unreadable(Path(error.filename), error) from error
    before = dict(zip(files, accumulate(sizes, initial=0), strict=False))

    def note(message: str, file: Path, position: int) -> None:
        report(Reading(message, file.name, before[file] + position, sum(sizes)))

    return note


def load_changed_transformer(
    folder: Path, device: torch.device, dtype: torch.dtype, note: NoteFile, changes: Changes
) -> SpeechToVideoTransformer:
    """As load_transformer and load_gguf_transformer, with the LoRA of `changes` on it."""
    if changes.gguf is None:
        transformer = load_transformer(folder, device, dtype, note)
    else:
        transformer = load_gguf_transformer(folder, changes.gguf, device, dtype)
    if changes.lora is not None:
        apply_lora(transformer, changes.lora)
    return transformer


def load_transformer(
    folder: Path, device: torch.device, dtype: torch.dtype, note: NoteFile
) -> SpeechToVideoTransformer:
    """The transformer in `dtype`, its FP32_PARTS in fp32, read shard after shard onto `device`."""
    shards = [open_weights(path) for path in transformer_shards(folder)]
    shapes = {name: shape for shard in shards for name, shape in shard.shapes.items()}
    with torch.device("meta"):
        transformer = SpeechToVideoTransformer(**official_transformer_config(folder, shapes))
    names = transformer_names(transformer.config.num_layers, transformer.config.audio_inject_layers)
    check_tensors("transformer", transformer, shapes, names)

    def dtype_of(official: str) -> torch.dtype:
        return torch.float32 if any(part in rename(official, names) for part in FP32_PARTS) else dtype

    for number, shard in enumerate(shards, 1):
        note_shard = partial(note, f"Loading transformer {number} of {len(shards)}", shard.path)
        for official, tensor in shard.tensors(device, dtype_of, note_shard):
            assign(transformer, rename(official, names), tensor)
    return transformer.eval()


def load_text_encoder(path: Path, device: torch.device, dtype: torch.dtype, note: NoteFile) -> UMT5EncoderModel:
    """UMT5's encoder in `dtype` on `device`, its sizes read from the file."""
    file = open_weights(path)
    config = _text_encoder_config(path, file.shapes)
    with torch.device("meta"):
        encoder = UMT5EncoderModel(config)
    names = text_encoder_names(config.num_layers)
    del encoder.encoder.embed_tokens  # the same as `shared`, which alone is in the file
    check_tensors("text encoder", encoder, file.shapes, names)
    for name, tensor in file.tensors(device, lambda _: dtype, partial(note, "Loading text encoder", path)):
        assign(encoder, rename(name, names), tensor)
    encoder.encoder.embed_tokens = encoder.shared
    return encoder.eval()


def _text_encoder_config(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> UMT5Config:
    try:
        vocabulary, width = shapes["token_embedding.weight"]
        buckets, heads = shapes["blocks.0.pos_embedding.embedding.weight"]
        return UMT5Config(
            vocab_size=vocabulary,
            d_model=width,
            d_kv=shapes["blocks.0.attn.q.weight"][0] // heads,
            d_ff=shapes["blocks.0.ffn.gate.0.weight"][0],
            num_layers=1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")),
            num_heads=heads,
            relative_attention_num_buckets=buckets,
            relative_attention_max_distance=128,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise ModelUnavailable(f"The text encoder {path} lacks {error}: it is not a UMT5 encoder.") from error


def load_vae(path: Path, device: torch.device, note: NoteFile) -> AutoencoderKLWan:
    """The video autoencoder in fp32 on `device`, its width read from the file."""
    file = open_weights(path)
    if "encoder.conv1.weight" not in file.records:
        raise ModelUnavailable(f"The video autoencoder {path} lacks encoder.conv1.weight: it is not Wan's.")
    note_vae: Note = partial(note, "Loading video autoencoder", path)
    state = convert_wan_vae_to_diffusers(dict(file.tensors(device, lambda _: torch.float32, note_vae)))
    with torch.device("meta"):
        vae = AutoencoderKLWan(base_dim=file.shapes["encoder.conv1.weight"][0])
    check_tensors("video autoencoder", vae, shapes_of(state), {})
    vae.load_state_dict(state, assign=True)
    return quicken_on_cpu(vae.eval())


def load_speech_encoder(path: Path, note: NoteFile) -> tuple[Wav2Vec2Model, Wav2Vec2FeatureExtractor]:
    """wav2vec2 on the CPU, in fp32, and what prepares its input. The letter head in the file is left out."""
    note_speech: Note = partial(note, "Loading speech encoder", path)
    state = dict(open_weights(path).tensors(torch.device("cpu"), lambda _: torch.float32, note_speech))
    with _library_errors_explained(path):
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(path.parent, local_files_only=True)
        config = Wav2Vec2Config.from_pretrained(path.parent, local_files_only=True)
        encoder, info = Wav2Vec2Model.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    unknown = [name for name in info["unexpected_keys"] if not name.startswith("lm_head.")]
    missing = [name for name in info["missing_keys"] if name != "masked_spec_embed"]  # used in training only
    for names, fault in ((missing, "lacks"), (unknown, "has an unknown"), (info["mismatched_keys"], "has a misshapen")):
        if names:
            raise ModelUnavailable(f"The speech encoder {path} {fault} tensor {sorted(map(str, names))[0]}.")
    return encoder.eval(), extractor


@contextmanager
def _library_errors_explained(source: Path) -> Iterator[None]:
    """Turn what transformers says against `source` into ModelUnavailable."""
    transformers.logging.set_verbosity_error()  # its load report of tensors that we check ourselves
    transformers.logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        log.exception("loading %s", source)
        raise ModelUnavailable(f"The model's {source} cannot be loaded: {reason(error)}.") from error
