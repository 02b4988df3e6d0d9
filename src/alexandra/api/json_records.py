"""Results as JSON-ready records: what every command prints with --json, and what services answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alexandra.records import Interval, Scorecard, Verdict

if TYPE_CHECKING:
    from alexandra.api.init_task import Draft
    from alexandra.curriculum import Validation
    from alexandra.curriculum.dataset import DataSet
    from alexandra.lang.conditions import Reason
    from alexandra.registry.artifact import AuditEntry, ModelVersion
    from alexandra.registry.lifecycle import GateDecision
    from alexandra.serve.engine import Answer, Reply
    from alexandra.train.export import Exported
    from alexandra.train.solve import Row, Solution

Record = dict[str, Any]


def json_text(value: Any) -> str:
    """One document; numbers that are not finite become null, because JSON has none."""
    return json.dumps(plain(value), indent=1, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Only dict, list, str, int, float, bool and None, all the way down."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Interval):
        return interval(value)
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float | np.number):
        number = float(value)
        return number if math.isfinite(number) else None
    return str(value)


def interval(value: Interval) -> Record:
    return plain({"value": value.value, "low": value.low, "high": value.high, "n": value.n})  # type: ignore[no-any-return]


def reason(value: Reason) -> Record:
    return {"text": value.text, "passed": value.passed, "words": value.words}


def verdict(value: Verdict) -> Record:
    return {
        "verifier": value.verifier,
        "score": value.score,
        "confidence": value.confidence,
        "reason": value.reason,
        "hard": value.hard,
        "facts": {name: interval(fact) for name, fact in value.facts.items()},
        "evidence": [vars(one) for one in value.evidence],
    }


def audited(value: Verdict) -> Record:
    """A verdict with what it was made of, down to the single tools, and how long each took."""
    return {**verdict(value), "seconds": value.seconds, "parts": [audited(part) for part in value.parts]}


def card(value: Scorecard) -> Record:
    return {
        "task": value.task,
        "model": value.model,
        "n": value.n,
        "metrics": {name: interval(one) for name, one in value.metrics.items()},
        "parameters": value.parameters,
        "latency_p95_seconds": value.latency_p95_seconds,
        "size_bytes": value.size_bytes,
        "data_hash": value.data_hash,
        "model_hash": value.model_hash,
        "seed": value.seed,
        "verdicts": [verdict(one) for one in value.verdicts],
    }


def row(value: Row) -> Record:
    return {
        "name": value.name,
        "kind": value.kind,
        "epochs": value.epochs,
        "passed": value.passed,
        "reasons": [reason(one) for one in value.decision.reasons] if value.decision else [],
        "words": value.words,
        "version": value.version.version if value.version else None,
        "stage": value.version.stage if value.version else None,
        "scorecard": card(value.card),
    }


def solution(value: Solution) -> Record:
    profile = value.data.profile
    return {
        "task": value.task.name,
        "program": value.task.text(),
        "metric": str(value.data.metric),
        "rows": value.data.table.n_rows,
        "duplicates": profile.duplicates,
        "data_hash": value.data.data_hash,
        "best": value.best,
        "models": [row(one) for one in value.rows],
        "gate": gate(value.gate) if value.gate is not None else None,
        "folder": str(value.folder),
        "report": str(value.report) if value.report else None,
        "seconds": round(value.seconds, 3),
        "notes": list(value.notes),
    }


def draft(value: Draft) -> Record:
    return {
        "path": str(value.path),
        "task": value.task.name,
        "program": value.program,
        "rows": value.profile.rows,
        "columns": [plain(vars(one)) for one in value.profile.columns],
        "dropped": dict(value.dropped),
        "warnings": list(value.profile.warnings),
    }


def exported(value: Exported) -> Record:
    return {
        "folder": str(value.folder),
        "files": list(value.files),
        "rows_checked": value.rows if value.difference is not None else 0,
        "largest_difference": value.difference,
    }


def data_set(value: DataSet) -> Record:
    counts = dict(value.counts)
    return {"level": value.level, "folder": str(value.folder), "counts": counts, "reused": value.reused}


def validation(value: Validation) -> Record:
    return {
        "path": str(value.path),
        "ok": value.ok,
        "rows": value.rows,
        "counts": {str(level): dict(splits) for level, splits in value.counts.items()},
        "faults": dict(value.faults),
        "problems": list(value.problems),
        "statistics": {str(level): dict(figures) for level, figures in value.statistics.items()},
    }


def version(value: ModelVersion) -> Record:
    return {
        "ref": value.ref,
        "task": value.task,
        "version": value.version,
        "name": value.name,
        "stage": value.stage,
        "created": value.created,
        "tags": list(value.tags),
        "aliases": list(value.aliases),
        "metric": value.metric,
        "metrics": {name: interval(one) for name, one in value.metrics.items()},
        "samples": value.samples,
        "parameters": value.parameters,
        "size_bytes": value.size_bytes,
        "latency_p95_seconds": value.latency_p95,
    }


def details(value: ModelVersion) -> Record:
    """`version`, and what only a close look wants: lineage and the hashes of every file."""
    return {
        **version(value),
        "blobs": dict(value.blobs),
        "scorecard": dict(value.scorecard),
        "lineage": plain(value.lineage),
    }


def gate(value: GateDecision) -> Record:
    return {"passed": value.passed, "reasons": [reason(one) for one in value.reasons]}


def answer(value: Answer) -> Record:
    return {
        "row": value.row,
        "answer": value.value,
        "probability": value.probability,
        "probabilities": dict(value.probabilities),
        "verdict": value.verdict,
        "by": value.by,
        "out_of_fold": value.seen,
    }


def reply(value: Reply) -> Record:
    return {
        "answers": [answer(one) for one in value.answers] if value.out is None else len(value.answers),
        "truth": list(value.truth),
        "notes": list(value.notes),
        "rule": value.choice.rule,
        "combine": value.choice.combine,
        "explanation": list(value.choice.explanation),
        "out": str(value.out) if value.out else None,
    }


def audit(value: AuditEntry) -> Record:
    return {name: plain(item) for name, item in vars(value).items()}
