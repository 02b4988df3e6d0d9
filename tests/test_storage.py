"""Files are whole or absent, and a changed byte is found before it is used."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alexandra import storage
from alexandra.errors import StorageError
from alexandra.rng import derive


def litter(folder):
    return [name for name in os.listdir(folder) if name.endswith(storage.PART_SUFFIX)]


def test_publish_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    storage.publish(path, b"one")
    storage.publish(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.bin"]


def test_publish_follows_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        storage.publish(tmp_path / "private", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_publish_names_the_file_it_could_not_write(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "below", tmp_path / "folder"):
        with pytest.raises(StorageError, match="cannot write .*: .*\n.*unchanged"):
            storage.publish(path, b"x")
    with pytest.raises(StorageError, match="File name too long"):
        storage.publish(tmp_path / ("é" * 200), b"x")
    assert not litter(tmp_path)


def test_a_full_disk_leaves_the_old_content_and_no_litter(tmp_path):
    """A limit on the file size stands for the full disk: the write fails half-way in the same place."""
    path = tmp_path / "weights"
    storage.publish(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write .*File too large"):
            storage.publish(path, b"n" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights"]


def test_a_failed_sync_does_not_claim_that_nothing_changed(tmp_path, monkeypatch):
    real_fsync = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, "Input/output error")
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="cannot sync .*Input/output error\nthe new content is in place"):
        storage.publish(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


WRITER = """
import sys, pathlib
from alexandra.storage import publish
path, letter = pathlib.Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    letter = (letter + 1) % 26
    publish(path, bytes([97 + letter]) * 300_000)
"""


def test_a_kill_at_any_moment_leaves_one_whole_content(tmp_path):
    path = tmp_path / "file"
    storage.publish(path, b"a" * 300_000)
    for moment in derive(11, "kill").uniform(12):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02 * float(moment))
        process.kill()
        process.wait()
        process.stdout.close()
        data = path.read_bytes()
        assert len(data) == 300_000
        assert len(set(data)) == 1


dtypes = st.one_of(
    hnp.floating_dtypes(sizes=(16, 32, 64)), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.boolean_dtypes()
)
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text(max_size=8), arrays, max_size=4),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_tensors_round_trip_with_shape_bits_and_metadata(tensors, metadata):
    if {"sha256", "__metadata__"} & {*tensors, *metadata}:
        return
    loaded, notes = storage.read_tensors(storage.tensors_bytes(tensors, metadata), "t")
    assert notes == metadata
    assert set(loaded) == set(tensors)
    for name, array in tensors.items():
        assert loaded[name].shape == array.shape
        assert loaded[name].dtype == array.dtype.newbyteorder("<")
        assert loaded[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_order_in_memory_does_not_matter():
    array = np.arange(12.0).reshape(3, 4)
    assert storage.array_hash(array) == storage.array_hash(np.asfortranarray(array))
    assert storage.array_hash(array) == storage.array_hash(array.astype(">f8"))
    assert storage.array_hash(array) != storage.array_hash(array.reshape(4, 3))
    assert storage.array_hash(array) != storage.array_hash(array.view(np.int64))


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array(["2020-01-01"], dtype="M8[D]")])
def test_what_safetensors_has_no_type_for_is_refused_by_name(array):
    with pytest.raises(StorageError, match="tensor 'label' has dtype .*; allowed are numbers and booleans"):
        storage.tensors_bytes({"label": array})


def test_reserved_names_are_refused():
    with pytest.raises(StorageError, match="'sha256' is a reserved name"):
        storage.tensors_bytes({}, {"sha256": "x"})
    with pytest.raises(StorageError, match="'__metadata__' is a reserved name"):
        storage.tensors_bytes({"__metadata__": np.zeros(1)})


SMALL = {"y.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "y.bias": np.array([0.5, -1.0], dtype=np.float32)}


def test_every_single_flipped_bit_is_found():
    data = storage.tensors_bytes(SMALL, {"spec_hash": "abc", "note": "x"})
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(StorageError, match="'w.safetensors'"):
                storage.read_tensors(bytes(damaged), "w.safetensors")


def test_every_truncation_is_found():
    data = storage.tensors_bytes(SMALL)
    for length in range(len(data)):
        with pytest.raises(StorageError, match="'w.safetensors'"):
            storage.read_tensors(data[:length], "w.safetensors")


def test_a_damaged_tensor_is_named():
    data = bytearray(storage.tensors_bytes(SMALL))
    at = bytes(data).index(np.float32(5.0).tobytes())
    data[at] ^= 1
    with pytest.raises(StorageError, match=r"'w': tensor 'y.weight' is damaged \(its checksum does not match\)"):
        storage.read_tensors(bytes(data), "w")


def test_foreign_safetensors_without_checksums_are_refused():
    from safetensors.numpy import save

    with pytest.raises(StorageError, match="not a whole safetensors file with checksums"):
        storage.read_tensors(save(SMALL), "w")
    with pytest.raises(StorageError, match="not a whole safetensors file with checksums"):
        storage.read_tensors(save(SMALL, {"sha256": "[1, 2]"}), "w")


def test_json_round_trips_and_is_canonical(tmp_path):
    value = {"b": [1, 2.5, None, True], "a": {"é": '\u2028 "x"'}}
    storage.publish_json(tmp_path / "v.json", value)
    assert storage.read_json(tmp_path / "v.json") == value
    assert storage.json_bytes(value) == storage.json_bytes(json.loads(storage.json_bytes(value)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not readable JSON"),
        (b"\xff", "is not readable JSON"),
        (b"NaN", "NaN is not a JSON number"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b"[" * 100_000, "is not readable JSON"),
        (b"", "is not readable JSON"),
    ],
)
def test_bad_json_names_its_file(tmp_path, content, words):
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(
        StorageError, match=f"v.json' is not readable JSON.*{words if 'not readable' not in words else ''}"
    ):
        storage.read_json(tmp_path / "v.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StorageError, match="no file '.*gone'"):
        storage.read_json(tmp_path / "gone")
    with pytest.raises(StorageError, match="cannot read '.*gone'"):
        list(storage.read_jsonl(tmp_path / "gone"))
    with pytest.raises(StorageError, match="cannot read"):
        storage.read_bytes(tmp_path)


def test_json_lines_round_trip_and_name_the_bad_line(tmp_path):
    rows = [{"text": "a\u2028b\x85c\r\nd"}, 1, None, "é"]
    path = tmp_path / "rows.jsonl"
    storage.write_jsonl(path, rows)
    assert list(storage.read_jsonl(path)) == rows
    with path.open("ab") as file:
        file.write(b'{"half": ')
    with pytest.raises(StorageError, match="rows.jsonl' line 5 is not JSON"):
        list(storage.read_jsonl(path))
    path.write_bytes(b'1\n"\xff"\n')
    with pytest.raises(StorageError, match="line 2 is not JSON"):
        list(storage.read_jsonl(path))


def test_sweep_removes_parts_of_dead_processes_only(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".a.{dead.pid}-01234567.part").write_bytes(b"half")
    (tmp_path / f".folder.{dead.pid}-01234567.part").mkdir()
    kept = {f".a.{os.getpid()}-01234567.part", f"a.{dead.pid}-01234567.part", ".part", f".a.{dead.pid}-0123456.part"}
    for name in kept:
        (tmp_path / name).write_bytes(b"whole")
    storage.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    storage.sweep(tmp_path / "none")
