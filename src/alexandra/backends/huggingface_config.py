"""A config.json read carefully: each value typed, what this project cannot express refused by name.

Nothing in a config is run: `auto_map` (code in the folder) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from alexandra.errors import BackendError, suggest

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tanh",
}


# How large a number may be before anything is built from it: of sizes, and of what is written down once each.
MOST, MOST_COPIES, MOST_NUMBER = 2**31 - 1, 2048, 1e30
COPIES = ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers", "num_local_experts")


class Config:
    """Typed access to the values of one config; BackendErrors name the key and the folder."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values, self.source = values, source
        if not isinstance(values, Mapping):
            raise BackendError(f"{source!r}: config.json is not an object")
        if values.get("auto_map"):
            raise BackendError(f"{source!r} brings its own code (auto_map), which is never run")

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key)
        value = default if value is None else value
        most = MOST_COPIES if key in COPIES else MOST
        if type(value) is not int or not 1 <= value <= most:
            raise self.wrong(key, f"must be a whole number from 1 to {most:,}", value)
        return value

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key, default)
        known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_NUMBER
        if not known or not isfinite(value):
            raise self.wrong(key, "must be a number", value)
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false", value)
        return value

    def activation(self, key: str, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise BackendError(f"{self.source!r}: {key} {value!r} is not known", hint=suggest(str(value), ACTIVATIONS))
        return ACTIVATIONS[value]

    def only(self, key: str, *allowed: object) -> None:
        """BackendError unless the value is absent or one of those that this project can express."""
        value = self.values.get(key)
        if value is not None and value not in allowed:
            raise self.wrong(key, f"can only be {' or '.join(map(repr, allowed))} here", value)

    def wrong(self, key: str, rule: str, value: object) -> BackendError:
        return BackendError(f"{self.source!r}: {key} {rule}, got {str(value)[:80]!r}")


def rope_words(config: Config) -> str:
    """The attributes of an attention for a config's rotary positions (transformers 5's form, or the older one)."""
    given = config.values.get("rope_parameters") or {}
    older = config.values.get("rope_scaling") or {}
    if not isinstance(given, dict) or not isinstance(older, dict):
        raise config.wrong("rope_parameters", "must be an object", given or older)
    rope = Config({**config.values, **older, **given}, config.source)
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    words = [f"rope={rope.number('rope_theta', 10000.0)!r}"]
    share = rope.number("partial_rotary_factor", 1.0)
    if share != 1.0:
        head = config.values.get("head_dim") or config.whole("hidden_size") // config.whole("num_attention_heads")
        words.append(f"dims={int(head * share)}")
    if kind == "default":
        return " ".join(words)
    if kind not in ("linear", "llama3", "yarn"):
        raise rope.wrong("rope_type", "can only be default, linear, llama3 or yarn here", kind)
    words.append(f"scaling={kind} factor={rope.number('factor', 1.0)!r}")
    if kind == "linear":
        return " ".join(words)
    length = rope.values.get("original_max_position_embeddings") or config.whole("max_position_embeddings")
    words.append(f"original={length}")
    if kind == "llama3":
        words.append(f"low={rope.number('low_freq_factor', 1.0)!r} high={rope.number('high_freq_factor', 4.0)!r}")
        return " ".join(words)
    for key in ("mscale", "mscale_all_dim"):
        rope.only(key)
    rope.only("truncate", True)
    words.append(f"beta_fast={float(rope.values.get('beta_fast') or 32.0)!r}")
    words.append(f"beta_slow={float(rope.values.get('beta_slow') or 1.0)!r}")
    if rope.values.get("attention_factor") is not None:
        words.append(f"attention_factor={rope.number('attention_factor', 1.0)!r}")
    return " ".join(words)
