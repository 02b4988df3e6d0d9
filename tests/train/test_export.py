"""An exported folder answers as the specialist does, from raw rows on, and is whole or absent."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexandra.api import export as exporting
from alexandra.api import operations
from alexandra.cli import main
from alexandra.errors import BackendError, StorageError, UsageError
from alexandra.lang.task_spec import DataSource, FamilyRef, Split, Task
from alexandra.registry.store import Registry
from alexandra.train import export
from alexandra.train.solve import Solution

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

FILES = {"model.onnx", "encoder.json", "target.json", "README.txt"}


def table(kind: str, n: int = 200) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    city = rng.choice(["north", "south", "west"], n)
    signal = x[:, 0] + (city == "west") + 0.3 * rng.normal(size=n)
    y = {"number": 1000 + 50 * signal, "class": np.digitize(signal, [-0.3, 0.6]).astype(str)}[kind]
    return {"x 0": x[:, 0], "x1": x[:, 1], "city": city, "y": y}


def solved(kind: str, folder: Path) -> Solution:
    networks = (FamilyRef("tabular", (1, 1), (16, 16)),)
    task = Task(DataSource.frame(table(kind)), "y", f"toy_{kind}", networks=networks, split=Split(folds=2, seed=1))
    return operations.solve(task, registry=Registry(folder / "r"), runs=folder / "runs", promote=False)


@pytest.fixture(scope="module", params=["class", "number"])
def solution(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Solution:
    return solved(request.param, tmp_path_factory.mktemp(request.param))


def test_the_readme_s_own_recipe_gives_the_specialist_s_answers(
    solution: Solution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = solution.export("onnx", tmp_path / "out")
    assert set(made.files) == FILES == {path.name for path in (tmp_path / "out").iterdir()}
    assert made.rows == 64 and made.difference is not None and made.difference <= 1e-4
    rows = solution.data.table.drop(["y"])
    readme = (made.folder / "README.txt").read_text()
    rows.to_csv(made.folder / "rows.csv")
    monkeypatch.chdir(made.folder)
    names: dict[str, Any] = {}
    recipe = [line[4:] for line in readme.splitlines() if re.match(r"    (import|from|\w+ = )", line)]
    exec("\n".join(recipe), names)
    np.testing.assert_allclose(names["answers"], solution.predict_proba(rows), rtol=1e-4, atol=1e-4)


def test_the_readme_says_what_goes_in_and_out(solution: Solution, tmp_path: Path) -> None:
    made = solution.export("onnx", tmp_path / "out")
    readme = " ".join((made.folder / "README.txt").read_text().split())
    specialist = solution.specialist
    assert specialist is not None
    assert f"'x', float32 [rows, {specialist.encoder.width}]" in readme
    assert "'x 0', 'x1', 'city'" in readme
    assert "On 64 rows the answers of onnxruntime differ by at most" in readme
    assert f"{specialist.encoder.width - 1} {specialist.encoder.feature_names()[-1]}" in readme
    target = json.loads((made.folder / "target.json").read_text())
    value = f"number * {target['std']!r} + {target['mean']!r}"
    assert ("0 '0', 1 '1', 2 '2'" if target["classes"] else value) in readme


def test_a_registered_model_is_exported_by_its_ref(
    solution: Solution, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = solution.winner.version
    assert ref is not None
    registry = str(solution.folder.parents[2] / "r")
    with pytest.raises(SystemExit) as stopped:
        main(["export", ref.ref, "--to", "onnx", "--out", str(tmp_path / "o"), "--registry", registry, "--json"])
    assert not stopped.value.code
    record = json.loads(capsys.readouterr().out)
    assert set(record["files"]) == FILES and record["rows_checked"] == 64 and record["largest_difference"] <= 1e-4
    ours = solution.export("onnx", tmp_path / "mine")
    for name in FILES - {"README.txt"}:
        assert (tmp_path / "o" / name).read_bytes() == (ours.folder / name).read_bytes()


def test_what_is_there_stays_and_an_unknown_format_is_named(solution: Solution, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(UsageError, match="'.*out' is there already\nremove it, or name another folder"):
        solution.export("onnx", tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "kept"
    with pytest.raises(UsageError, match="unknown format 'onx'\nknown: onnx. Did you mean 'onnx'?"):
        solution.export("onx", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_answers_that_differ_are_refused_and_nothing_is_written(
    solution: Solution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specialist = solution.specialist
    assert specialist is not None
    weights = specialist.model.weights
    name = next(name for name in weights if name.endswith("weight"))
    changed = {key: array * (2 if key == name else 1) for key, array in weights.items()}
    other = export.onnx.export(specialist.graph, type(weights)(changed))
    monkeypatch.setattr(export.onnx, "export", lambda graph, weights: other)
    with pytest.raises(BackendError, match=r"onnxruntime's answers differ .* nothing was written"):
        solution.export("onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_leaves_no_half_folder(
    solution: Solution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alexandra import storage

    real = storage._write_durably

    def failing(path: Path, data: bytes) -> None:
        if path.name == "target.json":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(storage, "_write_durably", failing)
    with pytest.raises(StorageError, match="cannot write .*out': No space left on device"):
        solution.export("onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_model_from_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from alexandra.api.foreign import register

    data = table("class")
    del data["city"]
    x = np.stack([data["x 0"], data["x1"]], axis=1)
    fitted = LogisticRegression().fit(x, data["y"])
    task = Task(DataSource.frame(data), "y", "elsewhere")
    version = register(fitted, replace(task), name="theirs", registry=tmp_path / "r")
    with pytest.raises(BackendError, match="elsewhere:1 theirs was made elsewhere and has no network to write"):
        exporting.export(version.ref, tmp_path / "out", registry=tmp_path / "r")
