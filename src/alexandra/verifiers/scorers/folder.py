"""A scorer is a folder: model.onnx (and model.int8.onnx), scorer.json with its measured card, perhaps tokenizer.json.

It is one small model per framework that gives a claim a probability of being right, run in batches on ONNX Runtime. The
probability is calibrated as the folder says; its confidence never exceeds its measured precision and that of soft
evidence, so that no scorer approves anything alone. Nothing is unpickled and no code of a model folder runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from alexandra.errors import VerifierError, missing_extra
from alexandra.records import Claim, Verdict
from alexandra.storage import content_hash, publish, publish_json, read_json
from alexandra.verifiers.calibration import Calibrator
from alexandra.verifiers.framework import Framework
from alexandra.verifiers.scorers import ngrams
from alexandra.verifiers.tool import SOFT, Tool, needs_package

READERS = ("ngrams", "tokenizer")
BATCH, FEWEST_MEASURED = 32, 50


@dataclass(frozen=True)
class Scorer:
    """reader: how text becomes numbers, "ngrams" or "tokenizer". card: n, precision, recall, ..., as measured."""

    path: Path
    framework: str
    family: str
    reader: str
    card: Mapping[str, Any] = field(default_factory=dict)
    calibrator: Calibrator | None = None
    label: int = 1
    max_length: int = 256
    int8: bool = False

    @cached_property
    def _session(self) -> Any:
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra("a scorer", "verify") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self.model), options, providers=["CPUExecutionProvider"])

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        made = Tokenizer.from_file(str(self.path / "tokenizer.json"))
        made.enable_truncation(self.max_length)
        made.enable_padding(**(json.loads((self.path / "padding.json").read_text()) or {}))
        return made

    @property
    def model(self) -> Path:
        return self.path / ("model.int8.onnx" if self.int8 else "model.onnx")

    @cached_property
    def version(self) -> str:
        return f"{self.family} {content_hash(self.model.read_bytes())[:12]}"

    @property
    def measured(self) -> Mapping[str, Any]:
        """The card of the model that is run: INT8 has its own where it was measured."""
        card: Mapping[str, Any] = self.card.get("int8", self.card) if self.int8 else self.card
        return card

    def raw(self, texts: Sequence[str]) -> np.ndarray:
        """The model's own probability per text, before calibration."""
        out = [self._some(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        return np.concatenate(out) if out else np.zeros(0)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        raw = self.raw(texts)
        return self.calibrator(raw) if self.calibrator is not None else raw

    def _some(self, texts: Sequence[str]) -> np.ndarray:
        if self.reader == "ngrams":
            fed = {"features": ngrams.features(texts)}
        else:
            pairs = [text.split(ngrams.SEPARATOR, 1) for text in texts]
            read = self._tokenizer.encode_batch([tuple(p) if len(p) == 2 else p[0] for p in pairs])
            fed = {"input_ids": np.array([one.ids for one in read], dtype=np.int64)}
            fed["attention_mask"] = np.array([one.attention_mask for one in read], dtype=np.int64)
        logits = np.asarray(self._session.run(None, fed)[0], dtype=np.float64)
        if logits.ndim == 1 or logits.shape[1] == 1:
            return np.asarray(expit(logits.reshape(-1)))
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(shifted[:, self.label] / shifted.sum(1))


def load(path: str | Path, int8: bool = False) -> Scorer:
    """The scorer in a folder, or of a folder's model.int8.onnx; VerifierError says what is missing."""
    folder = Path(path)
    if folder.suffix == ".onnx":
        folder, int8 = folder.parent, folder.name == "model.int8.onnx"
    if not (folder / "scorer.json").is_file():
        raise VerifierError(f"no scorer in {str(path)!r}", hint="a scorer's folder has scorer.json and model.onnx")
    facts = read_json(folder / "scorer.json")
    if facts["reader"] not in READERS:
        raise VerifierError(f"{str(path)!r}: unknown reader {facts['reader']!r}", hint="one of: " + ", ".join(READERS))
    known = facts.get("calibrator")
    made = Calibrator(known["kind"], tuple(known["x"]), tuple(known["y"])) if known else None
    scorer = Scorer(
        folder, facts["framework"], facts["family"], facts["reader"], facts.get("card", {}), made,
        facts.get("label", 1), facts.get("max_length", 256), int8,
    )  # fmt: skip
    if not scorer.model.is_file():
        raise VerifierError(f"{str(scorer.model)!r} is missing", hint="export the scorer again")
    return scorer


def save(scorer: Scorer, model: bytes | None = None) -> Scorer:
    """Write what is known of a scorer into its folder, and its model when given."""
    scorer.path.mkdir(parents=True, exist_ok=True)
    if model is not None:
        publish(scorer.path / "model.onnx", model)
    facts: dict[str, Any] = {
        "framework": scorer.framework, "family": scorer.family, "reader": scorer.reader, "card": dict(scorer.card),
        "label": scorer.label, "max_length": scorer.max_length,
    }  # fmt: skip
    if scorer.calibrator is not None:
        facts["calibrator"] = scorer.calibrator.json()
    publish_json(scorer.path / "scorer.json", facts)
    return scorer


def text_of(claim: Claim) -> str:
    """What a scorer reads of a claim: its prompt, if it has one, and its text."""
    prompt = claim.context.get("prompt")
    return f"{prompt}{ngrams.SEPARATOR}{claim.content}" if prompt else str(claim.content)


def tool(scorer: Scorer) -> Tool:
    """The scorer as a tool of its framework; it abstains until enough was measured of it."""

    card = scorer.measured

    def batch(tool: Tool, claims: Sequence[Claim]) -> list[Verdict]:
        n, precision = int(card.get("n", 0)), float(card.get("precision") or 0.0)
        if n < FEWEST_MEASURED:
            return [tool.abstains(f"the scorer was measured on {n} claims, it needs {FEWEST_MEASURED}") for _ in claims]
        found = scorer.probabilities([text_of(claim) for claim in claims])
        sure = min(SOFT, max(0.0, 2 * precision - 1))
        words = f"precision {precision:.2f} and recall {float(card.get('recall', 0)):.2f} on {n} claims"
        return [
            tool.says(claim, float(p), f"{scorer.family} gives it {p:.2f}; {words}", confidence=sure)
            for claim, p in zip(claims, found, strict=True)
        ]

    missing = needs_package("onnxruntime", "onnxruntime")
    name = f"{scorer.framework}_scorer"
    return Tool(
        name, scorer.framework, ("text",), lambda: _version(scorer), batch=batch, missing=missing, seconds=5.0,
        ships=False,
    )  # fmt: skip


def _version(scorer: Scorer) -> str:
    """The model and what is known of it: a scorer that was measured again is another tool."""
    known = json.dumps([dict(scorer.card), scorer.calibrator and scorer.calibrator.json()], sort_keys=True)
    return f"{scorer.version} {content_hash(known.encode())[:8]}"


def with_scorer(framework: Framework, scorer: Scorer) -> Framework:
    """The framework with a scorer beside its tools."""
    if scorer.framework != framework.name:
        raise VerifierError(f"this scorer was made for {scorer.framework!r}, not for {framework.name!r}")
    own = framework.tools
    return replace(framework, tools=lambda: (*own(), tool(scorer)))
