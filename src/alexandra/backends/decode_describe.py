"""A decoder as the C interface reads it (include/alexandra.h): JSON of the engine's steps, and where its weights lie.

A weight is part of a tensor in the file (GGUF or safetensors) that a C program loads beside the plan; what is in no
file, such as a table of rotations, stands in the plan itself. The engine checks every line again (csrc/c_decoder.cpp).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.decode import Decodable, read_safetensors
from alexandra.backends.gguf import read_gguf
from alexandra.backends.quant import StoredTensor
from alexandra.errors import BackendError
from alexandra.storage import publish

FORMAT, VERSION = "alexandra-decoder", 1
_MOST_INLINE = 32 << 20  # bytes of weights in a plan


def describe_decoder(model: Decodable, weights: str | Path, context: int | None = None) -> dict[str, Any]:
    """The plan of `model` over the file `weights`, JSON-ready, for `context` positions (default: the model's).

    BackendError where much of the model is not in that file.
    """
    positions = model.most_positions if context is None else context
    steps, place = model.steps(positions), Path(weights)
    stored = read_gguf(place).tensors if place.suffix == ".gguf" else read_safetensors(place)
    listed = [_weight(tensor, stored) for tensor in steps.weights]
    inline = sum(len(row.get("data", "")) for row in listed)
    if inline > _MOST_INLINE:
        first = next(row["name"] for row in listed if "data" in row)
        raise BackendError(
            f"{inline} bytes of weights, {first!r} first, are not in {str(weights)!r}",
            hint="write the model to one file first: gguf_export.export_gguf(model, path)",
        )
    rows = []
    for name, op, inputs, width, params, numbers in steps.steps:
        owns = [None if param < 0 else param for param in params]
        row = {"name": name, "op": op, "inputs": inputs, "width": width, "params": owns, "numbers": numbers}
        rows.append(row)
    pieces = model.tokenizer.pieces[: model.most_tokens] if model.tokenizer else ()
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": Path(model.source).name or "decoder",
        "context": positions,
        "ends": list(model.end_tokens),
        "pieces": [_letters(piece) for piece in pieces],
        "weights": listed,
        "steps": rows,
    }


def save_decoder(model: Decodable, weights: str | Path, path: str | Path, context: int | None = None) -> Path:
    """Write the plan of `model`; beside the file `weights` it is all that a C program needs to generate."""
    text = json.dumps(describe_decoder(model, weights, context), ensure_ascii=False, allow_nan=False) + "\n"
    publish(Path(path), text.encode())
    return Path(path)


def _weight(tensor: StoredTensor, stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Where the bytes of `tensor` are: a tensor of its name, a slice of the one that it is an expert of, or here."""
    head = {"name": tensor.name, "type": tensor.type, "rows": tensor.rows, "cols": tensor.cols}
    owner, _, number = tensor.name.rpartition(".")
    for name, at in ((tensor.name, 0), (owner, int(number) * tensor.data.size if number.isdigit() else 0)):
        found = stored.get(name)
        if found is None or found.type != tensor.type:
            continue
        if np.array_equal(found.data[at : at + tensor.data.size], tensor.data):
            return {**head, "tensor": name, "at": at}
    return {**head, "data": _letters(np.ascontiguousarray(tensor.data).tobytes())}


def _letters(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
