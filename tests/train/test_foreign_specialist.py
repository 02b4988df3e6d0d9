"""Foreign models of a task: measured by their own answers, registered without pickle, asked as any other model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import alexandra as ax
from alexandra.api import operations
from alexandra.api.models import open_registry
from alexandra.backends.foreign import Foreign, wrap
from alexandra.backends.trust import VARIABLE
from alexandra.data.encoder import Encoder
from alexandra.errors import BackendError, DataError, StorageError, UsageError
from alexandra.lang.task_spec import Split, Task
from alexandra.registry.oracle import Choice
from alexandra.registry.store import Registry
from alexandra.serve.engine import KINDS, Engine, read_specialist
from alexandra.storage import content_hash, json_bytes
from alexandra.tables import Table
from alexandra.train.foreign_specialist import ForeignSpecialist, adopt
from alexandra.train.prepare import Prepared, load_table, prepare
from alexandra.train.specialist import Specialist

FEATURES = ["age", "plan", "active", "spend"]


def customers(folder: Path, rows: int = 200) -> Path:
    """A CSV file with numbers, gaps, texts and truth values."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(18, 80, rows), "plan": rng.choice(["basic", "gold", "plus"], rows)})
    frame["active"] = rng.random(rows) < 0.5
    frame["spend"] = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(50, 10, rows).round(2))
    odds = 0.05 * (frame["age"] - 45) + (frame["plan"] == "gold") - 1.0 * frame["active"] + rng.logistic(size=rows)
    frame["churn"] = np.where(odds > 0, "Yes", "No")
    frame.loc[::17, "plan"] = np.nan
    frame.to_csv(folder / "customers.csv", index=False)
    return folder / "customers.csv"


