"""WeightSet: the named float32 arrays of one graph, how they begin, and how they live on disk.

On disk they are safetensors beside a JSON manifest that carries the graph's hash, the seed, the data's hash,
the lineage and a checksum per tensor, so that a damaged byte or another network's weights are refused by name.
Initial values are keyed by seed and parameter name: they do not depend on order or on the other layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import StorageError, WeightsError, suggest
from alexandra.ir.check import param_specs
from alexandra.ir.graph import Graph
from alexandra.ir.ops import ParamSpec
from alexandra.rng import derive, normal_of, uniform_of
from alexandra.storage import (
    array_hash,
    content_hash,
    json_bytes,
    map_tensors,
    publish,
    read_json,
    read_tensors,
    tensors_bytes,
)

SCHEMA = 1
WEIGHTS_FILE, MANIFEST_FILE = "weights.safetensors", "manifest.json"
EMBEDDING_STD = 0.02

Words = Callable[[int], np.ndarray]  # that many random words, one stream's or a row for each of several

INITS: dict[str, Callable[[Words, ParamSpec], np.ndarray]] = {
    # Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, eq. 16
    "glorot": lambda words, spec: (
        (2.0 * uniform_of(words(spec.size)) - 1.0) * float(np.sqrt(6.0 / (spec.fan_in + spec.fan_out)))
    ),
    "normal": lambda words, spec: EMBEDDING_STD * normal_of(words(spec.size)),
    "zeros": lambda words, spec: np.zeros(spec.size),
    "ones": lambda words, spec: np.ones(spec.size),
}


@dataclass(frozen=True)
class Manifest:
    """What a weight file says of itself: which graph it fits, where it comes from, and its checksums."""

    spec_hash: str
    network: str
    sha256: str
    checksums: Mapping[str, str]
    seed: int | None = None
    data_hash: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "spec_hash": self.spec_hash,
            "network": self.network,
            "dtype": self.dtype,
            "seed": self.seed,
            "data_hash": self.data_hash,
            "lineage": dict(self.lineage),
            "sha256": self.sha256,
            "checksums": dict(self.checksums),
        }

    @classmethod
    def from_dict(cls, value: Any, source: str) -> Manifest:
        """Read a manifest; WeightsError when it has another schema or lacks a field."""
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            given = value.get("schema") if isinstance(value, dict) else value
            raise WeightsError(f"{source!r}: manifest schema {given!r} is not known; this version reads {SCHEMA}")
        fields = {key: content for key, content in value.items() if key != "schema"}
        try:
            return cls(**fields)
        except TypeError as error:
            raise WeightsError(f"{source!r}: the manifest is incomplete: {error}") from error


class WeightSet(Mapping[str, np.ndarray]):
    """Read-only float32 arrays by full parameter name, in the graph's order. Equal when every bit is equal."""

    def __init__(self, arrays: Mapping[str, np.ndarray], manifest: Manifest | None = None) -> None:
        self._arrays = {name: _frozen(name, array) for name, array in arrays.items()}
        self.manifest = manifest
        self.source: np.ndarray | None = None  # the bytes of the file that these are views of

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            raise KeyError(f"no parameter {name!r}; {suggest(name, self._arrays)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeightSet):
            return NotImplemented
        return set(self) == set(other) and all(array_hash(self[name]) == array_hash(other[name]) for name in self)

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def __repr__(self) -> str:
        return f"WeightSet({len(self)} tensors, {self.num_values} values, {self.content_hash[:12]})"

    @property
    def num_values(self) -> int:
        return sum(array.size for array in self._arrays.values())

    @property
    def content_hash(self) -> str:
        """SHA-256 over names and values, whatever the order: two sets are equal when these are."""
        return content_hash("".join(f"{name}={array_hash(self[name])};" for name in sorted(self)).encode())

    def exact(self, graph: Graph) -> None:
        """WeightsError unless these are the parameters of `graph`, all of them, in their shapes."""
        specs = param_specs(graph)
        missing = [name for name in specs if name not in self]
        unexpected = [name for name in self if name not in specs]
        if missing or unexpected:
            parts = [f"missing {', '.join(missing)}"] * bool(missing)
            parts += [f"unexpected {', '.join(unexpected)}"] * bool(unexpected)
            raise WeightsError(f"weights do not fit network {graph.name!r}: {'; '.join(parts)}")
        for name, spec in specs.items():
            if self[name].shape != spec.shape:
                shapes = f"{name} has shape {self[name].shape}, needs {spec.shape}"
                raise WeightsError(f"weights do not fit network {graph.name!r}: {shapes}")

    def merge(self, patch: Mapping[str, np.ndarray]) -> WeightSet:
        """A copy with the arrays of `patch` in place of ours; each must exist here with its shape."""
        for name, array in patch.items():
            if name not in self:
                raise WeightsError(f"cannot merge {name!r}: there is no such parameter", hint=suggest(name, self))
            if np.shape(array) != self[name].shape:
                raise WeightsError(f"cannot merge {name!r}: shape {np.shape(array)} into {self[name].shape}")
        return WeightSet({**self._arrays, **patch})

    def files(
        self, graph: Graph, *, seed: int | None = None, data_hash: str = "", lineage: Mapping[str, str] | None = None
    ) -> dict[str, bytes]:
        """The two files of this set, by name: `weights.safetensors` and `manifest.json`."""
        self.exact(graph)
        data = tensors_bytes(self._arrays)
        sums = {name: array_hash(array) for name, array in self._arrays.items()}
        manifest = Manifest(graph.spec_hash, graph.name, content_hash(data), sums, seed, data_hash, dict(lineage or {}))
        return {WEIGHTS_FILE: data, MANIFEST_FILE: json_bytes(manifest.to_dict())}

    def save(
        self,
        path: str | Path,
        graph: Graph,
        *,
        seed: int | None = None,
        data_hash: str = "",
        lineage: Mapping[str, str] | None = None,
    ) -> Path:
        """Publish weights and manifest in the folder `path`, or beside each other when it ends in `.safetensors`.

        Returns the weight file. The manifest of `a.safetensors` is `a.manifest.json`.
        """
        files = self.files(graph, seed=seed, data_hash=data_hash, lineage=lineage)
        weights, manifest = _places(Path(path))
        publish(weights, files[WEIGHTS_FILE])
        publish(manifest, files[MANIFEST_FILE])
        return weights

    @classmethod
    def load(cls, path: str | Path, graph: Graph | None = None) -> WeightSet:
        """Read what `save` wrote, checking every checksum and, with `graph`, that the weights are its own.

        Raises WeightsError that names the file, and the tensor that is damaged.
        """
        weights, manifest = _places(Path(path))
        try:
            data = weights.read_bytes()
        except OSError as error:
            raise WeightsError(f"cannot read weights {str(weights)!r}: {error.strerror}") from error
        try:
            return _decode(data, read_json(manifest), graph, str(weights))
        except StorageError as error:
            raise WeightsError(error.message, hint=error.hint) from error

    @classmethod
    def open(cls, path: str | Path, graph: Graph, *, verify: bool = True) -> WeightSet:
        """The weights of `graph` as views of a mapped file: pages are read when they are used, nothing is copied.

        `path` is what `save` wrote. With `verify` every checksum is compared, which reads the file once. The native
        engine infers from such weights where they lie; training takes a copy of its own. WeightsError.
        """
        weights, manifest_path = _places(Path(path))
        try:
            manifest = Manifest.from_dict(read_json(manifest_path), str(manifest_path))
            views, sums, data = map_tensors(weights, verify=verify)
        except StorageError as error:
            raise WeightsError(error.message, hint=error.hint) from error
        for name in views:
            if manifest.checksums.get(name) != sums[name]:
                raise WeightsError(f"{str(weights)!r}: tensor {name!r} is not the one of its manifest")
        found = cls({}, manifest)
        found._arrays, found.source = views, data
        _check_graph(found, graph, str(weights))
        found._arrays = {name: views[name] for name in param_specs(graph)}
        return found

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], graph: Graph | None = None, source: str = "weights") -> WeightSet:
        """The inverse of `files`, with the checks of `load`; `source` names the origin in errors."""
        import json

        try:
            data, manifest = files[WEIGHTS_FILE], json.loads(files[MANIFEST_FILE])
        except KeyError as error:
            raise WeightsError(f"{source!r} has no file {error.args[0]!r}") from error
        except ValueError as error:
            raise WeightsError(f"{source!r}: {MANIFEST_FILE} is not JSON: {error}") from error
        return _decode(data, manifest, graph, source)


