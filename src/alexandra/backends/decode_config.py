"""What a decoder language model is, in one frozen description, read from GGUF metadata or a Hugging Face config.

Known: llama (Llama, Mistral and their kin), qwen2, qwen3, gpt2. Tensors carry GGUF's names (token_embd.weight,
blk.0.attn_q.weight, ...). A Hugging Face folder's names are mapped onto them. Llama files of GGUF rotate pairs
(2i, 2i + 1); Hugging Face rotates (i, i + half): `Rope.interleaved` keeps which one the weights are laid out for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexandra.errors import BackendError, suggest
from alexandra.ir.positions import rope_frequencies

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
_HF = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GPT2LMHeadModel": "gpt2",
}
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_SCALINGS = ("linear", "yarn", "llama3")


@dataclass(frozen=True)
class Rope:
    """Rotary positions over the first `dims` of each head; scaling is none, linear, yarn or llama3."""

    base: float
    dims: int
    interleaved: bool = False
    scaling: str = "none"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 0

    def table(self, positions: int, factors: np.ndarray | None = None) -> np.ndarray:
        """float32 [positions, dims]: cosines, then sines. `factors` divide the frequencies (rope_freqs.weight)."""
        attrs = {name: getattr(self, name) for name in ("base", "dims", "scaling", "factor", "low", "high", "original")}
        attrs |= {"head_dim": self.dims, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": None}
        frequencies, size = rope_frequencies(attrs)
        if factors is not None:
            frequencies, size = self.base ** -(np.arange(0, self.dims, 2) / self.dims) / factors.astype(np.float64), 1.0
        angle = np.arange(positions, dtype=np.float64)[:, None] * frequencies
        return np.concatenate([np.cos(angle) * size, np.sin(angle) * size], axis=1).astype(np.float32)


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and choices of a decoder. `window` 0: every earlier position is seen; `rope` None: learned positions."""

    architecture: str
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    context: int
    eps: float
    rope: Rope | None
    activation: str = "silu"
    window: int = 0
    tied: bool = False
    end_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("vocab", "width", "layers", "heads", "kv_heads", "head_dim", "hidden", "context"):
            value = getattr(self, name)
            if not 0 < value < 2**31:
                raise BackendError(f"a decoder's {name} must be a positive number, got {value!r}")
        if self.heads % self.kv_heads:
            raise BackendError(f"{self.heads} heads cannot share {self.kv_heads} key-value heads evenly")

    @property
    def gated(self) -> bool:
        return self.architecture != "gpt2"


