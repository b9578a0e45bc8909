"""Shrinks ComfyUI's Qwen-Image classes, and writes tiny random weights that fit them.

For tests only: beside it, real Qwen files do not load. Nothing but sizes is changed; detection,
loaders, tokenizer, samplers and nodes stay ComfyUI's own. TINY_QWEN_MODELS names the files to
write, as JSON: folder -> names.
"""

import json
import os
from functools import partial
from pathlib import Path

import comfy.ldm.wan.vae
import comfy.supported_models
import folder_paths
from comfy.text_encoders import llama

from .sizes import DIT, TEXT, VAE_WIDTH, VISION
from .weights import write_models

NODE_CLASS_MAPPINGS = {}


def resized(cls, sizes):
    """A class called with some of its arguments replaced."""
    return lambda *args, **kwargs: cls(*args, **{**kwargs, **sizes})


llama.Qwen25_7BVLI_Config = partial(llama.Qwen25_7BVLI_Config, **TEXT)
llama.qwen_vl.Qwen2VLVisionTransformer = resized(llama.qwen_vl.Qwen2VLVisionTransformer, VISION)
comfy.supported_models.QwenImage.unet_extra_config = DIT
comfy.ldm.wan.vae.WanVAE = resized(comfy.ldm.wan.vae.WanVAE, {"dim": VAE_WIDTH})

write_models(Path(folder_paths.models_dir), json.loads(os.environ["TINY_QWEN_MODELS"]))
