"""A Scorecard as two objects without pickle: JSON for what is measured, safetensors for what was answered.

Text arrays (item keys, group columns) become UTF-8 bytes and end offsets, so that any text survives and no
object array is ever stored. `decode` gives back an equal Scorecard; both parts carry checksums besides the
hash that names the object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexandra.errors import RegistryError, StorageError
from alexandra.records import Evidence, Interval, Outcomes, Scorecard, Verdict
from alexandra.storage import json_bytes, parse_json, read_tensors, tensors_bytes

SCHEMA = 1
BODY, TENSORS = "scorecard.json", "outcomes.safetensors"
_BYTES, _ENDS = ".utf8", ".ends"


def encode(card: Scorecard) -> dict[str, bytes]:
    """The two files of a scorecard by name; RegistryError names an array that cannot be stored."""
    outcomes = card.outcomes
    tensors: dict[str, np.ndarray] = {}
    kinds: dict[str, str] = {}
    arrays = {"keys": outcomes.keys, "targets": outcomes.targets, "predictions": outcomes.predictions}
    for name, array in {**arrays, **{f"column.{name}": array for name, array in outcomes.columns.items()}}.items():
        if len(array) != outcomes.n:
            raise RegistryError(f"outcomes: {name!r} has {len(array)} rows, but there are {outcomes.n} keys")
        kinds[name] = _encode_array(name, np.asarray(array), tensors)
    body = {
        "schema": SCHEMA,
        "task": card.task,
        "model": card.model,
        "metrics": [[name, *interval_values(value)] for name, value in card.metrics.items()],
        "seed": int(card.seed),
        "data_hash": card.data_hash,
        "model_hash": card.model_hash,
        "parameters": int(card.parameters),
        "latency_p95_seconds": _number(card.latency_p95_seconds),
        "size_bytes": int(card.size_bytes),
        "verdicts": [_verdict(verdict) for verdict in card.verdicts],
        "classes": list(outcomes.classes),
        "positive": int(outcomes.positive),
        "arrays": [[name, kind] for name, kind in kinds.items()],
    }
    return {BODY: json_bytes(body), TENSORS: tensors_bytes(tensors)}


def decode(files: Mapping[str, bytes], source: str) -> Scorecard:
    """The inverse of `encode`; StorageError names `source` when the files are not a scorecard."""
    body = parse_json(files[BODY], f"{source} {BODY}")
    tensors, _ = read_tensors(files[TENSORS], f"{source} {TENSORS}")
    try:
        if body["schema"] != SCHEMA:
            raise StorageError(f"{source}: scorecard schema {body['schema']} is not known; this version reads {SCHEMA}")
        arrays = {name: _decode_array(name, kind, tensors) for name, kind in body["arrays"]}
        columns = {name.removeprefix("column."): arrays[name] for name in arrays if name.startswith("column.")}
        outcomes = Outcomes(
            arrays["keys"],
            arrays["targets"],
            arrays["predictions"],
            tuple(body["classes"]),
            columns,
            body["positive"],
        )
        return Scorecard(
            body["task"],
            body["model"],
            {name: interval_of(values) for name, *values in body["metrics"]},
            outcomes,
            body["seed"],
            body["data_hash"],
            body["model_hash"],
            body["parameters"],
            float(body["latency_p95_seconds"]),
            body["size_bytes"],
            tuple(_verdict_of(value) for value in body["verdicts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{source} is not a scorecard: {error!r}") from error


def interval_values(value: Interval) -> list[float | int | str]:
    """[value, low, high, n], JSON-ready: what is not finite is written as text ("nan", "inf")."""
    return [_number(value.value), _number(value.low), _number(value.high), int(value.n)]


def interval_of(values: list[Any]) -> Interval:
    value, low, high, n = values
    return Interval(float(value), float(low), float(high), int(n))


def _number(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _encode_array(name: str, array: np.ndarray, tensors: dict[str, np.ndarray]) -> str:
    """Add `array` to `tensors`; returns how to read it back: "number", "U" (fixed width) or "O" (Python text)."""
    if array.dtype.kind in "biuf":
        tensors[name] = array
        return "number"
    if array.dtype.kind not in "UO" or array.ndim != 1 or not all(isinstance(value, str) for value in array):
        raise RegistryError(f"outcomes: {name!r} has dtype {array.dtype}", hint="allowed: numbers, booleans and text")
    parts = [str(value).encode("utf-8", "surrogatepass") for value in array]
    tensors[name + _BYTES] = np.frombuffer(b"".join(parts), dtype=np.uint8)
    tensors[name + _ENDS] = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return str(array.dtype.kind)


def _decode_array(name: str, kind: str, tensors: dict[str, np.ndarray]) -> np.ndarray:
    if kind == "number":
        return tensors[name]
    data, ends = tensors[name + _BYTES].tobytes(), tensors[name + _ENDS].tolist()
    starts = [0, *ends[:-1]]
    values = [data[i:j].decode("utf-8", "surrogatepass") for i, j in zip(starts, ends, strict=True)] if ends else []
    return np.array(values, dtype=object if kind == "O" else np.str_)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "verifier": verdict.verifier,
        "score": None if verdict.score is None else float(verdict.score),
        "confidence": float(verdict.confidence),
        "reason": verdict.reason,
        "hard": bool(verdict.hard),
        "evidence": [[one.tool, one.version, one.input_hash, one.output] for one in verdict.evidence],
        "facts": [[name, *interval_values(value)] for name, value in verdict.facts.items()],
        "seconds": float(verdict.seconds),
        "parts": [_verdict(part) for part in verdict.parts],
    }


def _verdict_of(value: dict[str, Any]) -> Verdict:
    return Verdict(
        value["verifier"],
        value["score"],
        value["confidence"],
        value["reason"],
        value["hard"],
        tuple(Evidence(*one) for one in value["evidence"]),
        {name: interval_of(values) for name, *values in value["facts"]},
        value["seconds"],
        tuple(_verdict_of(part) for part in value["parts"]),
    )
