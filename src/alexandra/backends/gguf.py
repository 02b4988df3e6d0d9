"""GGUF files: read with every byte of structure checked and the tensors mapped, and written for llama.cpp.

The format is ggml's (docs/gguf.md of that project), versions 2 and 3, little-endian. The checks stand in csrc/gguf.cpp;
here its values become Python's. What the keys mean for a network is `decode_config`'s business.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexandra.backends.quant import StoredTensor
from alexandra.errors import StorageError

Value = int | float | bool | str | list[int] | list[float] | list[str] | list[bytes]

ALIGNMENT = 32
_NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "BF16": 30}
_TEXT, _ARRAY, _U32, _I32, _F32, _BOOL, _U64 = 8, 9, 4, 5, 6, 7, 10


@dataclass(frozen=True, eq=False)
class GgufFile:
    """Metadata by key and tensors by name; tensor data are views of the mapped file."""

    path: str
    metadata: Mapping[str, Value]
    tensors: Mapping[str, StoredTensor]
    size: int


def read_gguf(path: str | Path) -> GgufFile:
    """Open a GGUF file. StorageError says what is wrong and where: nothing of a damaged file is handed out."""
    from alexandra import _native

    try:
        file = _native.decode.Gguf(str(path))
        values = {_name(key): _value(kind, value) for key, kind, value in file.values()}
        tensors = {
            _name(name): StoredTensor(_name(name), kind, tuple(dims), data) for name, kind, dims, data in file.tensors()
        }
    except (_native.EngineError, UnicodeDecodeError) as error:
        raise StorageError(f"{str(path)!r} is not a whole GGUF file: {error}") from None
    return GgufFile(str(path), values, tensors, file.size)


def _name(raw: bytes) -> str:
    return raw.decode()


def _value(kind: int, value: object) -> Value:
    """Texts are decoded; arrays of texts stay bytes, for a token may be half a character."""
    if kind == _TEXT:
        assert isinstance(value, bytes)
        return value.decode(errors="replace")
    if kind == _F32:
        return float(str(np.float32(value)))  # type: ignore[arg-type]  # 1e-05, not 9.999999747378752e-06
    return value  # type: ignore[return-value]


def write_gguf(path: str | Path, metadata: Mapping[str, Value], tensors: Iterable[StoredTensor]) -> Path:
    """Publish a GGUF file (version 3). Whole numbers are stored with 32 bits where they fit, floats as float32."""
    target, rows = Path(path), list(tensors)
    names = [tensor.name for tensor in rows]
    if len(set(names)) != len(names):
        raise StorageError(f"cannot write {str(path)!r}: a tensor's name stands twice")
    pairs = {"general.alignment": ALIGNMENT, **metadata}
    head = [b"GGUF", struct.pack("<IQQ", 3, len(rows), len(pairs))]
    head += [_text(key) + _typed(key, value) for key, value in pairs.items()]
    offset = 0
    for tensor in rows:
        dims = tensor.shape[::-1]
        head.append(_text(tensor.name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        head.append(struct.pack("<IQ", _NUMBERS[tensor.type], offset))
        offset += -(-tensor.data.size // ALIGNMENT) * ALIGNMENT
    header = b"".join(head)
    _publish(target, header, rows)
    return target


def _publish(target: Path, header: bytes, tensors: list[StoredTensor]) -> None:
    """Stream header and tensors to a hidden file beside the target, then rename: no second copy in memory."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(header + bytes(-len(header) % ALIGNMENT))
            for tensor in tensors:
                file.write(np.ascontiguousarray(tensor.data).data)
                file.write(bytes(-tensor.data.size % ALIGNMENT))
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"cannot write {str(target)!r}: {error.strerror or error}") from error


def _text(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _typed(key: str, value: Value) -> bytes:
    kind = _kind(value)
    if kind != _ARRAY:
        return struct.pack("<I", kind) + _packed(kind, value)
    assert isinstance(value, list)
    if not value:
        raise StorageError(f"cannot write the empty array {key!r} to a GGUF file: it has no type")
    item = _kind(value[0])
    if item == _U32:
        item = _I32 if all(-(2**31) <= int(v) < 2**31 for v in value) else _U64
    head = struct.pack("<IIQ", _ARRAY, item, len(value))
    return head + b"".join(_packed(item, v) for v in value)


def _kind(value: object) -> int:
    match value:
        case bool():
            return _BOOL
        case int():
            return _U32 if 0 <= value < 2**32 else _I32 if -(2**31) <= value < 0 else _U64
        case float():
            return _F32
        case list():
            return _ARRAY
        case _:
            return _TEXT


def _packed(kind: int, value: object) -> bytes:
    if kind == _TEXT:
        assert isinstance(value, str | bytes)
        return _text(value)
    return struct.pack({_BOOL: "<?", _U32: "<I", _I32: "<i", _F32: "<f", _U64: "<Q"}[kind], value)
