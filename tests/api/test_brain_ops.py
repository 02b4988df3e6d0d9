"""The brain's commands: trained by a recipe, measured on a data set, asked beside the engine."""

import json
from pathlib import Path

import pytest
from tests.train.grapheme.test_brain import TINY
from typer.testing import CliRunner

from alexandra.api import brain
from alexandra.cli import app
from alexandra.errors import NotFoundError, UsageError

pytest.importorskip("alexandra._native", reason="the brain runs on the native engine")

RECIPE = f"""{TINY}
epochs = 2
updates_per_epoch = 2
warmup = 1
[curriculum]
end_level = 1
measured = 5
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brain")
    (folder / "train_config.toml").write_text(RECIPE)
    arguments = ["train", "--config", str(folder / "train_config.toml"), "--output", str(folder / "run"), "--verbose"]
    found = CliRunner().invoke(app, [*arguments, "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["epochs"] == 2
    return folder


def test_a_run_leaves_its_log_its_curves_and_its_model(trained: Path) -> None:
    run = trained / "run"
    assert "[Level 1] Epoch 1/10" in (run / "training.log").read_text()
    assert "<svg" in (run / "report.html").read_text()
    assert brain.is_brain(str(run)) and brain.is_brain(str(run / "model")) and not brain.is_brain(str(trained))
    assert brain.is_brain_recipe(trained / "train_config.toml")
    with pytest.raises(NotFoundError, match="holds no network.json"):
        brain.solver(str(trained))


def test_a_run_is_gone_on_with_by_the_same_command(trained: Path) -> None:
    arguments = ["train", str(trained / "train_config.toml"), "--output", str(trained / "run")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    found = CliRunner().invoke(app, [*arguments, "--resume", "--json"])
    assert found.exit_code == 0 and json.loads(found.stdout)["resumed_at"] == 2


def test_a_data_set_measures_the_brain(trained: Path) -> None:
    data = trained / "data"
    made = CliRunner().invoke(app, ["generate", "--level", "1", "--samples", "40", "--output", str(data)])
    assert made.exit_code == 0, made.output
    found = CliRunner().invoke(app, ["validate", "--model", str(trained / "run"), "--data", str(data), "--json"])
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)
    assert {row["split"] for row in rows} >= {"train", "val", "test_iid", "test_ood"}
    assert all(row["verified_wrong"] == 0 and row["verified"] <= row["n"] for row in rows)
    assert isinstance(CliRunner().invoke(app, ["validate"]).exception, UsageError)


def test_an_answer_is_never_called_proved_unless_it_is(trained: Path) -> None:
    found = CliRunner().invoke(app, ["repl", "--model", str(trained / "run"), "-e", "2 + 3", "-e", "derive(x^2, x)"])
    assert found.exit_code == 0, found.output
    assert "5" in found.stdout and "model:" in found.stdout and "(proved)" not in found.stdout
