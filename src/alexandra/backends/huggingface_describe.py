"""A config.json for a network that was written here: read off its layers, and proved by building the network again.

Only what one of the families expresses exactly can be exported; the proof is that the family's own program for the
config has the same primitives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from alexandra.backends.huggingface_config import ACTIVATIONS, Config
from alexandra.backends.huggingface_families import FAMILIES
from alexandra.errors import AlexandraError, BackendError
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Attr, Graph, Node
from alexandra.ir.ops.rules import optional, whole
from alexandra.lang.nureon import compile_network

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
LONGEST = 131_072  # positions that an exported rotary model says it may have
_HINT = "layers, names and settings as in examples/networks/llama3.nl, mistral, qwen3, mixtral or gpt2 can be exported"


def config_of(graph: Graph) -> dict[str, Any]:
    """The config with which transformers builds `graph`; BackendError when no family is exactly this network."""
    try:
        values = _gpt2(graph) if "position" in graph.by_name else _llama(graph)
    except (KeyError, AssertionError):
        raise BackendError(f"network {graph.name!r} has not the layers of a known family", hint=_HINT) from None
    family = FAMILIES[values["model_type"]]
    try:
        made = compile_network(family.text(Config(values, graph.name), ()))
    except AlexandraError as error:
        raise BackendError(f"network {graph.name!r} cannot be described: {error.message}", hint=_HINT) from error
    ours, theirs = (dict(_plain(primitives(given))) for given in (graph, made))
    if ours != theirs:
        names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        raise BackendError(
            f"network {graph.name!r} differs from {values['model_type']} in layer {names[0]!r}", hint=_HINT
        )
    return values


def _plain(graph: Graph) -> list[tuple[str, Node]]:
    """The nodes with settings that mean the same made equal."""
    nodes = []
    for node in graph.nodes:
        attrs: dict[str, Attr] = dict(node.attrs)
        if node.op == "sdpa":
            attrs["kv_heads"] = optional(attrs["kv_heads"], whole(attrs["heads"]))
        nodes.append((node.name, replace(node, attrs=attrs)))
    return nodes


def _activation(value: Attr) -> str:
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == value)


def _blocks(graph: Graph) -> int:
    return sum(1 for node in graph.nodes if node.name.endswith(".attention") and node.name.startswith("block_"))


def _gpt2(graph: Graph) -> dict[str, Any]:
    at = graph.by_name
    width = at["embed"].attrs["size"]
    drop = at["block_1.dropout"].attrs["rate"]
    return {
        "model_type": "gpt2",
        "architectures": [_ARCHITECTURES["gpt2"]],
        "vocab_size": at["embed"].attrs["vocab"],
        "n_embd": width,
        "n_layer": _blocks(graph),
        "n_head": at["block_1.attention"].attrs["heads"],
        "n_inner": at["block_1.ffn"].attrs["hidden"],
        "n_positions": at["position"].attrs["length"],
        "layer_norm_epsilon": at["norm"].attrs["eps"],
        "activation_function": _activation(at["block_1.ffn"].attrs["activation"]),
        "resid_pdrop": drop,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": at["logits"].param == "embed",
        "dtype": "float32",
    }


def _llama(graph: Graph) -> dict[str, Any]:
    at = graph.by_name
    attention, width = at["block_1.attention"].attrs, whole(at["embed"].attrs["size"])
    feed = (at.get("block_1.moe") or at["block_1.ffn"]).attrs
    heads = whole(attention["heads"])
    kind = _kind("block_1.moe" in at, attention)
    values: dict[str, Any] = {
        "model_type": kind,
        "architectures": [_ARCHITECTURES[kind]],
        "vocab_size": at["embed"].attrs["vocab"],
        "hidden_size": width,
        "num_hidden_layers": _blocks(graph),
        "num_attention_heads": heads,
        "num_key_value_heads": optional(attention["kv_heads"], heads),
        "head_dim": optional(attention["head_dim"], width // heads),
        "intermediate_size": feed["hidden"],
        "hidden_act": _activation(feed["activation"]),
        "rms_norm_eps": at["norm"].attrs["eps"],
        "max_position_embeddings": LONGEST,
        "tie_word_embeddings": at["logits"].param == "embed",
        "rope_parameters": _rope(attention),
        "dtype": "float32",
    }
    if kind == "mixtral":
        values |= {"num_local_experts": feed["experts"], "num_experts_per_tok": feed["top_k"]}
        values |= {"router_aux_loss_coef": feed["balance"], "output_router_logits": bool(feed["balance"])}
    else:
        values |= {"attention_bias": bool(attention["bias"]), "mlp_bias": bool(feed["bias"])}
    if kind in ("mistral", "mixtral"):
        values["sliding_window"] = attention["window"]
    return values


def _kind(is_mixture: bool, attention: Mapping[str, Attr]) -> str:
    if is_mixture:
        return "mixtral"
    if attention["qk_norm"]:
        return "qwen3"
    if attention["bias"] and attention["out_bias"] is False:
        return "qwen2"
    return "mistral" if attention["window"] is not None else "llama"


def _rope(attention: Mapping[str, Attr]) -> dict[str, Any]:
    assert attention["rope"] is not False
    base = attention["base"] if attention["rope"] is True else attention["rope"]
    scaling = attention["scaling"]
    values: dict[str, Any] = {"rope_type": "default" if scaling == "none" else scaling, "rope_theta": base}
    if scaling != "none":
        values["factor"] = attention["factor"]
    if scaling in ("yarn", "llama3"):
        values["original_max_position_embeddings"] = attention["original"]
    if scaling == "llama3":
        values |= {"low_freq_factor": attention["low"], "high_freq_factor": attention["high"]}
    if scaling == "yarn":
        values |= {name: attention[name] for name in ("beta_fast", "beta_slow", "attention_factor") if attention[name]}
    return values
