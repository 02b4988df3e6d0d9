"""Every user action once, as a plain typed function: what the command line, Python and services call.

Functions take names and paths, return results or raise one of our errors; they print nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.api import mlflow_log, report
from alexandra.api.behaviour import asked_rows
from alexandra.api.models import open_registry
from alexandra.backends.foreign import Foreign, is_estimator, is_module, wrap
from alexandra.errors import AlexandraError, DataError, StorageError, TaskError, UsageError, WeightsError
from alexandra.lang.rules import default_rules, load_rules
from alexandra.lang.task import load_task, parse_task
from alexandra.lang.task_spec import Budget, DataSource, Task
from alexandra.records import Scorecard
from alexandra.registry.artifact import ModelVersion
from alexandra.registry.lifecycle import review
from alexandra.registry.oracle import Choice, Oracle
from alexandra.registry.store import Registry
from alexandra.serve.engine import Answer, AnySpecialist, Engine, Reply
from alexandra.storage import publish
from alexandra.tables import Table
from alexandra.train.evaluate import evaluate_table, outcomes_of, score
from alexandra.train.foreign_specialist import ForeignSpecialist, adopt
from alexandra.train.kinds import load_table, prepare
from alexandra.train.prepare import Prepared
from alexandra.train.solve import Options, Progress, Solution, explain_best, silent
from alexandra.train.solve import solve as solve_task
from alexandra.verifiers.loading import import_function


def read_task(path: str | Path) -> Task:
    """Parse a .task file; its relative paths start at its folder."""
    if not Path(path).is_file():
        raise TaskError(f"no task file {str(path)!r}")
    return load_task(path)


def solve(
    source: Any,
    target: str = "",
    *,
    positive: str = "",
    drop: Sequence[str] = (),
    seed: int | None = None,
    budget: str | float = "",
    threads: int = 2,
    backend: str = "auto",
    keep: int = 3,
    keep_leaks: bool = False,
    promote: bool = True,
    fresh: bool = False,
    runs: str | Path = "runs",
    registry: str | Path | Registry | None = None,
    mlflow: str = "",
    progress: Progress = silent,
) -> Solution:
    """Train, check, register and promote a specialist for a table (with `target`) or a task.

    source      a path to a table or a .task file, a data frame, or a Task
    seed        overrides the task's;  budget: seconds, or a text such as "5m"
    threads     candidates trained at once; the results do not depend on it
    keep        how many of the best specialists are registered;  promote: offer the best to the gate
    keep_leaks  train although a column gives the target away
    fresh       forget what an earlier, equal run already trained (otherwise it is taken over)
    runs        where the run's files and the report go;  registry: a folder, a database URL or a Registry
    mlflow      the MLflow store that the run is logged to: a server's URL or a database (extra `mlflow`)
    """
    task, written = _task_of(source, target, positive, tuple(drop), budget)
    tracker = mlflow_log.connect(mlflow, task.name) if mlflow else None
    table = load_table(task, Path(task.folder))
    options = Options(seed, threads, backend, keep_leaks, keep, promote, fresh, Path(runs))
    solution = solve_task(task, table, open_registry(registry), options, progress)
    solution = report.write(solution, explain_best(solution, options), solution.folder / "report.html")
    if written is not None:
        solution = replace(solution, notes=(*solution.notes, _write_task(written, solution.task)))
    if tracker is not None:
        solution = replace(solution, notes=(*solution.notes, tracker.log(solution)))
    return solution


def _task_of(
    source: Any, target: str, positive: str, drop: tuple[str, ...], budget: str | float
) -> tuple[Task, Path | None]:
    """The task, and where to write it when it was made from a table's path."""
    written = None
    if isinstance(source, Task):
        task = source
    elif isinstance(source, str | Path) and str(source).endswith(".task"):
        task = read_task(source)
    else:
        if not target:
            raise UsageError("a table needs a target column", hint="say --target COLUMN (target=... in Python)")
        task = Task.of(str(source) if isinstance(source, Path) else source, target)
        if isinstance(source, str | Path):
            path = Path(source)
            task = replace(task, data=replace(DataSource.of(path.name)), folder=str(path.parent))
            written = path.with_name(path.name.split(".")[0] + ".task")
    if target and task.target != target:
        task = replace(task, target=target)
    if positive:
        task = replace(task, positive=positive)
    if drop:
        task = replace(task, drop=tuple(dict.fromkeys([*task.drop, *drop])))
    if budget:
        task = replace(task, budget=replace(task.budget, seconds=_seconds(budget)))
    return task, written


