"""Models in from Hugging Face's form and out again. Heavy modules are imported inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alexandra.cli.options import Json, show


def import_model(
    source: Annotated[str, typer.Argument(help="A folder with config.json and safetensors, or a hub id.")],
    folder: Annotated[Path, typer.Argument(help="The new folder.")],
    as_json: Json = False,
) -> None:
    """Bring in a Llama, Qwen, Mistral, Mixtral, GPT-2, BERT or T5: network.nl, its weights, its tokenizer.

    Example: alexandra huggingface import openai-community/gpt2 gpt2
    """
    from alexandra.api import exchange

    made = exchange.import_model(source, folder)
    show(made, as_json, lambda: f"{made['network']}: {made['family']}, {made['parameters']:,} parameters")


def export_model(
    network: Annotated[Path, typer.Argument(help="A NureonLang file whose FILE names its weights.")],
    folder: Annotated[Path, typer.Argument(help="The new folder.")],
    as_json: Json = False,
) -> None:
    """Write a network and its weights as a folder that transformers loads.

    Example: alexandra huggingface export gpt2/network.nl out
    """
    from alexandra.api import exchange

    made = exchange.export_model(network, folder)
    show(made, as_json, lambda: f"{made['folder']}: {made['family']}, {len(made['files'])} files")
