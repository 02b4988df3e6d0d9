"""GGUF and safetensors files: what is written is read, by us and by others; what is damaged is refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from alexandra.backends.decode import read_safetensors
from alexandra.backends.gguf import read_gguf, write_gguf
from alexandra.backends.quant import TYPES, quantize
from alexandra.errors import StorageError
from alexandra.rng import derive

METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.rope.freq_base": 10000.0,
    "flag": True,
    "negative": -5,
    "large": 2**40,
    "names": [b"\xe2\x96\x81a", b"\xff"],
    "scores": [0.5, -1.0],
    "kinds": [1, 3],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    values = derive(0, "w").normal(3 * 64).reshape(3, 64)
    tensors = [quantize(values, kind, f"w.{kind}") for kind in TYPES]
    return write_gguf(tmp_path / "a.gguf", METADATA, tensors)


def test_what_is_written_is_read(path: Path) -> None:
    file = read_gguf(path)
    assert {key: file.metadata[key] for key in METADATA} == METADATA
    assert {name: (t.type, t.shape) for name, t in file.tensors.items()} == {f"w.{k}": (k, (3, 64)) for k in TYPES}
    values = derive(0, "w").normal(3 * 64).reshape(3, 64).astype(np.float32)
    assert np.array_equal(file.tensors["w.F32"].array(), values)
    assert not file.tensors["w.F32"].data.flags.writeable


def test_the_gguf_package_reads_what_we_write(path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(path)
    ours = read_gguf(path)
    for tensor in reader.tensors:
        assert tensor.data.tobytes() == ours.tensors[tensor.name].data.tobytes()
        assert tuple(int(n) for n in tensor.shape[::-1]) == ours.tensors[tensor.name].shape
    assert reader.fields["llama.block_count"].contents() == 2
    assert reader.fields["scores"].contents() == [0.5, -1.0]


def test_we_read_what_the_gguf_package_writes(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(tmp_path / "b.gguf"), "llama")
    writer.add_block_count(3)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("x", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(tmp_path / "b.gguf")
    assert file.metadata["llama.block_count"] == 3 and file.metadata["tokenizer.ggml.tokens"] == [b"a", b"b"]
    assert np.array_equal(file.tensors["x"].array(), np.arange(6).reshape(2, 3))


def test_every_truncation_is_refused(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    cut = tmp_path / "cut.gguf"
    last = len(data) - (-quantize(np.zeros((3, 64)), "Q4_0").data.size % 32)
    for size in [*range(700), *range(700, last, 97)]:
        cut.write_bytes(data[:size])
        with pytest.raises(StorageError, match=r"cut\.gguf' is not a whole GGUF file"):
            read_gguf(cut)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, b"GGML", "does not begin with 'GGUF'"),
        (4, struct.pack("<I", 9), "version 9 is not known; known: 2, 3"),
        (8, struct.pack("<Q", 2**60), "more than [0-9]+ bytes can hold"),
        (16, struct.pack("<Q", 2**63), "more than [0-9]+ bytes can hold"),
        (24, struct.pack("<Q", 2**64 - 1), "the file ends inside a key"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(path: Path, at: int, value: bytes, said: str) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(StorageError, match=said):
        read_gguf(path)


def _entry(name: str, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    head = struct.pack("<Q", len(name)) + name.encode() + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return head + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([_entry("w", (2**40, 2**40), 0, 0)], "too many values"),
        ([_entry("w", (0,), 0, 0)], "an axis of 0"),
        ([_entry("w", (48,), 2, 0)], "Q4_0 needs multiples of 32"),
        ([_entry("w", (8,), 12, 0)], "type 12 of ggml; known: F32"),
        ([_entry("w", (8,), 0, 4)], "not aligned to 32"),
        ([_entry("w", (8,), 0, 2**62)], "the file has"),
        ([_entry("w", (1000,), 0, 0)], "claims 4000 bytes"),
        ([_entry("w", (8,), 0, 0), _entry("w", (8,), 0, 32)], "'w' stands twice"),
        ([_entry("a", (16,), 0, 0), _entry("b", (8,), 0, 32)], "'a' and 'b' overlap"),
        ([_entry("w", (1, 1, 1, 1, 1), 0, 0)], "5 axes, allowed: 1 to 4"),
    ],
)
def test_a_tensor_that_lies_is_refused_by_name(tmp_path: Path, entries: list[bytes], said: str) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), 0) + b"".join(entries)
    (tmp_path / "x.gguf").write_bytes(head + bytes(-len(head) % 32) + bytes(128))
    with pytest.raises(StorageError, match=said):
        read_gguf(tmp_path / "x.gguf")


def _safe(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_of_the_library_are_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {'a"b\n': np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.ones((4,), np.float16)}
    save_file(arrays, tmp_path / "a.safetensors", {"note": "x"})
    found = read_safetensors(tmp_path / "a.safetensors")
    assert {name: tensor.array().tolist() for name, tensor in found.items()} == {
        name: array.astype(np.float32).tolist() for name, array in arrays.items()
    }


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b'{"w":', "the JSON is wrong at byte"),
        (b"[" * 100, "wanted"),
        (b'{"a":' * 100, "nested more than 32 deep"),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "needs 8 bytes"),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "'w' lies at 4"),
        ({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, "too many values"),
        ({"w": {"dtype": "Q9", "shape": [2], "data_offsets": [0, 8]}}, "dtype 'Q9'; known: F32"),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "code": 1}}, "field 'code'"),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "4 bytes after the last tensor"),
        (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}',
         "'w' stands twice"),
    ],
)  # fmt: skip
def test_safetensors_that_lie_are_refused(tmp_path: Path, header: object, said: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(_safe(header, bytes(8)))
    with pytest.raises(StorageError, match=said):
        read_safetensors(tmp_path / "x.safetensors")


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(StorageError, match="claims 4611686018427387904 bytes"):
        read_safetensors(tmp_path / "x.safetensors")


def test_manifests_are_checked_without_building_them() -> None:
    from alexandra import _native
    from alexandra.ir.weights import Manifest

    good = Manifest("0" * 64, "n", "1" * 64, {"w": "2" * 64}, seed=3).to_dict()
    assert _native.decode.check_manifest(json.dumps(good).encode()) == 1
    for change, said in [
        ({"schema": 2}, "schema 2"),
        ({"sha256": "xyz"}, "not 64 hexadecimal digits"),
        ({"extra": 1}, "unknown field 'extra'"),
    ]:
        with pytest.raises(_native.EngineError, match=said):
            _native.decode.check_manifest(json.dumps({**good, **change}).encode())
