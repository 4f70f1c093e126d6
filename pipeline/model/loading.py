"""A checkpoint folder in the official layout -> the parts of the model, each in its place and precision."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from pipeline.errors import ModelUnavailable
from pipeline.model.checkpoint import (
    assign,
    check_tensors,
    official_transformer_config,
    read_pickle,
    rename,
    safetensors_items,
    safetensors_shapes,
    shapes_of,
    text_encoder_names,
    transformer_names,
    transformer_shards,
)
from pipeline.model.placement import Placement
from pipeline.model.transformer import FP32_PARTS, SpeechToVideoTransformer

log = logging.getLogger(__name__)

TEXT_ENCODER_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER_FOLDER = "google/umt5-xxl"
SPEECH_ENCODER_FOLDER = "wav2vec2-large-xlsr-53-english"
VAE_FILE = "Wan2.1_VAE.pth"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Components:
    """The loaded model, without anything that belongs to one request."""

    transformer: SpeechToVideoTransformer
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerBase
    speech_encoder: Wav2Vec2Model
    feature_extractor: Wav2Vec2FeatureExtractor
    vae: AutoencoderKLWan


def load_components(folder: Path, placement: Placement, report: Report) -> Components:
    """Load the checkpoint in `folder`: the transformer where `placement` wants it, the smaller parts on the CPU.

    `report` is told what is being read. Raises ModelUnavailable, which names the file or tensor that is wrong.
    """
    dtype = placement.dtype
    report("Loading the text encoder")
    tokenizer = _load_pretrained(AutoTokenizer, folder / TOKENIZER_FOLDER)
    text_encoder = load_text_encoder(folder / TEXT_ENCODER_FILE, dtype)
    report("Loading the speech encoder")
    speech_encoder = load_speech_encoder(folder / SPEECH_ENCODER_FOLDER)
    feature_extractor = _load_pretrained(Wav2Vec2FeatureExtractor, folder / SPEECH_ENCODER_FOLDER)
    report("Loading the video autoencoder")
    vae = load_vae(folder / VAE_FILE)
    transformer = load_transformer(folder, placement.loading_device, dtype, report)
    placement.place(transformer)
    return Components(transformer, text_encoder, tokenizer, speech_encoder, feature_extractor, vae)


def load_transformer(
    folder: Path, device: torch.device, dtype: torch.dtype, report: Report
) -> SpeechToVideoTransformer:
    """The transformer in `dtype`, its FP32_PARTS in fp32, read shard after shard onto `device`."""
    shards = transformer_shards(folder)
    shapes = safetensors_shapes(shards)
    with torch.device("meta"):
        transformer = SpeechToVideoTransformer(**official_transformer_config(folder, shapes))
    names = transformer_names(transformer.config.num_layers, transformer.config.audio_inject_layers)
    check_tensors("transformer", transformer, shapes, names)
    for number, shard in enumerate(shards, 1):
        report(f"Loading the transformer, file {number} of {len(shards)}")
        for official, tensor in safetensors_items(shard, str(device)):
            name = rename(official, names)
            precise = any(part in name for part in FP32_PARTS)
            assign(transformer, name, tensor.to(torch.float32 if precise else dtype))
    return transformer.eval()


def load_text_encoder(path: Path, dtype: torch.dtype) -> UMT5EncoderModel:
    """UMT5's encoder on the CPU, its sizes read from the file."""
    official = read_pickle(path)
    config = _text_encoder_config(path, official)
    with torch.device("meta"):
        encoder = UMT5EncoderModel(config)
    names = text_encoder_names(config.num_layers)
    del encoder.encoder.embed_tokens  # the same as `shared`, which alone is in the file
    check_tensors("text encoder", encoder, shapes_of(official), names)
    for name, tensor in official.items():
        assign(encoder, rename(name, names), tensor.to(dtype))
    encoder.encoder.embed_tokens = encoder.shared
    return encoder.eval()


def _text_encoder_config(path: Path, official: Mapping[str, torch.Tensor]) -> UMT5Config:
    try:
        vocabulary, width = official["token_embedding.weight"].shape
        buckets, heads = official["blocks.0.pos_embedding.embedding.weight"].shape
        return UMT5Config(
            vocab_size=vocabulary,
            d_model=width,
            d_kv=official["blocks.0.attn.q.weight"].shape[0] // heads,
            d_ff=official["blocks.0.ffn.gate.0.weight"].shape[0],
            num_layers=1 + max(int(name.split(".")[1]) for name in official if name.startswith("blocks.")),
            num_heads=heads,
            relative_attention_num_buckets=buckets,
            relative_attention_max_distance=128,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise ModelUnavailable(f"The text encoder {path} lacks {error}: it is not a UMT5 encoder.") from error


def load_vae(path: Path) -> AutoencoderKLWan:
    """The video autoencoder on the CPU, in fp32, its width read from the file."""
    official = read_pickle(path)
    if "encoder.conv1.weight" not in official:
        raise ModelUnavailable(f"The video autoencoder {path} lacks encoder.conv1.weight: it is not Wan's.")
    state = convert_wan_vae_to_diffusers(dict(official))
    with torch.device("meta"):
        vae = AutoencoderKLWan(base_dim=official["encoder.conv1.weight"].shape[0])
    check_tensors("video autoencoder", vae, shapes_of(state), {})
    vae.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return vae.eval()


def load_speech_encoder(folder: Path) -> Wav2Vec2Model:
    """wav2vec2 on the CPU, in fp32. The letter head that the file also holds is left out."""
    encoder, info = _load_pretrained(
        Wav2Vec2Model, folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    unknown = [name for name in info["unexpected_keys"] if not name.startswith("lm_head.")]
    missing = [name for name in info["missing_keys"] if name != "masked_spec_embed"]  # used in training only
    for names, fault in ((missing, "lacks"), (unknown, "has an unknown"), (info["mismatched_keys"], "has a misshapen")):
        if names:
            raise ModelUnavailable(f"The speech encoder in {folder} {fault} tensor {sorted(map(str, names))[0]}.")
    return encoder.eval()


def _load_pretrained(cls: type, folder: Path, **options: object) -> object:
    transformers.logging.set_verbosity_error()  # its load report of tensors that we check ourselves
    transformers.logging.disable_progress_bar()
    try:
        return cls.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        log.exception("loading %s", folder)
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelUnavailable(f"The model's folder {folder} cannot be loaded: {reason}") from error
