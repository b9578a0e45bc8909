"""Writes tiny random weights with the key layout of Qwen-Image-Edit, under any file names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from .sizes import (
    DIT_CHANNELS,
    DIT_LAYERS,
    DIT_WIDTH,
    HEAD_WIDTH,
    HEADS,
    LATENT_CHANNELS,
    LORA_RANK,
    TEXT,
    VAE_WIDTH,
    VISION,
    VOCABULARY,
)

Shapes = Iterator[tuple[str, tuple[int, ...]]]

AIO_PREFIXES = {
    "model.diffusion_model.": "diffusion_models",
    "text_encoders.qwen25_7b.transformer.": "text_encoders",
    "vae.": "vae",
}


def write_models(models: Path, names: Mapping[str, list[str]]) -> None:
    """`names` is folder -> file names, as a workflow's models have them."""
    shapes = {
        "diffusion_models": diffusion_model,
        "text_encoders": text_encoder,
        "vae": vae,
        "loras": lora,
    }
    for folder, files in names.items():
        for file in files:
            path = models / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder == "checkpoints":
                parts = {prefix: shapes[part]() for prefix, part in AIO_PREFIXES.items()}
            else:
                parts = {"": shapes[folder]()}
            save_file(tensors(parts), path)


def tensors(parts: Mapping[str, Shapes]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        prefix + key: tensor(random, key, shape)
        for prefix, shapes in parts.items()
        for key, shape in shapes
    }


