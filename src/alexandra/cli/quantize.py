"""Quantised weights: make them, and say what they cost."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexandra.cli.options import Json, show

if TYPE_CHECKING:
    from alexandra.api.quantize import QuantizeReport


def quantize(
    model: Annotated[Path, typer.Argument(help="A GGUF file, or a Hugging Face folder with safetensors.")],
    text: Annotated[Path, typer.Option("--text", help="Held-out text to compare on (UTF-8).")],
    kind: Annotated[list[str] | None, typer.Option(help="Q8_0, Q4_0, BF16, F16; repeat for more.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the quantised GGUF files in this folder.")] = None,
    window: Annotated[int, typer.Option(min=2, help="Tokens that a model reads at once.")] = 256,
    tokens: Annotated[int, typer.Option(min=2, help="At most so many tokens are compared.")] = 8192,
    peer: Annotated[bool, typer.Option(help="Compare with llama.cpp where it is installed.")] = True,
    as_json: Json = False,
) -> None:
    """Quantise a decoder and compare it with its float32 self; exit 1 when a type misses its limits.

    Example: alexandra quantize model.gguf --text held_out.txt --kind Q4_0 --out quantised
    """
    from alexandra.api.quantize import quantize_model
    from alexandra.storage import read_bytes

    report = quantize_model(
        model,
        read_bytes(text).decode(errors="replace"),
        kinds=tuple(kind or ("Q8_0", "Q4_0")),
        out=out,
        window=window,
        most_tokens=tokens,
        peer=peer,
        progress=lambda words: print(words, file=sys.stderr, flush=True),
    )
    show({**asdict(report), "kept": report.kept}, as_json, lambda: _lines(report))
    if not report.kept:
        raise typer.Exit(1)


def _lines(report: QuantizeReport) -> list[Any]:
    head = f"{report.model}: {report.float_bytes / 1e6:.2f} MB in float32, perplexity {report.float_perplexity:.4f}"
    lines = [f"{head} over {report.tokens} tokens"]
    for row in report.rows:
        peer = "" if row.peer_loss is None else f", llama.cpp's loss {row.peer_loss:.5f}"
        lines.append(
            f"{row.kind:5} {row.bytes / 1e6:7.2f} MB  cosine {row.cosine:.5f}  KL {row.kl:.5f}  perplexity x "
            f"{row.perplexity_ratio:.4f}  top-1 {row.top1:.4f}  loss {row.loss:.5f}{peer}"
        )
        lines += [f"      missed: {words}" for words in row.missed]
    return lines + [f"note: {note}" for note in report.notes]
