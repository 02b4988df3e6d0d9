"""Tensors as files hold them: a type (F32, F16, BF16, Q8_0, Q4_0), a shape, and bytes, made bit for bit as ggml does.

A StoredTensor is often a view of a mapped file. Q4_0 keeps 32 values in 18 bytes, Q8_0 in 34 (csrc/quant.h states
the layouts). This module computes nothing with them; `decode` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from alexandra.errors import BackendError, suggest

# type -> values and bytes of a block
TYPES: dict[str, tuple[int, int]] = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34), "Q4_0": (32, 18)}


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """`data` holds the rows of `shape` (slowest axis first) one after the other, in blocks of `type`; uint8."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: np.ndarray

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def cols(self) -> int:
        return self.shape[-1]

    def array(self) -> np.ndarray:
        """The values as float32 (a copy)."""
        from alexandra import _native

        result = np.empty(self.shape, np.float32)
        _native.decode.decode(self.type, np.ascontiguousarray(self.data), result)
        return result


def bytes_of(kind: str, shape: tuple[int, ...], name: str = "a tensor") -> int:
    """How many bytes a tensor takes; BackendError for an unknown type or rows that are no whole number of blocks."""
    if kind not in TYPES:
        raise BackendError(f"tensor type {kind!r} is not known", hint=suggest(kind, TYPES))
    block, size = TYPES[kind]
    if not shape or shape[-1] % block:
        raise BackendError(
            f"{name} of shape {shape} cannot be {kind}: rows must be a multiple of {block} values",
            hint="keep it as F32, or make the width of the network a multiple of 32",
        )
    return prod(shape) // block * size


def quantize(array: np.ndarray, kind: str, name: str = "a tensor") -> StoredTensor:
    """`array` (float) stored as `kind`. BackendError where a block cannot hold its values (not finite, too large)."""
    from alexandra import _native

    values = np.ascontiguousarray(array, np.float32)
    data = np.empty(bytes_of(kind, values.shape, name), np.uint8)
    try:
        _native.decode.encode(kind, values.reshape(-1), data)
    except _native.EngineError as error:
        raise BackendError(f"{name}: {error}") from None
    return StoredTensor(name, kind, values.shape, data)


def stored(array: np.ndarray, name: str = "a tensor") -> StoredTensor:
    """`array` as it is (float32 is not copied)."""
    values = np.ascontiguousarray(array, np.float32)
    return StoredTensor(name, "F32", values.shape, values.reshape(-1).view(np.uint8))
