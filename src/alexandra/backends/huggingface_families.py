"""The families of models that are exchanged with Hugging Face: a config becomes a NureonLang program, and each of its
parameters a place in the checkpoint.

FAMILIES is the table by `model_type`. The programs are those of examples/networks with a config's numbers. What a
config asks for and the program cannot say is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from alexandra.backends.huggingface_config import Config, rope_words


@dataclass(frozen=True)
class Place:
    """Our parameters and theirs, and how one becomes the other.

    same: equal; turned: transposed; fused: ours side by side, transposed when `turned`; stacked: ours is theirs, one
    above the other.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    how: str = "same"


@dataclass(frozen=True)
class Family:
    """`text(config, names)` is the program, `places(config, names)` its parameters; `names` are those in the file.

    `prefix` is what a checkpoint of the bare model leaves out; `spare` are tensors that mean nothing (old buffers).
    """

    text: Callable[[Config, Collection[str]], str]
    places: Callable[[Config, Collection[str]], list[Place]]
    prefix: str
    spare: tuple[str, ...] = ()


def _both(ours: str, theirs: str) -> list[Place]:
    """Weight and bias."""
    return [Place((f"{ours}.{part}",), (f"{theirs}.{part}",)) for part in ("weight", "bias")]


def _weight(ours: str, theirs: str) -> Place:
    return Place((f"{ours}.weight",), (f"{theirs}.weight",))


# --- Llama and its relatives --------------------------------------------------------------------------------


def _windows(config: Config) -> int | None:
    """The window of every layer, None without one; layers of two kinds are refused."""
    window = config.values.get("sliding_window")
    if config.values.get("model_type") in ("qwen2", "qwen3") and not config.flag("use_sliding_window"):
        return None
    if window is None:
        return None
    kinds = config.values.get("layer_types")
    if isinstance(kinds, list) and len(set(map(str, kinds))) > 1:
        raise config.wrong("layer_types", "must be of one kind here", sorted(set(map(str, kinds))))
    if isinstance(kinds, list) and kinds and kinds[0] == "full_attention":
        return None
    return config.whole("sliding_window")


def _attention_words(config: Config) -> str:
    heads, width = config.whole("num_attention_heads"), config.whole("hidden_size")
    words = [f"heads={heads} kv_heads={config.whole('num_key_value_heads', heads)}"]
    head = config.values.get("head_dim")
    if head is not None and config.whole("head_dim") * heads != width:
        words.append(f"head_dim={config.whole('head_dim')}")
    if (window := _windows(config)) is not None:
        words.append(f"window={window}")
    if config.values.get("model_type") == "qwen2":
        words.append("bias=TRUE out_bias=FALSE")
    elif config.flag("attention_bias"):
        words.append("bias=TRUE")
    if config.values.get("model_type") == "qwen3":
        words.append(f"qk_norm=TRUE norm_eps={config.number('rms_norm_eps', 1e-6)!r}")
    return " ".join([*words, rope_words(config)])


def _feed_words(config: Config) -> str:
    act, hidden = config.activation("hidden_act", "silu"), config.whole("intermediate_size")
    if config.values.get("model_type") == "mixtral":
        config.only("router_jitter_noise", 0, 0.0)
        experts = f"experts={config.whole('num_local_experts')} top_k={config.whole('num_experts_per_tok')}"
        balance = config.number("router_aux_loss_coef", 0.0) if config.flag("output_router_logits") else 0.0
        return f"MOE name=moe {experts} hidden={hidden} activation={act} balance={balance!r}"
    bias = " bias=TRUE" if config.flag("mlp_bias") else ""
    return f"FFN name=ffn hidden={hidden} activation={act}{bias}"


def _tied(config: Config, names: Collection[str], head: str = "lm_head.weight") -> bool:
    """Whether the head is the embedding; a file that has another head wins over the config's default."""
    given = config.values.get("tie_word_embeddings")
    return config.flag("tie_word_embeddings") if given is not None else head not in names


