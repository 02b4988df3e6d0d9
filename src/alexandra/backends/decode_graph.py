"""Any Graph of position-wise layers and causal attention as a decoder: the same engine, the same Generator.

`GraphDecoder` pairs a Graph (one int32 input of tokens, one output of logits or their softmax) with weights by
parameter name. `decoder_graph` is the other way: the Graph of a DecoderConfig, to train it on any backend, and
`decoder_from_weights` brings what was trained back under GGUF's names. What a decoder cannot do step by step (look
ahead, mix positions otherwise) is refused by the layer's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np

from alexandra.backends.decode import DecoderModel
from alexandra.backends.decode_config import DecoderConfig
from alexandra.backends.decode_plan import POINTWISE, Steps
from alexandra.backends.decode_tokenizer import Tokenizer
from alexandra.backends.quant import TYPES, StoredTensor, quantize, stored
from alexandra.errors import BackendError
from alexandra.ir.check import infer, make_graph
from alexandra.ir.expand import default_attrs, primitives
from alexandra.ir.graph import Attr, Graph, Node, TensorType
from alexandra.ir.ops import OPS
from alexandra.ir.positions import rope_angles, sinusoidal


@dataclass(frozen=True, eq=False)
class GraphDecoder:
    """A Graph and its weights (arrays or stored tensors) that a Generator can plan."""

    graph: Graph
    weights: Mapping[str, StoredTensor]
    tokenizer: Tokenizer | None = None
    end_tokens: tuple[int, ...] = ()
    source: str = "a graph"

    @property
    def most_positions(self) -> int:
        """2048, or fewer where positions are learned."""
        learned = [n for n in self.graph.nodes if n.op == "position" and n.attrs["kind"] == "learned"]
        return min([2048, *(int(str(n.attrs["length"])) - int(str(n.attrs["offset"])) for n in learned)])

    @property
    def most_tokens(self) -> int:
        return max(self.weights[f"{n.owner}.weight"].rows for n in primitives(self.graph).nodes if n.op == "embedding")

    def steps(self, context: int) -> Steps:
        return _Planned(self, context).steps

    def converted(self, kind: str) -> GraphDecoder:
        """The same with its matrices stored as `kind`, where their rows allow it."""
        made = {}
        for name, tensor in self.weights.items():
            fits = len(tensor.shape) >= 2 and tensor.cols % TYPES[kind][0] == 0
            made[name] = quantize(tensor.array(), kind, name) if fits else tensor
        return GraphDecoder(self.graph, made, self.tokenizer, self.end_tokens, self.source)


def graph_decoder(graph: Graph, weights: Mapping[str, np.ndarray], tokenizer: Tokenizer | None = None) -> GraphDecoder:
    """`graph` with float32 arrays, for instance a bound model's `weights`."""
    return GraphDecoder(graph, {name: stored(array, name) for name, array in weights.items()}, tokenizer)


