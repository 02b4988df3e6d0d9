"""Small random decoders for tests: every shape that generation supports, and what torch would answer."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.decode import DecoderModel
from alexandra.backends.decode_config import DecoderConfig, Rope
from alexandra.backends.decode_graph import decoder_from_weights, decoder_graph
from alexandra.backends.decode_tokenizer import Tokenizer, tokenizer_from_gguf
from alexandra.backends.quant import stored
from alexandra.objectives.spec import AdamW, Schedule
from alexandra.rng import derive
from alexandra.train.model import bind


def config(architecture: str = "llama", **changes: object) -> DecoderConfig:
    """A tiny decoder of that architecture; sizes are multiples of 32."""
    given: dict[str, object] = {
        "architecture": architecture,
        "vocab": 96,
        "width": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 4 if architecture == "gpt2" else 2,
        "head_dim": 16,
        "hidden": 96,
        "context": 128,
        "eps": 1e-5,
        "rope": None if architecture == "gpt2" else Rope(10000.0, 16, architecture == "llama"),
        "activation": "gelu_tanh" if architecture == "gpt2" else "silu",
        "tied": architecture == "gpt2",
    }
    return DecoderConfig(**{**given, **changes})  # type: ignore[arg-type]


def shapes(c: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the architecture."""
    wide, narrow = c.heads * c.head_dim, c.kv_heads * c.head_dim
    result: dict[str, tuple[int, ...]] = {"token_embd.weight": (c.vocab, c.width), "output_norm.weight": (c.width,)}
    if not c.tied:
        result["output.weight"] = (c.vocab, c.width)
    gpt2 = c.architecture == "gpt2"
    if gpt2:
        result |= {"position_embd.weight": (c.context, c.width), "output_norm.bias": (c.width,)}
    for i in range(c.layers):
        block: dict[str, tuple[int, ...]] = {"attn_norm.weight": (c.width,), "ffn_norm.weight": (c.width,)}
        block |= {"attn_output.weight": (c.width, wide), "ffn_up.weight": (c.hidden, c.width)}
        block |= {"ffn_down.weight": (c.width, c.hidden)}
        if gpt2:
            block |= {"attn_qkv.weight": (3 * wide, c.width), "attn_qkv.bias": (3 * wide,)}
            block |= {"attn_norm.bias": (c.width,), "ffn_norm.bias": (c.width,), "attn_output.bias": (c.width,)}
            block |= {"ffn_up.bias": (c.hidden,), "ffn_down.bias": (c.width,)}
        else:
            block |= {"attn_q.weight": (wide, c.width), "attn_k.weight": (narrow, c.width)}
            block |= {"attn_v.weight": (narrow, c.width), "ffn_gate.weight": (c.hidden, c.width)}
        if c.architecture == "qwen2":
            block |= {"attn_q.bias": (wide,), "attn_k.bias": (narrow,), "attn_v.bias": (narrow,)}
        if c.architecture == "qwen3":
            block |= {"attn_q_norm.weight": (c.head_dim,), "attn_k_norm.weight": (c.head_dim,)}
        result |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
    return result


def decoder(architecture: str = "llama", seed: int = 0, **changes: object) -> DecoderModel:
    """Random weights, large enough that attention and the choice of tokens depend on the text."""
    c = config(architecture, **changes)
    tensors = {}
    for name, shape in shapes(c).items():
        noise = derive(seed, name).normal(int(np.prod(shape))).reshape(shape)
        scale = 0.3 if len(shape) == 1 else 1.0 if "embd" in name else 1.5 / np.sqrt(shape[1])
        values = noise * scale + (1.0 if name.endswith("norm.weight") else 0.0)
        tensors[name] = stored(values.astype(np.float32), name)
    return DecoderModel(c, tensors, source=f"random {architecture}")


def tokens(count: int, vocab: int = 96, seed: int = 0) -> list[int]:
    return [int(token) for token in derive(seed, "tokens").below(vocab, count)]


def characters(folder: Path) -> tuple[Tokenizer, dict[str, Any], str]:
    """A tokenizer of Shakespeare's characters, its GGUF keys, and his text."""
    with gzip.open(folder / "lm_text" / "tinyshakespeare_train.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    names = [b"<unk>", b"<s>", b"</s>", *(c.replace(" ", "\u2581").encode() for c in sorted(set(text)))]
    names += [f"[{i}]".encode() for i in range(len(names), 96)]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": [0.0] * 96,
        "tokenizer.ggml.token_type": [2, 3, 3] + [1] * 93,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
    tokenizer = tokenizer_from_gguf(metadata)
    assert tokenizer is not None
    return tokenizer, metadata, text


def trained(folder: Path, epochs: int = 3) -> tuple[DecoderModel, str]:
    """A two-layer Llama that has read 400,000 characters of Shakespeare (torch), and a part that it has not read."""
    tokenizer, metadata, text = characters(folder)
    c = config("llama", width=128, head_dim=32, hidden=256, rope=Rope(10000.0, 32))
    length, count = 64, 6000
    ids = np.array([tokenizer.tokens[x.replace(" ", "\u2581")] for x in text[: length * count + 1]], np.int32)
    inputs, targets = ids[:-1].reshape(count, length), ids[1:].reshape(count, length)
    model = bind(decoder_graph(c), backend="torch", seed=0)
    steps = epochs * (count // 32)
    model.fit(
        {"tokens": inputs},
        targets,
        optimizer=AdamW(lr=3e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", total_steps=steps, warmup_steps=20),
        epochs=epochs,
        batch_size=32,
        clip_norm=1.0,
    )
    made = decoder_from_weights(c, model.weights, tokenizer)
    return DecoderModel(c, made.tensors, tokenizer, "shakespeare", metadata), text[-20000:]
