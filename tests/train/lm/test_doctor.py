"""The doctor finds public mistakes that are built into a stage one at a time, and says nothing of healthy recipes."""

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexandra.config import validate
from alexandra.lang.nureon import compile_network
from alexandra.objectives import preference, tokens
from alexandra.rng import derive
from alexandra.train.lm import batch as batches
from alexandra.train.lm import build as building
from alexandra.train.lm import chat, likelihood, preference_stages, sampling
from alexandra.train.lm.build import Given
from alexandra.train.lm.dialogue import Dialogue
from alexandra.train.lm.doctor import CHECKS, diagnose
from alexandra.train.lm.engines import NativeSampler
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.likelihood import Likelihood
from alexandra.train.lm.policy import NetworkPolicy
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.run import train

NET = """LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=AUTO size=8
LAYER DENSE name=h size=16 activation=tanh
LAYER OUTPUT name=y size=AUTO
CONNECT tokens -> e -> h -> y
"""
LETTERS = "abcdefgh"


def rows(count: int = 60) -> list[dict[str, Any]]:
    draws = derive(5, "rows").below(8, count * 5).reshape(count, 5)
    found = []
    for i, draw in enumerate(draws.tolist()):
        text = "".join(LETTERS[j] for j in draw[: 2 + i % 3])
        answer = "".join(LETTERS[(j + 1) % 8].upper() for j in draw[1 : 2 + i % 3])
        other = answer[::-1] + "H"
        found.append(
            {
                "prompt": text,
                "completion": answer,
                "answer": answer,
                "chosen": answer,
                "rejected": other,
                "label": i % 2 == 0,
            }
        )
    return found


def exact(completion: str, answer: str) -> float:
    """Partly right answers get a part, so that first steps have something to learn."""
    return sum(a == b for a, b in zip(completion, answer, strict=False)) / max(len(completion), len(answer), 1)


def sick(stage: str, *, reward: Callable[..., Any] = exact, net: str = NET, **settings: Any) -> set[str]:
    """The checks that find something."""
    record = {
        "rollout": {"max_tokens": 4, "prompts": 4, "group": 4},
        **settings,
        "stage": stage,
        "model": {},
        "data": settings.get("data", {}),
    }
    rewards = (reward,) if stage in ("grpo", "ppo", "rejection") else ()
    recipe = validate(record, Recipe)
    model = ModelFolder(compile_network(net))
    return {finding.check for finding in diagnose(recipe, Given(model, rows(), rewards=rewards)).findings}


def constitution(never: str) -> str:
    """A file of one principle that can be decided."""
    place = Path(tempfile.mkdtemp()) / "rules.toml"
    words = 'critique = "a"\nrevise = "b"'
    place.write_text(f'clean = "ab"\n[[principle]]\nname = "plain"\n{words}\nnever = "{never}"\n')
    return str(place)


# --- public mistakes, one at a time -----------------------------------------------------------------------