def _seconds(budget: str | float) -> float:
    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    text = str(budget).strip().lower()
    unit = next((u for u in units if text.endswith(u)), "s")
    try:
        return Budget(float(text.removesuffix(unit)) * units[unit]).seconds or 300.0
    except ValueError:
        raise UsageError(f"--budget {budget!r} is not a duration", hint="write 90s, 5m or 1h") from None


def _write_task(path: Path, task: Task) -> str:
    """Publish the task that was run beside its table; a different file of that name is kept and a number added."""
    text = task.text().encode()
    for number in range(1, 1000):
        place = path if number == 1 else path.with_name(f"{path.stem}-{number}.task")
        if not place.exists():
            publish(place, text)
            return f"wrote {place}"
        if place.read_bytes() == text:
            return f"task file {place} is unchanged"
    raise TaskError(f"there are 999 task files beside {str(path)!r}", hint="remove some of them")


# --- asking ---------------------------------------------------------------------------------------------


class Loaded:
    """A registered specialist ready to answer: `alexandra.load("churn@production")`."""

    def __init__(self, choice: Choice, engine: Engine) -> None:
        self.choice = choice
        self._engine = engine

    @property
    def version(self) -> ModelVersion:
        return self.choice.members[0]

    @property
    def classes(self) -> tuple[str, ...]:
        return self._engine.specialist(self.version).classes

    def predict_proba(self, rows: Any, *, as_of: str = "") -> np.ndarray:
        """Probabilities [rows, classes] (values [rows] for regression) for raw rows of any table kind.

        A specialist of customer behaviour also takes events: one row an entity then, sorted by entity, from the events
        before `as_of` (an ISO date or moment; default: all of them).
        """
        return self._engine.raw(self.choice, self._rows(rows, as_of)).raw

    def predict(self, rows: Any, *, as_of: str = "") -> np.ndarray:
        """Labels, values for regression, or texts for a curriculum."""
        return self._engine.predict(self.choice, self._rows(rows, as_of))

    def answer(self, rows: Any, *, as_of: str = "") -> list[Answer]:
        """Answers with verdict and provenance, one a row."""
        return self._engine.answer(self.choice, self._rows(rows, as_of))

    def _rows(self, rows: Any, as_of: str) -> Table:
        return asked_rows(self.choice, Table.from_any(rows), as_of)[0]


def load(ref: str, *, registry: str | Path | Registry | None = None, backend: str = "auto") -> Loaded:
    """The registered model `ref`: churn (the rules choose), churn@production, churn@alias, churn:3."""
    store = open_registry(registry)
    return Loaded(choose(store, ref), Engine(store, backend=backend))


def choose(store: Registry, ref: str, *, stage: str = "", rules: Path | None = None) -> Choice:
    """What the oracle chooses for a task; a ref with @ or : names one version itself."""
    if "@" in ref or ":" in ref:
        version = store.get(ref)
        return Choice((version,), "best", "named", (f"{ref} names version {version.version} itself",))
    oracle = Oracle(store, load_rules(rules) if rules else default_rules())
    return oracle.choose(ref, stage=stage or None)


WRITABLE = (".csv", ".parquet", ".pq")


def ask(
    task: str,
    *,
    question: str = "",
    row: int | None = None,
    file: str | Path | None = None,
    out: str | Path | None = None,
    as_of: str = "",
    stage: str = "",
    rules: Path | None = None,
    registry: str | Path | Registry | None = None,
) -> Reply:
    """Ask about one row as JSON (or JSON lines), a row of the task's own data, or every row of a file.

    Events of a task with BEHAVIOUR are looked at as of `as_of`: none at or after that moment is seen.
    """
    if sum([bool(question), row is not None, file is not None]) != 1:
        raise UsageError("ask one thing: a JSON row, --row N, or --file TABLE")
    if out is not None and file is None:
        raise UsageError("--out belongs to --file")
    if out is not None and not str(out).lower().endswith(WRITABLE):
        raise UsageError(f"cannot write {str(out)!r}", hint="the name ends in " + ", ".join(WRITABLE))
    store = open_registry(registry)
    choice = choose(store, task, stage=stage, rules=rules)
    engine = Engine(store)
    truth: tuple[str, ...] = ()
    if question:
        table = Table.from_any(_json_rows(question))
    elif file is not None:
        table = Table.from_any(Path(file))
    else:
        table, truth = _row_of(choice.members[0], int(row or 0))
    table, notes = asked_rows(choice, table, as_of)
    notes += _about(engine, choice, table, single=file is None, looked_up=row is not None)
    try:
        answers = engine.answer(choice, table)
    except DataError:
        raise
    except AlexandraError:
        _count(store, choice, requests=table.n_rows, failures=table.n_rows)
        raise
    notes += _count(store, choice, requests=table.n_rows, failures=0)
    if row is not None:
        answers = [replace(answer, row=row) for answer in answers]
    if out is not None:
        _write_scored(Path(out), table, answers)
    return Reply(tuple(answers), choice, Path(out) if out is not None else None, truth, tuple(notes))