class _Planned:
    """The steps of a graph's primitives, one method per kind of layer that is not position-wise arithmetic."""

    def __init__(self, decoder: GraphDecoder, context: int) -> None:
        self.graph, self.context = primitives(decoder.graph), context
        self.types = infer(self.graph)
        self.steps = Steps(decoder.weights)
        self.at: dict[str, int] = {}
        outputs = [node for node in self.graph.nodes if node.op == "output"]
        if len(self.graph.inputs) != 1 or len(outputs) != 1:
            raise BackendError(f"a decoder has one input and one output, {decoder.graph.name!r} has others too")
        logits = self.graph.by_name[outputs[0].inputs[0]]
        self.last = self.graph.by_name[logits.inputs[0]] if logits.op == "softmax" else logits
        for node in self.graph.nodes:
            if node.op != "output" and not (node is logits and node is not self.last):
                self.at[node.name] = self._step(node)
        if self.at[self.last.name] != len(self.steps.steps) - 1:
            raise BackendError(f"{self.last.name!r} makes the logits, but layers follow that lead nowhere")

    def _step(self, node: Node) -> int:
        special = getattr(self, f"_{node.op}", None)
        if special is not None:
            return int(special(node))
        inputs, width = [self.at[name] for name in node.inputs], self._width(node.name)
        if node.op in POINTWISE:
            amount = {"leaky_relu": "slope", "elu": "alpha"}.get(node.op)
            numbers = [POINTWISE.index(node.op), _number(node, amount) if amount else 0.0]
            return self.steps.add(node.name, "pointwise", inputs, width, [], numbers)
        if node.op in ("dropout", "reshape"):
            return self.steps.add(node.name, "alias", inputs, width)
        if node.op in ("softmax", "concat") and len(self.types[node.name].shape) == 2:
            return self.steps.add(node.name, node.op, inputs, width)
        raise BackendError(f"layer {node.name!r} ({node.op}) cannot run one position after the other")

    def _width(self, name: str) -> int:
        """Values per position."""
        given: TensorType = self.types[name]
        if any(not isinstance(dim, int) for dim in given.shape[1:]):
            raise BackendError(f"layer {name!r} has type {given}; bind its sizes first")
        return prod(int(dim) for dim in given.shape[1:])

    def _param(self, node: Node, suffix: str, optional: bool = False) -> int:
        types = [self.types[name] for name in node.inputs]
        own = OPS[node.op].params(node.attrs, types)
        if suffix not in own and optional:
            return -1
        return self.steps.weight(f"{node.owner}.{suffix}", own[suffix].shape)

    def _input(self, node: Node) -> int:
        if node.attrs["dtype"] != "int32" or len(self.types[node.name].shape) != 1:
            raise BackendError(f"input {node.name!r} is {self.types[node.name]}; a decoder reads int32 tokens [S]")
        return self.steps.add(node.name, "tokens", [], 1)

    def _embedding(self, node: Node) -> int:
        inputs, table = [self.at[name] for name in node.inputs], [self._param(node, "weight")]
        return self.steps.add(node.name, "embedding", inputs, self._width(node.name), table, [1])

    def _position(self, node: Node) -> int:
        width, offset = self._width(node.name), int(_number(node, "offset"))
        if node.attrs["kind"] == "learned":
            table = self._param(node, "weight")
        else:
            rows = sinusoidal(self.context, width, offset).astype(np.float32)
            table, offset = self.steps.keep(f"{node.name} rows", stored(rows, node.name)), 0
        return self.steps.add(node.name, "position", [self.at[node.inputs[0]]], width, [table], [offset])

    def _rmsnorm(self, node: Node) -> int:
        params = [self._param(node, name) for name in ("weight", "bias") if name == "weight" or node.op == "layernorm"]
        width = self._width(node.name)
        return self.steps.add(node.name, node.op, [self.at[node.inputs[0]]], width, params, [_number(node, "eps")])

    _layernorm = _rmsnorm

    def _dense(self, node: Node) -> int:
        if len(self.types[node.name].shape) != 2:
            raise BackendError(f"layer {node.name!r} maps more than a vector per position")
        params = [self._param(node, "weight"), self._param(node, "bias", optional=True)]
        return self.steps.add(node.name, "dense", [self.at[node.inputs[0]]], self._width(node.name), params)

    def _rope(self, node: Node) -> int:
        key = "rope " + repr(sorted(node.attrs.items()))
        rows = np.concatenate(rope_angles(node.attrs, self.context), axis=1).astype(np.float32)
        table = self.steps.keep(key, stored(rows, key))
        numbers = [_number(node, "head_dim"), float(node.attrs["layout"] == "interleaved")]
        return self.steps.add(node.name, "rope", [self.at[node.inputs[0]]], self._width(node.name), [table], numbers)

    def _sdpa(self, node: Node) -> int:
        attrs = node.attrs
        for name in ("globals", "stride", "relative_buckets"):
            if attrs[name]:
                raise BackendError(f"layer {node.name!r}: decoding with {name}={attrs[name]} is not supported")
        if not attrs["causal"] or len(node.inputs) != 3:
            raise BackendError(f"layer {node.name!r} sees later positions or segments, so it cannot generate")
        heads = int(_number(node, "heads"))
        groups = heads if attrs["kv_heads"] is None else int(_number(node, "kv_heads"))
        dim, value = self._width(node.inputs[0]) // heads, self._width(node.inputs[2]) // groups
        scale = 1.0 / sqrt(dim) if attrs["scale"] is None else _number(node, "scale")
        window = 0 if attrs["window"] is None else _number(node, "window")
        numbers = [heads, groups, dim, value, window, scale, _number(node, "softcap")]
        inputs = [self.at[name] for name in node.inputs]
        return self.steps.add(node.name, "sdpa", inputs, heads * value, [], numbers)

    def _add(self, node: Node) -> int:
        made = self.at[node.inputs[0]]
        for i, name in enumerate(node.inputs[1:]):
            made = self.steps.add(f"{node.name}.{i}", node.op, [made, self.at[name]], self._width(node.name))
        return made

    _mul = _add

    def _scale(self, node: Node) -> int:
        factor = [_number(node, "factor")]
        return self.steps.add(node.name, "scale", [self.at[node.inputs[0]]], self._width(node.name), [], factor)

    def _slice(self, node: Node) -> int:
        start = [_number(node, "start")]
        return self.steps.add(node.name, "slice", [self.at[node.inputs[0]]], self._width(node.name), [], start)

    def _top_k_gate(self, node: Node) -> int:
        numbers = [_number(node, "top_k"), float(node.attrs["score"] == "sigmoid")]
        numbers += [float(bool(node.attrs["normalise"])), _number(node, "scale")]
        bias = [self._param(node, "bias", optional=True)]
        return self.steps.add(node.name, "top_k_gate", [self.at[node.inputs[0]]], self._width(node.name), bias, numbers)

    def _experts(self, node: Node) -> int:
        experts, gated = self._width(node.inputs[1]), bool(node.attrs["gated"])
        params = []
        for part in (["gate"] if gated else []) + ["up", "down"]:
            whole = self.steps.weights[self._param(node, part)]
            size = whole.data.size // experts
            for i in range(experts):
                name, data = f"{node.owner}.{part}.{i}", whole.data[i * size : (i + 1) * size]
                params.append(self.steps.keep(name, StoredTensor(name, whole.type, whole.shape[1:], data)))
        which = POINTWISE.index(str(node.attrs["activation"]))
        numbers = [experts, _number(node, "hidden"), which, float(gated)]
        inputs = [self.at[name] for name in node.inputs]
        return self.steps.add(node.name, "experts", inputs, self._width(node.name), params, numbers)


