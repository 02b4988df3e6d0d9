"""Ensembles and pipelines answer what their members' answers say, and a damaged member is stood in for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexandra.api import operations
from alexandra.errors import RegistryError, StorageError
from alexandra.lang.rules import parse_rules
from alexandra.lang.task_spec import DataSource, FamilyRef, Split, Task
from alexandra.registry.oracle import Choice, Oracle
from alexandra.registry.store import Registry
from alexandra.serve.combine import align, average, vote
from alexandra.serve.engine import Engine
from alexandra.tables import Table

RULES = """
RULES mine BEGIN
  RULE {name} WHEN roc_auc >= 0.5 AND stage != archived SCORE roc_auc SELECT 3 COMBINE {how}
  OTHERWISE ABSTAIN "nobody"
END
GATE production BEGIN REQUIRE samples >= 1 END
"""


def rows(n: int, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    noisy = x[:, 0] + rng.logistic(size=n) > 0
    return {"a": x[:, 0], "b": x[:, 1], "y": np.where(noisy, "yes", "no")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("engine")
    registry = Registry(folder / "registry")
    networks = (FamilyRef("tabular", (0, 2), (8, 16)),)
    task = Task(DataSource.frame(rows(400, 0)), "y", "first", networks=networks, split=Split(folds=2))
    first = operations.solve(task, registry=registry, runs=folder / "runs")
    data = rows(400, 1)
    answered = first.predict(data)
    second = {**data, "first": answered, "y": np.where(answered == data["y"], "right", "wrong")}
    task = Task(DataSource.frame(second), "y", "second", networks=networks[:1], split=Split(folds=2))
    operations.solve(task, registry=registry, runs=folder / "runs")
    return registry


def chosen(store: Registry, how: str) -> Choice:
    return Oracle(store, parse_rules(RULES.format(name=how, how=how))).choose("first")


@pytest.mark.parametrize("how", ["average", "vote"])
def test_an_ensemble_answers_what_its_members_say(store: Registry, how: str) -> None:
    choice, table = chosen(store, how), Table.from_any(rows(30, 5))
    assert len(choice.members) == 3
    engine = Engine(store)
    raw, labels = engine.raw(choice, table).raw, engine.raw(choice, table).labels
    parts = [engine.specialist(one).predict_raw(table) for one in choice.members]
    expected = np.mean(parts, axis=0) if how == "average" else None
    if expected is not None:
        np.testing.assert_allclose(raw, expected)
    else:
        ballots = np.array([part.argmax(axis=1) for part in parts])
        np.testing.assert_array_equal(raw.argmax(axis=1), (ballots.mean(axis=0) > 0.5).astype(int))
    assert labels == ("no", "yes")
    assert " + " in engine.answer(choice, table)[0].by


def test_best_is_the_first_and_the_next_stands_in_for_a_damaged_one(store: Registry, tmp_path: Path) -> None:
    choice, table = chosen(store, "best"), Table.from_any(rows(10, 6))
    engine = Engine(store)
    before = engine.raw(choice, table).raw
    np.testing.assert_array_equal(before, engine.specialist(choice.members[0]).predict_raw(table))
    digest = choice.members[0].blobs["weights.safetensors"]
    place = next(Path(store.objects.folder).rglob(digest + "*"))
    good = place.read_bytes()
    try:
        place.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        after = Engine(store).raw(choice, table)
        assert after.members == choice.members[1:2]
        answer = Engine(store).answer(choice, table)[0]
        assert answer.by.startswith(choice.members[1].ref) and "stands in for" in answer.verdict
        np.testing.assert_array_equal(after.raw, engine.specialist(choice.members[1]).predict_raw(table))
        with pytest.raises(StorageError, match=digest[:12]):
            Engine(store).raw(Choice(choice.members[:1], "best", "r", ()), table)
    finally:
        place.write_bytes(good)


def test_a_pipeline_hands_its_answers_on(store: Registry) -> None:
    rule = 'RULE p WHEN task HAS CLASSIFY SELECT PIPELINE "first:1", "second:1"'
    text = f'RULES r BEGIN {rule} OTHERWISE ABSTAIN "no" END'
    choice = Oracle(store, parse_rules(text)).choose("second")
    assert choice.combine == "pipeline"
    engine, raw_rows = Engine(store), rows(20, 7)
    given = Table.from_any({"a": raw_rows["a"], "b": raw_rows["b"]})
    raw, labels = engine.raw(choice, given).raw, engine.raw(choice, given).labels
    assert labels == ("right", "wrong")
    first = engine.specialist(choice.members[0]).predict(given)
    by_hand = Table.from_any({"a": raw_rows["a"], "b": raw_rows["b"], "first": first})
    np.testing.assert_array_equal(raw, engine.specialist(choice.members[1]).predict_raw(by_hand))
    assert " -> " in engine.answer(choice, given)[0].by


def test_members_with_other_classes_are_put_side_by_side() -> None:
    parts, labels = align([np.array([[0.2, 0.8]]), np.array([[1.0, 0.0]])], [("a", "b"), ("b", "c")])
    assert labels == ("a", "b", "c")
    np.testing.assert_allclose(average(parts), [[0.1, 0.9, 0.0]])
    with pytest.raises(RegistryError, match="classes with models that answer numbers"):
        align([np.zeros((1, 2)), np.zeros(1)], [("a", "b"), ()])


def test_a_tied_vote_goes_to_the_more_probable_class() -> None:
    parts = [np.array([[0.9, 0.1, 0.0]]), np.array([[0.0, 0.6, 0.4]])]
    assert vote(parts).argmax() == 0
    assert vote([np.array([1.0]), np.array([5.0]), np.array([2.0])]) == 2.0
