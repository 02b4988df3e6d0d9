"""From a task to a checked, registered specialist: the project's main path, one step per function.

prepare -> candidates -> crossfit -> measure -> choose (on validation) -> check (on test) -> finish (a table's network
is refitted on all rows) -> register -> gate. What depends on the kind of data stands in kinds.py. Choosing never sees
the test outcomes; the check opens them once. What does not pass is registered as `experiment` with the missing margin
in words.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from alexandra import __version__
from alexandra.errors import BackendError, DataError, TaskError
from alexandra.lang.conditions import Decision
from alexandra.lang.task_spec import NetworkRef, Task
from alexandra.records import Interval, Scorecard
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.lifecycle import GateDecision, refuse, try_promote
from alexandra.registry.store import Registry
from alexandra.statistics import paired, words
from alexandra.storage import content_hash, publish, publish_json
from alexandra.tables import Table
from alexandra.train.candidates import Candidate
from alexandra.train.check import check, refuse_impossible
from alexandra.train.crossfit import Fit, Settings, crossfit
from alexandra.train.curriculum_specialist import CurriculumSpecialist
from alexandra.train.evaluate import outcomes_of, score
from alexandra.train.explain import Explanation
from alexandra.train.export import Exported, export
from alexandra.train.kinds import kind_of, prepare
from alexandra.train.loop import OUT_OF_TIME
from alexandra.train.prepare import Prepared
from alexandra.train.protect import Protection, protect, refuse_unknown
from alexandra.train.specialist import Specialist

AnySpecialist = Specialist | CurriculumSpecialist
SPECIALIST, BASELINE = "specialist", "baseline"


@dataclass(frozen=True)
class Options:
    """How to solve, apart from what the task says."""

    seed: int | None = None
    threads: int = 2
    backend: str = "auto"
    keep_leaks: bool = False
    keep: int = 3
    promote: bool = True
    fresh: bool = False
    runs: Path = Path("runs")


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard; `validation` (per part, more is better) is what the choice was made on."""

    name: str
    kind: str
    epochs: int
    card: Scorecard
    validation: np.ndarray
    seconds: float
    decision: Decision | None = None
    words: str = ""
    version: ModelVersion | None = None

    @property
    def passed(self) -> bool:
        return self.decision is not None and self.decision.passed

    def metric(self, name: str) -> Interval:
        return self.card.metrics[name]


@dataclass(frozen=True)
class Solution:
    """What solve found. `predict` and `predict_proba` take raw rows; `gate` is None when nothing was proposed."""

    task: Task
    data: Prepared = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)
    fits: tuple[Fit, ...] = field(repr=False)
    best: str = ""
    specialist: AnySpecialist | None = field(default=None, repr=False)
    gate: GateDecision | None = None
    folder: Path = Path()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    report: Path | None = None

    @property
    def leaderboard(self) -> list[dict[str, object]]:
        """A plain dict per model, best first, for printing or a data frame."""
        metric = str(self.data.metric)
        return [
            {
                "name": row.name,
                "kind": row.kind,
                "epochs": row.epochs,
                metric: row.metric(metric).value,
                f"{metric}_low": row.metric(metric).low,
                f"{metric}_high": row.metric(metric).high,
                "n": row.card.n,
                "parameters": row.card.parameters,
                "latency_p95": row.card.latency_p95_seconds,
                "passed": row.passed,
                "words": row.words,
            }
            for row in self.rows
        ]

    @property
    def winner(self) -> Row:
        return next(row for row in self.rows if row.name == self.best)

    def predict(self, table: object) -> np.ndarray:
        """Labels or values for raw rows: a data frame, Arrow table, dict of columns, list of dicts or path."""
        assert self.specialist is not None
        return self.specialist.predict(Table.from_any(table))

    def predict_proba(self, table: object) -> np.ndarray:
        """Probabilities [rows, classes] in the order of `classes`."""
        assert self.specialist is not None
        return self.specialist.predict_raw(Table.from_any(table))

    def export(self, to: str, folder: str | Path) -> Exported:
        """Write the best specialist to a new folder in the format `to` ("onnx"), checked on rows of the task."""
        assert self.specialist is not None
        if isinstance(self.specialist, CurriculumSpecialist):
            raise BackendError(
                "a specialist that reads expressions is not exported: its coding is not part of the network",
                hint="alexandra.backends.onnx.export(s.specialist.graph, s.specialist.model.weights) has the network",
            )
        return export(self.specialist, to, folder, self.data.table)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.target.classes


Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def solve(
    task: Task, table: Table, registry: Registry, options: Options | None = None, progress: Progress = silent
) -> Solution:
    """Solve `task` on `table`; see the module header. Raises TaskError or DataError before any training."""
    options = options or Options()
    began = time.monotonic()
    if options.seed is not None:
        task = replace(task, split=replace(task.split, seed=options.seed))
    data = prepare(task, table, keep_leaks=options.keep_leaks)
    task = data.task
    refuse_impossible(data)
    refuse_unknown(registry, task.protect)
    kind = kind_of(task)
    networks = kind.candidates(data)
    simple = kind.baselines(data)
    folder = run_folder(data, options)
    budget = task.budget.seconds or 300.0
    settings = Settings(task.split.seed, options.threads, options.backend, began + 0.8 * budget, folder)
    total = (len(networks) + len(simple)) * len(data.parts)
    done = 0

    def on_done(fit: Fit) -> None:
        nonlocal done
        done += 1
        progress(f"{fit.name} {fit.part}", done, total)

    every = crossfit(data, networks, simple, settings, on_done, kind.maker)
    fits, late = whole(every, budget)
    networks = [network for network in networks if any(fit.name == network.name for fit in fits)]
    rows = measure(data, networks, fits)
    rows, best = choose_and_check(data, rows, registry)
    specialist, rows = refit_and_register(data, networks, rows, registry, settings, options.keep)
    protection = protect(registry, task.protect, specialist)
    winner = next(row for row in rows if row.name == best)
    gate = _propose(registry, data, winner, protection) if options.promote else None
    rows = [_refreshed(registry, row) for row in rows]
    notes = (*late, *protection.notes)
    took = time.monotonic() - began
    solution = Solution(task, data, tuple(rows), tuple(fits), best, specialist, gate, folder, took, notes)
    publish(folder / "task.task", task.text().encode())
    publish_json(folder / "leaderboard.json", solution.leaderboard)
    return solution


