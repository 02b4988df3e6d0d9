"""Registering, naming, finding: versions are immutable and numbered, refs mean what they say, search is conjunctive."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from alexandra.errors import AbstainError, NotFoundError, RegistryError, StorageError
from alexandra.records import Interval, Outcomes
from alexandra.registry import lifecycle
from alexandra.registry.artifact import parse_ref
from alexandra.registry.store import Registry


def test_what_was_registered_comes_back(registry, card, outcomes):
    blobs = {"weights.safetensors": b"\x00\xff" * 1000, "graph.json": b"{}"}
    scored = card(outcomes(2.0))
    lineage = {"data_hash": "d", "seed": 7, "parents": ["churn:1"], "metric": "accuracy"}
    version = registry.register("churn", "tabular-2x64", blobs, scored, lineage, tags=("classify", "TABULAR"))
    again = registry.get("churn:1")
    assert again == version
    assert (again.version, again.name, again.stage, again.tags) == (
        1,
        "tabular-2x64",
        "experiment",
        ("CLASSIFY", "TABULAR"),
    )
    assert dict(again.lineage) == lineage
    assert again.metric == "accuracy"
    assert again.headline == scored.metrics["accuracy"]
    assert again.metrics["gap(gender, of=tpr)"] == Interval(0.03, 0.0, 0.08, 400)
    assert (again.samples, again.parameters, again.size_bytes, again.latency_p95) == (400, 1000, 2002, 0.002)
    assert registry.blobs(again) == blobs
    assert dataclasses.asdict(again)["blobs"] == again.blobs
    assert registry.verify() == []


def test_a_scorecard_comes_back_bit_for_bit(registry, register, card, outcomes):
    version = register("mlp")
    back, sent = registry.scorecard(version), card(outcomes(2.0))
    for name in ("keys", "targets", "predictions"):
        ours, theirs = getattr(back.outcomes, name), getattr(sent.outcomes, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert back.outcomes.columns["gender"].tolist() == sent.outcomes.columns["gender"].tolist()
    assert back.outcomes.columns["gender"].dtype == object
    assert (back.outcomes.classes, back.outcomes.positive) == (("No", "Yes"), 1)
    assert dict(back.metrics) == dict(sent.metrics)
    assert list(back.metrics) == list(sent.metrics)
    assert back.verdicts[0].evidence == sent.verdicts[0].evidence
    assert back.verdicts[0].parts[0].abstained
    assert dict(back.verdicts[0].facts) == dict(sent.verdicts[0].facts)
    assert dataclasses.replace(back, outcomes=sent.outcomes, metrics=sent.metrics, verdicts=()) == dataclasses.replace(
        sent, verdicts=()
    )


def test_any_text_and_any_number_survives_in_outcomes(registry, card, outcomes):
    texts = np.array(["", "é", "日本", "a\x00b", "\ud800", "x" * 300, " ", "\U0001f600"], dtype=object)
    columns = {
        "text": texts,
        "fixed": texts.astype(str),
        "age": np.array([np.nan, np.inf, -0.0, 1e-300, 1, 2, 3, 4]),
        "flag": np.array([True, False] * 4),
        "day": np.arange(8, dtype=np.int32),
    }
    regression = Outcomes(np.array([f"k{i}" for i in range(8)]), np.arange(8.0), np.arange(8.0) + 0.5, (), columns)
    scored = dataclasses.replace(
        card(outcomes(2.0)), outcomes=regression, metrics={"rmse": Interval(0.5, float("nan"), float("inf"), 8)}
    )
    back = registry.scorecard(registry.register("churn", "m", {"w": b"1"}, scored))
    for name, column in columns.items():
        assert back.outcomes.columns[name].dtype == column.dtype
        assert back.outcomes.columns[name].tolist()[1:] == column.tolist()[1:]
    assert np.isnan(back.outcomes.columns["age"][0])
    assert np.isnan(back.metrics["rmse"].low)
    assert back.metrics["rmse"].high == np.inf
    assert back.outcomes.classes == ()


def test_no_outcomes_is_a_scorecard_too(registry, card, outcomes):
    empty = Outcomes(np.array([], dtype=np.str_), np.zeros(0), np.zeros(0), (), {"c": np.array([], dtype=object)})
    scored = dataclasses.replace(card(outcomes(2.0)), outcomes=empty)
    back = registry.scorecard(registry.register("churn", "m", {"w": b"1"}, scored))
    assert back.n == 0
    assert back.outcomes.columns["c"].shape == (0,)


def test_versions_of_each_task_count_from_one(register):
    numbers = [(v.task, v.version) for v in (register("a"), register("b"), register("a", task="spam"), register("c"))]
    assert numbers == [("churn", 1), ("churn", 2), ("spam", 1), ("churn", 3)]


def test_the_same_content_is_the_same_version(registry, register):
    first = register("mlp")
    assert register("mlp") == first
    assert register("mlp", quality=2.5) != first
    other = registry.register("churn", "renamed", registry.blobs(first), registry.scorecard(first))
    assert other.version == 3
    assert len(registry.versions("churn")) == 3
    assert [entry.action for entry in registry.history("churn")] == ["register"] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "a/b"}, "'a/b' cannot be a task"),
        ({"task": "../x"}, "cannot be a task"),
        ({"task": ""}, "'' cannot be a task"),
        ({"name": "a b"}, "'a b' cannot be a model's name\nallowed: letters, digits"),
        ({"name": "a:1"}, "cannot be a model's name"),
        ({"files": {}}, "model 'm' has no files"),
        ({"files": {"../w": b""}}, "'../w' cannot be a file's name"),
        ({"files": {"a/b": b""}}, "no folders"),
        ({"task": "spam"}, "the scorecard is of task 'churn', not of 'spam'"),
        (
            {"lineage": {"metric": "rocauc"}},
            "no metric 'rocauc'\nknown: accuracy, log_loss, roc_auc. Did you mean 'roc_auc'",
        ),
        ({"lineage": {"x": object()}}, "the lineage of 'm' cannot be kept as JSON"),
        ({"lineage": {"x": float("nan")}}, "cannot be kept as JSON"),
        ({"stage": "production"}, "a model enters production through its gate"),
        ({"stage": "prod"}, "unknown stage 'prod'"),
        ({"tags": "CLASSIFY"}, "tags are several names, got the one text 'CLASSIFY'"),
        ({"tags": ("a b",)}, "'a b' cannot be a tag"),
    ],
)
def test_what_cannot_be_registered_is_named_and_leaves_nothing(registry, card, outcomes, change, message):
    given = {"task": "churn", "name": "m", "files": {"w": b"1"}, "lineage": {}, **change}
    options = {key: given[key] for key in ("stage", "tags") if key in given}
    with pytest.raises(RegistryError, match=message):
        registry.register(
            given["task"], given["name"], given["files"], card(outcomes(2.0)), given["lineage"], **options
        )
    assert registry.search() == []


def test_arrays_that_do_not_belong_to_outcomes_are_named(registry, card, outcomes):
    good = outcomes(2.0)
    for columns, message in (
        (
            {"g": np.array([1, "a"] * 200, dtype=object)},
            "'column.g' has dtype object\nallowed: numbers, booleans and text",
        ),
        ({"g": np.zeros(3)}, "'column.g' has 3 rows, but there are 400 keys"),
    ):
        with pytest.raises(RegistryError, match=message):
            registry.register("churn", "m", {"w": b"1"}, card(dataclasses.replace(good, columns=columns)))


# ---------------------------------------------------------------- refs


def test_refs_name_what_they_say(registry, register):
    for name in ("a", "b", "c", "b"):
        register(name, seed=len(registry.search()))
    lifecycle.promote(registry, "churn:2", force=True, reason="test")
    registry.set_alias("churn:1", "oldest")
    expected = {
        "churn": 2,
        "churn@production": 2,
        "churn@experiment": 4,
        "churn@oldest": 1,
        "churn:3": 3,
        "churn:latest": 4,
        "churn/b": 4,
        "churn/b:2": 2,
        "churn/b@production": 2,
        "churn/a:latest": 1,
    }
    assert {ref: registry.get(ref).version for ref in expected} == expected
    assert registry.get("churn:1").aliases == ("oldest",)


def test_a_task_without_production_abstains_and_names_the_best_experiment(registry, register):
    register("weak", 1.0)
    register("strong", 3.0)
    register("middle", 2.0)
    for ref in ("churn", "churn@production"):
        with pytest.raises(
            AbstainError, match=r"no model of task 'churn' is in production\nbest experiment: churn:2 strong, roc_auc"
        ):
            registry.get(ref)
    register("weak", 1.0, task="risk", metric="log_loss")
    register("strong", 3.0, task="risk", metric="log_loss")
    with pytest.raises(AbstainError, match="best experiment: risk:2 strong, log_loss"):
        registry.get("risk")
    for number in (1, 2):
        lifecycle.archive(registry, f"risk:{number}")
    with pytest.raises(AbstainError, match="it has no experiment either"):
        registry.get("risk")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("chrun", "unknown task 'chrun'\nknown: churn. Did you mean 'churn'?"),
        ("churn:9", "no version is named 'churn:9'\nchurn has versions 1 to 1; stages experiment.*; latest; names mlp"),
        ("churn@champion", "no version is named 'churn@champion'"),
        ("churn@archived", "no version is named 'churn@archived'"),
        ("churn/xgb", "no version is named 'churn/xgb'"),
        ("churn:0", "no version is named"),
        ("churn:999999999999999999", "no version is named"),
    ],
)
def test_what_does_not_exist_gets_a_suggestion(registry, register, ref, message):
    register("mlp")
    with pytest.raises(NotFoundError, match=message):
        registry.get(ref)


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "churn@",
        "churn:x",
        "churn:-1",
        "churn@a@b",
        "churn:1@a",
        "/x",
        "churn::1",
        "churn:1.0",
        "churn:" + "9" * 5000,
        "churn:३",
    ],
)
def test_what_is_no_ref_is_refused_with_the_grammar(ref):
    with pytest.raises(
        RegistryError, match="does not name a version\nwrite churn, churn@production, churn@alias, churn:3"
    ):
        parse_ref(ref)


def test_an_empty_registry_says_so(registry):
    with pytest.raises(NotFoundError, match="unknown task 'churn'\nthe registry is empty"):
        registry.get("churn")
    assert registry.tasks() == []
    assert registry.search() == []
    with pytest.raises(NotFoundError, match="unknown task"):
        registry.history("churn")
    with pytest.raises(NotFoundError, match="unknown task"):
        registry.versions("churn")


def test_a_version_of_another_registry_is_not_ours(registry, register, tmp_path):
    version = register("mlp")
    other = Registry(tmp_path / "other")
    other.register("churn", "else", {"w": b"2"}, registry.scorecard(version))
    with pytest.raises(NotFoundError, match="no version is named 'churn:1'"):
        lifecycle.archive(other, version)


# ---------------------------------------------------------------- aliases and tags


def test_an_alias_moves_and_goes(registry, register):
    register("a"), register("b")
    registry.set_alias("churn:1", "champion")
    registry.set_alias("churn:2", "champion")
    assert registry.get("churn@champion").version == 2
    assert registry.get("churn:1").aliases == ()
    registry.remove_alias("churn", "champion")
    with pytest.raises(NotFoundError, match="no version is named 'churn@champion'"):
        registry.get("churn@champion")
    with pytest.raises(NotFoundError, match="no version is named"):
        registry.remove_alias("churn", "champion")
    for alias in ("production", "latest"):
        with pytest.raises(RegistryError, match=f"'{alias}' cannot be an alias"):
            registry.set_alias("churn:1", alias)
    with pytest.raises(RegistryError, match="'a b' cannot be a alias|cannot be an alias"):
        registry.set_alias("churn:1", "a b")
    with pytest.raises(RegistryError, match="is a stage, not an alias"):
        registry.remove_alias("churn", "experiment")


def test_tags_come_and_go(registry, register):
    register("a", tags=("CLASSIFY",))
    assert registry.add_tags("churn:1", "fast", "classify").tags == ("CLASSIFY", "FAST")
    assert [v.version for v in registry.search(tags=("fast",))] == [1]
    assert registry.remove_tags("churn:1", "FAST").tags == ("CLASSIFY",)
    assert registry.search(tags=("fast",)) == []
    with pytest.raises(NotFoundError, match="has no tag 'FAST'\nknown: CLASSIFY"):
        registry.remove_tags("churn:1", "fast")
    assert [entry.action for entry in registry.history()] == ["register", "tag", "untag"]
    assert registry.verify() == []


# ---------------------------------------------------------------- search


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, ["spam:2", "spam:1", "churn:2", "churn:1"]),
        ({"task": "churn"}, ["churn:2", "churn:1"]),
        ({"name": "a"}, ["spam:1", "churn:1"]),
        ({"stage": "production"}, ["churn:2"]),
        ({"tags": ("CLASSIFY",)}, ["spam:1", "churn:2", "churn:1"]),
        ({"tags": ("CLASSIFY", "fast")}, ["churn:1"]),
        ({"metrics": {"roc_auc": (0.9, None)}}, ["spam:1", "churn:2"]),
        ({"metrics": {"roc_auc": (None, 0.9)}}, ["churn:1"]),
        ({"metrics": {"roc_auc": (None, None)}}, ["spam:1", "churn:2", "churn:1"]),
        ({"metrics": {"average_precision": (0.1, 1.0), "accuracy": (0.1, 1.0)}}, ["spam:2"]),
        ({"metrics": {"rmse": (0.0, None)}}, []),
        (
            {
                "task": "churn",
                "name": "a",
                "stage": "experiment",
                "tags": ("FAST",),
                "metrics": {"roc_auc": (0.5, 0.9)},
            },
            ["churn:1"],
        ),
        ({"task": "churn", "name": "c"}, []),
        ({"limit": 2}, ["spam:2", "spam:1"]),
        ({"limit": 2, "offset": 1}, ["spam:1", "churn:2"]),
        ({"offset": 3}, ["churn:1"]),
        ({"limit": 0}, []),
        ({"tags": ("CLASSIFY",), "limit": 1, "offset": 1}, ["churn:2"]),
    ],
)
def test_search_honours_every_criterion_newest_first(stocked, criteria, expected):
    assert [version.ref for version in stocked.search(**criteria)] == expected


def test_search_refuses_what_it_does_not_know(stocked):
    with pytest.raises(
        RegistryError, match="unknown stage 'prod'\nknown: archived, experiment, production, quarantine"
    ):
        stocked.search(stage="prod")
    with pytest.raises(RegistryError, match="limit and offset count versions from 0 up, got limit=-1, offset=0"):
        stocked.search(limit=-1)


# ---------------------------------------------------------------- serving, history, gc


def test_what_was_served_adds_up(registry, register):
    register("a")
    assert registry.served("churn:1").failed is None
    registry.record("churn:1", 10, 1)
    assert registry.record("churn:1", 90, 4, metric=0.81).metric == Interval(0.81, 0.81, 0.81)
    found = registry.served("churn:1")
    assert (found.requests, found.failures, found.failed) == (100, 5, 0.05)
    with pytest.raises(RegistryError, match="5 failures of 2 requests cannot be"):
        registry.record("churn:1", 2, 5)


def test_history_is_complete_and_cannot_be_changed(registry, register):
    register("a")
    lifecycle.promote(registry, "churn:1", force=True, reason="by\x1b[31m hand\n")
    entries = registry.history("churn")
    assert [(e.action, e.origin, e.target) for e in entries] == [
        ("register", "", "experiment"),
        ("promote", "experiment", "production"),
    ]
    assert entries[1].actor == "tester"
    assert entries[1].reason == "by [31m hand"
    assert entries[1].time.endswith("Z")
    assert entries[1].decision["gate"] == "production"
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises(StorageError, match="the audit log is append-only"), registry.database.write() as connection:
            connection.exec_driver_sql(statement)
    assert registry.verify() == []


def test_gc_removes_old_orphans_only(registry, register):
    version = register("a")
    orphan = registry.objects.put(b"nobody names me")
    part = registry.objects.path(orphan).with_name(".x.1-2.part")
    part.write_bytes(b"half")
    assert registry.gc() == []
    for path in registry.objects.folder.rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
    assert sorted(registry.gc()) == sorted([orphan, part.name])
    assert registry.verify() == []
    assert registry.blobs(version)["graph.json"] == b"{}"
    os.utime(registry.objects.path(version.blobs["graph.json"]), (1, 1))
    registry.objects.put(b"{}")
    assert registry.objects.path(version.blobs["graph.json"]).stat().st_mtime > 1


def test_the_folder_is_made_when_first_used_and_holds_what_is_said(registry, register, tmp_path):
    register("a")
    assert sorted(os.listdir(tmp_path / "registry")) == ["objects", "registry.db", "registry.lock", "registry.seal"]


def test_a_folder_may_have_any_name(tmp_path, registering):
    folder = tmp_path / "a b?c#d%20é"
    registering(Registry(folder))("mlp")
    assert Registry(str(folder)).get("churn:1").name == "mlp"
    assert sorted(os.listdir(tmp_path)) == [folder.name]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("sqlite://", "a registry in memory would be empty"),
        ("nonsense://x", "unknown kind of database 'nonsense'"),
        ("://", "is not a database URL"),
    ],
)
def test_a_bad_location_is_refused(tmp_path, location, message):
    with pytest.raises(RegistryError, match=message):
        Registry(location, objects=tmp_path)


def test_a_url_needs_a_folder_for_the_objects(tmp_path, card, outcomes):
    with pytest.raises(RegistryError, match="needs a folder for its files"):
        Registry(f"sqlite:///{tmp_path}/x.db")
    registry = Registry(f"sqlite:///{tmp_path}/x.db", objects=tmp_path / "objects")
    registry.register("churn", "m", {"w": b"1"}, card(outcomes(2.0)))
    assert Registry(f"sqlite:///{tmp_path}/x.db", objects=tmp_path / "objects").get("churn:1").name == "m"


def test_a_registry_in_another_database(tmp_path, registering):
    """ALEXANDRA_TEST_DATABASE names an empty database, for instance postgresql+psycopg://postgres@localhost/test."""
    url = os.environ.get("ALEXANDRA_TEST_DATABASE")
    if not url:
        pytest.skip("set ALEXANDRA_TEST_DATABASE to the URL of an empty database")
    registry = Registry(url, objects=tmp_path)
    register = registering(registry)
    lifecycle.promote(registry, register("a", 1.0, tags=("CLASSIFY",)))
    lifecycle.promote(registry, register("b", 3.0))
    registry.set_alias("churn:1", "old")
    assert registry.get("churn").version == 2
    assert lifecycle.rollback(registry, "churn").version == 1
    assert [v.ref for v in registry.search(tags=("classify",), metrics={"roc_auc": (0.5, None)})] == ["churn:1"]
    assert registry.record("churn@old", 5, 1).failed == 0.2
    assert registry.verify() == []
    with pytest.raises(StorageError, match="duplicate key|UNIQUE"), registry.database.write() as connection:
        connection.exec_driver_sql("UPDATE versions SET stage = 'production'")
    assert registry.get("churn").version == 1
