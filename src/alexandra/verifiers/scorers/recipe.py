"""The recipe of a scorer without pretrained weights: a logistic regression on hashed n-grams, as ONNX, with its card.

What is stored with it is measured on claims that it was not fitted on: five folds, and claims about the same prompt in
one fold. SETS names the labelled set that serves each framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import VerifierError, missing_extra
from alexandra.statistics import wilson
from alexandra.verifiers.calibration import fit as fit_calibrator
from alexandra.verifiers.calibration import quality
from alexandra.verifiers.scorers import ngrams
from alexandra.verifiers.scorers.folder import Scorer, save

SETS = {
    "empirical": "truthfulqa",
    "contextual": "sentiment",
    "consistency": "folio",
    "power_dynamics": "bbq",
    "utility": "preferences",
    "evolution": "halueval",
}
FOLDS = 5


def _fitted(x: np.ndarray, y: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=500).fit(x, y)


def held_out(texts: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Every text's probability by a model that saw neither it nor another claim about its prompt."""
    from sklearn.model_selection import GroupKFold

    x, groups = ngrams.features(texts), [text.partition(ngrams.SEPARATOR)[0] for text in texts]
    out = np.zeros(len(texts))
    for fitted, held in GroupKFold(FOLDS).split(x, labels, groups):
        out[held] = _fitted(x[fitted], labels[fitted]).predict_proba(x[held])[:, 1]
    return out


def card(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """n, floor, accuracy with its interval, precision, recall, AUC, ECE and Brier of held-out scores."""
    said, right = scores >= 0.5, labels == 1
    accuracy, n = float((said == right).mean()), len(labels)
    better = np.sign(scores[right][:, None] - scores[~right][None, :])
    found = quality(scores, right)
    return {
        "n": n, "floor": round(max(right.mean(), 1 - right.mean()), 4), "accuracy": round(accuracy, 4),
        "interval": [round(one, 4) for one in wilson(accuracy, n, 0.975)[1:]],
        "precision": round(float((said & right).sum() / max(1, said.sum())), 4),
        "recall": round(float((said & right).sum() / max(1, right.sum())), 4),
        "auc": round(float((better.mean() + 1) / 2), 4), "ece": round(found.ece, 4), "brier": round(found.brier, 4),
    }  # fmt: skip


def measured(texts: Sequence[str], labels: np.ndarray) -> dict[str, Any]:
    """The card of what the recipe makes of these labelled texts."""
    return card(held_out(texts, labels), labels)


def make(folder: str | Path, framework: str, texts: Sequence[str], labels: np.ndarray) -> Scorer:
    """Fit a scorer on all labelled texts; card and calibration come from the held-out folds."""
    labels = np.asarray(labels, dtype=int)
    if framework not in SETS:
        raise VerifierError(f"unknown framework {framework!r}", hint="one of: " + ", ".join(SETS))
    if len(texts) < 2 * FOLDS or labels.min() == labels.max():
        raise VerifierError(f"{len(texts)} texts of {len(set(labels.tolist()))} labels are too few to fit a scorer")
    scores = held_out(texts, labels)
    model = _fitted(ngrams.features(texts), labels)
    made = Scorer(Path(folder), framework, "ngrams", "ngrams", card(scores, labels), fit_calibrator(scores, labels))
    return save(made, _onnx(model.coef_[0], float(model.intercept_[0])))


def _onnx(weights: np.ndarray, bias: float) -> bytes:
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise missing_extra("writing a scorer", "onnx") from None
    stored = [
        numpy_helper.from_array(weights.astype(np.float32)[:, None], "weights"),
        numpy_helper.from_array(np.array([bias], dtype=np.float32), "bias"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"])],
        "ngrams",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", len(weights)])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 1])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return bytes(model.SerializeToString())
