"""A specialist as a folder that serves without Alexandra: the network as ONNX, and what surrounds it as JSON.

    model.onnx    encoded features in, the network's answer out        encoder.json   how a raw row becomes features
    target.json   how the answer becomes labels or values              README.txt     both in words, and the check

The network's answers in onnxruntime are compared with the specialist's before anything is written, where onnxruntime
is installed. The folder appears whole or not at all.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexandra import __version__
from alexandra.backends import onnx
from alexandra.data.target import TargetEncoder
from alexandra.errors import BackendError, UsageError, suggest
from alexandra.rng import derive
from alexandra.storage import json_bytes, publish_folder
from alexandra.tables import Table
from alexandra.train.specialist import Specialist

FORMATS = ("onnx",)
CHECKED_ROWS = 64
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """The folder and its files; `difference` is the largest to the specialist's own answers on `rows` rows, relative
    where they are above 1, and None where onnxruntime is not installed."""

    folder: Path
    files: tuple[str, ...]
    rows: int
    difference: float | None


def export(specialist: Specialist, to: str, folder: str | Path, rows: Table | None = None) -> Exported:
    """Write `specialist` to a new folder in the format `to`; `rows` are raw rows for the check (else made ones)."""
    folder = Path(folder)
    if to not in FORMATS:
        raise UsageError(f"unknown format {to!r}", hint=suggest(to, FORMATS))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{str(folder)!r} is there already", hint="remove it, or name another folder")
    model = onnx.export(specialist.graph, specialist.model.weights)
    x = _features(specialist, rows)
    difference = _difference(specialist, model, x)
    files = {
        "model.onnx": model,
        "encoder.json": json_bytes(specialist.encoder.to_dict()),
        "target.json": json_bytes(specialist.target.to_dict()),
        "README.txt": _readme(specialist, len(x), difference).encode(),
    }
    publish_folder(folder, files)
    return Exported(folder, tuple(files), len(x), difference)


def _features(specialist: Specialist, rows: Table | None) -> np.ndarray:
    """Encoded rows for the check: the first of a table, or normal numbers where there is none."""
    encoder = specialist.encoder
    if rows is not None:
        first = rows.take(np.arange(min(CHECKED_ROWS, rows.n_rows)))
        return encoder.transform(first.cast(encoder.kinds))
    drawn = derive(0, "export", specialist.graph.spec_hash).normal(CHECKED_ROWS * encoder.width)
    return drawn.reshape(CHECKED_ROWS, encoder.width).astype(np.float32)


def _difference(specialist: Specialist, model: bytes, x: np.ndarray) -> float | None:
    """The largest difference between onnxruntime's answers and the specialist's; BackendError above the tolerance."""
    try:
        import onnxruntime
    except ImportError:
        return None
    name = specialist.graph.inputs[0].name
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    theirs = specialist.target.decode(session.run(None, {name: x})[0])
    ours = specialist.target.decode(next(iter(specialist.model.forward({name: x}).values())))
    found = float(np.max(np.abs(theirs - ours) / np.maximum(1.0, np.abs(ours)), initial=0.0))
    if not found <= TOLERANCE:
        raise BackendError(
            f"onnxruntime's answers differ from those of {specialist.name!r} by {found:.2g}, at most {TOLERANCE:g} is "
            f"allowed: nothing was written",
            hint="another version of onnxruntime may help; tell us which one this is",
        )
    return found


def _readme(specialist: Specialist, rows: int, difference: float | None) -> str:
    graph, encoder = specialist.graph, specialist.encoder
    entry, result = graph.inputs[0].name, graph.outputs[0].name
    checked = (
        f"On {rows} rows the answers of onnxruntime differ by at most {difference:.1e} from those of the specialist "
        "(relative where they are above 1)."
        if difference is not None
        else "onnxruntime was not installed where this was written, so its answers were not compared."
    )
    paragraphs = [
        f"{specialist.name}, written by Alexandra {__version__}; network {graph.spec_hash}",
        f"In: {entry!r}, float32 [rows, {encoder.width}], the encoded features listed below. encoder.json says how a "
        f"raw row with the columns {', '.join(map(repr, encoder.features))} becomes them.",
        f"Out: {result!r}, float32. {_meaning(specialist.target)}",
        checked,
        "In Python, with alexandra-foundry and onnxruntime:",
    ]
    body = "\n\n".join(textwrap.fill(one, 100, break_on_hyphens=False) for one in paragraphs)
    features = "\n".join(f"{place:>5}  {' '.join(name.split())}" for place, name in enumerate(encoder.feature_names()))
    return f"{body}\n\n{_recipe(entry)}\n\nFeatures, in order:\n{features}\n"


def _meaning(target: TargetEncoder) -> str:
    """What stands in the output, in words."""
    if target.classes:
        named = ", ".join(f"{place} {label!r}" for place, label in enumerate(target.classes))
        return f"Probabilities of the classes of {target.name!r}, in the order of target.json: {named}."
    return (
        f"One number a row, standardised: the value of {target.name!r} is number * {target.std!r} + {target.mean!r} "
        "(std and mean in target.json)."
    )


def _recipe(entry: str) -> str:
    return textwrap.indent(
        "import json, onnxruntime\n"
        "from alexandra.data.encoder import Encoder\n"
        "from alexandra.data.target import TargetEncoder\n"
        "from alexandra.tables import Table\n"
        'encoder = Encoder.from_dict(json.load(open("encoder.json")))\n'
        'target = TargetEncoder.from_dict(json.load(open("target.json")))\n'
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        'x = encoder.transform(Table.from_any("rows.csv").cast(encoder.kinds))\n'
        f"answers = target.decode(session.run(None, {{{entry!r}: x}})[0])",
        "    ",
    )
