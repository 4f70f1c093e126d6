"""Import what the program uses, as it does: run while the image is built, where it finds what is missing.

What was imported has its bytecode beside it then, so that starts are quick on a file system that is read-only.
"""

import boto3  # noqa: F401
import ftfy  # noqa: F401
import gradio  # noqa: F401
import huggingface_hub
import librosa
import moviepy  # noqa: F401
import numpy as np
import pydantic_settings  # noqa: F401
import runpod  # noqa: F401
import torch
import triton  # noqa: F401
from diffusers import (  # noqa: F401
    AutoencoderKLWan,
    DPMSolverMultistepScheduler,
    ModelMixin,
    UniPCMultistepScheduler,
)
from diffusers.hooks import apply_group_offloading  # noqa: F401
from diffusers.loaders import PeftAdapterMixin  # noqa: F401
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers  # noqa: F401
from diffusers.models.transformers.transformer_wan import WanTransformerBlock  # noqa: F401
from transformers import AutoTokenizer, UMT5EncoderModel, Wav2Vec2FeatureExtractor, Wav2Vec2Model  # noqa: F401

huggingface_hub.snapshot_download  # noqa: B018 -- imported when it is asked for
librosa.resample(np.zeros(2205, np.float32), orig_sr=22050, target_sr=16000)
torch.nn.functional.scaled_dot_product_attention(*torch.zeros(3, 1, 1, 4, 8))