def tensor(random: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.endswith(".alpha"):
        return np.full(shape, LORA_RANK, np.float32)
    if key.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if key.endswith("gamma") or any(word in key.rsplit(".", 2)[-2] for word in ("norm", "ln_q")):
        return np.ones(shape, np.float32)
    inputs = math.prod(shape[1:])
    return (random.standard_normal(shape, np.float32) / math.sqrt(inputs)).astype(np.float32)


def dense(key: str, outputs: int, inputs: int) -> Shapes:
    yield f"{key}.weight", (outputs, inputs)
    yield f"{key}.bias", (outputs,)


def conv(key: str, outputs: int, inputs: int, *kernel: int) -> Shapes:
    yield f"{key}.weight", (outputs, inputs, *kernel)
    yield f"{key}.bias", (outputs,)


# -- text encoder: a language model with eyes --------------------------------------------------


def text_encoder() -> Shapes:
    width, inner = TEXT["hidden_size"], HEADS * HEAD_WIDTH
    yield "model.embed_tokens.weight", (VOCABULARY, width)
    for layer in range(TEXT["num_hidden_layers"]):
        key = f"model.layers.{layer}"
        for part in "qkv":
            yield from dense(f"{key}.self_attn.{part}_proj", inner, width)
        yield f"{key}.self_attn.o_proj.weight", (width, inner)
        yield f"{key}.mlp.gate_proj.weight", (TEXT["intermediate_size"], width)
        yield f"{key}.mlp.up_proj.weight", (TEXT["intermediate_size"], width)
        yield f"{key}.mlp.down_proj.weight", (width, TEXT["intermediate_size"])
        yield f"{key}.input_layernorm.weight", (width,)
        yield f"{key}.post_attention_layernorm.weight", (width,)
    yield "model.norm.weight", (width,)
    yield from vision()


def vision() -> Shapes:
    width, mlp = VISION["hidden_size"], VISION["intermediate_size"]
    yield "visual.patch_embed.proj.weight", (width, 3, 2, 14, 14)
    for layer in range(VISION["num_layers"]):
        key = f"visual.blocks.{layer}"
        yield f"{key}.norm1.weight", (width,)
        yield f"{key}.norm2.weight", (width,)
        yield from dense(f"{key}.attn.qkv", 3 * width, width)
        yield from dense(f"{key}.attn.proj", width, width)
        yield from dense(f"{key}.mlp.gate_proj", mlp, width)
        yield from dense(f"{key}.mlp.up_proj", mlp, width)
        yield from dense(f"{key}.mlp.down_proj", width, mlp)
    yield "visual.merger.ln_q.weight", (width,)
    yield from dense("visual.merger.mlp.0", 4 * width, 4 * width)
    yield from dense("visual.merger.mlp.2", TEXT["hidden_size"], 4 * width)


# -- diffusion model and its LoRAs -------------------------------------------------------------


def diffusion_model() -> Shapes:
    width = DIT_WIDTH
    yield from dense("time_text_embed.timestep_embedder.linear_1", width, 256)
    yield from dense("time_text_embed.timestep_embedder.linear_2", width, width)
    yield "txt_norm.weight", (TEXT["hidden_size"],)
    yield from dense("img_in", width, DIT_CHANNELS)
    yield from dense("txt_in", width, TEXT["hidden_size"])
    for layer in range(DIT_LAYERS):
        yield from block(f"transformer_blocks.{layer}", width)
    yield from dense("norm_out.linear", 2 * width, width)
    yield from dense("proj_out", DIT_CHANNELS, width)


def block(key: str, width: int) -> Shapes:
    for side in ("img", "txt"):
        yield from dense(f"{key}.{side}_mod.1", 6 * width, width)
        yield from dense(f"{key}.{side}_mlp.net.0.proj", 4 * width, width)
        yield from dense(f"{key}.{side}_mlp.net.2", width, 4 * width)
    for norm in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        yield f"{key}.attn.{norm}.weight", (width,)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from dense(f"{key}.attn.{part}", width, width)
    for part in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
        yield from dense(f"{key}.attn.{part}", width, width)


def lora() -> Shapes:
    for layer in range(DIT_LAYERS):
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            key = f"transformer_blocks.{layer}.attn.{part}"
            yield f"{key}.lora_down.weight", (LORA_RANK, DIT_WIDTH)
            yield f"{key}.lora_up.weight", (DIT_WIDTH, LORA_RANK)
            yield f"{key}.alpha", ()


# -- VAE ---------------------------------------------------------------------------------------


def vae() -> Shapes:
    yield from encoder()
    yield from conv("conv1", 2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1, 1, 1)
    yield from conv("conv2", LATENT_CHANNELS, LATENT_CHANNELS, 1, 1, 1)
    yield from decoder()


def encoder() -> Shapes:
    widths = [VAE_WIDTH * factor for factor in (1, 1, 2, 4, 4)]
    yield from conv("encoder.conv1", widths[0], 3, 3, 3, 3)
    number = 0
    for level, (before, after) in enumerate(pairwise(widths)):
        for inputs in (before, after):
            yield from residual(f"encoder.downsamples.{number}", inputs, after)
            number += 1
        if level < 3:
            key = f"encoder.downsamples.{number}"
            yield from conv(f"{key}.resample.1", after, after, 3, 3)
            if level > 0:
                yield from conv(f"{key}.time_conv", after, after, 3, 1, 1)
            number += 1
    yield from middle("encoder.middle", widths[-1])
    yield "encoder.head.0.gamma", (widths[-1], 1, 1, 1)
    yield from conv("encoder.head.2", 2 * LATENT_CHANNELS, widths[-1], 3, 3, 3)


def decoder() -> Shapes:
    widths = [VAE_WIDTH * factor for factor in (4, 4, 4, 2, 1)]
    yield from conv("decoder.conv1", widths[0], LATENT_CHANNELS, 3, 3, 3)
    yield from middle("decoder.middle", widths[0])
    number = 0
    for level, (before, after) in enumerate(pairwise(widths)):
        # Each upsampling halves the channels, so a level after the first begins with half.
        begin = before // 2 if level > 0 else before
        for inputs in (begin, after, after):
            yield from residual(f"decoder.upsamples.{number}", inputs, after)
            number += 1
        if level < 3:
            key = f"decoder.upsamples.{number}"
            yield from conv(f"{key}.resample.1", after // 2, after, 3, 3)
            if level < 2:
                yield from conv(f"{key}.time_conv", 2 * after, after, 3, 1, 1)
            number += 1
    yield "decoder.head.0.gamma", (widths[-1], 1, 1, 1)
    yield from conv("decoder.head.2", 3, widths[-1], 3, 3, 3)


def residual(key: str, inputs: int, outputs: int) -> Shapes:
    yield f"{key}.residual.0.gamma", (inputs, 1, 1, 1)
    yield from conv(f"{key}.residual.2", outputs, inputs, 3, 3, 3)
    yield f"{key}.residual.3.gamma", (outputs, 1, 1, 1)
    yield from conv(f"{key}.residual.6", outputs, outputs, 3, 3, 3)
    if inputs != outputs:
        yield from conv(f"{key}.shortcut", outputs, inputs, 1, 1, 1)


def middle(key: str, width: int) -> Shapes:
    yield from residual(f"{key}.0", width, width)
    yield f"{key}.1.norm.gamma", (width, 1, 1)
    yield from conv(f"{key}.1.to_qkv", 3 * width, width, 1, 1)
    yield from conv(f"{key}.1.proj", width, width, 1, 1)
    yield from residual(f"{key}.2", width, width)
