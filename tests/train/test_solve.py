"""Solve as its user sees it: what is chosen, checked, registered, promoted, and that it is the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import alexandra as ax
from alexandra.api import operations
from alexandra.errors import TaskError
from alexandra.lang.expr import Compare, Fact, Gap, Number
from alexandra.lang.task_spec import DataSource, FamilyRef, Split, Task
from alexandra.registry.store import Registry
from alexandra.tables import Table
from alexandra.train.solve import Row, Solution, choose

SMALL = (FamilyRef("tabular", (0, 1), (16, 16)),)


def table(n: int = 400, seed: int = 0, noise: float = 1.0) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    city = rng.choice(["north", "south", "west"], n)
    signal = x[:, 0] - 0.7 * x[:, 1] + (city == "west") + noise * rng.logistic(size=n)
    return {**{f"x{i}": x[:, i] for i in range(4)}, "city": city, "label": np.where(signal > 0.3, "yes", "no")}


def task(data: dict[str, object], **changes: object) -> Task:
    base = Task(DataSource.frame(data), "label", "toy", networks=SMALL, split=Split(folds=3, seed=1))
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Solution, Registry, Path]:
    folder = tmp_path_factory.mktemp("solved")
    registry = Registry(folder / "registry")
    return operations.solve(task(table()), registry=registry, runs=folder / "runs"), registry, folder


def test_the_best_is_registered_and_promoted(solved: tuple[Solution, Registry, Path]) -> None:
    solution, registry, _ = solved
    production = registry.get("toy@production")
    assert production.name == solution.best
    assert solution.gate is not None and solution.gate.passed
    assert {row["kind"] for row in solution.leaderboard} == {"specialist", "baseline"}
    assert production.headline.n == solution.winner.card.n == 400


def test_the_reported_auc_is_that_of_the_pooled_answers(solved: tuple[Solution, Registry, Path]) -> None:
    solution, registry, _ = solved
    outcomes = registry.scorecard("toy").outcomes
    auc = roc_auc_score(outcomes.targets == outcomes.positive, outcomes.predictions[:, outcomes.positive])
    assert auc == pytest.approx(solution.winner.metric("roc_auc").value, abs=1e-12)


def test_parts_are_disjoint_and_cover_every_row_once(solved: tuple[Solution, Registry, Path]) -> None:
    data = solved[0].data
    assert sorted(data.test_rows.tolist()) == list(range(data.table.n_rows))
    for part in data.parts:
        sets = [set(data.keys[rows]) for rows in (part.train, part.valid, part.test)]
        assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


def test_a_loaded_model_answers_as_the_solution_does(solved: tuple[Solution, Registry, Path]) -> None:
    solution, registry, _ = solved
    fresh = table(50, seed=9)
    loaded = ax.load("toy@production", registry=registry)
    np.testing.assert_array_equal(loaded.predict_proba(fresh), solution.predict_proba(fresh))
    np.testing.assert_array_equal(loaded.predict(fresh), solution.predict(fresh))
    assert loaded.classes == solution.classes == ("no", "yes")
    auc = roc_auc_score(fresh["label"] == "yes", loaded.predict_proba(fresh)[:, 1])
    assert auc > 0.6


def test_a_row_alone_gets_the_answer_that_it_gets_among_others(solved: tuple[Solution, Registry, Path]) -> None:
    solution = solved[0]
    fresh = table(20, seed=5)
    alone = [solution.predict_proba({name: column[i : i + 1] for name, column in fresh.items()}) for i in range(20)]
    np.testing.assert_array_equal(np.concatenate(alone), solution.predict_proba(fresh))


def test_solving_again_registers_nothing_new_and_gives_the_same_bytes(
    solved: tuple[Solution, Registry, Path], tmp_path: Path
) -> None:
    solution, registry, folder = solved
    before = len(registry.versions("toy"))
    again = operations.solve(task(table()), registry=registry, runs=folder / "runs")
    assert len(registry.versions("toy")) == before
    other = operations.solve(task(table()), registry=Registry(tmp_path / "r"), runs=tmp_path / "runs", threads=1)
    digests = [dict(row.version.blobs) for s in (solution, again, other) for row in s.rows if row.version]
    third = len(digests) // 3
    assert digests[:third] == digests[third : 2 * third] == digests[2 * third :]


def test_another_seed_gives_other_folds(solved: tuple[Solution, Registry, Path], tmp_path: Path) -> None:
    other = operations.solve(task(table()), seed=2, registry=Registry(tmp_path / "r"), runs=tmp_path, promote=False)
    assert other.data.parts[0].test.tolist() != solved[0].data.parts[0].test.tolist()
    assert other.gate is None


def test_labels_without_signal_are_not_promoted(tmp_path: Path) -> None:
    data = table()
    data["label"] = np.random.default_rng(3).permutation(np.asarray(data["label"]))
    registry = Registry(tmp_path / "r")
    solution = operations.solve(task(data), registry=registry, runs=tmp_path / "runs")
    low, high = solution.winner.metric("roc_auc").low, solution.winner.metric("roc_auc").high
    assert low < 0.56 and high > 0.44
    assert not solution.winner.passed
    assert [one.stage for one in registry.versions("toy")] == ["experiment"] * len(registry.versions("toy"))


def test_accept_with_a_gap_is_measured_and_named(tmp_path: Path) -> None:
    accept = Compare(Gap("city", "selection"), "<=", Number(0.9))
    solution = operations.solve(
        task(table(900), accept=accept), registry=Registry(tmp_path / "r"), runs=tmp_path / "runs"
    )
    fact = solution.winner.card.metrics["gap(city, of=selection)"]
    raw = solution.winner.card.outcomes
    chosen = raw.predictions[:, raw.positive] >= 0.5
    rates = [chosen[raw.columns["city"] == name].mean() for name in ("north", "south", "west")]
    assert fact.value == pytest.approx(max(rates) - min(rates), abs=1e-9)


def test_a_regression_is_solved_in_the_target_s_unit(tmp_path: Path) -> None:
    data = table()
    data["label"] = (
        100 + 30 * np.asarray(data["x0"]) + 20 * np.asarray(data["x1"]) + np.random.default_rng(0).normal(size=400)
    )
    solution = operations.solve(task(data), registry=Registry(tmp_path / "r"), runs=tmp_path / "runs")
    assert str(solution.data.metric) == "rmse"
    assert solution.winner.metric("rmse").value < 3
    assert abs(solution.predict(data) - np.asarray(data["label"])).mean() < 3


def test_group_and_time_splits_keep_their_promise(tmp_path: Path) -> None:
    data = table()
    data["who"] = [f"person {i % 40}" for i in range(400)]
    data["day"] = [f"2026-01-{1 + i % 28:02d}" for i in range(400)]
    options = {"registry": Registry(tmp_path / "r"), "runs": tmp_path / "runs", "promote": False}
    grouped = operations.solve(task(data, split=Split(folds=3, group="who")), **options)
    who = grouped.data.table["who"].values
    for part in grouped.data.parts:
        assert not set(who[part.train]) & set(who[part.test])
    timed = operations.solve(task(data, name="timed", split=Split(time="day")), **options)
    day = timed.data.table["day"].values
    part = timed.data.parts[0]
    assert max(day[part.train]) < min(day[part.valid]) and max(day[part.valid]) < min(day[part.test])


def test_a_foreign_function_is_measured_on_the_same_items(solved: tuple[Solution, Registry, Path]) -> None:
    card = ax.evaluate(lambda rows: (rows["x0"].values > 0.3).astype(float), task(table()), name="rule")
    assert card.metrics["accuracy"].value > 0.55
    assert set(card.outcomes.keys) == set(solved[0].winner.card.outcomes.keys)


def test_the_smallest_within_one_standard_error_is_chosen() -> None:
    def row(name: str, parameters: int, *values: float) -> Row:
        from alexandra.records import Outcomes, Scorecard

        empty = Outcomes(np.zeros(0, str), np.zeros(0), np.zeros(0))
        return Row(name, "specialist", 1, Scorecard("t", name, {}, empty, 0, "", "", parameters), np.array(values), 0.0)

    big, small, poor = (
        row("big", 900, 0.9, 0.8, 0.85),
        row("small", 10, 0.88, 0.81, 0.85),
        row("poor", 5, 0.7, 0.6, 0.6),
    )
    assert choose([big, small, poor]).name == "small"
    assert choose([big, poor]).name == "big"


def test_a_network_that_cannot_answer_the_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.nl").write_text("LAYER INPUT name=x size=AUTO LAYER OUTPUT name=y size=AUTO CONNECT x -> y")
    from alexandra.lang.task_spec import NetworkRef

    bad = task(table(), networks=(NetworkRef("n.nl"),), folder=str(tmp_path))
    with pytest.raises(TaskError, match="not probabilities"):
        operations.solve(bad, registry=Registry(tmp_path / "r"), runs=tmp_path / "runs")


def test_a_registered_model_is_measured_on_rows_it_has_not_learnt_from(
    solved: tuple[Solution, Registry, Path],
) -> None:
    solution, registry, _ = solved
    again = ax.evaluate("toy@production", task(table()), registry=registry)
    assert again.model == "toy@production (400 rows, out of fold)"
    assert again.metrics["roc_auc"].value == solution.winner.metric("roc_auc").value
    seen, fresh = table(), table(150, seed=8)
    both = {name: np.concatenate([np.asarray(seen[name]), np.asarray(fresh[name])]) for name in seen}
    card = ax.evaluate("toy@production", task(both), registry=registry)
    assert card.n == 150 and "150 rows that it was not trained on" in card.model
    expected = roc_auc_score(fresh["label"] == "yes", solution.predict_proba(fresh)[:, 1])
    assert card.metrics["roc_auc"].value == pytest.approx(expected)


def test_a_protected_task_is_compared_item_by_item_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    Table.from_any(table(500, seed=3)).to_csv(tmp_path / "old.csv")
    registry = Registry(tmp_path / "r")
    options = {"registry": registry, "runs": tmp_path / "runs"}
    source = DataSource.csv("old.csv")
    easy = Compare(Fact("roc_auc"), ">=", Number(0.6))
    old = Task(source, "label", "old", networks=SMALL, split=Split(folds=3), folder=str(tmp_path), accept=easy)
    operations.solve(old, **options)
    with pytest.raises(TaskError, match="PROTECT names 'older'"):
        operations.solve(task(table(), protect=("older",), accept=easy), **options)
    good = operations.solve(task(table(seed=6), protect=("old",), accept=easy), **options)
    assert good.gate is not None
    reason = next(one for one in good.gate.reasons if one.text.startswith("no_worse(protected"))
    assert "old" in reason.words
    backwards = table(seed=7)
    backwards["label"] = np.where(np.asarray(backwards["label"]) == "yes", "no", "yes")
    bad = operations.solve(task(backwards, name="backwards", protect=("old",), accept=easy), **options)
    assert bad.winner.passed and bad.gate is not None and not bad.gate.passed
    assert "worse" in " ".join(one.words for one in bad.gate.reasons if not one.passed)


def test_a_budget_that_is_too_small_is_said_or_refused(tmp_path: Path) -> None:
    from alexandra.lang.task_spec import Budget

    options = {"registry": Registry(tmp_path / "r"), "runs": tmp_path / "runs"}
    with pytest.raises(TaskError, match="BUDGET memory allows 1,000"):
        operations.solve(task(table(), budget=Budget(bytes=1000)), **options)
    with pytest.raises(TaskError, match="time budget of 0.01 s ended before one network was trained"):
        operations.solve(task(table(), budget=Budget(seconds=0.01)), **options)
    assert not list((tmp_path / "runs").rglob("tabular*-fold0.safetensors")), "a cut training must not be taken over"


@pytest.mark.parametrize("name", ["recall_at(10%)", "lift_at(20%)", "profit(tp=100, fp=-10)"])
def test_a_metric_with_parameters_is_solved_for(tmp_path: Path, name: str) -> None:
    from alexandra.lang.task import parse_task

    made = parse_task(f'TASK t BEGIN DATA csv("x.csv") TARGET label METRIC {name} END', "t")
    base = task(table(300), metric=made.metric)
    solution = operations.solve(base, registry=Registry(tmp_path / "r"), runs=tmp_path / "runs", promote=False)
    assert solution.winner.metric(name).n == 300


def test_along_time_no_row_of_a_later_part_repeats_an_earlier_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {"x": rng.integers(0, 60, 600).astype(float), "z": rng.integers(0, 8, 600).astype(float)}
    day = [f"2026-{1 + i // 60:02d}-{1 + i % 28:02d}" for i in range(600)]
    label = np.where(data["x"] + rng.normal(size=600) * 20 > 30, "yes", "no")
    whole = {**data, "day": day, "label": label}
    timed = task(whole, split=Split(time="day"), drop=("day",), name="timed")
    solution = operations.solve(timed, registry=Registry(tmp_path / "r"), runs=tmp_path / "runs", promote=False)
    part, keys = solution.data.parts[0], solution.data.keys
    assert not set(keys[part.test]) & set(keys[np.concatenate([part.train, part.valid])])
    assert any("repeat an earlier part" in note for note in solution.data.notes)


def test_a_rare_class_that_leaves_a_fold_without_it_does_not_stop_the_job(tmp_path: Path) -> None:
    data = table(300)
    data["label"] = np.where(np.arange(300) < 4, "yes", "no")
    easy = Compare(Fact("roc_auc"), ">=", Number(0.01))
    rare = task(data, accept=easy, split=Split(folds=5))
    solution = operations.solve(rare, registry=Registry(tmp_path / "r"), runs=tmp_path / "runs")
    assert solution.report is not None and solution.report.is_file()


def test_old_labels_are_not_reported_for_new_ones(solved: tuple[Solution, Registry, Path]) -> None:
    solution, registry, _ = solved
    flipped = table()
    flipped["label"] = np.where(np.asarray(flipped["label"]) == "yes", "no", "yes")
    card = ax.evaluate("toy@production", task(flipped), registry=registry)
    assert card.metrics["roc_auc"].value == pytest.approx(1 - solution.winner.metric("roc_auc").value)


def test_what_failed_its_check_is_not_promoted_without_force(tmp_path: Path) -> None:
    from alexandra.api import models
    from alexandra.errors import RegistryError

    registry = Registry(tmp_path / "r")
    hard = Compare(Fact("roc_auc"), ">=", Number(0.93))
    solution = operations.solve(task(table(), accept=hard), registry=registry, runs=tmp_path / "runs")
    assert not solution.winner.passed
    with pytest.raises(RegistryError, match="the task's own check"):
        models.promote("toy:1", registry)
    assert models.promote("toy:1", registry, force=True, reason="a test").version.stage == "production"


def test_shuffled_weights_score_at_chance_in_the_same_evaluation(solved: tuple[Solution, Registry, Path]) -> None:
    from alexandra.ir.weights import WeightSet
    from alexandra.rng import derive
    from alexandra.train.evaluate import outcomes_of
    from alexandra.train.prepare import prepare

    solution, _, _ = solved
    data, model = prepare(task(table(1000, seed=12)), Table.from_any(table(1000, seed=12))), solution.specialist.model

    def auc() -> float:
        raw = solution.specialist.predict_raw(data.table)
        return data.metric.fn(outcomes_of(data, np.arange(data.table.n_rows), raw))

    real, own, found = auc(), model.weights, []
    for time in range(40):
        order = {name: derive(time, name).permutation(array.size) for name, array in own.items()}
        model.load(WeightSet({name: a.reshape(-1)[order[name]].reshape(a.shape) for name, a in own.items()}))
        found.append(auc())
    model.load(own)
    assert abs(np.mean(found) - 0.5) < 0.1
    assert np.median(found) < real - 0.1
