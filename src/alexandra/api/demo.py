"""The demonstration: two real data sets solved, two bad challengers refused, a rollback, an answer.

Everything goes through the same operations as the command line. Data sets are scikit-learn's bundled ones.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.api import json_records, models, operations, render
from alexandra.data import readers
from alexandra.errors import TaskError
from alexandra.lang.expr import And, Compare, Fact, NoWorse, Number
from alexandra.lang.task_spec import DataSource, FamilyRef, Split, Task
from alexandra.registry.lifecycle import try_promote
from alexandra.registry.store import Registry
from alexandra.rng import derive
from alexandra.tables import Table
from alexandra.train.evaluate import evaluate_table
from alexandra.train.prepare import prepare
from alexandra.train.solve import Options, Solution
from alexandra.train.solve import solve as solve_table

Say = Callable[[Any], None]


def breast_cancer() -> Task:
    """569 tumours, 30 measurements each; the check is a lower bound and "no worse than the baseline"."""
    accept = And((NoWorse("baseline", Number(0.01, "%")), Compare(Fact("roc_auc"), ">=", Number(0.98))))
    task = Task.of(DataSource.bundled("breast_cancer"), "target", name="breast_cancer")
    family = (FamilyRef("tabular", (0, 3), (32, 128)),)
    return replace(task, split=Split(folds=5, seed=7), accept=accept, networks=family)


def digits() -> Task:
    """1,797 handwritten digits of 8 x 8 pixels, ten classes."""
    accept = Compare(Fact("accuracy"), ">=", Number(0.95))
    task = Task.of(DataSource.bundled("digits"), "target", name="digits")
    family = (FamilyRef("tabular", (1, 2), (128, 256)),)
    return replace(task, split=Split(folds=3, seed=7), accept=accept, networks=family)


def run(keep: Path | None = None, quiet: bool = False) -> dict[str, Any]:
    """Run the demonstration; files go to `keep` or to a temporary folder. Returns what happened."""
    console = render.console()

    def say(line: Any) -> None:
        if not quiet:
            console.print(line)

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        result = _steps(folder, Registry(folder / "registry"), say)
    result["seconds"] = round(time.monotonic() - began, 1)
    say(f"\nAll of it took {render.duration(result['seconds'])}.")
    return result


def _steps(folder: Path, registry: Registry, say: Say) -> dict[str, Any]:
    say("1. Two tasks on real data: train, check, register, promote\n")
    solved = {}
    for task in (breast_cancer(), digits()):
        solved[task.name] = _solve(task, folder, registry, say)
    say("2. A challenger trained on shuffled labels meets the true ones\n")
    refused = _shuffled(solved["breast_cancer"], folder, registry, say)
    say("\n3. A task whose table carries the answer\n")
    leak = _leaking(folder, registry, say)
    say("\n4. A release by hand, and one command back\n")
    back = _rollback(registry, say)
    say("\n5. A question\n")
    reply = operations.ask("breast_cancer", row=17, registry=registry)
    for line in render.reply(reply, True):
        say(line)
    return {
        "solved": {name: json_records.solution(one) for name, one in solved.items()},
        "shuffled_labels_refused": refused,
        "leak": leak,
        "rolled_back_to": back,
        "answer": json_records.reply(reply),
    }


def _solve(task: Task, folder: Path, registry: Registry, say: Say) -> Solution:
    with render.progress(f"training {task.name}") as update:
        solution = operations.solve(task, registry=registry, runs=folder / "runs", progress=update)
    for line in [
        render.heading(solution),
        *render.notes(solution),
        render.leaderboard(solution),
        *render.conclusion(solution),
        "",
    ]:
        say(line)
    return solution


def _shuffled(solution: Solution, folder: Path, registry: Registry, say: Say) -> bool:
    """Train on permuted labels, measure on the true ones, propose: the gate must refuse."""
    task = solution.task
    table = readers.read(task.data, Path())
    order = derive(7, "demo", "shuffle").permutation(table.n_rows)
    lies = table.replace(task.target, table[task.target].take(order))
    name = "breast_cancer_shuffled"
    options = Options(promote=False, keep=1, runs=folder / "runs")
    wrong = solve_table(replace(task, name=name, data=DataSource.frame(lies), accept=None), lies, registry, options)
    data = prepare(task, table)
    assert wrong.specialist is not None
    card = evaluate_table(data, wrong.specialist.predict_raw, np.arange(table.n_rows), "shuffled")
    card = replace(card, latency_p95_seconds=wrong.specialist.latency_p95(table))
    version = registry.register(
        task.name, "shuffled", wrong.specialist.to_blobs(), card, lineage={"note": "labels permuted"}, tags=task.tags
    )
    decision = try_promote(registry, version, metric=data.metric)
    say(f"on the true labels it reaches {data.metric} {card.metrics[str(data.metric)]}")
    for line in render.gate(f"{version.task}:{version.version}", decision):
        say(line)
    return not decision.passed


def _leaking(folder: Path, registry: Registry, say: Say) -> str:
    """Add a column that codes the target; solve must refuse before it trains."""
    task = breast_cancer()
    table = readers.read(task.data, Path())
    codes = np.array([f"code {value}" for value in table[task.target].values], dtype=object)
    leaking = Table.from_any({**{name: table[name].values for name in table.names}, "ward": codes})
    try:
        solve_table(
            replace(task, name="leaking", data=DataSource.frame(leaking)),
            leaking,
            registry,
            Options(runs=folder / "runs"),
        )
    except TaskError as error:
        say(f"refused: {error}")
        return error.message
    raise AssertionError("a leaking column was not refused")


def _rollback(registry: Registry, say: Say) -> int:
    """Force another version into production, then go back to the one that earned it."""
    before = registry.get("breast_cancer@production")
    other = next(one for one in registry.search(task="breast_cancer", stage="experiment") if one.name != "shuffled")
    models.promote(f"breast_cancer:{other.version}", registry, force=True, reason="demonstration of a release by hand")
    say(f"forced v{other.version} {other.name} into production (the history says by whom and why)")
    after = models.rollback("breast_cancer", registry, reason="demonstration of the way back")
    assert after.version == before.version, "rollback did not restore the former production"
    say(f"rollback: production is v{after.version} {after.name} again")
    for line in render.history(models.history("breast_cancer", registry)):
        say(line)
    return after.version
