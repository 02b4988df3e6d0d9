"""How several answers become one: average, vote, and the columns that one stage of a pipeline hands to the next.

Members of one task may have seen different sets of classes; probabilities are put side by side by label first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alexandra.errors import RegistryError
from alexandra.tables import Column, Table

Labels = tuple[str, ...]


def align(parts: Sequence[np.ndarray], labels: Sequence[Labels]) -> tuple[list[np.ndarray], Labels]:
    """Every member's probabilities [rows, classes] over the union of the labels, in the order of first sight.

    A member gives 0 to a label that it does not know. RegistryError when classes and numbers would be mixed.
    """
    if any(bool(one) != bool(labels[0]) for one in labels):
        raise RegistryError("cannot combine models that answer classes with models that answer numbers")
    union = tuple(dict.fromkeys(label for one in labels for label in one))
    if not union:
        return list(parts), ()
    out = []
    for raw, own in zip(parts, labels, strict=True):
        wide = np.zeros((len(raw), len(union)))
        wide[:, [union.index(label) for label in own]] = raw
        out.append(wide)
    return out, union


def average(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of probabilities or of values."""
    return np.asarray(np.mean(np.stack(parts), axis=0))


def vote(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The share of members that answer each class; the median of values. Ties go to the more probable class."""
    if parts[0].ndim == 1:
        return np.asarray(np.median(np.stack(parts), axis=0))
    shares = np.mean([np.eye(part.shape[1])[part.argmax(axis=1)] for part in parts], axis=0)
    leaders = shares == shares.max(axis=1, keepdims=True)
    nudge = np.where(leaders, average(parts), 0.0) * 1e-9
    return np.asarray((shares + nudge) / (shares + nudge).sum(axis=1, keepdims=True))


COMBINE = {"average": average, "vote": vote}


def hand_on(table: Table, task: str, raw: np.ndarray, labels: Labels) -> Table:
    """`table` with the answer of stage `task` as column `task`, and a column `task.p(label)` for each class."""
    none = np.zeros(table.n_rows, dtype=bool)
    if not labels:
        return table.replace(task, Column(task, "number", np.asarray(raw, dtype=np.float64), none))
    words = np.array(labels, dtype=object)[raw.argmax(axis=1)]
    table = table.replace(task, Column(task, "category", words, none))
    for position, label in enumerate(labels):
        name = f"{task}.p({label})"
        table = table.replace(name, Column(name, "number", raw[:, position].astype(np.float64), none))
    return table
