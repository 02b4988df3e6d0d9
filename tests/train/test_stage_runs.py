"""Runs of stages: killed and resumed they are the undisturbed ones, byte for byte; damage is found, failure is kept."""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

import alexandra as ax
from alexandra.errors import BackendError, ConfigError, StorageError, UsageError
from alexandra.rng import derive
from alexandra.storage import read_bytes
from alexandra.train.checkpoint import BEST, Checkpoint, Checkpoints, read
from alexandra.train.lm.run import load_recipe
from alexandra.train.lm.run import run as run_recipe
from alexandra.train.watch import METRICS

NET = """LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=AUTO size=8
LAYER DENSE name=h size=16 activation=tanh
LAYER OUTPUT name=y size=AUTO
CONNECT tokens -> e -> h -> y
"""
REWARDS = "def exact(completion, answer):\n    return float(completion == answer)\n"
LETTERS = "abcd"


def rows(count: int) -> list[dict[str, str]]:
    draws = derive(1, "rows").below(4, count * 2).reshape(count, 2)
    found = []
    for a, b in draws.tolist():
        answer, other = LETTERS[(b + 1) % 4].upper(), LETTERS[(b + 2) % 4].upper()
        text = LETTERS[a] + LETTERS[b]
        found.append({"prompt": text, "completion": answer, "answer": answer, "chosen": answer, "rejected": other})
    return found


def prepared(folder: Path) -> Path:
    (folder / "net.nl").write_text(NET)
    (folder / "rewards.py").write_text(REWARDS)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows(60))))
    return folder


def recipe(folder: Path, stage: str, steps: int, save_every: int = 3) -> Path:
    path = folder / f"{stage}.toml"
    path.write_text(f"""stage = "{stage}"
[model]
path = "net.nl"
[data]
path = "rows.jsonl"
[train]
steps = {steps}
batch = 4
lr = 0.02
eval_every = 5
save_every = {save_every}
[rollout]
prompts = 2
group = 4
max_tokens = 2
[reward]
functions = {'["rewards.py:exact"]' if stage in ("grpo", "ppo") else "[]"}
""")
    return path


def files(run: Path) -> dict[str, object]:
    """What a run leaves, but for times and reports. The order of notes in a checkpoint's header is no content."""
    kept = [p for p in run.rglob("*") if p.is_file() and p.name not in ("timing.jsonl", "report.html")]
    found: dict[str, object] = {str(p.relative_to(run)): p.read_bytes() for p in kept if p.parent.name != "checkpoints"}
    for path in (run / "checkpoints").iterdir():
        one = read(path)
        found[path.name] = {n: a.tobytes() for n, a in one.arrays.items()}, one.step, dict(one.notes)
    return found


def command(path: Path, runs: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "alexandra.cli", "train", str(path), "--runs", str(runs), "--json", *words]


