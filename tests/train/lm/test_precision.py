"""Fewer bits and less memory by recipe: bf16, fp16 with loss scaling, fp8's conditions, activation checkpointing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.config import validate
from alexandra.errors import AlexandraError, BackendError
from alexandra.ir.graph import Graph
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import SGD, AdamW, CrossEntropy, Program
from alexandra.rng import derive
from alexandra.train.lm.build import Given
from alexandra.train.lm.doctor import diagnose
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.optimization import backend_of
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.run import train

torch = pytest.importorskip("torch")

from alexandra.backends import pytorch_precision  # noqa: E402
from alexandra.backends.base import Execution  # noqa: E402
from alexandra.backends.pytorch import TorchModel  # noqa: E402

LLAMA = Path(__file__).parents[3] / "examples/recipes/small_llama.nl"
SIZES = {"width": 32, "layers": 2, "hidden": 48}
ROWS = [{"prompt": a + b, "completion": b.upper(), "answer": b.upper()} for a in "abcd" for b in "abcd"] * 2


def llama(vocab: int = 12) -> Graph:
    text = LLAMA.read_text()
    for name, old in (("width", 128), ("layers", 4), ("hidden", 336)):
        text = text.replace(f"LET {name} = {old};", f"LET {name} = {SIZES[name]};")
    return compile_network(text.replace("AUTO", str(vocab)) if vocab else text)


def folder() -> ModelFolder:
    return ModelFolder(llama(0))


def data(rows: int = 6) -> tuple[dict[str, np.ndarray], np.ndarray]:
    tokens = derive(1, "tokens").below(12, rows * 9).reshape(rows, 9).astype(np.int32)
    return {"tokens": tokens[:, :-1].copy()}, tokens[:, 1:].copy()


def model(precision: str = "float32", *, checkpoint: bool = False, backend: str = "torch") -> Any:
    return bind(llama(), backend, None, 3, 1, Execution(checkpoint, precision))


def flat(arrays: Any) -> np.ndarray:
    return np.concatenate([np.asarray(array, np.float64).reshape(-1) for array in arrays.values()])


@pytest.mark.parametrize(("precision", "near"), [("bf16", 0.05), ("fp16", 0.01)])
def test_gradients_in_fewer_bits_are_near_those_of_float32(precision: str, near: float) -> None:
    inputs, targets = data()
    exact, low = (
        flat(model(name).loss_and_grads(inputs, targets, CrossEntropy())[1]) for name in ("float32", precision)
    )
    gap = np.linalg.norm(low - exact) / np.linalg.norm(exact)
    assert 1e-6 < gap < near
    run = model(precision)
    state = run.start(Program(CrossEntropy(), AdamW(0.01), batch_size=6), inputs, targets)
    losses = run.run(state, 30)
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in run.module.parameters())
    assert all(
        array.dtype == np.float32 for name, array in state.arrays().items() if "/" in name and "scale" not in name
    )


def test_the_parts_of_an_update_do_not_change_it_but_for_rounding_of_their_kind() -> None:
    inputs, targets = data()
    found = []
    for size, parts in ((6, 1), (2, 3)):
        run = model("bf16")
        before = flat(run.weights)
        run.run(run.start(Program(CrossEntropy(), SGD(0.1), batch_size=size, accumulate=parts), inputs, targets), 1)
        found.append(flat(run.weights) - before)
    assert np.linalg.norm(found[1] - found[0]) < 0.02 * np.linalg.norm(found[0])


def test_loss_scaling_skips_what_overflows_and_is_part_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch_precision, "FIRST_SCALE", 2.0**40)
    monkeypatch.setattr(pytorch_precision, "GROWTH_STEPS", 7)
    inputs, targets = data()
    program = Program(CrossEntropy(), AdamW(0.01), batch_size=6)
    whole, cut, again = model("fp16"), model("fp16"), model("fp16")
    before, state = flat(whole.weights), whole.start(program, inputs, targets)
    whole.run(state, 1)
    assert np.array_equal(flat(whole.weights), before) and state.arrays()["scale/factor"] == 2.0**39
    assert np.isnan(state.grad_norm) and state.step == 1
    whole.run(state, 39)
    assert not np.array_equal(flat(whole.weights), before) and state.grad_norm > 0
    assert 1.0 < state.arrays()["scale/factor"] < 2.0**39
    first = cut.start(program, inputs, targets)
    cut.run(first, 25)
    second = again.start(program, inputs, targets)
    again.load(cut.weights)
    second.restore(first.arrays())
    again.run(second, 15)
    np.testing.assert_array_equal(flat(again.weights), flat(whole.weights))
    np.testing.assert_array_equal(flat(second.arrays()), flat(state.arrays()))


def test_gradients_that_overflow_unscaled_end_the_run() -> None:
    scale = pytorch_precision.LossScale()
    for _ in range(16):
        assert not scale.keeps(torch.tensor(torch.inf))
    assert scale.factor == 1.0
    with pytest.raises(BackendError, match="overflow in fp16") as caught:
        scale.keeps(torch.tensor(torch.nan))
    assert "bf16" in (caught.value.hint or "")


def test_fp8_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    if importlib.util.find_spec("torchao") is None:
        with pytest.raises(BackendError, match="needs torchao") as caught:
            model("fp8")
        assert "pip install torchao" in (caught.value.hint or "")
        monkeypatch.setattr(pytorch_precision, "find_spec", lambda name: object())
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match=r"compute capability 8\.9, this is device 'cpu'"):
            model("fp8")
    with pytest.raises(BackendError, match="unknown precision 'half'"):
        TorchModel(llama(), model().weights, precision="half")
    takes = pytorch_precision.takes_float8
    assert takes(torch.nn.Linear(32, 48), "ffn") and not takes(torch.nn.Linear(32, 12), "logits")
    assert not takes(torch.nn.Linear(32, 16), "q.lora_A.default") and not takes(torch.nn.Embedding(32, 16), "embed")


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_other_backends_refuse_and_name_the_way_out(backend: str) -> None:
    if available(backend):
        pytest.skip(available(backend))
    settings = {"model": {"backend": backend}, "train": {"precision": "bf16", "steps": 1}}
    with pytest.raises(BackendError, match=f"backend '{backend}' does not compute in bf16") as caught:
        train("sft", model=folder(), data=ROWS, settings=settings)
    assert 'backend = "torch"' in (caught.value.hint or "")
    if backend == "reference":
        with pytest.raises(BackendError, match="keeps every value"):
            model(backend=backend, checkpoint=True)


def test_a_recipe_in_bf16_runs_on_torch_and_keeps_its_promises(tmp_path: Path) -> None:
    recipe = validate({"stage": "sft", "model": {}, "data": {}, "train": {"precision": "bf16"}}, Recipe)
    assert backend_of(recipe) == "torch"
    train_keys = {"precision": "bf16", "steps": 8, "batch": 8, "lr": 0.01, "eval_every": 4, "save_every": 4}
    settings = {"train": train_keys}
    whole = train("sft", model=folder(), data=ROWS, folder=tmp_path / "a", settings=settings)
    assert whole.built.model.backend == "torch" and whole.result.last["loss"] < 2.0
    train("sft", model=folder(), data=ROWS, folder=tmp_path / "b", settings=settings)
    for path in (tmp_path / "b" / "checkpoints").iterdir():
        if path.name > "step-00000004.safetensors":
            path.unlink()
    train("sft", model=folder(), data=ROWS, folder=tmp_path / "b", settings=settings, resume=True)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_doctor_takes_rounding_for_no_finding(precision: str) -> None:
    recipe = validate({"stage": "sft", "model": {}, "data": {}, "train": {"precision": precision}}, Recipe)
    assert diagnose(recipe, Given(folder(), ROWS[:16])).findings == ()


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_activation_checkpointing_changes_no_number(backend: str) -> None:
    if available(backend):
        pytest.skip(available(backend))
    found = []
    for key in (False, True):
        keys = {"steps": 5, "batch": 8, "lr": 0.01, "eval_every": 0, "activation_checkpointing": key}
        settings = {"model": {"backend": backend}, "train": keys}
        found.append(train("sft", model=folder(), data=ROWS, settings=settings))
    for name, array in found[0].weights.items():
        np.testing.assert_array_equal(found[1].weights[name], array)
    if backend == "native":
        assert found[1].built.model.memory["arena"] < found[0].built.model.memory["arena"]
    else:
        assert found[1].built.model.module.checkpointed  # type: ignore[attr-defined]


@pytest.mark.parametrize("lora", [0, 4])
def test_transformers_models_do_both(lora: int, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.train.lm import test_hub

    place = test_hub.folder(tmp_path / "m")
    runs = {}
    for name, more in {
        "plain": {},
        "again": {"activation_checkpointing": True},
        "bf16": {"precision": "bf16"},
        "fp16": {"precision": "fp16"},
    }.items():
        keys = {"steps": 3, "batch": 4, "lr": 0.01, "eval_every": 0, **more}
        settings = {"train": keys, "model": {"lora": lora}, "data": {"held_out": 0.0}}
        runs[name] = train("sft", model=place, data=test_hub.ROWS["sft"], settings=settings)
    plain, again = flat(runs["plain"].weights), flat(runs["again"].weights)
    np.testing.assert_allclose(again, plain, atol=1e-6)
    inner = runs["again"].built.model.inside.model  # type: ignore[attr-defined]
    assert any(getattr(layer, "gradient_checkpointing", False) for layer in inner.modules())
    for name in ("bf16", "fp16"):
        low = flat(runs[name].weights)
        assert not np.array_equal(low, plain) and np.abs(low - plain).max() < 0.1
    grpo = {"train": {"steps": 2, "precision": "bf16"}, "rollout": {"prompts": 2, "group": 2, "max_tokens": 4}}
    done = train("grpo", model=place, data=test_hub.ROWS["ppo"], rewards=[test_hub.longer], settings=grpo)
    assert done.result.steps == 2


def test_an_unknown_precision_is_refused_by_the_recipe() -> None:
    with pytest.raises(AlexandraError, match="precision"):
        validate({"stage": "sft", "model": {}, "data": {}, "train": {"precision": "int8"}}, Recipe)
