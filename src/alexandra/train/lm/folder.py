"""A language model as a folder: its network as text and JSON, weights with their manifest, and the tokenizer.

What a stage writes and the next one reads. A NureonLang file alone is a model without weights. Nothing is unpickled and
no code runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alexandra.errors import DataError, NotFoundError
from alexandra.ir.check import auto_nodes, bind_sizes, graph_from_dict
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet
from alexandra.lang.nureon import compile_network
from alexandra.storage import parse_json, publish_folder, read_bytes
from alexandra.train.lm.tokenizer import CharTokenizer, HubTokenizer, Tokenizer, load_tokenizer

NETWORK, TEXT = "network.json", "network.nl"
WEIGHTS = ("weights.safetensors", "manifest.json")


@dataclass(frozen=True)
class ModelFolder:
    """A network whose sizes may still be open, and what is known of it."""

    graph: Graph
    weights: WeightSet | None = None
    tokenizer: Tokenizer | None = None
    path: str = ""


def read_model(path: str | Path) -> ModelFolder:
    """A folder of ours, or a .nl file."""
    place = Path(path)
    if place.suffix == ".nl":
        return ModelFolder(compile_network(place), path=str(place))
    if not (place / NETWORK).exists():
        what = "is no folder" if not place.is_dir() else f"holds no {NETWORK}"
        raise NotFoundError(
            f"{str(place)!r} {what}", hint="give a .nl file, or the folder 'model' that a training run wrote"
        )
    graph = graph_from_dict(parse_json(read_bytes(place / NETWORK), str(place / NETWORK)))
    weights = WeightSet.from_files({name: read_bytes(place / name) for name in WEIGHTS}, graph, str(place))
    has_tokenizer = any((place / name).exists() for name in ("characters.json", "tokenizer.json"))
    return ModelFolder(graph, weights, load_tokenizer(place) if has_tokenizer else None, str(place))


def write_model(
    folder: Path, graph: Graph, weights: WeightSet, tokenizer: Tokenizer | None, lineage: Mapping[str, str]
) -> None:
    """A new folder with everything that `read_model` reads."""
    files = weights.files(graph, lineage=dict(lineage))
    files[NETWORK] = json.dumps(graph.to_dict(), indent=1).encode()
    files[TEXT] = graph.text().encode()
    publish_folder(folder, files | tokenizer_files(tokenizer))


def tokenizer_files(tokenizer: Tokenizer | None) -> dict[str, bytes]:
    """What `load_tokenizer` reads."""
    if isinstance(tokenizer, CharTokenizer):
        return {"characters.json": tokenizer.text().encode()}
    return tokenizer.files() if isinstance(tokenizer, HubTokenizer) else {}


def fitted(graph: Graph, tokenizer: Tokenizer) -> Graph:
    """The network with its open sizes bound to the vocabulary; DataError when its sizes say otherwise."""
    open_names = {node.name: tokenizer.vocab_size for node in auto_nodes(graph) if node.op != "input"}
    bound = bind_sizes(graph, open_names) if open_names else graph
    for node in bound.nodes:
        size = {"embedding": "vocab", "output": "size"}.get(node.op, "")
        if size and isinstance(node.attrs[size], int) and node.attrs[size] != tokenizer.vocab_size:
            raise DataError(
                f"layer {node.name!r} has {size}={node.attrs[size]}, the tokenizer {tokenizer.vocab_size} tokens",
                hint=f"write {size}=AUTO, or use the tokenizer that the network was made for",
            )
    return bound