def _llama_text(config: Config, names: Collection[str]) -> str:
    config.only("pretraining_tp", 1)
    eps = config.number("rms_norm_eps", 1e-6)
    vocab, shared = config.whole("vocab_size"), " shared=embed" if _tied(config, names) else ""
    return f"""NETWORK {config.values["model_type"]}
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab={vocab} size={config.whole("hidden_size")}
  REPEAT {config.whole("num_hidden_layers")} AS block
  BEGIN
    RESIDUAL
    BEGIN
      LAYER RMSNORM name=attention_norm eps={eps!r}
      LAYER ATTENTION name=attention {_attention_words(config)}
    END
    RESIDUAL
    BEGIN
      LAYER RMSNORM name=ffn_norm eps={eps!r}
      LAYER {_feed_words(config)}
    END
  END
  LAYER RMSNORM name=norm eps={eps!r}
  LAYER OUTPUT name=logits size={vocab} bias=FALSE{shared}
  CONNECT tokens -> embed -> block -> norm -> logits
END
"""


def _llama_places(config: Config, names: Collection[str]) -> list[Place]:
    kind = config.values.get("model_type")
    biased = {"q", "k", "v"} if kind == "qwen2" else set("qkvo") if config.flag("attention_bias") else set()
    places = [_weight("embed", "model.embed_tokens")]
    for layer in range(config.whole("num_hidden_layers")):
        ours, theirs = f"block_{layer + 1}", f"model.layers.{layer}"
        places.append(_weight(f"{ours}.attention_norm", f"{theirs}.input_layernorm"))
        for name in "qkvo":
            pair = f"{ours}.attention.{'out' if name == 'o' else name}", f"{theirs}.self_attn.{name}_proj"
            places += _both(*pair) if name in biased else [_weight(*pair)]
        if kind == "qwen3":
            places += [_weight(f"{ours}.attention.{n}_norm", f"{theirs}.self_attn.{n}_norm") for n in "qk"]
        places.append(_weight(f"{ours}.ffn_norm", f"{theirs}.post_attention_layernorm"))
        if kind == "mixtral":
            places += _mixtral_places(config, f"{ours}.moe", f"{theirs}.block_sparse_moe")
        else:
            for name in ("gate", "up", "down"):
                pair = f"{ours}.ffn.{name}", f"{theirs}.mlp.{name}_proj"
                places += _both(*pair) if config.flag("mlp_bias") else [_weight(*pair)]
    places.append(_weight("norm", "model.norm"))
    return places if _tied(config, names) else [*places, _weight("logits", "lm_head")]


def _mixtral_places(config: Config, ours: str, theirs: str) -> list[Place]:
    experts = range(config.whole("num_local_experts"))
    kinds = {"up": "w3", "down": "w2", "gate": "w1"}
    stacks = [
        Place((f"{ours}.experts.{name}",), tuple(f"{theirs}.experts.{e}.{w}.weight" for e in experts), "stacked")
        for name, w in kinds.items()
    ]
    return [_weight(f"{ours}.router", f"{theirs}.gate"), *stacks]


# --- GPT-2 --------------------------------------------------------------------------------------------------


def _gpt2_text(config: Config, names: Collection[str]) -> str:
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.only("add_cross_attention", False)
    width, vocab, eps = config.whole("n_embd"), config.whole("vocab_size"), config.number("layer_norm_epsilon", 1e-5)
    act, drop = config.activation("activation_function", "gelu_new"), config.number("resid_pdrop", 0.1)
    shared = " shared=embed" if _gpt2_tied(config, names) else ""
    return f"""NETWORK gpt2
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab={vocab} size={width}
  LAYER POSITION name=position length={config.whole("n_positions")}
  REPEAT {config.whole("n_layer")} AS block
  BEGIN
    RESIDUAL
    BEGIN
      LAYER LAYERNORM name=attention_norm eps={eps!r}
      LAYER ATTENTION name=attention heads={config.whole("n_head")} bias=TRUE
      LAYER DROPOUT rate={drop!r}
    END
    RESIDUAL
    BEGIN
      LAYER LAYERNORM name=ffn_norm eps={eps!r}
      LAYER FFN name=ffn hidden={config.whole("n_inner", 4 * width)} activation={act} gated=FALSE bias=TRUE
      LAYER DROPOUT rate={drop!r}
    END
  END
  LAYER LAYERNORM name=norm eps={eps!r}
  LAYER OUTPUT name=logits size={vocab} bias=FALSE{shared}
  CONNECT tokens -> embed -> position -> block -> norm -> logits
END
"""


