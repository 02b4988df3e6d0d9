"""A decoder as the engine's list of steps (csrc/decode_ops.cpp): from a DecoderConfig and tensors by GGUF names.

Each step is (name, op, inputs, width, parameters, numbers); parameters index the list of weights. Nothing runs here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from alexandra.backends.decode_config import DecoderConfig
from alexandra.backends.quant import StoredTensor, stored
from alexandra.errors import WeightsError, suggest

Step = tuple[str, str, list[int], int, list[int], list[float]]
POINTWISE = ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "softplus", "tanh", "gelu_tanh")


class Steps:
    """The list under construction, with the weights that its steps name."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self.steps: list[Step] = []
        self.weights: list[StoredTensor] = []
        self._tensors = tensors
        self._index: dict[str, int] = {}

    def add(
        self,
        name: str,
        op: str,
        inputs: Sequence[int],
        width: int,
        params: Sequence[int] = (),
        numbers: Sequence[float] = (),
    ) -> int:
        """One more step; returns its index."""
        self.steps.append((name, op, list(inputs), width, list(params), [float(n) for n in numbers]))
        return len(self.steps) - 1

    def has(self, name: str) -> bool:
        return name in self._tensors

    def weight(self, name: str, shape: tuple[int, ...]) -> int:
        """The index of a tensor; WeightsError when it is missing or has another shape."""
        if name not in self._tensors:
            raise WeightsError(f"the model has no tensor {name!r}", hint=suggest(name, self._tensors))
        tensor = self._tensors[name]
        if tensor.shape != shape:
            raise WeightsError(f"tensor {name!r} has shape {tensor.shape}, the network needs {shape}")
        return self.keep(name, tensor)

    def maybe(self, name: str, shape: tuple[int, ...]) -> int:
        return self.weight(name, shape) if self.has(name) else -1

    def keep(self, name: str, tensor: StoredTensor) -> int:
        if name not in self._index:
            self._index[name] = len(self.weights)
            self.weights.append(tensor)
        return self._index[name]

    def width(self, step: int) -> int:
        return self.steps[step][3]


def plan(config: DecoderConfig, tensors: Mapping[str, StoredTensor], context: int) -> Steps:
    """The steps of a whole model, tokens to logits, for `context` positions."""
    steps = Steps(tensors)
    tokens = steps.add("tokens", "tokens", [], 1)
    table = steps.weight("token_embd.weight", (config.vocab, config.width))
    x = steps.add("token_embd", "embedding", [tokens], config.width, [table], [1.0])
    rope = -1
    if config.rope is None:
        positions = steps.weight("position_embd.weight", (config.context, config.width))
        x = steps.add("position_embd", "position", [x], config.width, [positions], [0])
    else:
        factors = tensors["rope_freqs.weight"].array() if "rope_freqs.weight" in tensors else None
        rope = steps.keep("rope table", stored(config.rope.table(context, factors), "rope table"))
    for layer in range(config.layers):
        x = _block(steps, config, f"blk.{layer}", x, rope)
    x = _norm(steps, config, "output_norm", x, config.width)
    last = "token_embd.weight" if config.tied else "output.weight"
    steps.add("output", "dense", [x], config.vocab, [steps.weight(last, (config.vocab, config.width)), -1])
    return steps


def _block(steps: Steps, config: DecoderConfig, name: str, x: int, rope: int) -> int:
    h = _norm(steps, config, f"{name}.attn_norm", x, config.width)
    x = steps.add(f"{name}.attn_add", "add", [x, _attention(steps, config, name, h, rope)], config.width)
    h = _norm(steps, config, f"{name}.ffn_norm", x, config.width)
    up = _dense(steps, f"{name}.ffn_up", h, config.hidden)
    which = [POINTWISE.index(config.activation), 0.0]
    if config.gated:
        gate = _dense(steps, f"{name}.ffn_gate", h, config.hidden)
        gate = steps.add(f"{name}.ffn_act", "pointwise", [gate], config.hidden, [], which)
        up = steps.add(f"{name}.ffn_mul", "mul", [gate, up], config.hidden)
    else:
        up = steps.add(f"{name}.ffn_act", "pointwise", [up], config.hidden, [], which)
    down = _dense(steps, f"{name}.ffn_down", up, config.width)
    return steps.add(f"{name}.ffn_add", "add", [x, down], config.width)


def _attention(steps: Steps, config: DecoderConfig, name: str, h: int, rope: int) -> int:
    dim, wide, narrow = config.head_dim, config.heads * config.head_dim, config.kv_heads * config.head_dim
    if steps.has(f"{name}.attn_qkv.weight"):
        joint = _dense(steps, f"{name}.attn_qkv", h, wide + 2 * narrow)
        q = steps.add(f"{name}.q", "slice", [joint], wide, [], [0])
        k = steps.add(f"{name}.k", "slice", [joint], narrow, [], [wide])
        v = steps.add(f"{name}.v", "slice", [joint], narrow, [], [wide + narrow])
    else:
        q, k, v = (
            _dense(steps, f"{name}.attn_{part}", h, size) for part, size in (("q", wide), ("k", narrow), ("v", narrow))
        )
    if steps.has(f"{name}.attn_q_norm.weight"):
        q = _norm(steps, config, f"{name}.attn_q_norm", q, dim)
        k = _norm(steps, config, f"{name}.attn_k_norm", k, dim)
    if config.rope is not None:
        turn = [dim, float(config.rope.interleaved)]
        q = steps.add(f"{name}.q_rope", "rope", [q], wide, [rope], turn)
        k = steps.add(f"{name}.k_rope", "rope", [k], narrow, [rope], turn)
    numbers = [config.heads, config.kv_heads, dim, dim, config.window, 1.0 / float(np.sqrt(dim)), 0.0]
    seen = steps.add(f"{name}.sdpa", "sdpa", [q, k, v], wide, [], numbers)
    return _dense(steps, f"{name}.attn_output", seen, config.width)


def _dense(steps: Steps, name: str, x: int, width: int) -> int:
    weight = steps.weight(f"{name}.weight", (width, steps.width(x)))
    return steps.add(name, "dense", [x], width, [weight, steps.maybe(f"{name}.bias", (width,))])


def _norm(steps: Steps, config: DecoderConfig, name: str, x: int, size: int) -> int:
    params = [steps.weight(f"{name}.weight", (size,))]
    if config.architecture == "gpt2":
        params.append(steps.weight(f"{name}.bias", (size,)))
    return steps.add(name, "rmsnorm" if len(params) == 1 else "layernorm", [x], steps.width(x), params, [config.eps])
