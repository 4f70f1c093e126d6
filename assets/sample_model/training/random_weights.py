"""Make the test model: the architecture at its smallest, with random weights. Its pictures mean nothing.

python -m assets.sample_model.training.random_weights [FOLDER]
"""

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import UMT5Config, UMT5EncoderModel, Wav2Vec2Config, Wav2Vec2ForCTC

from assets.sample_model.training.official_layout import (
    save_speech_encoder,
    save_text_encoder,
    save_transformer,
    save_vae,
)
from pipeline.model.transformer import SpeechToVideoTransformer

SEED = 20261124
TEXT_WIDTH = 64
AUDIO_WIDTH = 32


def main(folder: Path) -> None:
    """Write the checkpoint into `folder`."""
    torch.manual_seed(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    save_transformer(folder, make_transformer())
    save_text_encoder(folder, make_text_encoder(tokenizer.get_vocab_size()), tokenizer)
    save_speech_encoder(folder, make_speech_encoder())
    save_vae(folder, AutoencoderKLWan(base_dim=4), torch.bfloat16)


def make_transformer() -> SpeechToVideoTransformer:
    """Four blocks of width 96."""
    return SpeechToVideoTransformer(
        num_attention_heads=2,
        attention_head_dim=48,
        num_layers=4,
        ffn_dim=192,
        text_dim=TEXT_WIDTH,
        audio_dim=AUDIO_WIDTH,
        audio_inject_layers=(0, 2),
    )


def make_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """Two layers."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=TEXT_WIDTH,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def make_speech_encoder() -> Wav2Vec2ForCTC:
    """24 layers, since the transformer mixes 25 hidden states, of width 32."""
    return Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=33,
            hidden_size=AUDIO_WIDTH,
            num_hidden_layers=24,
            num_attention_heads=4,
            intermediate_size=AUDIO_WIDTH,
            conv_dim=(16,) * 7,
            conv_bias=True,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
    )


def make_tokenizer() -> Tokenizer:
    """One token per byte of UTF-8: every text in every language, from no training at all."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
