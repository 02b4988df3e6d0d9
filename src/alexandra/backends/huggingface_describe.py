"""A config.json for a network that was written here: read off its layers, and proved by building the network again.

Only what one of the families expresses exactly can be exported; the proof is that the family's own program for the
config has the same primitives. Of Llama's relatives, GPT-2 and BERT the layers have the names of examples/networks; an
encoder and decoder like T5's may have any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alexandra.backends.huggingface_config import ACTIVATIONS, Config
from alexandra.backends.huggingface_families import FAMILIES
from alexandra.backends.huggingface_match import matched, plain
from alexandra.errors import AlexandraError, BackendError
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Attr, Graph
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
_HINT = "layers and settings as in examples/networks (llama3, mistral, qwen3, mixtral, gpt2, bert, t5) can be exported"


@dataclass(frozen=True)
class Described:
    """A network as a family sees it: its config, the tensors that decide its ends, the family's program and graph for
    them, and our layers by the family's names."""

    config: dict[str, Any]
    tensors: tuple[str, ...]
    text: str
    graph: Graph
    layers: Mapping[str, str]


def described(graph: Graph) -> Described:
    """How transformers would build `graph`; BackendError when no family is exactly this network."""
    try:
        values, tensors = _read(graph)
    except (KeyError, AssertionError, StopIteration, ValueError):
        raise BackendError(f"network {graph.name!r} has not the layers of a known family", hint=_HINT) from None
    try:
        text = FAMILIES[values["model_type"]].text(Config(values, graph.name), tensors)
        made = compile_network(text)
    except AlexandraError as error:
        raise BackendError(f"network {graph.name!r} cannot be described: {error.message}", hint=_HINT) from error
    ours, theirs = primitives(graph), primitives(made)
    if (layers := matched(ours, theirs)) is not None:
        return Described(values, tensors, text, made, layers)
    by_name = [{node.name: plain(node) for node in given.nodes} for given in (ours, theirs)]
    different = [n for n in {**by_name[0], **by_name[1]} if by_name[0].get(n) != by_name[1].get(n)]
    where = f" in layer {different[0]!r}" if different else ""
    raise BackendError(f"network {graph.name!r} differs from {values['model_type']}{where}", hint=_HINT)


def _read(graph: Graph) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config that the layers of `graph` suggest, and the tensors that its ends do."""
    if "type_embed" in graph.by_name:
        ends = {"pooler": "bert.pooler.", "transform": "cls.predictions."}
        tensors = tuple(tensor for layer, tensor in ends.items() if layer in graph.by_name)
        return _bert(graph), tensors
    if len(graph.inputs) == 2:
        values = _t5(graph)
        return values, () if values["tie_word_embeddings"] else ("lm_head.weight",)
    return _gpt2(graph) if "position" in graph.by_name else _llama(graph), ()


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


def _bert(graph: Graph) -> dict[str, Any]:
    at = graph.by_name
    feed = at["ffn_1"].attrs
    masked = "transform" in at
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM" if masked else "BertModel"],
        "vocab_size": at["embed"].attrs["vocab"],
        "type_vocab_size": at["type_embed"].attrs["vocab"],
        "hidden_size": at["embed"].attrs["size"],
        "num_hidden_layers": sum(1 for node in graph.nodes if node.op == "attention"),
        "num_attention_heads": at["attention_1"].attrs["heads"],
        "intermediate_size": feed["hidden"],
        "hidden_act": _activation(feed["activation"]),
        "max_position_embeddings": at["position"].attrs["length"],
        "layer_norm_eps": at["h_0"].attrs["eps"],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def _t5(graph: Graph) -> dict[str, Any]:
    at = graph.by_name
    attention = [node for node in graph.nodes if node.op == "sdpa"]
    own = [node for node in attention if node.attrs["relative_buckets"]]
    encoder = [node for node in own if node.attrs["relative_bidirectional"]]
    feed = next(node.attrs for node in graph.nodes if node.op == "ffn")
    embed = next(node for node in graph.nodes if node.op == "embedding")
    heads = whole(own[0].attrs["heads"])
    act = _activation(feed["activation"])
    gated = {"gelu_new": "gated-gelu"}.get(act, f"gated-{act}")
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": embed.attrs["vocab"],
        "d_model": embed.attrs["size"],
        "d_kv": whole(at[own[0].inputs[0]].attrs["size"]) // heads,
        "d_ff": feed["hidden"],
        "num_layers": len(encoder),
        "num_decoder_layers": len(own) - len(encoder),
        "num_heads": heads,
        "relative_attention_num_buckets": own[0].attrs["relative_buckets"],
        "relative_attention_max_distance": own[0].attrs["relative_distance"],
        "layer_norm_epsilon": next(node.attrs["eps"] for node in graph.nodes if node.op == "rmsnorm"),
        "feed_forward_proj": gated if feed["gated"] else act,
        "scale_decoder_outputs": any(node.op == "scale" for node in graph.nodes),
        "tie_word_embeddings": bool(graph.outputs[0].param),
        "dropout_rate": 0.0,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
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