def _gpt2_tied(config: Config, names: Collection[str]) -> bool:
    return config.flag("tie_word_embeddings", True)


def _gpt2_places(config: Config, names: Collection[str]) -> list[Place]:
    places = [_weight("embed", "transformer.wte"), _weight("position", "transformer.wpe")]
    for layer in range(config.whole("n_layer")):
        ours, theirs = f"block_{layer + 1}", f"transformer.h.{layer}"
        places += _both(f"{ours}.attention_norm", f"{theirs}.ln_1")
        for part, how in (("weight", "fused turned"), ("bias", "fused")):
            three = tuple(f"{ours}.attention.{name}.{part}" for name in "qkv")
            places.append(Place(three, (f"{theirs}.attn.c_attn.{part}",), how))
        places += _both(f"{ours}.ffn_norm", f"{theirs}.ln_2")
        for name, other in (("attention.out", "attn.c_proj"), ("ffn.up", "mlp.c_fc"), ("ffn.down", "mlp.c_proj")):
            places.append(Place((f"{ours}.{name}.weight",), (f"{theirs}.{other}.weight",), "turned"))
            places.append(Place((f"{ours}.{name}.bias",), (f"{theirs}.{other}.bias",)))
    places += _both("norm", "transformer.ln_f")
    return places if _gpt2_tied(config, names) else [*places, _weight("logits", "lm_head")]


# --- BERT ---------------------------------------------------------------------------------------------------


def _bert_text(config: Config, names: Collection[str]) -> str:
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    config.only("position_embedding_type", "absolute")
    width, eps, act = (
        config.whole("hidden_size"),
        config.number("layer_norm_eps", 1e-12),
        config.activation("hidden_act", "gelu"),
    )
    layers, heads = config.whole("num_hidden_layers"), config.whole("num_attention_heads")
    ends = ""
    if _has(names, "pooler."):
        ends += f"""  LAYER REDUCE name=first kind=first
  LAYER DENSE name=pooler size={width} activation=tanh
  LAYER OUTPUT name=pooled
  CONNECT h_{layers} -> first -> pooler -> pooled
"""
    if _has(names, "cls.predictions."):
        ends += f"""  LAYER DENSE name=transform size={width} activation={act}
  LAYER LAYERNORM name=transform_norm eps={eps!r}
  LAYER OUTPUT name=logits size={config.whole("vocab_size")} shared=embed
  CONNECT h_{layers} -> transform -> transform_norm -> logits
"""
    return f"""NETWORK bert
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER INPUT name=types shape=(SEQ) dtype=int32
  LAYER INPUT name=mask shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab={config.whole("vocab_size")} size={width}
  LAYER EMBEDDING name=type_embed vocab={config.whole("type_vocab_size", 2)} size={width}
  LAYER POSITION name=position length={config.whole("max_position_embeddings", 512)}
  LAYER ADD name=sum
  LAYER LAYERNORM name=h_0 eps={eps!r}
  CONNECT tokens -> embed -> position -> sum -> h_0
  CONNECT types -> type_embed -> sum
  FOR i FROM 1 TO {layers}
  BEGIN
    LAYER ATTENTION name=attention_[i] heads={heads} bias=TRUE causal=FALSE
    LAYER ADD name=attended_[i]
    LAYER LAYERNORM name=attention_norm_[i] eps={eps!r}
    LAYER FFN name=ffn_[i] hidden={config.whole("intermediate_size")} activation={act} gated=FALSE bias=TRUE
    LAYER ADD name=fed_[i]
    LAYER LAYERNORM name=h_[i] eps={eps!r}
    CONNECT h_[i-1] -> attention_[i]
    CONNECT mask -> attention_[i]
    CONNECT h_[i-1] -> attended_[i]
    CONNECT attention_[i] -> attended_[i] -> attention_norm_[i] -> ffn_[i]
    CONNECT attention_norm_[i] -> fed_[i]
    CONNECT ffn_[i] -> fed_[i] -> h_[i]
  END
  LAYER OUTPUT name=hidden
  CONNECT h_{layers} -> hidden
{ends}END
"""