def _about(engine: Engine, choice: Choice, table: Table, *, single: bool, looked_up: bool) -> list[str]:
    """What should be known of the rows that are asked about, before the first member answers them."""
    try:
        speaker = engine.specialist(choice.members[0])
    except (StorageError, WeightsError):
        return []
    notes = _unread(table, speaker, single=single)
    if looked_up and not isinstance(speaker, ForeignSpecialist) and not speaker.learnt_from(speaker.keys(table)).all():
        notes.append("this row was not in the data that the model was made from: the file has changed since")
    return notes


def _unread(table: Table, speaker: AnySpecialist, *, single: bool) -> list[str]:
    """Cells that hold something that the column's kind cannot be read from: an error for single questions."""
    kinds = getattr(getattr(speaker, "encoder", None), "kinds", {})
    notes = []
    for name, kind in kinds.items():
        if name not in table.columns:
            continue
        lost = np.flatnonzero(table[name].cast(kind).missing & ~table[name].missing)
        if not len(lost):
            continue
        value = str(table[name].texts()[lost[0]])
        if single:
            raise DataError(f"{name!r} is {value!r}, which is no {kind}", hint=f"give a {kind}, or null for missing")
        notes.append(f"{len(lost):,} cells of {name!r} are no {kind} and count as missing, the first is {value!r}")
    return notes


def _count(store: Registry, choice: Choice, *, requests: int, failures: int) -> list[str]:
    """Keep what was served, and withdraw a model that its gate's QUARANTINE WHEN applies to."""
    notes = []
    for version in choice.members:
        if version.stage == "production":
            store.record(version, requests, failures)
            decision = review(store, version)
            if decision is not None and decision.passed:
                notes.append(f"{version.ref} is in quarantine now: {decision.words()}")
    return notes


def _json_rows(text: str) -> list[dict[str, Any]]:
    try:
        rows = (
            [json.loads(line) for line in text.splitlines() if line.strip()]
            if "\n{" in text.strip()
            else json.loads(text)
        )
    except ValueError as error:
        raise DataError(
            f"the question is not JSON: {error}", hint='example: \'{"tenure": 3, "Contract": "One year"}\''
        ) from None
    rows = rows if isinstance(rows, list) else [rows]
    if not rows or not all(isinstance(one, dict) for one in rows):
        raise DataError("a question is a JSON object of column: value, or a list of them")
    return rows


def _row_of(version: ModelVersion, row: int) -> tuple[Table, tuple[str, ...]]:
    """Row `row` of the data that the version's task names, as it is now."""
    lineage = version.lineage
    if "task" not in lineage:
        raise DataError(f"{version.ref} was registered without its task's text", hint="give the row as JSON")
    task = parse_task(str(lineage["task"]), "<registered task>")
    if task.data.kind == "frame":
        raise DataError(
            "this task was solved from a table in memory, so there is no row to look up", hint="give the row as JSON"
        )
    table = load_table(task, Path(str(lineage["folder"])))
    target = task.target or table.names[-1]
    if not 0 <= row < table.n_rows:
        raise DataError(f"there is no row {row}", hint=f"rows are numbered 0 to {table.n_rows - 1}")
    one = table.take(np.array([row]))
    return one.drop([target]), (str(one[target].texts()[0]),)