def initialise(graph: Graph, seed: int = 0) -> WeightSet:
    """The first weights of `graph`: each parameter drawn from derive(seed, "init", its full name).

    Dense weights are uniform within +-sqrt(6 / (fan_in + fan_out)), embeddings normal with deviation 0.02,
    biases 0, norm gains 1.
    """
    return WeightSet(
        {
            name: INITS[spec.init](derive(seed, "init", name).words, spec).reshape(spec.shape).astype(np.float32)
            for name, spec in param_specs(graph).items()
        }
    )


def _decode(data: bytes, manifest_value: Any, graph: Graph | None, source: str) -> WeightSet:
    manifest = Manifest.from_dict(manifest_value, source)
    try:
        arrays, _ = read_tensors(data, source)
    except StorageError as error:
        raise WeightsError(error.message, hint=error.hint) from error
    for name in sorted(set(arrays) | set(manifest.checksums)):
        if name not in arrays or name not in manifest.checksums:
            raise WeightsError(
                f"{source!r}: tensor {name!r} is in {'the manifest' if name not in arrays else 'the file'} only"
            )
        if array_hash(arrays[name]) != manifest.checksums[name]:
            raise WeightsError(f"{source!r}: tensor {name!r} is damaged (its checksum is not the manifest's)")
    if content_hash(data) != manifest.sha256:
        raise WeightsError(f"{source!r} is damaged: its SHA-256 is not the manifest's")
    weights = WeightSet(arrays, manifest)
    if graph is None:
        return weights
    _check_graph(weights, graph, source)
    return WeightSet({name: arrays[name] for name in param_specs(graph)}, manifest)


