"""A decoder written as a GGUF file that llama.cpp runs: metadata, tokenizer, tensors in one of five types.

Matrices take the wanted type where their rows allow it; norms and biases stay F32, as llama.cpp expects. Llama files
rotate pairs (2i, 2i + 1), so the rows of q and k of a model laid out the other way change places here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.decode import DecoderModel
from alexandra.backends.decode_config import DecoderConfig
from alexandra.backends.gguf import write_gguf
from alexandra.backends.quant import TYPES, StoredTensor, quantize
from alexandra.errors import BackendError, suggest

_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}


def export_gguf(model: DecoderModel, path: str | Path, kind: str = "F32", *, name: str = "alexandra") -> Path:
    """Write `model` to `path` with its matrices as `kind` (F32, F16, BF16, Q8_0, Q4_0); returns the path."""
    if kind not in TYPES:
        raise BackendError(f"tensor type {kind!r} is not known", hint=suggest(kind, TYPES))
    return write_gguf(path, metadata_of(model, kind, name), converted(model, kind).tensors.values())


def converted(model: DecoderModel, kind: str) -> DecoderModel:
    """The same model with its matrices stored as `kind` and, for llama, rotated as GGUF has it."""
    config, swap = model.config, False
    if config.architecture == "llama" and config.rope is not None and not config.rope.interleaved:
        config, swap = replace(config, rope=replace(config.rope, interleaved=True)), True
    tensors = {}
    for key, tensor in model.tensors.items():
        given = _paired(tensor, config) if swap and key.split(".")[-2] in ("attn_q", "attn_k") else tensor
        tensors[key] = _as(given, key, kind)
    return DecoderModel(config, tensors, model.tokenizer, model.source, model.metadata)


def _as(tensor: StoredTensor, name: str, kind: str) -> StoredTensor:
    matrix = len(tensor.shape) == 2 and "norm" not in name and name != "position_embd.weight"
    wanted = kind if matrix and tensor.cols % TYPES[kind][0] == 0 else "F32"
    return replace(tensor, name=name) if tensor.type == wanted else quantize(tensor.array(), wanted, name)


def _paired(tensor: StoredTensor, config: DecoderConfig) -> StoredTensor:
    """Rows (i, i + half) of each head side by side."""
    values = tensor.array().reshape(-1, 2, config.head_dim // 2, *tensor.shape[1:])
    turned = np.ascontiguousarray(values.swapaxes(1, 2).reshape(tensor.shape))
    return StoredTensor(tensor.name, "F32", tensor.shape, turned.reshape(-1).view(np.uint8))


def metadata_of(model: DecoderModel, kind: str, name: str) -> dict[str, Any]:
    """The keys that llama.cpp needs, in its words."""
    config, arch = model.config, model.config.architecture
    eps = "layer_norm_epsilon" if arch == "gpt2" else "layer_norm_rms_epsilon"
    keys: dict[str, Any] = {
        "general.architecture": arch,
        "general.name": name,
        "general.file_type": _FILE_TYPES[kind],
        "general.quantization_version": 2,
        f"{arch}.context_length": config.context,
        f"{arch}.embedding_length": config.width,
        f"{arch}.block_count": config.layers,
        f"{arch}.feed_forward_length": config.hidden,
        f"{arch}.attention.head_count": config.heads,
        f"{arch}.attention.head_count_kv": config.kv_heads,
        f"{arch}.attention.{eps}": config.eps,
        f"{arch}.vocab_size": config.vocab,
    }
    if config.head_dim * config.heads != config.width:
        keys |= {f"{arch}.attention.key_length": config.head_dim, f"{arch}.attention.value_length": config.head_dim}
    if config.window:
        keys[f"{arch}.attention.sliding_window"] = config.window
    if config.rope is not None:
        keys |= {f"{arch}.rope.dimension_count": config.rope.dims, f"{arch}.rope.freq_base": config.rope.base}
        if config.rope.scaling in ("linear", "yarn"):
            keys[f"{arch}.rope.scaling.type"] = config.rope.scaling
            keys[f"{arch}.rope.scaling.factor"] = config.rope.factor
            keys[f"{arch}.rope.scaling.original_context_length"] = config.rope.original
    return keys | _tokenizer(model)


def _tokenizer(model: DecoderModel) -> dict[str, Any]:
    """The tokenizer's own keys when the model came with them; else one made-up text per token."""
    own = {key: value for key, value in model.metadata.items() if key.startswith("tokenizer.") and value != []}
    if own:
        return own
    count, tok = model.config.vocab, model.tokenizer
    if tok is not None and tok.merges:
        names = [b""] * count
        for text, index in tok.tokens.items():
            names[index] = text.encode()
        merges = [f"{left} {right}".encode() for left, right in tok.merges]
        control, user = set(tok.special.values()), set(tok.added.values())
        kinds = [3 if i in control else 4 if i in user else 1 for i in range(count)]
        keys: dict[str, Any] = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": tok.split,
            "tokenizer.ggml.tokens": names,
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": merges,
        }
    else:
        keys = plain_vocabulary(count)
    if model.config.end_tokens:
        keys["tokenizer.ggml.eos_token_id"] = model.config.end_tokens[0]
    return keys


def plain_vocabulary(count: int) -> dict[str, Any]:
    """A SentencePiece vocabulary of bytes: 3 control tokens, 256 bytes, the space, then names without text."""
    head = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{byte:02X}>".encode() for byte in range(256)] + ["\u2581".encode()]
    names = (head + [f"[{i}]".encode() for i in range(len(head), count)])[:count]
    kinds = ([2, 3, 3] + [6] * 256 + [1] * max(0, count - 259))[:count]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": [float(-i) for i in range(count)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
