"""Scores that mean what they say: isotonic or Platt calibration fitted on labelled claims, with ECE and Brier.

A calibrated score of 0.8 is right about 80 times in 100. Fit on one labelled set, measure on another: `quality` does
not know which rows were fitted. Isotonic: pool adjacent violators (Zadrozny and Elkan 2002); Platt: one logistic on
the logit with Platt's (1999) smoothed targets. Vetoes and abstentions pass unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from alexandra.errors import VerifierError, suggest
from alexandra.records import Claim, Verdict
from alexandra.verifiers.base import Verifier

KINDS = ("isotonic", "platt")
BINS = 15
_EDGE = 1e-6


@dataclass(frozen=True)
class Calibrator:
    """Knots of a monotone map (isotonic, linear between them) or slope and offset on the logit (platt)."""

    kind: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        scores = np.asarray(scores, dtype=np.float64)
        if self.kind == "platt":
            return np.asarray(expit(self.x[0] * _logit(scores) + self.x[1]))
        return np.asarray(np.interp(scores, self.x, self.y))

    def json(self) -> dict[str, Any]:
        return {"kind": self.kind, "x": list(self.x), "y": list(self.y)}


@dataclass(frozen=True)
class Quality:
    """n labelled scores: expected calibration error over 15 equal-width bins, Brier score, share of true claims."""

    n: int
    ece: float
    brier: float
    base_rate: float


def fit(
    scores: Sequence[float] | np.ndarray, labels: Sequence[bool] | np.ndarray, kind: str = "isotonic"
) -> Calibrator:
    """The calibrator of labelled scores in 0..1; both labels must occur."""
    if kind not in KINDS:
        raise VerifierError(f"unknown calibration {kind!r}", hint=suggest(kind, KINDS))
    x, y = _checked(scores, labels)
    if y.min() == y.max():
        raise VerifierError(f"all {len(y)} labels are {bool(y[0])}; calibration needs true and false claims")
    if kind == "platt":
        slope, offset = _platt(_logit(x), y)
        return Calibrator("platt", (slope, offset), ())
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(x, y)
    return Calibrator("isotonic", tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_)))


def _platt(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    positive, negative = float(y.sum()), float((1 - y).sum())
    targets = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        z = p[0] * logits + p[1]
        error = expit(z) - targets
        value = float((np.logaddexp(0, z) - targets * z).sum())
        return value, np.array([float((error * logits).sum()), float(error.sum())])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    return float(found.x[0]), float(found.x[1])


def quality(scores: Sequence[float] | np.ndarray, labels: Sequence[bool] | np.ndarray) -> Quality:
    """How far scores are from being probabilities of truth."""
    x, y = _checked(scores, labels)
    place = np.minimum((x * BINS).astype(int), BINS - 1)
    gaps = [abs(x[place == b].mean() - y[place == b].mean()) * (place == b).mean() for b in np.unique(place)]
    return Quality(len(x), float(sum(gaps)), float(((x - y) ** 2).mean()), float(y.mean()))


def _checked(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise VerifierError(f"calibration needs as many labels as scores, got {x.shape} and {y.shape}")
    if not ((x >= 0) & (x <= 1)).all():
        raise VerifierError(f"scores lie in 0..1, the range given is {x.min():g} to {x.max():g}")
    return x, y


def _logit(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


@dataclass(frozen=True)
class Calibrated:
    """A verifier whose scores pass through a calibrator; its confidence becomes the distance from a coin's toss."""

    inner: Verifier
    calibrator: Calibrator

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def hard(self) -> bool:
        return self.inner.hard

    def verify(self, claims: Sequence[Claim]) -> list[Verdict]:
        return [self._one(verdict) for verdict in self.inner.verify(claims)]

    def _one(self, verdict: Verdict) -> Verdict:
        if verdict.score is None or verdict.vetoes:
            return verdict
        score = float(self.calibrator(np.array([verdict.score]))[0])
        certainty = math.sqrt(abs(2 * score - 1))
        words = f"{verdict.reason}; {self.calibrator.kind} {verdict.score:.3f} -> {score:.3f}"
        return replace(verdict, score=score, confidence=min(verdict.confidence, certainty), reason=words)
