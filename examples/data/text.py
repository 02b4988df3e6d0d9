"""Raw prose or code to shards and a small language model trained on them, measured on files that it did not see and
registered: `python examples/data/text.py prose|code [FOLDER]`, then
`alexandra ask prose '{"text": "What"}' --stage experiment --registry FOLDER/registry`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import alexandra as ax
from alexandra.api.data import run_recipe
from alexandra.api.models import open_registry
from alexandra.data.load.loader import Loader, LoaderSettings
from alexandra.objectives.spec import WeightedCrossEntropy
from alexandra.train.text_specialist import TextSpecialist, measured, register

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


def raw_files(folder: Path, kind: str) -> list[str]:
    """This package's own sources, as code or with their docstrings as pages: real text that is always at hand.

    Every fifth file is not written: its text is returned, to measure on.
    """
    folder.mkdir(parents=True)
    held_out = []
    for number, path in enumerate(sorted(Path(ax.__file__).parent.glob("*.py"))):
        text = path.read_text(encoding="utf-8")
        parts = text.split('"""')[1::2]
        if number % 5 == 4:
            held_out.append(text if kind == "code" else "\n\n".join(parts))
        elif kind == "code":
            (folder / path.name).write_text(text, encoding="utf-8")
        else:
            page = "".join(f"<p>{part}</p>" for part in parts)
            (folder / f"{path.stem}.html").write_text(f"<html><body><article>{page}</article></body></html>")
    return held_out


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else "prose"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    held_out = raw_files(folder / "raw", kind)
    (folder / "recipe.toml").write_text(RECIPE.format(kind=kind, format='format = "code"' if kind == "code" else ""))
    outcome = run_recipe(folder / "recipe.toml")
    print(f"{outcome.documents} documents, {outcome.corpus['tokens']} tokens, {outcome.corpus['filled']:.3f} filled")
    loader = Loader(folder / "corpus", LoaderSettings(batch=int(outcome.corpus["rows"])))
    rows = next(iter(loader))
    model = ax.bind(ax.compile(NETWORK), backend="native", seed=0)
    inputs = {"tokens": rows.tokens, "segments": rows.segments}
    targets = {"classes": rows.targets, "weights": rows.mask}
    history = model.fit(inputs, targets, objective=WeightedCrossEntropy(), epochs=12, batch_size=8, seed=0)
    losses = np.asarray(history.losses)
    print(f"loss {losses[:5].mean():.3f} -> {losses[-5:].mean():.3f}")

    facts = {"data_hash": outcome.corpus["hash"], "seed": 0, "recipe": RECIPE, "network": NETWORK}
    tokenizer = (folder / "corpus/tokenizer/tokenizer.json").read_bytes()
    specialist = TextSpecialist("small", tokenizer, "<|endoftext|>", model, rows.tokens.shape[1], facts)
    card = measured(specialist, held_out, kind)
    most = np.bincount(rows.targets[rows.mask > 0]).argmax()
    alone = float((card.outcomes.targets == most).mean())
    version = register(open_registry(str(folder / "registry")), specialist, card, baseline=alone)
    print(f"registered {version}: {'; '.join(version.lineage['check']['reasons'])}")
    print(f"passed: {version.lineage['check']['passed']}; log loss {card.metrics['log_loss']}")


if __name__ == "__main__":
    main()
