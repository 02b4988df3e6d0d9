"""Raw prose or code to shards and a small language model trained on them, kept with its tokenizer.

    python examples/data/text.py prose [FOLDER]        python examples/data/text.py code [FOLDER]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import alexandra as ax
from alexandra.api.data import run_recipe
from alexandra.data.load.loader import Loader, LoaderSettings
from alexandra.objectives.spec import WeightedCrossEntropy

RECIPE = """
output = "corpus"
[[sources]]
name = "raw"
files = "raw"
{format}
[[steps]]
use = "extract"
[[steps]]
use = "clean"
[[steps]]
use = "personal"
[minhash]
[tokenizer]
vocabulary = 512
kind = "{kind}"
[shards]
length = 65
rows = 64
"""
NETWORK = """
NETWORK small
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER INPUT name=segments shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab=512 size=48
  LAYER ATTENTION name=attention heads=4 rope=TRUE
  LAYER ADD name=sum
  LAYER RMSNORM name=norm
  LAYER OUTPUT name=logits size=512
  CONNECT tokens -> embed -> attention -> sum -> norm -> logits
  CONNECT segments -> attention
  CONNECT embed -> sum
END
"""


def raw_files(folder: Path, kind: str) -> None:
    """This package's own sources, as code or with their docstrings as pages: real text that is always at hand."""
    folder.mkdir(parents=True)
    for path in sorted(Path(ax.__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if kind == "code":
            (folder / path.name).write_text(text, encoding="utf-8")
        else:
            parts = text.split('"""')[1::2]
            page = "".join(f"<p>{part}</p>" for part in parts)
            (folder / f"{path.stem}.html").write_text(f"<html><body><article>{page}</article></body></html>")


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else "prose"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    raw_files(folder / "raw", kind)
    (folder / "recipe.toml").write_text(RECIPE.format(kind=kind, format='format = "code"' if kind == "code" else ""))
    outcome = run_recipe(folder / "recipe.toml")
    print(f"{outcome.documents} documents, {outcome.corpus['tokens']} tokens, {outcome.corpus['filled']:.3f} filled")
    loader = Loader(folder / "corpus", LoaderSettings(batch=int(outcome.corpus["rows"])))
    rows = next(iter(loader))
    model = ax.bind(ax.compile(NETWORK), backend="native", seed=0)
    inputs = {"tokens": rows.tokens, "segments": rows.segments}
    targets = {"classes": rows.targets, "weights": rows.mask}
    history = model.fit(inputs, targets, objective=WeightedCrossEntropy(), epochs=3, batch_size=8, seed=0)
    losses = np.asarray(history.losses)
    print(f"loss {losses[:5].mean():.3f} -> {losses[-5:].mean():.3f}")
    model.weights.save(folder / "model.safetensors", model.graph)
    (folder / "model.json").write_text(json.dumps({"network": NETWORK, "corpus": outcome.corpus["hash"]}))


if __name__ == "__main__":
    main()