def _check_graph(weights: WeightSet, graph: Graph, source: str) -> None:
    """WeightsError unless these are the weights of `graph` by their manifest and by their names and shapes."""
    manifest = weights.manifest
    assert manifest is not None
    if manifest.spec_hash != graph.spec_hash:
        raise WeightsError(
            f"{source!r} holds weights of network {manifest.network!r} ({manifest.spec_hash[:12]}), "
            f"not of {graph.name!r} ({graph.spec_hash[:12]})",
            hint="load them with the network they were saved with, or copy fitting tensors with merge()",
        )
    weights.exact(graph)


def _places(path: Path) -> tuple[Path, Path]:
    if path.suffix != ".safetensors":
        return path / WEIGHTS_FILE, path / MANIFEST_FILE
    if path.name == WEIGHTS_FILE:
        return path, path.with_name(MANIFEST_FILE)
    return path, path.with_name(f"{path.stem}.manifest.json")


def _frozen(name: str, array: np.ndarray) -> np.ndarray:
    given = np.asarray(array)
    if given.dtype.kind != "f":
        raise WeightsError(f"parameter {name!r} must hold floating-point numbers, got dtype {given.dtype}")
    with np.errstate(over="ignore"):  # weights of a run that diverged may be beyond float32
        copy = np.array(given, dtype=np.float32, order="C")
    copy.setflags(write=False)
    return copy
