"""Before a run it is said who trains and samples, what memory that takes, and how fast a forward is."""

from typing import Any

import pytest

from alexandra.backends.bind import available
from alexandra.config import validate
from alexandra.ir import cost
from alexandra.lang.nureon import compile_network
from alexandra.train.lm.build import Built, Given, build
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.launch import launch_plan
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.run import run

TEXT = """
LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=AUTO size=16
LAYER ATTENTION name=a heads=2 rope=TRUE
LAYER OUTPUT name=y size=AUTO
CONNECT tokens -> e -> a -> y
"""
ROWS = [{"prompt": f"{i:02}+", "completion": str(i % 10)} for i in range(40)]
BACKEND = "native" if not available("native") else "reference"


def built(stage: str, **sections: dict[str, Any]) -> Built:
    given = Given(ModelFolder(compile_network(TEXT)), ROWS, rewards=(len_of,) if stage == "grpo" else ())
    settings = {"stage": stage, "model": {"backend": BACKEND}, "data": {"held_out": 0.0}, **sections}
    return build(validate(settings, Recipe, "a test"), given)


def len_of(completion: str) -> float:
    return float(len(completion))


def test_a_policy_gradient_run_names_its_engines_and_counts_its_rows() -> None:
    one = built("grpo", rollout={"prompts": 3, "group": 5, "max_tokens": 4, "staleness": 2})
    plan = launch_plan(one)
    assert (plan.rows, plan.micro, plan.length) == (15, 15, one.stage.settings.length)  # type: ignore[attr-defined]
    assert plan.parameters == plan.trained == cost.parameters(one.model.graph)
    text = "\n".join(plan.lines())
    assert "up to 2 updates ahead" in text and "weighted cross-entropy" in text
    if BACKEND == "native":
        assert "update: native engine" in text and "rollouts: native decoder" in text
    assert plan.training_tokens_per_second == pytest.approx(plan.forward_tokens_per_second / 3) and "tokens/s" in text


def test_memory_is_the_cost_models_and_falls_with_the_micro_batch() -> None:
    other = {"backend": "reference"}
    whole = launch_plan(built("sft", train={"batch": 16}, model=other))
    cut = launch_plan(built("sft", train={"batch": 16, "micro": 2}, model=other))
    assert whole.rollouts == "" and not any("rollouts" in line for line in whole.lines())
    assert whole.memory_bytes["weights"] == cut.memory_bytes["weights"] >= 4 * whole.parameters
    assert whole.memory_bytes["activations"] == 8 * cut.memory_bytes["activations"]
    assert sum(size for name, size in whole.memory_bytes.items() if name != "total") == whole.memory_bytes["total"]


@pytest.mark.skipif(BACKEND != "native", reason="the engine plans its memory")
@pytest.mark.parametrize("train", [{"batch": 40}, {"batch": 40, "micro": 2}, {"optimizer": "sgd"}], ids=str)
def test_memory_of_the_engine_is_what_a_step_takes(train: dict[str, Any]) -> None:
    one = built("sft", train=train)
    plan = launch_plan(one)
    one.stage.step(0)
    assert plan.memory_bytes == {**one.model.memory, "total": sum(one.model.memory.values())}
    assert plan.micro == train.get("micro", 32)


def test_a_run_tells_its_plan_before_the_first_step() -> None:
    heard: list[str] = []
    given = Given(ModelFolder(compile_network(TEXT)), ROWS, launch=lambda plan: heard.append(plan.stage))
    settings = {"stage": "sft", "model": {"backend": BACKEND}, "data": {}, "train": {"steps": 2}}
    recipe = validate(settings, Recipe, "a test")
    run(recipe, given=given, tell=lambda *_: heard.append("step"))
    assert heard[0] == "sft" and heard.count("step") >= 2