def _has(names: Collection[str], part: str) -> bool:
    return any(name.startswith((part, f"bert.{part}")) for name in names)


def _bert_places(config: Config, names: Collection[str]) -> list[Place]:
    embeddings = {"embed": "word", "type_embed": "token_type", "position": "position"}
    places = [_weight(ours, f"bert.embeddings.{theirs}_embeddings") for ours, theirs in embeddings.items()]
    places += _both("h_0", "bert.embeddings.LayerNorm")
    for layer in range(config.whole("num_hidden_layers")):
        n, theirs = layer + 1, f"bert.encoder.layer.{layer}"
        pairs = {f"attention_{n}.{name[0]}": f"attention.self.{name}" for name in ("query", "key", "value")}
        pairs |= {f"attention_{n}.out": "attention.output.dense", f"attention_norm_{n}": "attention.output.LayerNorm"}
        pairs |= {f"ffn_{n}.up": "intermediate.dense", f"ffn_{n}.down": "output.dense", f"h_{n}": "output.LayerNorm"}
        places += [place for ours, other in pairs.items() for place in _both(ours, f"{theirs}.{other}")]
    if _has(names, "pooler."):
        places += _both("pooler", "bert.pooler.dense")
    if _has(names, "cls.predictions."):
        places += _both("transform", "cls.predictions.transform.dense")
        places += _both("transform_norm", "cls.predictions.transform.LayerNorm")
        places.append(Place(("embed.bias",), ("cls.predictions.bias",)))
    return places


# --- T5 -----------------------------------------------------------------------------------------------------


def _t5_tied(config: Config, names: Collection[str]) -> bool:
    return "lm_head.weight" not in names


def _t5_scaled(config: Config, names: Collection[str]) -> bool:
    if config.values.get("scale_decoder_outputs") is not None:
        return config.flag("scale_decoder_outputs")
    return config.values.get("tie_word_embeddings") is not False


def _t5_feed(config: Config) -> tuple[str, bool]:
    """(activation, gated) of `feed_forward_proj`: "relu", "gated-gelu" ..."""
    words = str(config.values.get("feed_forward_proj", "relu")).split("-")
    name = {"gated-gelu": "gelu_new"}.get("-".join(words), words[-1])
    return Config({"feed_forward_proj": name}, config.source).activation("feed_forward_proj", "relu"), len(words) > 1


def _t5_side(config: Config, side: str) -> list[str]:
    """The layers of the encoder or the decoder, block after block."""
    decoder, width = side == "decoder", config.whole("d_model")
    inner, heads = config.whole("d_kv") * config.whole("num_heads"), config.whole("num_heads")
    eps, (activation, gated) = config.number("layer_norm_epsilon", 1e-6), _t5_feed(config)
    buckets = f"relative_buckets={config.whole('relative_attention_num_buckets', 32)}"
    far = f"relative_distance={config.whole('relative_attention_max_distance', 128)}"
    own = f"{buckets} {far}" if decoder else f"causal=FALSE {buckets} {far} relative_bidirectional=TRUE"
    lines, before = [], f"{side}_0"
    for n in range(1, _t5_layers(config, side) + 1):
        for kind in ("self", "cross") if decoder else ("self",):
            name, after = f"{side}_{n}.{kind}", f"{side}_{n}.{kind}_sum"
            words = "causal=FALSE" if kind == "cross" else own
            shared = f" shared={side}_1.self" if kind == "self" and n > 1 else ""
            memory = "memory" if kind == "cross" else f"{name}_norm"
            lines.append(f"LAYER RMSNORM name={name}_norm eps={eps!r}")
            lines += [f"LAYER DENSE name={name}_{p} size={inner} bias=FALSE" for p in "qkv"]
            lines.append(f"LAYER SDPA name={name} heads={heads} scale=1 {words}{shared}")
            lines.append(f"LAYER DENSE name={name}_out size={width} bias=FALSE")
            lines.append(f"LAYER ADD name={after}")
            lines.append(f"CONNECT {before} -> {name}_norm -> {name}_q -> {name}")
            lines += [f"CONNECT {memory} -> {name}_{p} -> {name}" for p in "kv"]
            lines += [f"CONNECT {before} -> {after}", f"CONNECT {name} -> {name}_out -> {after}"]
            before = after
        ffn = f"hidden={config.whole('d_ff')} activation={activation} gated={str(gated).upper()}"
        lines.append(f"LAYER RMSNORM name={side}_{n}.ffn_norm eps={eps!r}")
        lines += [f"LAYER FFN name={side}_{n}.ffn {ffn}", f"LAYER ADD name={side}_{n}.sum"]
        lines.append(f"CONNECT {before} -> {side}_{n}.ffn_norm -> {side}_{n}.ffn -> {side}_{n}.sum")
        lines.append(f"CONNECT {before} -> {side}_{n}.sum")
        before = f"{side}_{n}.sum"
    return [*lines, f"LAYER RMSNORM name={_T5_END[side]} eps={eps!r}", f"CONNECT {before} -> {_T5_END[side]}"]


