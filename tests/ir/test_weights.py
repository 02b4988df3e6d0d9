"""WeightSet: initial values, exactness, merging, and files that cannot be damaged or swapped unnoticed."""

import json
from pathlib import Path

import numpy as np
import pytest

from alexandra.errors import WeightsError
from alexandra.ir.build import mlp
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Node
from alexandra.ir.weights import MANIFEST_FILE, WEIGHTS_FILE, WeightSet, initialise
from alexandra.rng import derive

GRAPH = mlp(64, norm="layernorm", inputs=30, outputs=3)


def test_initial_weights_are_uniform_within_glorots_bound_zeros_and_ones() -> None:
    weights = initialise(GRAPH, seed=7)
    assert list(weights) == ["l1.weight", "l1.bias", "n1.weight", "n1.bias", "y.weight", "y.bias"]
    bound = np.sqrt(6 / (30 + 64))
    drawn = (2 * derive(7, "init", "l1.weight").uniform(64 * 30) - 1) * bound
    np.testing.assert_array_equal(weights["l1.weight"], drawn.reshape(64, 30).astype(np.float32))
    assert np.abs(weights["l1.weight"]).max() <= bound and abs(weights["l1.weight"].std() * 3**0.5 / bound - 1) < 0.05
    assert not weights["l1.bias"].any() and not weights["y.bias"].any() and (weights["n1.weight"] == 1).all()


def test_an_embedding_starts_normal_with_deviation_0_02() -> None:
    nodes = [
        Node("t", "input", (), {"shape": 1, "dtype": "int32"}),
        Node("e", "embedding", ("t",), {"vocab": 100, "size": 50}),
        Node("y", "output", ("e",)),
    ]
    values = initialise(make_graph("net", nodes))["e.weight"]
    assert abs(values.std() / 0.02 - 1) < 0.03 and abs(values.mean()) < 1e-3


def test_initial_weights_depend_on_seed_and_name_only() -> None:
    deeper = mlp(64, 64, norm="layernorm", inputs=30, outputs=3)
    a, b = initialise(GRAPH, 1), initialise(deeper, 1)
    np.testing.assert_array_equal(a["l1.weight"], b["l1.weight"])
    assert initialise(GRAPH, 1) == a != initialise(GRAPH, 2)
    assert hash(initialise(GRAPH, 1)) == hash(a)


def test_arrays_are_read_only_float32_copies() -> None:
    source = np.ones(3)
    weights = WeightSet({"a": source})
    source[0] = 5
    assert weights["a"].dtype == np.float32 and weights["a"][0] == 1
    with pytest.raises(ValueError, match="read-only"):
        weights["a"][0] = 2
    with pytest.raises(WeightsError, match="parameter 'a' must hold floating-point numbers, got dtype int64"):
        WeightSet({"a": np.ones(3, dtype=np.int64)})
    with pytest.raises(KeyError, match="no parameter 'b'.*known: a"):
        weights["b"]


def test_exact_names_what_is_missing_unexpected_or_misshapen() -> None:
    good = dict(initialise(GRAPH))
    WeightSet(good).exact(GRAPH)
    bias = good.pop("y.bias")
    with pytest.raises(WeightsError, match="do not fit network 'mlp_64': missing y.bias; unexpected z.bias"):
        WeightSet({**good, "z.bias": bias}).exact(GRAPH)
    with pytest.raises(WeightsError, match=r"y.bias has shape \(2,\), needs \(3,\)"):
        WeightSet({**good, "y.bias": bias[:2]}).exact(GRAPH)


def test_merge_replaces_tensors_of_the_same_shape_only() -> None:
    weights = initialise(GRAPH)
    merged = weights.merge({"y.bias": np.arange(3.0)})
    assert merged["y.bias"].tolist() == [0, 1, 2] and not weights["y.bias"].any()
    np.testing.assert_array_equal(merged["y.weight"], weights["y.weight"])
    with pytest.raises(
        WeightsError, match="cannot merge 'y.bais': there is no such parameter\n.*Did you mean 'y.bias'"
    ):
        weights.merge({"y.bais": np.zeros(3)})
    with pytest.raises(WeightsError, match=r"cannot merge 'y.bias': shape \(2,\) into \(3,\)"):
        weights.merge({"y.bias": np.zeros(2)})


