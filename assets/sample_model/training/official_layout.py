"""Write a model's parts as a checkpoint folder in the official layout: the reverse of pipeline/model/loading.py."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from pipeline.model.checkpoint import SWITCHES, rename, text_encoder_names, transformer_names
from pipeline.model.loading import SPEECH_ENCODER_FOLDER, TEXT_ENCODER_FILE, TOKENIZER_FOLDER, VAE_FILE
from pipeline.model.transformer import SpeechToVideoTransformer

SHARDS = 2


def save_transformer(folder: Path, transformer: SpeechToVideoTransformer) -> None:
    """config.json, the shards in bf16 and their index."""
    config = transformer.config
    names = {ours: name for name, ours in transformer_names(config.num_layers, config.audio_inject_layers).items()}
    tensors = {rename(name, names): tensor.bfloat16() for name, tensor in transformer.state_dict().items()}
    weight_map = {}
    for number, names_of_shard in enumerate(_split(sorted(tensors)), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-{SHARDS:05}.safetensors"
        save_file({name: tensors[name].contiguous() for name in names_of_shard}, folder / file)
        weight_map |= dict.fromkeys(names_of_shard, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    _write_json(folder / "diffusion_pytorch_model.safetensors.index.json", index)
    _write_json(folder / "config.json", _official_config(transformer))


def _split(names: list[str]) -> list[list[str]]:
    size = -(-len(names) // SHARDS)
    return [names[start : start + size] for start in range(0, len(names), size)]


def _official_config(transformer: SpeechToVideoTransformer) -> dict[str, object]:
    config = transformer.config
    return {
        "_class_name": "WanModel_S2V",
        "dim": config.num_attention_heads * config.attention_head_dim,
        "num_heads": config.num_attention_heads,
        "num_layers": config.num_layers,
        "ffn_dim": config.ffn_dim,
        "in_dim": config.in_channels,
        "out_dim": config.out_channels,
        "cond_dim": config.pose_channels,
        "text_len": config.text_len,
        "freq_dim": config.freq_dim,
        "eps": config.eps,
        "audio_dim": config.audio_dim,
        "num_audio_token": config.audio_tokens,
        "audio_inject_layers": list(config.audio_inject_layers),
        "model_type": "s2v",
        **SWITCHES,
    }


def save_text_encoder(folder: Path, encoder: UMT5EncoderModel, tokenizer: Tokenizer) -> None:
    """The encoder in bf16 and the tokenizer's folder."""
    names = {ours: name for name, ours in text_encoder_names(encoder.config.num_layers).items()}
    state = {rename(name, names): tensor.bfloat16() for name, tensor in encoder.state_dict().items()}
    state.pop("encoder.embed_tokens.weight", None)  # the same as `shared`
    torch.save(state, folder / TEXT_ENCODER_FILE)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.save_pretrained(folder / TOKENIZER_FOLDER)


def save_speech_encoder(folder: Path, encoder: Wav2Vec2ForCTC) -> None:
    """wav2vec2 with a letter head, as the official folder has it, in fp32."""
    encoder.save_pretrained(folder / SPEECH_ENCODER_FOLDER)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / SPEECH_ENCODER_FOLDER)


def save_vae(folder: Path, vae: AutoencoderKLWan, dtype: torch.dtype) -> None:
    """The video autoencoder under its official names."""
    names = _official_vae_names(vae)
    torch.save({names[name]: tensor.to(dtype) for name, tensor in vae.state_dict().items()}, folder / VAE_FILE)


def _official_vae_names(vae: AutoencoderKLWan) -> dict[str, str]:
    """diffusers' name -> official name, found by asking diffusers' own conversion about every possible name."""
    blocks = ["residual.0", "residual.2", "residual.3", "residual.6", "shortcut", "resample.1", "time_conv"]
    attention = ["norm", "to_qkv", "proj"]
    modules = ["conv1", "conv2"]
    for side, ladder in (("encoder", "downsamples"), ("decoder", "upsamples")):
        modules += [f"{side}.conv1", f"{side}.head.0", f"{side}.head.2"]
        modules += [f"{side}.middle.{n}.{block}" for n in (0, 2) for block in blocks]
        modules += [f"{side}.middle.1.{part}" for part in attention]
        modules += [f"{side}.{ladder}.{n}.{block}" for n in range(16) for block in blocks]
    candidates = [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias", "gamma")]
    found = {ours: name for name in candidates for ours in convert_wan_vae_to_diffusers({name: None})}
    return {ours: found[ours] for ours in vae.state_dict()}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
