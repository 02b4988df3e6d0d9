"""What positions turn into: rotary frequencies, sinusoidal rows, T5's relative buckets, and who sees whom.

Pure functions on numbers, one definition for every backend. Su et al., "RoFormer", 2021; scalings: linear (Chen et
al., 2023), NTK-aware (bloc97, 2023), YaRN (Peng et al., 2023), Llama 3 (Meta, 2024), as transformers computes them.
"""

from __future__ import annotations

from math import ceil, floor, log, pi

import numpy as np

from alexandra.ir.ops.rules import number, optional, whole
from alexandra.ir.ops.spec import Attrs


def rope_frequencies(attrs: Attrs) -> tuple[np.ndarray, float]:
    """(the angle per position of each pair of a head's numbers, the factor on sine and cosine) of a rope layer."""
    dims = whole(optional(attrs["dims"], whole(attrs["head_dim"])))
    base, factor, scaling = number(attrs["base"]), number(attrs["factor"]), attrs["scaling"]
    powers = np.arange(0, dims, 2, dtype=np.float64) / dims
    if scaling == "ntk" and dims > 2:
        base *= factor ** (dims / (dims - 2))
    plain = base**-powers
    if scaling == "linear":
        return plain / factor, 1.0
    if scaling == "yarn":
        return _yarn(attrs, plain, base)
    if scaling == "llama3":
        return _llama3(attrs, plain), 1.0
    return plain, 1.0


def _yarn(attrs: Attrs, plain: np.ndarray, base: float) -> tuple[np.ndarray, float]:
    """Frequencies that turn often within the trained length stay, slow ones are divided, a ramp lies between."""
    dims, factor, length = 2 * len(plain), number(attrs["factor"]), whole(attrs["original"])

    def place(turns: float) -> float:
        return dims * log(length / (turns * 2.0 * pi)) / (2.0 * log(base))

    low = max(floor(place(number(attrs["beta_fast"]))), 0)
    high = min(ceil(place(number(attrs["beta_slow"]))), dims - 1)
    ramp = np.clip((np.arange(len(plain)) - low) / (high - low if high != low else 0.001), 0.0, 1.0)
    given = attrs["attention_factor"]
    stretch = 0.1 * log(factor) + 1.0 if factor > 1.0 else 1.0
    return plain / factor * ramp + plain * (1.0 - ramp), stretch if given is None else number(given)


def _llama3(attrs: Attrs, plain: np.ndarray) -> np.ndarray:
    low, high, factor, length = (number(attrs[name]) for name in ("low", "high", "factor", "original"))
    turns = length * plain / (2.0 * pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray((1.0 - smooth) * plain / factor + smooth * plain)


def rope_angles(attrs: Attrs, positions: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [positions, dims / 2] in float64, times the scaling's factor; `first` is the first position."""
    frequencies, factor = rope_frequencies(attrs)
    angles = np.arange(first, first + positions, dtype=np.float64)[:, None] * frequencies
    return np.cos(angles) * factor, np.sin(angles) * factor


def sinusoidal(positions: int, width: int, first: int = 0) -> np.ndarray:
    """Vaswani et al., 2017, section 3.5: sin at even places, cos at odd ones, wavelengths 2 pi to 20000 pi."""
    powers = 10000.0 ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    angles = np.arange(first, first + positions, dtype=np.float64)[:, None] * powers
    rows = np.empty((positions, width))
    rows[:, 0::2], rows[:, 1::2] = np.sin(angles), np.cos(angles)[:, : width // 2]
    return rows


def relative_buckets(attrs: Attrs, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """T5's bucket of each pair [queries, keys] of positions (Raffel et al., 2020), with transformers' float32 steps."""
    buckets, farthest = whole(attrs["relative_buckets"]), whole(attrs["relative_distance"])
    ahead = keys[None, :] - queries[:, None]
    first = np.zeros_like(ahead)
    if attrs["relative_bidirectional"]:
        buckets //= 2
        first, distance = (ahead > 0) * buckets, np.abs(ahead)
    else:
        distance = np.maximum(-ahead, 0)
    exact = buckets // 2
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(log(farthest / exact))
    far = exact + (ratio * np.float32(buckets - exact)).astype(np.int64)
    return np.asarray(first + np.where(distance < exact, distance, np.minimum(far, buckets - 1)))


def visible(attrs: Attrs, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Which keys each query sees by the pattern of an sdpa layer, [queries, keys]; segments are another matter."""
    i, j = queries[:, None], keys[None, :]
    seen = j <= i if attrs["causal"] else np.ones((len(queries), len(keys)), bool)
    if attrs["window"] is None:
        return seen
    near = np.abs(i - j) < whole(attrs["window"])
    first, step = whole(attrs["globals"]), whole(attrs["stride"])
    near |= (i < first) | (j < first)
    if step:
        near |= (i - j) % step == 0
    return np.asarray(seen & near)