def test_saved_weights_come_back_with_their_manifest(tmp_path: Path) -> None:
    weights = initialise(GRAPH, 3)
    file = weights.save(tmp_path / "run", GRAPH, seed=3, data_hash="d" * 64, lineage={"parent": "churn:2"})
    assert file == tmp_path / "run" / WEIGHTS_FILE
    for place in (tmp_path / "run", file, str(file)):
        back = WeightSet.load(place, GRAPH)
        assert back == weights and list(back) == list(weights)
    manifest = back.manifest
    assert manifest is not None
    assert (manifest.seed, manifest.data_hash, manifest.lineage) == (3, "d" * 64, {"parent": "churn:2"})
    assert (manifest.spec_hash, manifest.dtype) == (GRAPH.spec_hash, "float32")
    named = weights.save(tmp_path / "best.safetensors", GRAPH)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.manifest.json", "best.safetensors", "run"]
    assert WeightSet.load(named) == weights
    assert WeightSet.from_files(weights.files(GRAPH), GRAPH) == weights


def test_saving_twice_gives_the_same_bytes() -> None:
    first = initialise(GRAPH, 3).files(GRAPH, seed=3)
    assert all(initialise(GRAPH, 3).files(GRAPH, seed=3) == first for _ in range(20))


def test_any_flipped_bit_is_refused_and_a_tensor_is_named() -> None:
    weights = initialise(GRAPH, 3)
    files = weights.files(GRAPH)
    data = files[WEIGHTS_FILE]
    start = data.index(weights["y.weight"].tobytes())
    damaged = bytearray(data)
    damaged[start + 5] ^= 0x10
    with pytest.raises(WeightsError, match="'w': tensor 'y.weight' is damaged"):
        WeightSet.from_files({**files, WEIGHTS_FILE: bytes(damaged)}, GRAPH, "w")
    for position in derive(0, "flip").below(len(data), 60):
        for bit in (0, 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(WeightsError):
                WeightSet.from_files({**files, WEIGHTS_FILE: bytes(damaged)}, GRAPH)


def test_weights_prove_that_they_fit() -> None:
    other = mlp(64, norm="rmsnorm", inputs=30, outputs=3)
    files = initialise(GRAPH).files(GRAPH)
    with pytest.raises(WeightsError, match="holds weights of network 'mlp_64' .*not of 'mlp_64'.*\n.*merge"):
        WeightSet.from_files(files, other)


def test_damaged_or_absent_manifests_are_refused(tmp_path: Path) -> None:
    files = initialise(GRAPH).files(GRAPH)
    manifest = json.loads(files[MANIFEST_FILE])

    def load(changed: object) -> None:
        WeightSet.from_files({**files, MANIFEST_FILE: json.dumps(changed).encode()}, GRAPH, "w")

    with pytest.raises(WeightsError, match="'w': manifest schema 9 is not known; this version reads 1"):
        load({**manifest, "schema": 9})
    with pytest.raises(WeightsError, match="the manifest is incomplete: .*spec_hash"):
        load({key: value for key, value in manifest.items() if key != "spec_hash"})
    with pytest.raises(WeightsError, match="tensor 'y.bias' is in the file only"):
        load({**manifest, "checksums": {k: v for k, v in manifest["checksums"].items() if k != "y.bias"}})
    with pytest.raises(WeightsError, match="its SHA-256 is not the manifest's"):
        load({**manifest, "sha256": "0" * 64})
    with pytest.raises(WeightsError, match="'w': manifest.json is not JSON"):
        WeightSet.from_files({**files, MANIFEST_FILE: b"{"}, GRAPH, "w")
    with pytest.raises(WeightsError, match="cannot read weights .*No such file"):
        WeightSet.load(tmp_path / "nothing")
    initialise(GRAPH).save(tmp_path, GRAPH)
    (tmp_path / MANIFEST_FILE).unlink()
    with pytest.raises(WeightsError, match="no file .*manifest.json"):
        WeightSet.load(tmp_path)