_T5_END = {"encoder": "memory", "decoder": "norm"}


def _t5_layers(config: Config, side: str) -> int:
    layers = config.whole("num_layers")
    return layers if side == "encoder" else config.whole("num_decoder_layers", layers)


def _t5_text(config: Config, names: Collection[str]) -> str:
    width, vocab = config.whole("d_model"), config.whole("vocab_size")
    scaled = _t5_scaled(config, names)
    lines = [
        "LAYER INPUT name=source shape=(SOURCE) dtype=int32",
        "LAYER INPUT name=target shape=(TARGET) dtype=int32",
        f"LAYER EMBEDDING name=encoder_0 vocab={vocab} size={width}",
        f"LAYER EMBEDDING name=decoder_0 vocab={vocab} size={width} shared=encoder_0",
        "CONNECT source -> encoder_0",
        "CONNECT target -> decoder_0",
        *_t5_side(config, "encoder"),
        *_t5_side(config, "decoder"),
        *([f"LAYER SCALE name=scaled factor={width**-0.5!r}"] if scaled else []),
        f"LAYER OUTPUT name=logits size={vocab} bias=FALSE{' shared=encoder_0' if _t5_tied(config, names) else ''}",
        f"CONNECT norm -> {'scaled -> ' if scaled else ''}logits",
    ]
    return "\n".join(["NETWORK t5", "BEGIN", *(f"  {line}" for line in lines), "END", ""])


def _t5_places(config: Config, names: Collection[str]) -> list[Place]:
    places = [_weight("encoder_0", "shared")]
    gated = _t5_feed(config)[1]
    for side, end in _T5_END.items():
        for n in range(1, _t5_layers(config, side) + 1):
            theirs, at = f"{side}.block.{n - 1}.layer", 0
            for kind, other in (("self", "SelfAttention"), ("cross", "EncDecAttention"))[: 1 + (side == "decoder")]:
                name = f"{side}_{n}.{kind}"
                places.append(_weight(f"{name}_norm", f"{theirs}.{at}.layer_norm"))
                for ours, part in (*((p, p) for p in "qkv"), ("out", "o")):
                    places.append(_weight(f"{name}_{ours}", f"{theirs}.{at}.{other}.{part}"))
                if kind == "self" and n == 1:
                    bias = f"{theirs}.{at}.{other}.relative_attention_bias.weight"
                    places.append(Place((f"{name}.relative",), (bias,)))
                at += 1
            places.append(_weight(f"{side}_{n}.ffn_norm", f"{theirs}.{at}.layer_norm"))
            parts = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
            for ours, part in parts.items():
                places.append(_weight(f"{side}_{n}.ffn.{ours}", f"{theirs}.{at}.DenseReluDense.{part}"))
        places.append(_weight(end, f"{side}.final_layer_norm"))
    return places if _t5_tied(config, names) else [*places, _weight("logits", "lm_head")]


_LLAMA = Family(_llama_text, _llama_places, "model.", (".rotary_emb.inv_freq", "lm_head.weight"))
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "mixtral"), _LLAMA),
    "gpt2": Family(_gpt2_text, _gpt2_places, "transformer.", (".attn.bias", ".attn.masked_bias", "lm_head.weight")),
    "bert": Family(
        _bert_text,
        _bert_places,
        "bert.",
        ("position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.seq_relationship"),
    ),
    "t5": Family(_t5_text, _t5_places, "", ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")),
}
