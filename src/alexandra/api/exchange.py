"""Actions that bring models in from Hugging Face's form and out again: a folder with network.nl and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alexandra.backends import huggingface
from alexandra.errors import UsageError
from alexandra.ir.cost import parameters
from alexandra.ir.weights import WEIGHTS_FILE
from alexandra.lang.nureon import compile_program
from alexandra.storage import json_bytes, publish_folder

NETWORK = "network.nl"


def import_model(source: str, folder: Path) -> dict[str, Any]:
    """Write the model of a Hugging Face folder or hub id as a new folder: network.nl, its weights, its tokenizer."""
    read = huggingface.load(source)
    files = read.weights.files(read.graph, lineage={"source": source})
    text = f'{read.text}FILE "{WEIGHTS_FILE}"\n'
    files |= {NETWORK: text.encode(), "config.json": json_bytes(dict(read.config)), **read.files}
    publish_folder(folder, files)
    return {
        "network": str(folder / NETWORK),
        "family": read.config["model_type"],
        "parameters": parameters(read.graph),
        "files": sorted(files),
    }


def export_model(network: Path, folder: Path) -> dict[str, Any]:
    """Write a network and the weights that its FILE names as a new folder that transformers loads."""
    made = compile_program(network)
    weights = made.weights()
    if weights is None:
        raise UsageError(f"{str(network)!r} names no weights", hint=f'write FILE "{WEIGHTS_FILE}" behind its END')
    described = huggingface.describe(made.graph, weights)
    beside = {name: network.parent / name for name in huggingface.CARRIED}
    carried = {name: path.read_bytes() for name, path in beside.items() if path.is_file()}
    model = huggingface.Pretrained(described.text, made.graph, weights, described.config, carried)
    huggingface.save(model, folder)
    files = sorted(path.name for path in folder.iterdir())
    return {"folder": str(folder), "family": described.config["model_type"], "files": files}