def run_folder(data: Prepared, options: Options) -> Path:
    """runs/<task>/<hash of everything that decides the result>; cleared first when `fresh`."""
    files = [network.file for network in data.task.networks if isinstance(network, NetworkRef) and network.file]
    programs = [data.task.path(file).read_text(encoding="utf-8") for file in files]
    decided = "\n".join([__version__, data.task.text(), data.data_hash, options.backend, *programs])
    folder = options.runs / data.task.name / content_hash(decided.encode())[:12]
    if options.fresh and (folder / "fits").is_dir():
        for path in (folder / "fits").iterdir():
            path.unlink()
    return folder


def measure(data: Prepared, networks: Sequence[Candidate], fits: Sequence[Fit]) -> list[Row]:
    """Pool each model's test answers over the parts and score them; average its validation scores."""
    rows = []
    learnt = {candidate.name for candidate in networks}
    for name in dict.fromkeys(fit.name for fit in fits):
        mine = [fit for fit in fits if fit.name == name]
        raw = np.concatenate([fit.test for fit in mine])
        outcomes = outcomes_of(data, data.test_rows, raw)
        kind = SPECIALIST if name in learnt else BASELINE
        card = replace(score(data, name, outcomes, full=False), parameters=mine[0].parameters)
        validation = _validation(data, mine) if kind == SPECIALIST else np.zeros(0)
        epochs = round(float(np.mean([fit.best_epoch for fit in mine])))
        rows.append(Row(name, kind, epochs, card, validation, sum(fit.seconds for fit in mine)))
    return rows


def _validation(data: Prepared, fits: Sequence[Fit]) -> np.ndarray:
    """The metric on each part's validation rows, signed so that more is better.

    Where a part's few validation rows leave it undefined (one class only), the negative validation loss instead.
    """
    parts = {part.name: part for part in data.parts}
    sign = 1.0 if data.metric.higher_is_better else -1.0
    try:
        return np.array([sign * data.metric.fn(outcomes_of(data, parts[fit.part].valid, fit.valid)) for fit in fits])
    except DataError:
        return np.array([-float(np.nanmin(fit.valid_loss)) for fit in fits])


def choose(specialists: Sequence[Row]) -> Row:
    """The smallest specialist that is within one standard error of the best on validation rows.

    The error is that of the paired differences over the parts (Breiman et al., CART, 1984, section 3.4.3); with one
    part there is none, and the best wins. Test outcomes play no role.
    """
    top = max(specialists, key=lambda row: (row.validation.mean(), -row.card.parameters))

    def close(row: Row) -> bool:
        gaps = top.validation - row.validation
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
        return bool(gaps.mean() <= error)

    return min(filter(close, specialists), key=lambda row: (row.card.parameters, -row.validation.mean()))


