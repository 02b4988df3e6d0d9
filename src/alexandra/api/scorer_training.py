"""`alexandra train scorer`: a file of labelled claims and a model in, a measured scorer's folder out.

The base is a classifier's folder or hub id, the name of a family (a small network with random weights and a tokenizer
of the texts), or "ngrams" (a logistic regression, without torch). Training, export and measuring are verify_scorer's
and the recipe's of verifiers.scorers; a scorer is used by `alexandra verify --scorer`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.api.verify_scorer import Job, trained
from alexandra.config import parse_config
from alexandra.errors import UsageError, suggest
from alexandra.train.scorer import FAMILIES, Recipe, Size, Tell, small, split
from alexandra.verifiers.claims import claim_from
from alexandra.verifiers.loading import FRAMEWORKS
from alexandra.verifiers.scorers.folder import FEWEST_MEASURED, Scorer, text_of
from alexandra.verifiers.scorers.ngrams import SEPARATOR
from alexandra.verifiers.scorers.recipe import make

NGRAMS = "ngrams"
LABELS = {"true": 1, "right": 1, "yes": 1, "1": 1, "false": 0, "wrong": 0, "no": 0, "0": 0}
EXAMPLE = '{"prompt": "What is 2+2?", "answer": "4", "label": true}'


@dataclass(frozen=True)
class Request:
    """What the command line asked for; `settings` are keys of the recipe, like "epochs=5"."""

    framework: str
    data: str
    base: str
    out: Path
    settings: tuple[str, ...] = ()


def read_labelled(path: str | Path) -> tuple[list[str], list[int]]:
    """Texts as scorers read them, and labels, of a file with one JSON object a line.

    A line is {"prompt": ..., "answer": ..., "label": true}, {"text": ..., "label": ...}, or a claim of `alexandra
    verify` of kind text with a label. UsageError names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {str(path)!r}: {error}", hint=f"one line is {EXAMPLE}") from None
    texts, labels = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            text, label = _row(line, f"{path}:{number}")
            texts.append(text)
            labels.append(label)
    return texts, labels


def _row(line: str, where: str) -> tuple[str, int]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON: {error}", hint=f"one line is {EXAMPLE}") from None
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: this line is no JSON object", hint=f"one line is {EXAMPLE}")
    label = LABELS.get(str(value.get("label")).lower())
    if label is None:
        given = repr(value["label"]) if "label" in value else "none"
        raise UsageError(f"{where}: the label is {given}", hint="write true for a claim that is right, else false")
    if "content" in value:
        claim = claim_from({key: inner for key, inner in value.items() if key != "label"}, where)
        if claim.kind != "text":
            raise UsageError(f"{where}: a scorer reads claims of kind 'text', not {claim.kind!r}")
        return text_of(claim), label
    answer = value.get("answer", value.get("text"))
    if not isinstance(answer, str) or not isinstance(value.get("prompt", ""), str):
        raise UsageError(f"{where}: no text in 'answer' or 'text'", hint=f"one line is {EXAMPLE}")
    return (f"{value['prompt']}{SEPARATOR}{answer}" if value.get("prompt") else answer), label


def train_scorer(request: Request, tell: Tell | None = None) -> Scorer:
    """Make the scorer that was asked for, measured on prompts that it was not fitted on."""
    if request.framework not in FRAMEWORKS:
        known = suggest(request.framework, FRAMEWORKS)
        raise UsageError(f"unknown framework {request.framework!r}", hint=f"--framework: {known}")
    if not request.base:
        hint = f"--base FOLDER, a hub id, {NGRAMS}, or a family for random weights: {', '.join(FAMILIES)}"
        raise UsageError("a scorer is made of a model", hint=hint)
    if request.out.exists() and (not request.out.is_dir() or any(request.out.iterdir())):
        raise UsageError(f"{str(request.out)!r} is there already and not empty", hint="give another --out")
    recipe = parse_config("", Recipe, request.settings, "--set")
    texts, labels = read_labelled(request.data)
    _enough(request.data, texts, labels)
    if request.base == NGRAMS:
        return make(request.out, request.framework, texts, np.asarray(labels))
    if request.base not in FAMILIES or Path(request.base).exists():
        return trained(Job(request.framework, request.base, request.out, recipe, tell), texts, labels)
    with tempfile.TemporaryDirectory() as place:
        seen = [texts[i] for i in split(texts).fit]
        first = small(request.base, seen, place, Size(length=max(128, recipe.max_length)), recipe.seed)
        return trained(Job(request.framework, first, request.out, recipe, tell), texts, labels)


def _enough(file: str, texts: Sequence[str], labels: Sequence[int]) -> None:
    """UsageError unless every part of the split has rows of both labels."""
    parts = split(texts)
    for name, rows in (("fit", parts.fit), ("calibrate", parts.hold), ("measure", parts.test)):
        if {labels[row] for row in rows} != {0, 1}:
            what = f"{len(texts)} claims, of which {len(rows)} to {name}, not of both labels"
            raise UsageError(f"{file!r} has {what}", hint="give more prompts, with right and with wrong answers")


def record(made: Scorer) -> dict[str, Any]:
    """The scorer for --json."""
    return {
        "folder": str(made.path), "framework": made.framework, "family": made.family, "card": dict(made.card),
        "files": sorted(file.name for file in made.path.iterdir()),
    }  # fmt: skip


def lines(made: Scorer) -> list[str]:
    """What was measured, for a terminal."""
    cards = {"float32": made.card} | ({"INT8": made.card["int8"]} if "int8" in made.card else {})
    out = [f"{made.path}: a {made.family} scorer for {made.framework}"]
    for name, card in cards.items():
        low, high = card["interval"]
        out.append(
            f"{name}: on {card['n']} claims that it was not fitted on precision {card['precision']:.2f}, "
            f"recall {card['recall']:.2f}, accuracy {card['accuracy']:.3f} [{low:.3f}, {high:.3f}] "
            f"(floor {card['floor']:.2f}), AUC {card['auc']:.2f}"
        )
    if made.card["interval"][0] <= made.card["floor"]:
        out.append("that is not shown to be better than always giving the more frequent label")
    if made.card["n"] < FEWEST_MEASURED:
        out.append(f"it will abstain: it needs {FEWEST_MEASURED} measured claims, a fifth of the data is measured on")
    return [*out, f"use it: alexandra verify CLAIMS.jsonl --scorer {made.path}"]
