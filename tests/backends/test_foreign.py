"""Estimators behind the Model protocol: their own answers, labels as tables spell them, files, what they refuse."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from alexandra.backends import foreign_estimator
from alexandra.backends.base import Model
from alexandra.backends.bind import bind
from alexandra.backends.foreign import CAPABILITIES, READINGS, Foreign, read_foreign, wrap
from alexandra.backends.onnx import export
from alexandra.backends.trust import VARIABLE, require_trust
from alexandra.errors import AlexandraError, BackendError, StorageError
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, Program
from alexandra.rng import derive

X = derive(0, "x").normal(160).reshape(40, 4)
Y = np.array(["no", "yes"])[(X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)]
FRAME = pd.DataFrame({"size": X[:, 0], "colour": np.array(["red", "green"])[(X[:, 1] > 0).astype(int)]})


def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


def mixed():
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(FRAME, Y)


def test_a_pipeline_is_a_model_that_gives_its_own_probabilities() -> None:
    model = wrap(pipeline())
    assert isinstance(model, Model)
    assert (model.kind, model.backend, model.classes) == ("scikit-learn", "foreign", ("no", "yes"))
    np.testing.assert_array_equal(model.forward({"x": X})["y"], pipeline().predict_proba(X))
    assert model.forward({"x": X[:0]})["y"].shape == (0, 2)


def test_a_pipeline_fitted_on_a_frame_takes_frames_and_arrays_in_its_columns_order() -> None:
    model, wanted = wrap(mixed()), mixed().predict_proba(FRAME)
    assert model.columns == ("size", "colour")
    np.testing.assert_array_equal(model.forward({"x": FRAME})["y"], wanted)
    np.testing.assert_allclose(model.forward({"x": FRAME.to_numpy(dtype=object)})["y"], wanted)


def test_where_pandas_is_missing_frames_are_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_estimator, "find_spec", lambda name: None)
    assert type(foreign_estimator.frame_of(("a",), [np.zeros(2)])).__module__.startswith("polars")
    answers = wrap(mixed()).forward({"x": FRAME.to_numpy(dtype=object)})["y"]
    np.testing.assert_allclose(answers, mixed().predict_proba(FRAME))


def test_values_and_labels_without_probabilities() -> None:
    np.testing.assert_allclose(wrap(Ridge().fit(X, X[:, 0])).forward({"x": X})["y"][:, 0], X[:, 0], atol=0.1)
    answers = wrap(LinearSVC().fit(X, Y)).forward({"x": X})["y"]
    assert set(np.unique(answers)) == {0.0, 1.0} and (answers.argmax(1) == (Y == "yes")).mean() > 0.9


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        ((False, True), ("false", "true")),
        ((3, 7), ("3", "7")),
        ((2.0, 3.0), ("2", "3")),
        (("a b", "c"), ("a b", "c")),
    ],
)
def test_labels_are_spelt_as_in_a_table(labels: tuple[object, object], texts: tuple[str, str]) -> None:
    assert wrap(LogisticRegression().fit(X, np.array(labels)[(X[:, 0] > 0).astype(int)])).classes == texts


# --- refusals ------------------------------------------------------------------------------------------------


def refusals(model: Foreign) -> dict[str, object]:
    """What a model without a graph might be asked -> the call."""
    weights = WeightSet({"w": np.zeros(1)})
    return {
        "no graph: no text, no cost, no ONNX, no native engine": lambda: model.graph.text(),
        "backend 'native' needs a graph": lambda: bind(model, "native"),  # type: ignore[arg-type]
        "backend 'torch' needs a graph": lambda: bind(model, "torch"),  # type: ignore[arg-type]
        "writing ONNX needs a graph": lambda: export(model, weights),  # type: ignore[arg-type]
        "cannot give gradients": lambda: model.loss_and_grads({"x": X}, Y, MSE()),
        "cannot be trained here": lambda: model.start(Program(MSE()), {"x": X}, Y),
        "cannot show its weights": lambda: model.weights,
        "cannot take weights": lambda: model.load(weights),
    }


@pytest.mark.parametrize("text", refusals(wrap(pipeline())))
def test_what_an_estimator_cannot_do_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(BackendError) as caught:
        refusals(wrap(pipeline()))[text]()
    assert text in str(caught.value)
    assert "the scikit-learn Pipeline" in str(caught.value)
    assert str(caught.value).endswith("it can: forward, files")


def test_duck_typing_sees_what_is_refused() -> None:
    model = wrap(pipeline())
    assert not hasattr(model, "graph") and not hasattr(model, "weights") and hasattr(model, "memory")


def test_capabilities_are_methods_of_the_protocol() -> None:
    for names in CAPABILITIES.values():
        assert set(names) <= set(vars(Foreign))
    assert list(READINGS) == sorted(READINGS)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (LogisticRegression(), {}, "the scikit-learn LogisticRegression is not fitted"),
        (np.mean, {}, "cannot wrap a "),
        (LogisticRegression, {}, "cannot wrap a "),
        (pipeline(), {"inputs": {"x": 4}}, "inputs= belongs to torch modules, got Pipeline"),
        (pipeline(), {"factory": "a:b"}, "factory= belongs to torch modules, got Pipeline"),
        (pipeline(), {"threads": 0}, "threads must be at least 1, got 0"),
        (wrap(pipeline()), {}, "the scikit-learn Pipeline is wrapped already"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(given: object, settings: dict[str, object], message: str) -> None:
    with pytest.raises(BackendError) as caught:
        wrap(given, **settings)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": X[:, :3]}, "input 'x' needs shape [rows, 4], got [40, 3]"),
        ({"z": X}, "the scikit-learn Pipeline needs the input 'x' alone, got z"),
        (X, "needs the input 'x' alone, got ndarray"),
        ({"x": np.full((2, 4), "a")}, "the scikit-learn Pipeline failed on these rows: "),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: object, message: str) -> None:
    with pytest.raises(BackendError) as caught:
        wrap(pipeline()).forward(inputs)  # type: ignore[arg-type]
    assert message in str(caught.value)


# --- files ---------------------------------------------------------------------------------------------------


def round_trip(model: Foreign) -> Foreign:
    description = json.loads(json.dumps(model.description()))
    return read_foreign(model.files(), description, columns=model.columns)


def test_a_stored_pipeline_gives_the_same_answers() -> None:
    pytest.importorskip("skops")
    for model, rows in ((wrap(pipeline()), X), (wrap(mixed()), FRAME)):
        again = round_trip(model)
        np.testing.assert_array_equal(again.forward({"x": rows})["y"], model.forward({"x": rows})["y"])
        assert (again.columns, again.classes) == (model.columns, model.classes)


def test_the_same_model_gives_the_same_file_and_no_pickle_is_in_it() -> None:
    pytest.importorskip("skops")
    model = pipeline()
    first, second = wrap(model).files(), wrap(model).files()
    assert first == second
    assert first != wrap(LogisticRegression().fit(X, Y)).files()
    with zipfile.ZipFile(io.BytesIO(first["model.skops"])) as file:
        names = file.namelist()
        assert all(name == "schema.json" or name.endswith(".npy") for name in names)
        for name in names[:-1]:
            np.load(io.BytesIO(file.read(name)), allow_pickle=False)


def test_types_that_can_do_harm_need_the_readers_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skops")
    monkeypatch.delenv(VARIABLE, raising=False)
    model = wrap(RandomForestClassifier(3, random_state=0).fit(X, Y))
    with pytest.raises(BackendError) as caught:
        round_trip(model)
    message = str(caught.value)
    assert "'model.skops' holds types that can do harm when they are loaded: sklearn.tree._tree.Tree" in message
    assert message.endswith(f"if you know where the file comes from, set {VARIABLE}=sklearn.tree._tree.Tree")
    monkeypatch.setenv(VARIABLE, "other, sklearn.tree._tree.Tree")
    np.testing.assert_array_equal(round_trip(model).forward({"x": X})["y"], model.forward({"x": X})["y"])


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nothing", b"\x80\x04N."])
def test_a_damaged_file_is_an_error_of_ours(data: bytes) -> None:
    pytest.importorskip("skops")
    with pytest.raises(StorageError, match=r"'model.skops' is damaged"):
        read_foreign({"model.skops": data}, {"kind": "scikit-learn"})


def test_no_damage_to_a_file_escapes_as_an_error_of_python() -> None:
    """A flipped bit is an error of ours or, here where no checksum is looked at, an estimator with another number."""
    pytest.importorskip("skops")
    data = wrap(pipeline()).files()["model.skops"]
    cuts = [data[:place] for place in derive(1, "cut").below(len(data), 40).tolist()]
    places, bits = derive(1, "flip").below(len(data), 160).tolist(), derive(1, "bit").below(8, 160).tolist()
    flips = [
        data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        for place, bit in zip(places, bits, strict=True)
    ]
    refused = 0
    for damaged in [*cuts, *flips]:
        try:
            read_foreign({"model.skops": damaged}, {"kind": "scikit-learn"})
        except AlexandraError:
            refused += 1
    assert refused >= len(cuts) + 0.9 * len(flips)


def test_a_file_that_holds_something_else_is_refused() -> None:
    skops = pytest.importorskip("skops.io")
    with pytest.raises(StorageError, match="'model.skops' holds a dict, not an estimator"):
        read_foreign({"model.skops": skops.dumps({"a": 1})}, {"kind": "scikit-learn"})


def test_an_artifact_of_another_kind_or_without_its_parts_is_refused() -> None:
    with pytest.raises(StorageError, match="unknown kind of foreign model 'torhc'\n.*Did you mean 'torch'"):
        read_foreign({}, {"kind": "torhc"})
    pytest.importorskip("skops")
    with pytest.raises(StorageError, match="the artifact of a foreign model has no 'model.skops'"):
        read_foreign({}, {"kind": "scikit-learn"})


def test_trust_is_only_what_the_environment_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a:b, c.d")
    require_trust("this", ["a:b", "c.d"])
    with pytest.raises(BackendError, match=f"this: a is not trusted here\n.* set {VARIABLE}=a:b,c.d,a"):
        require_trust("this", ["a", "a:b"])


WITHOUT_SKOPS = """
import sys
sys.modules["skops"] = None
import numpy as np
from sklearn.linear_model import Ridge
from alexandra.backends.foreign import wrap
from alexandra.errors import MissingExtraError
model = wrap(Ridge().fit(np.eye(3), np.arange(3.0)))
assert model.forward({"x": np.eye(3)})["y"].shape == (3, 1)
try:
    model.files()
except MissingExtraError as error:
    print(error)
assert "torch" not in sys.modules
"""


def test_without_skops_a_pipeline_answers_and_storing_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_SKOPS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "storing a scikit-learn model needs the extra 'skops', which is not installed",
        "install it with: pip install 'alexandra-foundry[skops]'",
    ]
