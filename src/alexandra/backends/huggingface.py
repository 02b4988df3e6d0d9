"""Models in and out of Hugging Face's form: a folder (or hub id) of config.json, safetensors and a tokenizer.

    read = huggingface.load("folder-or/hub-id")      # .graph, .weights, .text: a network like any other
    huggingface.save(read.with_weights(model.weights), "out")   # transformers' from_pretrained loads it
    huggingface.save(huggingface.describe(graph, weights), "out")   # of a network that was written here

Families are in huggingface_families.py. Nothing is unpickled, no code of a model is run, and shapes are checked before
values are read. Tokenizers and other small files are carried along byte by byte. No torch is involved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.huggingface_config import Config
from alexandra.backends.huggingface_describe import described
from alexandra.backends.huggingface_families import FAMILIES, Family, Place
from alexandra.backends.huggingface_tensors import (
    SHARD_BYTES,
    Stored,
    Tensor,
    encoded,
    plain_file,
    small_json,
    tensor_files,
    tensors_of,
)
from alexandra.errors import BackendError, NotFoundError, WeightsError, missing_extra, suggest
from alexandra.ir.check import param_specs
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.lang.nureon import compile_network
from alexandra.storage import json_bytes, publish_folder

CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "generation_config.json",
    "chat_template.jinja",
)
MAX_CARRIED = 200_000_000
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


@dataclass(frozen=True)
class Pretrained:
    """A model as it was read: the program and graph, our weights, and what is needed to write it back as it was."""

    text: str
    graph: Graph
    weights: WeightSet
    config: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)  # of their tensors, where not the config's
    spare: Mapping[str, Stored] = field(default_factory=dict)  # tensors without a meaning here, carried along
    bare: bool = False  # whether their names lack the family's prefix

    def with_weights(self, weights: WeightSet) -> Pretrained:
        """The same model with other weights, which must be its graph's (WeightsError)."""
        weights.exact(self.graph)
        return replace(self, weights=weights)


def load(source: str | Path, *, revision: str | None = None) -> Pretrained:
    """Read a folder, or download a model by its hub id (which needs the extra `hf`).

    Raises NotFoundError, BackendError for what a config asks for and we have not, WeightsError for tensors that are
    missing, unexpected, pickled or of another shape; each names the file.
    """
    folder = local_folder(source, revision)
    values = small_json(folder, "config.json")
    config = Config(values, str(source))
    family = family_of(config)
    tensors = tensors_of(folder)
    bare = bool(family.prefix) and not any(name.startswith(family.prefix) for name in tensors)
    names = _with_prefix(family, tensors) if bare else dict(tensors)
    text = family.text(config, names)
    graph = compile_network(text)
    places = family.places(config, names)
    spare = _check(graph, places, names, family)
    return Pretrained(
        text,
        graph,
        WeightSet(_ours(graph, places, names)),
        values,
        {name: _small(folder, name) for name in CARRIED if (folder / name).exists()},
        {name: tensor.dtype for name, tensor in names.items()},
        {name: (names[name].dtype, names[name].shape, names[name].bytes()) for name in spare},
        bare,
    )


def describe(graph: Graph, weights: WeightSet) -> Pretrained:
    """A network that was written here as a model to `save`; BackendError when no family is exactly this network."""
    weights.exact(graph)
    found = described(graph)
    config = Config(found.config, graph.name)
    family = family_of(config)
    renamed = {}
    for name in param_specs(found.graph):
        owner, _, suffix = name.rpartition(".")
        renamed[name] = weights[f"{found.layers[owner]}.{suffix}"]
    dtypes = {name: "F32" for place in family.places(config, found.tensors) for name in place.theirs}
    bare = found.config["model_type"] == "bert" and not any(name.startswith("cls.") for name in dtypes)
    return Pretrained(found.text, found.graph, WeightSet(renamed), found.config, dtypes=dtypes, bare=bare)


