"""The loop over steps, with a stage whose state is one array: what is saved, measured, told, and found again.

Cut at every step and resumed, three times over, a run leaves the bytes of the undisturbed one.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from alexandra.errors import BackendError, StorageError
from alexandra.rng import derive
from alexandra.storage import read_bytes, read_tensors
from alexandra.train.checkpoint import BEST, Checkpoint, Checkpoints, read
from alexandra.train.stages import Metrics, StagePlan, StageResult, run_stage
from alexandra.train.watch import METRICS, TIMING, Lines, Report, line_of, read_lines, tell_all


class Walk:
    """A random walk: step n adds its own words, so that a step that is left out or done twice shows."""

    name = "walk"

    def __init__(self, score: str = "eval_loss", broken_at: int = -1) -> None:
        self.at, self.score, self.broken_at = np.zeros(4), score, broken_at

    def step(self, number: int) -> Metrics:
        if number == self.broken_at:
            return {"loss": math.inf}
        self.at = 0.9 * self.at + derive(3, "walk").at(number).normal(4)
        return {"loss": float(self.at[0])}

    def evaluate(self) -> Metrics:
        return {self.score: float(self.at[1])} if self.score else {}

    def inputs(self, number: int) -> dict[str, np.ndarray]:
        return {"read": np.full(2, number, np.float64)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"at": self.at}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.at = np.array(arrays["at"])


class Cut:
    """A watcher that ends the process's run, as a kill would, after step `last` was told."""

    def __init__(self, last: int) -> None:
        self.last = last

    def note(self, step: int, numbers: Mapping[str, float]) -> None:
        if step == self.last:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Nothing is open."""


STEPS = 11


def plan(folder: Path, resume: bool = False, **settings: object) -> StagePlan:
    given: dict = {"eval_every": 3, "save_every": 4, "keep": 2, "settings_hash": "h", **settings}  # type: ignore[type-arg]
    return StagePlan(STEPS, folder, resume=resume, **given)


def left(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {METRICS: read_bytes(folder / METRICS)}
    for path in (folder / "checkpoints").iterdir():
        one = read(path)
        found[path.name] = one.arrays["at"].tobytes(), one.step, dict(one.notes)
    return found


def measures(score: str) -> list[tuple[int, Metrics]]:
    stage, found = Walk(score), []
    for number in range(STEPS):
        stage.step(number)
        if (number + 1) % 3 == 0 or number + 1 == STEPS:
            found.append((number + 1, stage.evaluate()))
    return found


@pytest.mark.parametrize("score", ["eval_loss", "eval_reward", "eval_accuracy"])
def test_a_run_measures_saves_and_knows_its_best_step(score: str, tmp_path: Path) -> None:
    stage = Walk(score)
    result = run_stage(stage, plan(tmp_path))
    wanted = measures(score)
    assert list(result.measures) == wanted and [step for step, _ in wanted] == [3, 6, 9, 11]
    pick = min if score == "eval_loss" else max
    best = pick(wanted, key=lambda one: one[1][score])[0]
    assert result.best_step == best and read(tmp_path / "checkpoints" / BEST).step == best
    assert (result.steps, result.stopped, result.resumed_at) == (STEPS, "all steps done", 0)
    assert result.last == {"loss": float(stage.at[0])}
    saved = sorted({4, 8, 11} | improvements(wanted, score))[-2:]
    names = sorted(p.name for p in (tmp_path / "checkpoints").glob("step-*"))
    assert names == [f"step-{step:08d}.safetensors" for step in saved]
    last = read(tmp_path / "checkpoints" / names[-1])
    assert last.step == STEPS and (last.arrays["at"] == stage.at).all()
    assert last.notes == {"settings": "h", "stage": "walk"}


def improvements(wanted: list[tuple[int, Metrics]], score: str) -> set[int]:
    """Steps whose measure was the best so far: they are saved too."""
    found, best = set(), -math.inf
    for step, numbers in wanted:
        value = -numbers[score] if score == "eval_loss" else numbers[score]
        if value > best:
            found.add(step)
            best = value
    return found


def test_lines_can_be_read_while_the_run_goes_on_and_records_end_where_it_resumes(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    for step in range(3):
        lines.note(step, {"loss": 1.0})
        lines.write("samples", step, [{"text": "a"}, {"text": "b"}])
        assert len(read_lines(tmp_path / METRICS)) == len(read_lines(tmp_path / TIMING)) == step + 1
    lines.close()
    with pytest.raises(ValueError, match="closed"):
        lines.note(3, {"loss": 1.0})
    Lines(tmp_path, first=1).close()
    assert [line["step"] for line in read_lines(tmp_path / "samples.jsonl")] == [0, 0]
    assert len(read_lines(tmp_path / METRICS)) == 1


class Answering(Walk):
    """A walk that says where it is, six times over."""

    def records(self) -> dict[str, list[dict[str, object]]]:
        return {"samples": [{"place": i, "at": float(self.at[0])} for i in range(6)]}


def test_with_every_measure_some_answers_spread_over_all_are_written_down(tmp_path: Path) -> None:
    run_stage(Answering(), plan(tmp_path, samples=3))
    found = [(line["step"], line["place"]) for line in read_lines(tmp_path / "samples.jsonl")]
    due = [step for step, _ in measures("eval_loss")]
    assert found == [(step - 1, place) for step in due for place in (0, 2, 4)]
    run_stage(Answering(), plan(tmp_path / "none", samples=0))
    assert not (tmp_path / "none" / "samples.jsonl").exists()


def test_every_step_is_a_line_with_its_measures(tmp_path: Path) -> None:
    run_stage(Walk(), plan(tmp_path))
    lines = read_lines(tmp_path / METRICS)
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [line["step"] for line in lines if "eval_loss" in line] == [2, 5, 8, 10]
    stage = Walk()
    assert [line["loss"] for line in lines] == [stage.step(n)["loss"] for n in range(STEPS)]
    timing = read_lines(tmp_path / TIMING)
    assert [line["step"] for line in timing] == list(range(STEPS)) and all(0 <= t["seconds"] < 60 for t in timing)


@pytest.mark.parametrize("at", range(STEPS))
def test_cut_at_any_step_and_resumed_three_times_nothing_is_lost_or_done_twice(at: int, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = run_stage(Walk(), plan(whole))
    for last in (at, min(at + 3, STEPS - 1), min(at + 5, STEPS - 1)):
        with pytest.raises(KeyboardInterrupt):
            run_stage(Walk(), plan(cut, resume=True), [Cut(last)])
        kept = Checkpoints(cut / "checkpoints").latest()
        assert kept is None or kept.step >= last - 3
    stage = Walk()
    result = run_stage(stage, plan(cut, resume=True))
    assert left(cut) == left(whole)
    assert (result.best_step, result.measures, result.last) == (
        undisturbed.best_step, undisturbed.measures, undisturbed.last,
    )  # fmt: skip
    again = run_stage(Walk(), plan(cut, resume=True))
    assert again.resumed_at == STEPS and left(cut) == left(whole) and again.measures == undisturbed.measures


def test_lines_of_steps_that_will_be_done_again_are_dropped_and_torn_ones_too(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_stage(Walk(), plan(whole))
    with pytest.raises(KeyboardInterrupt):
        run_stage(Walk(), plan(cut, resume=True, save_every=2), [Cut(6)])
    for name in (METRICS, TIMING):
        with (cut / name).open("a") as file:
            file.write('{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    assert [line["step"] for line in read_lines(cut / METRICS)] == list(range(8))
    run_stage(Walk(), plan(cut, resume=True, save_every=2))
    assert read_bytes(cut / METRICS) == read_bytes(whole / METRICS)
    assert [line["step"] for line in read_lines(cut / TIMING)] == list(range(STEPS))
    (cut / METRICS).write_text('{"loss": 1}\n{"step": 1}\n')
    assert read_lines(cut / METRICS) == [] and read_lines(cut / "none") == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damage: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_stage(Walk(), plan(whole))
    with pytest.raises(KeyboardInterrupt):
        run_stage(Walk(), plan(cut, resume=True, save_every=2), [Cut(7)])
    Checkpoints(cut / "checkpoints").wait()
    newest = sorted((cut / "checkpoints").glob("step-*"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 8
    newest.write_bytes({"flip": bytes(data), "cut": bytes(data[:-9]), "empty": b""}[damage])
    with pytest.warns(UserWarning, match=newest.name):
        result = run_stage(Walk(), plan(cut, resume=True, save_every=2))
    assert 0 < result.resumed_at < 8 and read_bytes(cut / METRICS) == read_bytes(whole / METRICS)


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with pytest.raises(KeyboardInterrupt):
        run_stage(Walk(), plan(tmp_path, save_every=2), [Cut(9)])
    saved = tmp_path / "checkpoints"
    litter = [saved / f".step-00000010.safetensors.{dead.pid}-0123abcd.part", tmp_path / f".x.{dead.pid}-0123abcd.part"]
    for path in litter:
        path.write_bytes(b"half")
    (tmp_path / f".model.{dead.pid}-0123abcd.part").mkdir()
    living = tmp_path / f".metrics.jsonl.{os.getpid()}-0123abcd.part"
    living.write_bytes(b"half")
    (saved / "step-00000002.safetensors").write_bytes((saved / "step-00000008.safetensors").read_bytes())
    run_stage(Walk(), plan(tmp_path, resume=True, save_every=2))
    assert list(tmp_path.rglob(".*")) == [living]
    assert sorted(p.name for p in saved.glob("step-*")) == ["step-00000010.safetensors", "step-00000011.safetensors"]


def test_a_run_killed_between_the_best_and_its_step_finds_the_best_again(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = run_stage(Walk(), plan(whole))
    with pytest.raises(KeyboardInterrupt):
        run_stage(Walk(), plan(cut), [Cut(result.best_step)])
    best = cut / "checkpoints" / f"step-{result.best_step:08d}.safetensors"
    assert best.exists() and (cut / "checkpoints" / BEST).exists()
    best.unlink()  # the best was written, its step was not
    run_stage(Walk(), plan(cut, resume=True))
    assert left(cut) == left(whole)


def test_other_settings_and_folders_in_use_are_refused(tmp_path: Path) -> None:
    run_stage(Walk(), plan(tmp_path))
    with pytest.raises(StorageError, match="holds a run already"):
        run_stage(Walk(), plan(tmp_path))
    with pytest.raises(StorageError, match="other settings"):
        run_stage(Walk(), plan(tmp_path, resume=True, settings_hash="i"))


def test_a_loss_that_is_not_finite_keeps_what_was_read_and_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="the loss is inf at step 6.*last good checkpoint is step 4") as error:
        run_stage(Walk("", broken_at=6), plan(tmp_path))
    (place,) = tmp_path.glob("failed-step-*")
    assert place.name == "failed-step-00000006.safetensors" and str(place) in str(error.value)
    arrays, _ = read_tensors(read_bytes(place), str(place))
    assert arrays["read"].tolist() == [6.0, 6.0]
    assert [line["step"] for line in read_lines(tmp_path / METRICS)] == list(range(6))
    mended = Walk("")
    run_stage(mended, plan(tmp_path, resume=True))
    other = Walk("")
    run_stage(other, StagePlan(STEPS))
    assert (mended.at == other.at).all()
    with pytest.raises(BackendError, match="no checkpoint yet"):
        run_stage(Walk(broken_at=0), plan(tmp_path / "early"))
    with pytest.raises(BackendError, match="the loss is inf at step 3\nlower"):
        run_stage(Walk(broken_at=3), StagePlan(STEPS))


def test_errors_of_the_backend_that_are_no_loss_pass_as_they_are(tmp_path: Path) -> None:
    class Wrong(Walk):
        def step(self, number: int) -> Metrics:
            raise BackendError("out of memory" if number else "the loss is nan at step 0")

    with pytest.raises(BackendError, match="what it read is in"):
        run_stage(Wrong(), plan(tmp_path / "a"))
    stage = Wrong()
    stage.step = lambda number: (_ for _ in ()).throw(BackendError("out of memory"))  # type: ignore[method-assign]
    with pytest.raises(BackendError, match="^out of memory"):
        run_stage(stage, plan(tmp_path / "b"))


def test_a_deadline_ends_a_run_between_steps_and_keeps_its_state(tmp_path: Path) -> None:
    result: StageResult = run_stage(Walk(), plan(tmp_path, deadline=time.monotonic()))
    assert (result.steps, result.stopped) == (0, "time budget") and not list(tmp_path.rglob("step-*"))

    deadline = time.monotonic() + 1.0

    class Slow(Walk):
        def step(self, number: int) -> Metrics:
            while number == 4 and time.monotonic() < deadline:
                time.sleep(0.01)
            return super().step(number)

    result = run_stage(Slow(), plan(tmp_path / "b", deadline=deadline))
    assert result.stopped == "time budget" and result.steps <= 5
    newest = Checkpoints(tmp_path / "b" / "checkpoints").latest()
    assert newest is not None and newest.step == result.steps
    run_stage(Walk(), plan(tmp_path / "b", resume=True))
    run_stage(Walk(), plan(tmp_path / "c"))
    assert read_bytes(tmp_path / "b" / METRICS) == read_bytes(tmp_path / "c" / METRICS)


def test_without_a_folder_nothing_is_written_and_without_measures_nothing_is_best(tmp_path: Path) -> None:
    result = run_stage(Walk(""), StagePlan(STEPS, eval_every=2))
    assert result.measures == () and result.best_step == 0 and result.steps == STEPS
    run_stage(Walk(), StagePlan(STEPS, tmp_path, eval_every=0, save_every=0))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"step-{STEPS:08d}.safetensors"]


def test_checkpoints_copy_before_they_write_and_wait_for_each_other(tmp_path: Path) -> None:
    kept, array = Checkpoints(tmp_path, keep=0), np.zeros(1000)
    for step in range(1, 4):
        array[:] = step
        kept.save(Checkpoint(step, {"a": array}, {"loss": step / 2}, {"k": "v"}), best=step == 1)
    array[:] = 9
    kept.wait()
    (path,) = tmp_path.glob("step-*")
    found = read(path)
    assert found.step == 3 and (found.arrays["a"] == 3).all() and found.metrics == {"loss": 1.5}
    best = kept.best()
    assert best is not None and best.step == 1 and (best.arrays["a"] == 1).all()
    assert Checkpoints(tmp_path / "none").latest() is None and Checkpoints(tmp_path / "none").best() is None
    (tmp_path / "step-7.safetensors").write_bytes(b"no name of ours")
    assert kept.latest().step == 3  # type: ignore[union-attr]


def test_a_failure_to_write_is_raised_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = Checkpoints(tmp_path / "file")
    kept.save(Checkpoint(1, {"a": np.zeros(1)}))
    with pytest.raises(StorageError):
        kept.save(Checkpoint(2, {"a": np.zeros(1)}))
    kept.wait()


def test_numbers_that_are_not_finite_are_written_as_null() -> None:
    assert json.loads(line_of(3, {"b": math.nan, "a": 1.5})) == {"step": 3, "a": 1.5, "b": None}
    assert line_of(3, {"b": 1.0, "a": 2.0}) == line_of(3, {"a": 2.0, "b": 1.0})


def test_progress_counts_from_one_and_names_what_matters() -> None:
    told: list[tuple[str, int, int]] = []
    report = Report(10, lambda *given: told.append(given))
    tell_all([report, report], 4, {"loss": 0.5, "clipped": 3.0, "eval_loss": 0.25})
    assert told == [("loss 0.5  eval_loss 0.25", 5, 10)] * 2