def _number(node: Node, name: str) -> float:
    value = node.attrs[name]
    assert isinstance(value, int | float)
    return float(value)


# The parts of the composites in `decoder_graph`, and GGUF's names for them.
_PARTS = {"attn.q": "attn_q", "attn.k": "attn_k", "attn.v": "attn_v", "attn.out": "attn_output"}
_PARTS |= {"attn.q_norm": "attn_q_norm", "attn.k_norm": "attn_k_norm"}
_PARTS |= {"ffn.gate": "ffn_gate", "ffn.up": "ffn_up", "ffn.down": "ffn_down"}


def decoder_graph(config: DecoderConfig) -> Graph:
    """The Graph of a llama, qwen2 or qwen3 decoder: tokens int32[S] to a softmax over the vocabulary."""
    if config.rope is None or config.architecture == "gpt2":
        raise BackendError("decoder_graph makes decoders with rotary positions; this config has none")
    rope = config.rope
    turn: dict[str, Attr] = {"rope": True, "base": rope.base, "dims": rope.dims, "scaling": rope.scaling}
    turn |= {"factor": rope.factor, "low": rope.low, "high": rope.high, "original": rope.original}
    turn |= {"layout": "interleaved" if rope.interleaved else "half"}
    attention = {**turn, "heads": config.heads, "kv_heads": config.kv_heads, "head_dim": config.head_dim}
    attention |= {"window": config.window or None, "qk_norm": config.architecture == "qwen3"}
    attention |= {"bias": config.architecture == "qwen2", "out_bias": False, "norm_eps": config.eps}
    nodes = [
        _node("tokens", "input", (), shape=("S",), dtype="int32"),
        _node("token_embd", "embedding", ("tokens",), vocab=config.vocab, size=config.width),
    ]
    x = "token_embd"
    for i in range(config.layers):
        name = f"blk_{i}"
        nodes += [
            _node(f"{name}_attn_norm", "rmsnorm", (x,), eps=config.eps),
            _node(f"{name}_attn", "attention", (f"{name}_attn_norm",), "", **attention),
            _node(f"{name}_attn_add", "add", (x, f"{name}_attn")),
            _node(f"{name}_ffn_norm", "rmsnorm", (f"{name}_attn_add",), eps=config.eps),
            _node(f"{name}_ffn", "ffn", (f"{name}_ffn_norm",), hidden=config.hidden, activation=config.activation),
            _node(f"{name}_ffn_add", "add", (f"{name}_attn_add", f"{name}_ffn")),
        ]
        x = f"{name}_ffn_add"
    nodes.append(_node("output_norm", "rmsnorm", (x,), eps=config.eps))
    shared = "token_embd" if config.tied else ""
    nodes.append(_node("head", "dense", ("output_norm",), shared, size=config.vocab, bias=False))
    nodes.append(_node("output", "output", ("head",), activation="softmax"))
    return make_graph(f"{config.architecture} decoder", nodes)


def _node(name: str, op: str, inputs: tuple[str, ...], param: str = "", **attrs: Attr) -> Node:
    return Node(name, op, inputs, {**default_attrs(op), **attrs}, param)


def decoder_from_weights(
    config: DecoderConfig, weights: Mapping[str, np.ndarray], tokenizer: Tokenizer | None = None
) -> DecoderModel:
    """What a `decoder_graph(config)` was trained to, under GGUF's names."""
    tensors = {}
    for name, array in weights.items():
        key = name.replace("head.", "output.", 1) if name.startswith("head.") else name
        if key.startswith("blk_"):
            number, _, rest = key.removeprefix("blk_").partition("_")
            owner, _, suffix = rest.rpartition(".")
            key = f"blk.{number}.{_PARTS.get(owner, owner)}.{suffix}"
        tensors[key] = stored(array, key)
    return DecoderModel(config, tensors, tokenizer, "trained weights")