def pipeline(frame: pd.DataFrame) -> Pipeline:
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((texts, ["plan", "active"]), (numbers, ["spend", "age"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame[FEATURES], frame["churn"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return customers(tmp_path_factory.mktemp("data"))


@pytest.fixture
def task(path: Path) -> Task:
    return Task.of(str(path), "churn", "churn")


def prepared(task: Task) -> Prepared:
    return prepare(task, load_table(task, Path(task.folder)), keep_leaks=True)


def test_the_measured_answers_are_the_pipelines_own(path: Path, task: Task) -> None:
    frame = pd.read_csv(path)
    fitted = pipeline(frame)
    for model in (fitted, wrap(fitted)):
        card = ax.evaluate(model, task)
        assert card.outcomes.classes == tuple(fitted.classes_)
        wanted = fitted.predict_proba(frame[FEATURES])
        by_key = dict(zip(prepared(task).keys, wanted, strict=True))
        np.testing.assert_allclose(card.outcomes.predictions, [by_key[key] for key in card.outcomes.keys])
        assert card.model == "pipeline"
        assert card.metrics["roc_auc"].value > 0.7


def test_a_registered_pipeline_is_asked_as_any_other_model(path: Path, task: Task, tmp_path: Path) -> None:
    pytest.importorskip("skops")
    frame, registry = pd.read_csv(path), tmp_path / "registry"
    fitted = pipeline(frame)
    version = ax.register(fitted, task, name="mine", registry=registry)
    assert (version.ref, version.name, version.stage) == ("churn:1", "mine", "experiment")
    assert version.samples == 200 and version.size_bytes > 1000 and version.latency_p95 > 0
    assert ax.register(wrap(fitted), task, name="mine", registry=registry).ref == "churn:1"
    loaded = ax.load("churn:1", registry=registry)
    wanted = fitted.predict_proba(frame[FEATURES])
    np.testing.assert_allclose(loaded.predict_proba(frame), wanted)
    assert loaded.predict(frame).tolist() == fitted.predict(frame[FEATURES]).tolist()
    question = json.dumps({"age": 30, "plan": "gold", "active": True, "spend": None})
    answer = operations.ask("churn:1", question=question, registry=registry).answers[0]
    one = pd.DataFrame({"age": [30], "plan": ["gold"], "active": [True], "spend": [np.nan]})
    assert answer.probabilities["Yes"] == pytest.approx(fitted.predict_proba(one)[0, 1])
    assert answer.by == "churn:1 mine" and answer.seen is None
    reply = operations.ask("churn:1", row=3, registry=registry)
    assert reply.answers[0].probabilities["Yes"] == pytest.approx(wanted[3, 1])
    assert reply.truth == (frame["churn"][3],)


def test_it_stands_beside_our_own_specialists(path: Path, task: Task, tmp_path: Path) -> None:
    pytest.importorskip("skops")
    registry = Registry(tmp_path / "registry")
    fitted = pipeline(pd.read_csv(path))
    ax.register(fitted, task, registry=registry)
    operations.solve(
        Task.of(str(path), "churn", "churn"), registry=registry, runs=tmp_path / "runs", budget="20s", promote=False
    )
    engine = Engine(registry)
    table = Table.from_any(path)
    members = list(registry.search(task="churn"))
    kinds = {type(engine.specialist(version)) for version in members}
    assert kinds == {KINDS["network"], KINDS["foreign"]}
    joint = engine.raw(Choice(tuple(members), "average", "", ()), table)
    assert joint.labels == ("No", "Yes")
    wanted = np.mean([engine.specialist(version).predict_raw(table) for version in members], axis=0)
    np.testing.assert_allclose(joint.raw, wanted)


def test_what_cannot_serve_is_refused_by_name(path: Path, task: Task, tmp_path: Path) -> None:
    pytest.importorskip("skops")
    ax.register(pipeline(pd.read_csv(path)), task, registry=tmp_path)
    with pytest.raises(BackendError, match="the scikit-learn Pipeline runs itself, not on backend 'native'"):
        ax.load("churn:1", registry=tmp_path, backend="native").predict_proba(path)
    specialist = ax.load("churn:1", registry=tmp_path)._engine.specialist(open_registry(tmp_path).get("churn:1"))
    with pytest.raises(BackendError, match="is a foreign model, it has no graph"):
        _ = specialist.graph


def test_a_forest_needs_the_readers_trust(path: Path, task: Task, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("skops")
    monkeypatch.delenv(VARIABLE, raising=False)
    frame = pd.read_csv(path)
    boosted = HistGradientBoostingClassifier(max_iter=5).fit(frame[["age", "spend"]], frame["churn"])
    ax.register(boosted, task, name="boosted", registry=tmp_path)
    with pytest.raises(BackendError, match="TreePredictor is not trusted here") as caught:
        ax.load("churn:1", registry=tmp_path).predict_proba(path)
    monkeypatch.setenv(VARIABLE, str(caught.value).rpartition(f"{VARIABLE}=")[2])
    answers = ax.load("churn:1", registry=tmp_path).predict_proba(frame)
    np.testing.assert_allclose(answers, boosted.predict_proba(frame[["age", "spend"]]))


def test_an_estimator_fitted_on_an_array_reads_the_columns_it_is_told(path: Path, task: Task) -> None:
    frame = pd.read_csv(path)
    fitted = make_pipeline(SimpleImputer(), LogisticRegression()).fit(
        frame[["spend", "age"]].to_numpy(), frame["churn"]
    )
    data = prepared(task)
    with pytest.raises(
        DataError, match=r"the scikit-learn Pipeline reads 2 columns, the task has 4\nwrap\(..., columns"
    ):
        adopt(wrap(fitted), data)
    raw = adopt(wrap(fitted, columns=["spend", "age"]), data).predict_raw(data.table)
    np.testing.assert_allclose(raw, fitted.predict_proba(frame[["spend", "age"]].to_numpy()))


def test_a_regression_is_answered_in_its_own_units(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("skops")
    frame = pd.read_csv(path).dropna(subset=["spend"])
    fitted = LinearRegression().fit(frame[["age", "active"]], frame["spend"])
    ax.register(fitted, Task.of(str(path), "spend", "spend"), registry=tmp_path)
    loaded = ax.load("spend:1", registry=tmp_path)
    np.testing.assert_allclose(loaded.predict(frame), fitted.predict(frame[["age", "active"]]))
    outcomes = open_registry(tmp_path).scorecard("spend:1").outcomes
    assert 40 < outcomes.predictions.mean() < 60


def test_our_estimators_can_be_measured_like_scikit_learns(path: Path, task: Task) -> None:
    frame = pd.read_csv(path)
    fitted = ax.Classifier(layers=0, epochs=5, backend="reference").fit(frame[["age", "spend"]], frame["churn"])
    assert ax.evaluate(fitted, task, name="ours").model == "ours"


# --- what does not fit -----------------------------------------------------------------------------------------


def test_labels_and_columns_that_the_task_does_not_have_are_named(path: Path, task: Task) -> None:
    frame, data = pd.read_csv(path), prepared(task)
    other = LogisticRegression().fit(frame[["age"]], frame["churn"].replace("Yes", "yes"))
    with pytest.raises(DataError, match="answers the class 'yes'; the target 'churn' has it not\n.*Did you mean 'Yes'"):
        adopt(wrap(other), data).predict_raw(data.table)
    with pytest.raises(DataError, match="has no column 'agee'\n.*Did you mean 'age'"):
        adopt(wrap(LogisticRegression().fit(frame[["age"]].to_numpy(), frame["churn"]), columns=["agee"]), data)
    with pytest.raises(DataError, match="LogisticRegression reads the target 'churn' itself"):
        adopt(wrap(LogisticRegression().fit(frame[["age"]].to_numpy(), frame["churn"]), columns=["churn"]), data)
    with pytest.raises(
        DataError, match="LinearRegression answers 1 values a row; the target has the classes"
    ) as caught:
        three = Task.of(str(path), "plan", "plan")
        adopt(wrap(LinearRegression().fit(frame[["age"]], frame["age"])), prepared(three)).predict_raw(data.table)
    assert "basic, gold, plus" in str(caught.value)
    with pytest.raises(UsageError, match="cannot evaluate a dict"):
        ax.evaluate({}, task)


@pytest.mark.parametrize("change", ["kind", "model", "file", "missing", "columns"])
def test_an_artifact_that_was_changed_is_refused(path: Path, task: Task, change: str) -> None:
    pytest.importorskip("skops")
    frame = pd.read_csv(path)
    blobs = adopt(wrap(pipeline(frame)), prepared(task)).to_blobs()
    body = json.loads(blobs["specialist.json"])
    if change == "kind":
        blobs["specialist.json"], wanted = (
            json_bytes({**body, "kind": "foriegn"}),
            "unknown kind 'foriegn'\n.*'foreign'",
        )
    elif change == "model":
        body["model"]["kind"] = "pickle"
        blobs["specialist.json"], wanted = json_bytes(body), "unknown kind of foreign model 'pickle'"
    elif change == "file":
        blobs["model.skops"], wanted = blobs["model.skops"][:-1] + b"x", "file 'model.skops' is damaged"
    elif change == "columns":
        blobs["specialist.json"], wanted = json_bytes({**body, "columns": 3}), "does not describe a foreign model"
    else:
        del blobs["model.skops"]
        wanted = "the artifact has no 'model.skops'"
    with pytest.raises(StorageError, match=wanted):
        read_specialist(blobs)


def test_artifacts_without_a_kind_are_networks() -> None:
    assert (KINDS["network"], KINDS["foreign"]) == (Specialist, ForeignSpecialist)
    with pytest.raises(StorageError, match="the artifact has no 'graph.json'"):
        read_specialist({"specialist.json": json_bytes({"schema": 1})})
    with pytest.raises(StorageError, match="the artifact has no 'specialist.json'"):
        read_specialist({})


# --- torch modules ---------------------------------------------------------------------------------------------

NETS = """
from torch import nn

def make():
    return nn.Sequential(nn.Linear({width}, 8), nn.GELU(), nn.Linear(8, {outputs}))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function (width, outputs) -> (module, its factory), importable and trusted."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(tmp_path)

    def make(width: int, outputs: int):
        name = f"nets_{content_hash(str(tmp_path).encode())[:8]}_{width}_{outputs}"
        (tmp_path / f"{name}.py").write_text(NETS.format(width=width, outputs=outputs))
        monkeypatch.setenv(VARIABLE, f"{name}:make")
        return __import__(name).make(), f"{name}:make"

    return make


def test_a_module_on_our_features_is_registered_and_asked(path: Path, task: Task, tmp_path: Path, net) -> None:
    import torch

    data = prepared(task)
    encoder = Encoder.fit(data.table, data.features)
    module, factory = net(encoder.width, 2)
    model = wrap(module, inputs={"x": encoder.width}, outputs={"y": "softmax"}, columns=encoder, factory=factory)
    features = encoder.transform(data.table)
    train(model, features, data.y)
    version = ax.register(model, task, name="net", registry=tmp_path)
    assert version.parameters == encoder.width * 8 + 8 + 8 * 2 + 2
    assert version.headline.value > 0.7
    with torch.no_grad():
        wanted = torch.softmax(module(torch.tensor(features)), -1).numpy()
    np.testing.assert_allclose(ax.load("churn:1", registry=tmp_path).predict_proba(path), wanted, rtol=1e-5)


def train(model: Foreign, features: np.ndarray, y: np.ndarray) -> None:
    """The project's one loop trains a foreign module too."""
    from alexandra.objectives.spec import AdamW, CrossEntropy
    from alexandra.train.model import BoundModel

    history = BoundModel(model).fit(
        {"x": features}, y, objective=CrossEntropy(), optimizer=AdamW(0.02), epochs=15,
        validation=({"x": features}, y),
    )  # fmt: skip
    assert history.final_loss < 0.9 * history.epochs[0].train_loss


def test_a_module_on_columns_reads_numbers_only(path: Path, task: Task, net) -> None:
    data = prepared(task)
    module, factory = net(2, 1)
    model = wrap(module, inputs={"x": 2}, outputs={"y": "sigmoid"}, columns=["age", "active"], factory=factory)
    raw = adopt(model, data).predict_raw(data.table)
    assert raw.shape == (200, 2)
    np.testing.assert_allclose(raw.sum(1), 1.0)
    with pytest.raises(DataError, match="reads numbers, but column 'plan' is a category\n.*fitted Encoder"):
        adopt(wrap(module, inputs={"x": 2}, columns=["age", "plan"]), data)
    with pytest.raises(DataError, match="reads 2 columns, columns= names 1"):
        adopt(wrap(module, inputs={"x": 2}, columns="age"), data)
    with pytest.raises(DataError, match="needs one input of one axis to answer rows of a table"):
        adopt(wrap(module, inputs={"x": (2, 2)}, columns=["age"]), data)
    with pytest.raises(UsageError, match="cannot evaluate a Sequential\n.*wrapped first: ax.wrap"):
        ax.evaluate(module, task)


def test_logits_are_not_taken_for_probabilities(path: Path, task: Task, net) -> None:
    data = prepared(task)
    module, _ = net(2, 2)
    with pytest.raises(DataError, match='answers no probabilities .*\n.*outputs={"y": "softmax"}'):
        adopt(wrap(module, inputs={"x": 2}, columns=["age", "active"]), data).predict_raw(data.table)


def test_a_split_by_folds_measures_all_rows_once(path: Path) -> None:
    task = Task.of(str(path), "churn", "churn")
    task = Task(task.data, "churn", "churn", split=Split(folds=3, seed=1))
    frame = pd.read_csv(path)
    assert ax.evaluate(LogisticRegression().fit(frame[["age"]], frame["churn"]), task).n == 200