def trained(path: Path, runs: Path, *words: str) -> Path:
    done = subprocess.run(command(path, runs, *words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["folder"])


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_a_run_cut_by_its_own_length_goes_on_as_the_undisturbed_one(stage: str, tmp_path: Path) -> None:
    base = prepared(tmp_path)
    path = recipe(base, stage, 12)
    whole = ax.train(stage, **arguments(base, stage), folder=tmp_path / "whole", settings=settings(12))
    with pytest.raises(KeyboardInterrupt):
        interrupted(base, stage, tmp_path / "cut", 7)
    ax.train(stage, **arguments(base, stage), folder=tmp_path / "cut", settings=settings(12), resume=True)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert whole.result.steps == 12 and path.exists()


def arguments(base: Path, stage: str) -> dict:  # type: ignore[type-arg]
    def exact(completion: str, answer: str) -> float:
        return float(completion == answer)

    return {"model": base / "net.nl", "data": base / "rows.jsonl", "rewards": [exact] if stage == "grpo" else []}


def settings(steps: int) -> dict:  # type: ignore[type-arg]
    return {
        "train": {"steps": steps, "batch": 4, "lr": 0.02, "eval_every": 5, "save_every": 3},
        "rollout": {"prompts": 2, "group": 4, "max_tokens": 2},
    }


def interrupted(base: Path, stage: str, folder: Path, at: int) -> None:
    from alexandra.train.lm import run as running

    def tell(what: str, done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    given = arguments(base, stage)
    places = {name: {"path": str(given[name])} for name in ("model", "data")}
    record = {"stage": stage, **places, **settings(12)}
    made = running.validate(record, running.Recipe)
    running.run(made, folder=folder, given=running.Given(rewards=tuple(given["rewards"])), tell=tell)


# --- killed ---------------------------------------------------------------------------------------------------

# Each run is a forked child, so that a kill costs no start of an interpreter; what dies and what is left on the disk
# are those of any killed process. A child is killed a random time after its first new line of metrics and resumed,
# at most KILLS_A_RUN times; then it may end, and is compared with the undisturbed run byte by byte.
KILLS, KILLS_A_RUN, STEPS = 34, 12, 120  # for each of three stages


def child(path: Path, folder: Path) -> int:
    """A process that trains or goes on in `folder`; its exit code says how it ended."""
    process = os.fork()
    if process:
        return process
    try:
        run_recipe(load_recipe(path), folder=folder, base=path.parent, resume=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(3)


def ended(process: int, block: bool = False) -> int | None:
    """The wait status of a child that ended, None while it runs."""
    done, status = os.waitpid(process, 0 if block else os.WNOHANG)
    return status if done else None


def lines(folder: Path) -> bytes:
    place = folder / METRICS
    return place.read_bytes() if place.exists() else b""


def killed(path: Path, folder: Path, steps: int, wait: float) -> tuple[bool, bool]:
    """Killed after more than so many steps and seconds: (whether it had not ended, whether a file was half written)."""
    enough = lines(folder).count(b"\n") + steps
    process = child(path, folder)
    while (status := ended(process)) is None and lines(folder).count(b"\n") <= enough:
        time.sleep(0.0005)
    if status is None:
        time.sleep(wait)
        os.kill(process, signal.SIGKILL)
        status = ended(process, block=True)
    assert status is not None
    if os.WIFEXITED(status):
        assert os.waitstatus_to_exitcode(status) == 0
        return False, False
    return True, any(folder.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_sigkill_at_random_moments_changes_nothing(stage: str, tmp_path: Path) -> None:
    path = recipe(prepared(tmp_path), stage, STEPS, save_every=1)
    assert os.waitstatus_to_exitcode(ended(child(path, tmp_path / "whole"), block=True) or 0) == 0
    whole = files(tmp_path / "whole")
    steps = derive(11, "steps", stage).below(3, KILLS).tolist()
    waits = derive(11, "kill", stage).uniform(KILLS).tolist()
    kills = torn = rounds = 0
    while kills < KILLS:
        folder, own = tmp_path / f"cut{rounds}", 0
        while own < KILLS_A_RUN and kills < KILLS:
            was_killed, was_torn = killed(path, folder, steps[kills], 0.05 * waits[kills])
            if not was_killed:
                break
            own, kills, torn = own + 1, kills + 1, torn + was_torn
            for place in (folder / "checkpoints").glob("*.safetensors"):
                assert read(place).step <= STEPS  # what has its name is whole
        else:
            assert os.waitstatus_to_exitcode(ended(child(path, folder), block=True) or 0) == 0
        assert files(folder) == whole
        rounds += 1
    print(f"{stage}: {kills} kills in {rounds} runs, {torn} of them while a file was half written")
    assert torn >= 1 and BEST in whole


def test_checkpoints_are_whole_or_not_used(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=3)
    for step in range(1, 5):
        kept.save(Checkpoint(step, {"w": np.full(100, step, np.float32)}, {"loss": 1.0}), best=step == 2)
    kept.wait()
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [f"step-{i:08d}.safetensors" for i in (2, 3, 4)]
    newest = kept.latest()
    assert newest is not None and newest.step == 4 and (newest.arrays["w"] == 4).all()
    best = kept.best()
    assert best is not None and best.step == 2
    place = tmp_path / "step-00000004.safetensors"
    data = bytearray(read_bytes(place))
    for at in derive(0, "flips").below(len(data), 40).tolist():
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        place.write_bytes(bytes(damaged))
        with pytest.raises(StorageError):
            read(place)
    with pytest.warns(UserWarning, match="step-00000004"):
        found = kept.latest()
    assert found is not None and found.step == 3
    place.write_bytes(bytes(data[: len(data) // 2]))
    with pytest.warns(UserWarning, match="step-00000004"):
        assert kept.latest().step == 3  # type: ignore[union-attr]


def test_a_failure_to_write_is_raised_and_not_lost(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file is in the way")
    kept = Checkpoints(tmp_path / "folder")
    kept.save(Checkpoint(1, {"w": np.zeros(3)}))
    with pytest.raises(StorageError):
        kept.wait()


def test_a_folder_in_use_and_other_settings_are_refused(tmp_path: Path) -> None:
    base = prepared(tmp_path)
    ax.train("sft", **arguments(base, "sft"), folder=tmp_path / "run", settings=settings(6))
    with pytest.raises(StorageError, match="holds a run already"):
        ax.train("sft", **arguments(base, "sft"), folder=tmp_path / "run", settings=settings(6))
    with pytest.raises(StorageError, match="other settings"):
        ax.train("sft", **arguments(base, "sft"), folder=tmp_path / "run", settings=settings(9), resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_it_read(tmp_path: Path) -> None:
    base = prepared(tmp_path)
    wild = {"train": {"steps": 60, "batch": 4, "lr": 1e30, "clip": 0.0, "optimizer": "sgd", "save_every": 1}}
    with pytest.raises(BackendError, match="the last good checkpoint is step") as error:
        ax.train("sft", **arguments(base, "sft"), folder=tmp_path / "run", settings=wild)
    (saved,) = (tmp_path / "run").glob("failed-step-*.safetensors")
    assert str(saved) in str(error.value)


def test_what_cannot_be_trained_is_refused_before_the_first_step(tmp_path: Path) -> None:
    base = prepared(tmp_path)
    with pytest.raises(UsageError, match="unknown stage 'grop'"):
        ax.train("grop", model=base / "net.nl", data=base / "rows.jsonl")
    with pytest.raises(UsageError, match="at least one reward"):
        ax.train("grpo", model=base / "net.nl", data=base / "rows.jsonl")
    with pytest.raises(ConfigError, match="unknown key 'train.step'"):
        ax.train("sft", model=base / "net.nl", data=base / "rows.jsonl", settings={"train": {"step": 5}})
    with pytest.raises(UsageError, match="names no data"):
        ax.train("sft", model=base / "net.nl")
    with pytest.raises(ax.DataError, match="row 0 has no 'completion'"):
        ax.train("sft", model=base / "net.nl", data=[{"prompt": "a"}])


def test_seeds_and_lists_of_values_give_a_run_each_and_a_table(tmp_path: Path) -> None:
    base = prepared(tmp_path)
    path = recipe(base, "sft", 4)
    words = ("--seeds", "2", "--set", "train.lr=0.01,0.02")
    done = subprocess.run(command(path, tmp_path / "runs", *words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len({one["folder"] for one in found}) == 4 and {one["seed"] for one in found} == {0, 1}
    table = [sys.executable, "-m", "alexandra.cli", "table", *[one["folder"] for one in found]]
    text = subprocess.run([*table, "--latex"], capture_output=True, text=True).stdout
    assert text.count(r"\\") == 5 and "train.lr" in text
    rows_ = json.loads(subprocess.run([*table, "--json"], capture_output=True, text=True).stdout)
    assert {row["train.lr"] for row in rows_} == {0.01, 0.02} and all("eval_loss" in row for row in rows_)
    assert os.path.exists(Path(found[0]["folder"]) / "report.html")