def loss_per_micro_batch(patch: pytest.MonkeyPatch) -> set[str]:
    """TRL 2995, verl 7321: every micro-batch divides by its own count."""
    whole = NetworkPolicy.update

    def update(self: NetworkPolicy, batch: Any, loss: Any, *, constant: bool = False) -> Any:
        size = self.optimization.micro_rows or len(batch.tokens_BT)

        def wrong(logp: np.ndarray) -> tokens.TokenLoss:
            grad = np.zeros_like(logp)
            value = np.zeros(len(logp))
            for first in range(0, len(logp), size):
                part = slice(first, first + size)
                n = tokens.count(batch.mask_BT[part]) * -(-len(logp) // size)
                found = tokens.sft(logp[part], batch.mask_BT[part], n)
                grad[part], value[part] = found.grad_BT, found.rows_B
            return tokens.TokenLoss(value, grad, {"tokens": 1.0})

        return whole(self, batch, wrong, constant=constant)

    patch.setattr(NetworkPolicy, "update", update)
    return sick("sft")


def divided_by_padded_size(patch: pytest.MonkeyPatch) -> set[str]:
    """TRL 3021: padding counts in the mean."""
    patch.setattr(likelihood, "count", lambda mask: float(mask.size))
    return sick("sft")


def mask_of_ones(patch: pytest.MonkeyPatch) -> set[str]:
    """Megatron-Bridge 3359."""
    true = chat.Rendered.mask.fget
    patch.setattr(chat.Rendered, "mask", property(lambda self: [1] * len(true(self))))
    return sick("sft")


def mask_two_tokens_late(patch: pytest.MonkeyPatch) -> set[str]:
    """TRL 6105: the prompt is taken for two tokens long."""
    true = chat.Rendered.mask.fget
    patch.setattr(chat.Rendered, "mask", property(lambda self: [0, 0] + [1] * (len(true(self)) - 2)))
    return sick("sft")


def mask_inverted(patch: pytest.MonkeyPatch) -> set[str]:
    """axolotl 2089: the user's turns are learnt."""
    true = chat.Rendered.mask.fget
    patch.setattr(chat.Rendered, "mask", property(lambda self: [1 - m for m in true(self)]))
    return sick("sft")


def end_not_learnt(patch: pytest.MonkeyPatch) -> set[str]:
    """The token that ends an answer is masked."""
    patch.setitem(chat.TEMPLATES, "plain", chat.Template(("", ""), ("", ""), ("", "<eos>"), ("", ""), learn_end=False))
    return sick("sft")


def prompt_in_preferences(patch: pytest.MonkeyPatch) -> set[str]:
    """An origin's DPO: the prompt counts in the answer's log-probability."""
    true = Dialogue.answer

    def answer(self: Any, prompt: Any, text: str) -> batches.Row:
        row = true(self, prompt, text)
        return batches.Row(row.tokens, [0] + [1] * (len(row.tokens) - 1))

    patch.setattr(Dialogue, "answer", answer)
    return sick("dpo")


def padding_in_preferences(patch: pytest.MonkeyPatch) -> set[str]:
    """An origin's DPO: a mean over all positions, padding too."""

    def spread(side: Any, slope_B: Any, per_token: bool) -> Any:
        return slope_B[:, None] * side.mask_BT / side.mask_BT.shape[1]

    patch.setattr(preference, "_spread", spread)
    return sick("dpo")


def moments_not_saved(patch: pytest.MonkeyPatch) -> set[str]:
    """axolotl 2744: the optimiser starts again."""
    true = NetworkPolicy.restore
    patch.setattr(
        NetworkPolicy, "restore", lambda self, a: true(self, {n: x for n, x in a.items() if not n.startswith("run/")})
    )
    return sick("sft")


def data_starts_again(patch: pytest.MonkeyPatch) -> set[str]:
    """torchtitan 3907: a resumed run reads its first rows again."""
    true = Likelihood.batch

    def batch(self: Any, number: int) -> Any:
        self.seen = getattr(self, "seen", -1) + 1
        return true(self, self.seen)

    patch.setattr(Likelihood, "batch", batch)
    return sick("sft")


def same_rows_every_step(patch: pytest.MonkeyPatch) -> set[str]:
    """reasoning-gym's neighbours: every step draws the same."""
    true = likelihood.rows_of_step
    patch.setattr(likelihood, "rows_of_step", lambda seed, count, batch, number: true(seed, count, batch, 0))
    return sick("sft")


def random_by_the_clock(patch: pytest.MonkeyPatch) -> set[str]:
    """A generator that nobody seeded."""
    true = likelihood.rows_of_step
    patch.setattr(likelihood, "rows_of_step", lambda s, c, b, n: true(time.perf_counter_ns() % 9973, c, b, n))
    return sick("sft")


def gradient_of_another_scale(patch: pytest.MonkeyPatch) -> set[str]:
    """ms-swift 10117: the gradient is divided once more than the loss."""
    true = likelihood.sft

    def sft(*given: Any, **settings: Any) -> tokens.TokenLoss:
        found = true(*given, **settings)
        return tokens.TokenLoss(found.rows_B, found.grad_BT / 4, found.stats)

    patch.setattr(likelihood, "sft", sft)
    return sick("sft")


def reference_of_other_tokens(patch: pytest.MonkeyPatch) -> set[str]:
    """The reference was computed over rows in another order."""
    true = preference_stages.reference_logprobs
    patch.setattr(preference_stages, "reference_logprobs", lambda *given: true(*given)[::-1])
    return sick("dpo")


def sampler_of_other_weights(patch: pytest.MonkeyPatch) -> set[str]:
    """verl PR 3694: the sampler's log-probabilities are not the trainer's."""
    true, read = sampling.draw, NativeSampler.read

    def draw(logits: Any, settings: Any, uniform: float) -> tuple[int, float]:
        token, logp = true(logits * 0.7, settings, uniform)
        return token, logp

    def older(self: NativeSampler) -> None:
        read(self)
        for array in self.arrays.values():
            array *= 0.9

    patch.setattr(sampling, "draw", draw)
    patch.setattr(NativeSampler, "read", older)
    return sick("grpo")


def reward_of_length(patch: pytest.MonkeyPatch) -> set[str]:
    """A verifier whose verdict does not depend on the claim."""
    return sick("grpo", reward=lambda completion: 0.5)


def reward_for_nothing(patch: pytest.MonkeyPatch) -> set[str]:
    """An empty answer gets the full reward."""
    return sick("grpo", reward=lambda completion, answer: float(completion in ("", answer)))


def judge_that_always_abstains(patch: pytest.MonkeyPatch) -> set[str]:
    def late(completion: str) -> float:
        raise TimeoutError

    return sick("grpo", reward=late)


def answers_cut_away(patch: pytest.MonkeyPatch) -> set[str]:
    """Rows whose answer lies behind the length limit vanish."""
    return sick("sft", data={"length": 3})


def warm_up_longer_than_training(patch: pytest.MonkeyPatch) -> set[str]:
    return sick("sft", train={"steps": 5, "warmup": 100})


def rate_of_another_optimiser(patch: pytest.MonkeyPatch) -> set[str]:
    return sick("sft", train={"lr": 0.5})


def held_out_rows_in_training(patch: pytest.MonkeyPatch) -> set[str]:
    true = building.read_rows
    patch.setattr(
        building, "read_rows", lambda *given: (lambda own: replace(own, train=own.train + own.held_out))(true(*given))
    )
    return sick("sft")


def reward_that_lets_nothing_pass(patch: pytest.MonkeyPatch) -> set[str]:
    return sick("rejection", rejection={"at_least": 1.5})


def principle_that_nothing_keeps(patch: pytest.MonkeyPatch) -> set[str]:
    return sick("constitution", constitution={"path": constitution(never="[A-H]"), "learn": 1})


MISTAKES = {
    reward_that_lets_nothing_pass: "reward",
    principle_that_nothing_keeps: "principles",
    loss_per_micro_batch: "split",
    divided_by_padded_size: "split",
    mask_of_ones: "mask",
    mask_two_tokens_late: "mask",
    mask_inverted: "mask",
    end_not_learnt: "end",
    prompt_in_preferences: "mask",
    padding_in_preferences: "split",
    moments_not_saved: "resume",
    data_starts_again: "resume",
    same_rows_every_step: "repeat",
    random_by_the_clock: "repeat",
    gradient_of_another_scale: "slope",
    reference_of_other_tokens: "reference",
    sampler_of_other_weights: "sampler",
    reward_of_length: "reward",
    reward_for_nothing: "reward",
    judge_that_always_abstains: "reward",
    answers_cut_away: "length",
    warm_up_longer_than_training: "settings",
    rate_of_another_optimiser: "settings",
    held_out_rows_in_training: "leak",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_public_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MISTAKES[mistake] in mistake(monkeypatch)


HEALTHY = [
    (stage, {"train": {"batch": batch, "micro": micro, "lr": lr, "per_sequence": per}})
    for stage, batch, micro, lr, per in itertools.product(
        ("sft", "dpo", "orpo", "kto"), (4, 16), (0, 2), (1e-3, 0.05), (False,)
    )
]
HEALTHY += [("sft", {"train": {"per_sequence": True}}), ("sft", {"data": {"template": "chat"}}), ("pretrain", {})]
HEALTHY += [
    ("grpo", {"rollout": {"variant": v, "max_tokens": 4, "prompts": 4, "group": 4}}) for v in ("grpo", "dapo", "gspo")
]
HEALTHY += [(stage, {"seed": seed}) for stage in ("sft", "dpo", "grpo") for seed in (1, 2, 3)]
HEALTHY += [("dpo", {"dpo": {"loss": loss}}) for loss in ("hinge", "ipo", "robust")]
HEALTHY += [("reward", {"seed": 1})]


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_a_healthy_recipe_is_healthy(stage: str) -> None:
    assert sick(stage) == set()


@pytest.mark.slow
def test_fifty_healthy_recipes_give_no_alarm() -> None:
    assert len(HEALTHY) >= 50
    for stage, settings in HEALTHY:
        given = [{"text": row["prompt"] + row["completion"]} for row in rows()] if stage == "pretrain" else None
        if given is None:
            assert sick(stage, **settings) == set(), (stage, settings)
        else:
            recipe = validate({"stage": stage, "model": {}, "data": {"length": 16}}, Recipe)
            assert diagnose(recipe, Given(ModelFolder(compile_network(NET)), given)).findings == ()


def test_every_check_has_a_mistake_that_only_it_was_made_for() -> None:
    assert set(MISTAKES.values()) | {"gradients", "adapter"} == set(CHECKS)  # those two have tests of their own
    assert len(MISTAKES) >= 20


def test_a_recipe_that_cannot_start_is_an_error_before_any_check(tmp_path: Path) -> None:
    from alexandra.errors import UsageError

    with pytest.raises(UsageError, match="at least one reward"):
        diagnose(
            validate({"stage": "grpo", "model": {}, "data": {}}, Recipe),
            Given(ModelFolder(compile_network(NET)), rows()),
        )


def test_rejection_and_constitution_have_checks_and_a_healthy_recipe_is_healthy() -> None:
    assert sick("rejection", rejection={"at_least": 0.5}) == set()
    assert sick("constitution", constitution={"path": constitution(never="#"), "learn": 1, "rounds": 1}) == set()


def test_distillation_is_looked_at_like_fine_tuning(tmp_path: Path) -> None:
    taught = train("sft", model=ModelFolder(compile_network(NET)), data=rows(), folder=tmp_path / "t",
                   settings={"train": {"steps": 3, "eval_every": 0}})  # fmt: skip
    record: dict[str, Any] = {"stage": "distill", "model": {}, "data": {}, "distill": {"teacher": str(taught.model)}}
    record["tokenizer"] = {"path": str(taught.model)}
    found = diagnose(validate(record, Recipe), Given(ModelFolder(compile_network(NET)), rows()))
    assert found.findings == ()
    assert {"mask", "end", "split", "slope", "resume", "gradients"} <= set(found.passed)


def test_what_there_is_no_time_for_is_named_and_not_passed() -> None:
    recipe = validate({"stage": "sft", "model": {}, "data": {}}, Recipe)
    given = Given(ModelFolder(compile_network(NET)), rows())
    none = diagnose(recipe, given, seconds=0.0)
    assert none.passed == () and none.findings == () and set(none.skipped) == set(CHECKS)
    assert none.skipped["split"] == "no time left of 0 s"


def test_a_run_that_would_end_too_late_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = validate({"stage": "sft", "model": {}, "data": {}}, Recipe)
    given, whole = Given(ModelFolder(compile_network(NET)), rows()), Likelihood.step
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def slow(self: Likelihood, number: int) -> Any:
        clock[0] += 7.0
        return whole(self, number)

    monkeypatch.setattr(Likelihood, "step", slow)
    found = diagnose(recipe, given, seconds=30.0)
    assert found.findings == () and found.seconds <= 30.0 + 28.0
    late = {name for name, why in found.skipped.items() if why == "no time left of 30 s"}
    assert "resume" in late and not late & {"mask", "end", "leak"}


def test_a_merge_that_loses_the_adapters_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.train.lm import test_hub

    from alexandra.backends import pytorch_hub

    record = {"stage": "sft", "model": {"path": str(test_hub.folder(tmp_path / "m")), "lora": 4}, "data": {}}
    recipe, given = validate(record, Recipe), Given(data=test_hub.ROWS["sft"])
    healthy = diagnose(recipe, given)
    assert "adapter" in healthy.passed and healthy.findings == ()
    whole = pytorch_hub._merged_copy

    def lost(model: Any) -> Any:
        merged = whole(model)
        merged.load_state_dict(pytorch_hub.load(tmp_path / "m", lora=None, seed=0).model.state_dict())
        return merged

    monkeypatch.setattr(pytorch_hub, "_merged_copy", lost)
    assert "adapter" in {finding.check for finding in diagnose(recipe, given).findings}