def config_from_gguf(metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> DecoderConfig:
    """Read GGUF metadata; `shapes` are those of the tensors. BackendError names the key that is missing or unknown."""
    arch = str(metadata.get("general.architecture", ""))
    if arch not in ARCHITECTURES:
        raise BackendError(f"GGUF architecture {arch!r} cannot be decoded here", hint=suggest(arch, ARCHITECTURES))

    def need(key: str) -> int:
        if f"{arch}.{key}" not in metadata:
            raise BackendError(f"the GGUF file lacks the key '{arch}.{key}'")
        return int(metadata[f"{arch}.{key}"])

    def ask(key: str, default: float) -> float:
        value = metadata.get(f"{arch}.{key}", default)
        if isinstance(value, str | list):
            raise BackendError(f"the GGUF key '{arch}.{key}' is {value!r:.60}, not one number")
        return float(value)

    width, heads = need("embedding_length"), need("attention.head_count")
    if width < 1 or heads < 1:
        raise BackendError(f"a GGUF file of width {width} with {heads} heads is no decoder")
    head_dim = int(ask("attention.key_length", width // heads))
    if int(ask("attention.value_length", head_dim)) != head_dim:
        raise BackendError("heads whose values have another size than their keys are not supported")
    kind = str(metadata.get(f"{arch}.rope.scaling.type", "none"))
    rope = Rope(
        base=ask("rope.freq_base", 10000.0),
        dims=int(ask("rope.dimension_count", head_dim)),
        interleaved=arch == "llama",
        scaling=_scaling(kind),
        factor=ask("rope.scaling.factor", 1.0),
        original=int(ask("rope.scaling.original_context_length", 0)),
    )
    norm = "attention.layer_norm_epsilon" if arch == "gpt2" else "attention.layer_norm_rms_epsilon"
    embedding = shapes.get("token_embd.weight")
    if embedding is None:
        raise BackendError("the GGUF file has no tensor 'token_embd.weight'")
    ends = [metadata[key] for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id") if key in metadata]
    return DecoderConfig(
        architecture=arch,
        vocab=embedding[0],
        width=width,
        layers=need("block_count"),
        heads=heads,
        kv_heads=int(ask("attention.head_count_kv", heads)),
        head_dim=head_dim,
        hidden=need("feed_forward_length"),
        context=need("context_length"),
        eps=ask(norm, 1e-5),
        rope=None if arch == "gpt2" else rope,
        activation="gelu_tanh" if arch == "gpt2" else "silu",
        window=int(ask("attention.sliding_window", 0)),
        tied="output.weight" not in shapes,
        end_tokens=tuple(dict.fromkeys(int(end) for end in ends)),
    )


def config_from_hf(config: Mapping[str, Any]) -> DecoderConfig:
    """Read a Hugging Face `config.json`. BackendError names what is not supported."""
    names = list(config.get("architectures") or [])
    arch = _HF.get(str(names[0]) if names else "", "")
    if not arch:
        raise BackendError(f"architectures {names} cannot be decoded here", hint=suggest(str(names), _HF))
    ends = config.get("eos_token_id")
    ends = tuple(ends) if isinstance(ends, list) else () if ends is None else (int(ends),)
    if arch == "gpt2":
        return _gpt2(config, ends)
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    head_dim = int(config.get("head_dim") or width // heads)
    window = config.get("sliding_window") or 0
    if arch.startswith("qwen"):
        window = window if config.get("use_sliding_window") else 0
        if window and any(kind != "sliding_attention" for kind in config.get("layer_types") or []):
            raise BackendError("layers with and without a sliding window in one model are not supported")
    return DecoderConfig(
        architecture=arch,
        vocab=int(config["vocab_size"]),
        width=width,
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        hidden=int(config["intermediate_size"]),
        context=int(config.get("max_position_embeddings", 2048)),
        eps=float(config.get("rms_norm_eps", 1e-6)),
        rope=_hf_rope(config, head_dim),
        activation=_activation(str(config.get("hidden_act", "silu"))),
        window=int(window),
        tied=bool(config.get("tie_word_embeddings", False)),
        end_tokens=ends,
    )


def _gpt2(config: Mapping[str, Any], ends: tuple[int, ...]) -> DecoderConfig:
    width, heads = int(config["n_embd"]), int(config["n_head"])
    for key in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
        if config.get(key):
            raise BackendError(f"GPT-2 with {key} is not supported")
    return DecoderConfig(
        architecture="gpt2",
        vocab=int(config["vocab_size"]),
        width=width,
        layers=int(config["n_layer"]),
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        hidden=int(config.get("n_inner") or 4 * width),
        context=int(config.get("n_positions", config.get("n_ctx", 1024))),
        eps=float(config.get("layer_norm_epsilon", 1e-5)),
        rope=None,
        activation=_activation(str(config.get("activation_function", "gelu_new"))),
        tied=True,
        end_tokens=ends,
    )


def _hf_rope(config: Mapping[str, Any], head_dim: int) -> Rope:
    """From `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
    given = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    base = given.get("rope_theta", config.get("rope_theta", 10000.0))
    share = given.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0)
    return Rope(
        base=float(base),
        dims=int(head_dim * share),
        scaling=_scaling(str(given.get("rope_type", given.get("type", "none")))),
        factor=float(given.get("factor", 1.0)),
        low=float(given.get("low_freq_factor", 1.0)),
        high=float(given.get("high_freq_factor", 4.0)),
        original=int(given.get("original_max_position_embeddings", config.get("max_position_embeddings", 0))),
    )


def _scaling(kind: str) -> str:
    if kind in ("none", "default", ""):
        return "none"
    if kind not in _SCALINGS:
        raise BackendError(f"rotary scaling {kind!r} is not supported", hint=suggest(kind, _SCALINGS))
    return kind


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise BackendError(f"activation {name!r} is not supported", hint=suggest(name, _ACTIVATIONS))
    return _ACTIVATIONS[name]