def choose_and_check(data: Prepared, rows: list[Row], registry: Registry) -> tuple[list[Row], str]:
    """The best specialist by validation, then the check of every specialist against the baseline."""
    specialists = [row for row in rows if row.kind == SPECIALIST]
    best = choose(specialists)
    simple = [row for row in rows if row.kind == BASELINE]
    sign = 1.0 if data.metric.higher_is_better else -1.0
    baseline = max(simple, key=lambda row: sign * row.metric(str(data.metric)).value)
    out = []
    for row in rows:
        if row.kind == SPECIALIST:
            out.append(replace(row, decision=check(data, row.card, baseline.card, registry)))
        else:
            test = paired(data.metric, row.card.outcomes, best.card.outcomes, data.task.split.seed)
            out.append(replace(row, words=f"{words(test)} than {best.name}" if abs(test.low) else words(test)))
    out.sort(key=lambda row: (row.kind == BASELINE, row.name != best.name, -row.validation.sum()))
    return out, best.name


def refit_and_register(
    data: Prepared,
    networks: Sequence[Candidate],
    rows: list[Row],
    registry: Registry,
    settings: Settings,
    keep: int,
) -> tuple[AnySpecialist, list[Row]]:
    """Finish the first `keep` specialists (a table's are trained again on all rows) and register them."""
    by_name = {candidate.name: candidate for candidate in networks}
    finish = kind_of(data.task).maker.finish
    first: AnySpecialist | None = None
    out = []
    for position, row in enumerate(rows):
        if row.kind == BASELINE or position >= keep:
            out.append(row)
            continue
        specialist = finish(data, by_name[row.name], row.epochs, settings)
        specialist.facts = facts_of_run(data)
        row = replace(row, card=finished_card(data, row, specialist))
        out.append(replace(row, version=register(registry, data, row, specialist)))
        first = first or specialist
    assert first is not None
    return first, out


def explain_best(solution: Solution, options: Options) -> Explanation:
    """Importances and explained rows of the chosen specialist, on rows that it has not seen."""
    data = solution.data
    kind = kind_of(data.task)
    chosen = next(one for one in kind.candidates(data) if one.name == solution.best)
    settings = Settings(data.task.split.seed, 1, options.backend, float("inf"), solution.folder)
    return kind.explain(data, chosen, settings)


def facts_of_run(data: Prepared) -> Mapping[str, object]:
    return {
        "task": data.task.text(),
        "data_hash": data.data_hash,
        "seed": data.task.split.seed,
        "alexandra": __version__,
    }


def finished_card(data: Prepared, row: Row, specialist: AnySpecialist) -> Scorecard:
    """The full scorecard, with what only the final network shows: its hash, size, parameters and latency."""
    blobs = specialist.to_blobs()
    return replace(
        score(data, row.name, row.card.outcomes),
        model_hash=content_hash(b"".join(blobs[name] for name in sorted(blobs))),
        parameters=specialist.num_parameters,
        size_bytes=sum(len(blob) for blob in blobs.values()),
        latency_p95_seconds=specialist.latency_p95(data.table.drop([data.target.name])),
    )


def register(registry: Registry, data: Prepared, row: Row, specialist: AnySpecialist) -> ModelVersion:
    """A new immutable version, stage `experiment`, with scorecard, lineage and the check's words."""
    assert row.decision is not None
    lineage = {
        **facts_of_run(data),
        "folder": os.path.abspath(data.task.folder),
        "metric": str(data.metric),
        "spec_hash": specialist.graph.spec_hash,
        "check": {"passed": row.decision.passed, "reasons": [reason.words for reason in row.decision.reasons]},
    }
    return registry.register(
        data.task.name, row.name, specialist.to_blobs(), row.card, lineage=lineage, tags=data.task.tags
    )


def _propose(registry: Registry, data: Prepared, best: Row, protection: Protection) -> GateDecision | None:
    """Offer the chosen specialist to the gate `production` when its check passed and nothing stands in the way."""
    if not best.passed or best.version is None:
        return None
    if protection.trouble:
        return refuse(registry, best.version, protection.trouble)
    return try_promote(registry, best.version, metric=data.metric, protected=protection.pairs)


def whole(fits: Sequence[Fit], budget: float) -> tuple[list[Fit], list[str]]:
    """The fits of models that were trained to their own end, and a sentence about those that the budget cut short.

    A model that was cut on one part was not measured. TaskError when no network is left.
    """
    cut = list(dict.fromkeys(fit.name for fit in fits if fit.stopped == OUT_OF_TIME))
    kept = [fit for fit in fits if fit.name not in cut]
    if not any(fit.stopped for fit in kept):
        raise TaskError(
            f"the time budget of {budget:g} s ended before one network was trained on every part",
            hint="raise BUDGET time (--budget 5m), use fewer folds or a smaller FAMILY; what was trained is kept",
        )
    return kept, [f"not measured, because the time budget of {budget:g} s ended: {', '.join(cut)}"] if cut else []


def _refreshed(registry: Registry, row: Row) -> Row:
    if row.version is None:
        return row
    return replace(row, version=registry.get(f"{row.version.task}:{row.version.version}"))
