"""A solve logged to MLflow: what its own client reads back, and what is said when it cannot be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from alexandra.api import mlflow_log, operations
from alexandra.cli import main
from alexandra.errors import MissingExtraError, StorageError
from alexandra.lang.task_spec import DataSource, FamilyRef, Split, Task, VerifierRef


def task(n: int = 300) -> Task:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    y = np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no")
    data = DataSource.frame({"x0": x[:, 0], "x1": x[:, 1], "group": rng.choice(["a", "b"], n), "y": y})
    verify = (VerifierRef("empirical"), VerifierRef("power_dynamics", (("groups", ("group",)), ("min_rows", 20))))
    networks = (FamilyRef("tabular", (0, 0), (16, 16)),)
    return Task(data, "y", "logged", networks=networks, split=Split(folds=2, seed=1), verify=verify)


@pytest.mark.slow
def test_a_run_holds_params_metrics_with_intervals_curves_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    solution = operations.solve(task(), registry="r", mlflow=uri)
    client = tracking.MlflowClient(uri)
    experiment = client.get_experiment_by_name("logged")
    [run] = client.search_runs([experiment.experiment_id])
    assert solution.notes[-1] == f"logged as run {run.info.run_id} of experiment 'logged' at {uri}"
    assert run.info.status == "FINISHED" and run.info.run_name == solution.best
    figures = solution.winner.metric("roc_auc")
    read = run.data.metrics
    assert (read["roc_auc"], read["roc_auc.low"], read["roc_auc.high"], read["roc_auc.n"]) == (
        pytest.approx(figures.value),
        pytest.approx(figures.low),
        pytest.approx(figures.high),
        300,
    )
    assert {name for name in read if name.startswith("gap_group")}, "a gap's name is one that MLflow takes"
    assert {f"models/{row.name}/roc_auc" for row in solution.rows} <= set(read)
    assert run.data.params["data_hash"] == solution.data.data_hash
    assert run.data.params["accept"] == "no_worse(baseline, margin=1%)"
    assert solution.winner.version is not None
    assert run.data.tags["version"] == solution.winner.version.ref
    fit = next(fit for fit in solution.fits if fit.name == solution.best)
    history = client.get_metric_history(run.info.run_id, f"loss/validation/{fit.part}")
    assert [point.value for point in history] == pytest.approx(fit.valid_loss.tolist())
    for name in mlflow_log.FILES:
        local = client.download_artifacts(run.info.run_id, name, str(tmp_path))
        assert Path(local).read_bytes() == (solution.folder / name).read_bytes()
    operations.solve(task(), registry="r", mlflow=uri)
    assert len(client.search_runs([experiment.experiment_id])) == 2, "the experiment is found again"


@pytest.mark.slow
def test_a_store_that_cannot_be_used_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for uri in (f"file:{tmp_path / 'store'}", "http://127.0.0.1:9"):
        with pytest.raises(StorageError, match=f"(?s)MLflow at '{uri}': .*sqlite:///mlflow.db"):
            operations.solve(task(), registry=tmp_path / "r", runs=tmp_path / "runs", mlflow=uri)
    assert not (tmp_path / "runs").exists()


def test_a_database_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"no folder '{tmp_path / 'none'}' for the MLflow database"):
        mlflow_log.connect(f"sqlite:///{tmp_path / 'none' / 'x.db'}", "e")


def test_without_the_extra_one_line_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'alexandra-foundry\[mlflow\]'"):
        mlflow_log.connect("http://127.0.0.1:9", "e")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,y\n" + "\n".join(f"{i % 7},{'no' if i % 3 else 'yes'}" for i in range(90)))
    with pytest.raises(SystemExit) as stopped:
        main(["solve", "t.csv", "--target", "y", "--mlflow", "sqlite:///m.db"])
    assert stopped.value.code == 1
    assert "logging to MLflow needs the extra 'mlflow', which is not installed" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv"]


def test_names_are_those_that_mlflow_takes() -> None:
    assert mlflow_log.metric_name("gap(gender, of=selection)") == "gap_gender_ of_selection"
    assert mlflow_log.metric_name("models/tabular-2x64/recall_at(10%).low") == "models/tabular-2x64/recall_at_10_.low"