def _write_scored(out: Path, table: Table, answers: Sequence[Answer]) -> None:
    """The table with the columns `answer` and one `p(label)` a class, as CSV or Parquet.

    A column of the table that has such a name is an error: nothing of the table may be lost.
    """
    added = ["answer", *(f"p({label})" for label in answers[0].probabilities)]
    clash = next((name for name in added if name in table.columns), "")
    if clash:
        raise DataError(f"the table has a column {clash!r} already", hint="rename it before scoring into a file")
    columns: dict[str, Any] = {name: table[name].values for name in table.names}
    columns["answer"] = np.array(
        [answer.value for answer in answers], dtype=object if answers[0].probabilities else float
    )
    for label in answers[0].probabilities:
        columns[f"p({label})"] = np.array([answer.probabilities[label] for answer in answers])
    scored = Table.from_any(columns)
    if out.suffix.lower() in (".parquet", ".pq"):
        scored.to_parquet(out)
    else:
        scored.to_csv(out)


# --- measuring ------------------------------------------------------------------------------------------


def evaluate(
    model: Any, task: Task | str | Path, *, registry: str | Path | Registry | None = None, name: str = ""
) -> Scorecard:
    """Measure any model on a task's data: a predict function, an object with predict_proba or predict, a fitted
    scikit-learn estimator, what `wrap` returns, a registered ref ("churn:3") or "file.py:function". A function gets
    a Table of raw feature rows. A registered network is measured on the rows that it was not trained on; where there
    are none, its out-of-fold answers are measured again.
    """
    task = task if isinstance(task, Task) else read_task(task)
    if isinstance(model, str) and ".py:" not in model:
        return _evaluate_registered(model, task, open_registry(registry), name)
    predict: Callable[[Any], Any]
    foreign = wrap(model) if is_estimator(model) else model if isinstance(model, Foreign) else None
    if isinstance(model, str):
        predict, name = import_function(model, Path()), name or model
    else:
        predict = getattr(model, "predict_proba", None) or getattr(model, "predict", None) or model
    if foreign is None and (is_module(model) or not callable(predict)):
        raise UsageError(
            f"cannot evaluate a {type(model).__name__}",
            hint="give a function, a model with predict, or a ref; a torch module is wrapped first: ax.wrap",
        )
    data = prepare(task, load_table(task, Path(task.folder)), keep_leaks=True)
    if foreign is not None:
        adopted = adopt(foreign, data, name)
        predict, name = adopted.predict_raw, adopted.name
    return evaluate_table(data, predict, np.arange(data.table.n_rows), name or type(model).__name__)


def _evaluate_registered(ref: str, task: Task, store: Registry, name: str) -> Scorecard:
    data = prepare(task, load_table(task, Path(task.folder)), keep_leaks=True)
    choice, engine = choose(store, ref), Engine(store)
    member = engine.specialist(choice.members[0])
    rows = np.arange(data.table.n_rows)
    where = "all rows"
    if not isinstance(member, ForeignSpecialist):
        rows = rows[~member.learnt_from(member.keys(data.table))]
        where = f"{len(rows):,} rows that it was not trained on"
    if not len(rows):
        assert not isinstance(member, ForeignSpecialist), "a foreign model is measured on all rows"
        card = store.scorecard(choice.members[0])
        place = {str(key): i for i, key in enumerate(card.outcomes.keys)}
        found = np.array([place.get(str(key), -1) for key in member.keys(data.table)])
        rows = np.flatnonzero(found >= 0)
        if not len(rows):
            raise DataError(f"{ref} was trained on every row, and has no out-of-fold answer to any of them")
        raw = _in_classes(ref, card.outcomes.predictions[found[rows]], card.outcomes.classes, data)
        title = name or f"{ref} ({len(rows):,} rows, out of fold)"
        return replace(score(data, title, outcomes_of(data, rows, raw)), model_hash=card.model_hash)

    def predict(table: Table) -> np.ndarray:
        joint = engine.raw(choice, table)
        return _in_classes(ref, joint.raw, joint.labels, data)

    return evaluate_table(data, predict, rows, name or f"{ref} ({where})")


def _in_classes(ref: str, raw: np.ndarray, labels: tuple[str, ...], data: Prepared) -> np.ndarray:
    """Probabilities in the order of the task's classes; DataError when the model answers others."""
    wanted = data.target.classes
    if set(labels) != set(wanted):
        raise DataError(f"{ref} answers {', '.join(labels) or 'numbers'}", hint="this task has: " + ", ".join(wanted))
    return raw[:, [labels.index(label) for label in wanted]] if labels else raw