def save(model: Pretrained, folder: str | Path, *, shard_bytes: int = SHARD_BYTES) -> Path:
    """Write `model` as a new folder that `transformers` loads; tensors that did not change keep every byte."""
    config = Config(model.config, str(folder))
    family = family_of(config)
    default = DTYPES.get(str(model.config.get("dtype", model.config.get("torch_dtype", "float32"))), "F32")
    stored: dict[str, Stored] = dict(model.spare)
    for place in family.places(config, {*model.dtypes, *model.spare}):
        for name, array in zip(place.theirs, theirs_of(place, model.weights), strict=True):
            dtype = model.dtypes.get(name, default)
            stored[name] = dtype, array.shape, encoded(array, dtype)
    if model.bare:
        stored = {name.removeprefix(family.prefix): value for name, value in stored.items()}
    files = {"config.json": json_bytes(dict(model.config)), **model.files, **tensor_files(stored, shard_bytes)}
    publish_folder(Path(folder), files)
    return Path(folder)


def family_of(config: Config) -> Family:
    kind = config.values.get("model_type")
    if kind not in FAMILIES:
        raise BackendError(f"{config.source!r}: no family {kind!r} of models", hint=suggest(str(kind), FAMILIES))
    return FAMILIES[str(kind)]


def local_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder itself, or that of a hub's model, downloaded without its code. NotFoundError, MissingExtraError."""
    path = Path(source)
    if path.is_dir():
        return path
    if isinstance(source, Path) or path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise NotFoundError(f"no folder {str(source)!r}", hint="give a folder, or a hub id such as 'org/model'")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise missing_extra("downloading models", "hf") from None
    try:
        wanted = ["*.safetensors", "*.json", *(name for name in CARRIED if not name.endswith(".json"))]
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise NotFoundError(f"cannot get {source!r} from the hub: {reason}", hint="or give a folder") from error


def _small(folder: Path, name: str) -> bytes:
    path = plain_file(folder, name)
    if path.stat().st_size > MAX_CARRIED:
        raise WeightsError(f"{str(path)!r} has {path.stat().st_size:,} bytes; at most {MAX_CARRIED:,} are carried")
    return path.read_bytes()


def _with_prefix(family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    heads = ("lm_head.", "cls.")
    return {name if name.startswith(heads) else family.prefix + name: tensor for name, tensor in tensors.items()}


def _check(graph: Graph, places: list[Place], names: Mapping[str, Tensor], family: Family) -> list[str]:
    """The tensors without a meaning; WeightsError unless the others are the graph's, each in its shape."""
    wanted = {name for place in places for name in place.theirs}
    if missing := sorted(wanted - set(names)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(f"the checkpoint has no tensor {missing[0]!r}{more}")
    left = sorted(set(names) - wanted)
    if unknown := [name for name in left if not any(part in name for part in family.spare)]:
        raise WeightsError(f"the checkpoint has a tensor {unknown[0]!r} that means nothing to {graph.name!r}")
    specs = param_specs(graph)
    assert sorted(name for place in places for name in place.ours) == sorted(specs)
    for place in places:
        for name, shape in zip(place.theirs, _shapes(place, [specs[ours].shape for ours in place.ours]), strict=True):
            if names[name].shape != shape:
                raise WeightsError(f"tensor {name!r} has shape {names[name].shape}, but the config needs {shape}")
    return left


def _shapes(place: Place, ours: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The shapes of their tensors for those of ours."""
    first = ours[0]
    if place.how == "stacked":
        return [first[1:]] * len(place.theirs)
    rows = sum(shape[0] for shape in ours), *first[1:]
    return [rows[::-1] if place.how.endswith("turned") else rows]


def _ours(graph: Graph, places: list[Place], names: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    specs, found = param_specs(graph), {}
    for place in places:
        arrays = [names[name].array() for name in place.theirs]
        if place.how == "stacked":
            found[place.ours[0]] = np.stack(arrays)
            continue
        whole = arrays[0].T if place.how.endswith("turned") else arrays[0]
        ends = np.cumsum([specs[name].shape[0] for name in place.ours])[:-1]
        found |= dict(zip(place.ours, np.split(whole, ends), strict=True))
    return {name: found[name] for name in specs}


def theirs_of(place: Place, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Their tensors of a place, from arrays (weights, or their gradients) by our names."""
    given = [arrays[name] for name in place.ours]
    if place.how == "stacked":
        return list(given[0])
    whole = np.concatenate(given) if len(given) > 1 else given[0]
    return [whole.T if place.how.endswith("turned") else whole]
