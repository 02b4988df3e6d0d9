"""What is wrong with a recipe before it costs anything: a few steps on a few of the user's own rows, taken apart.

Every check repeats a public mistake in small: loss masks that cover prompts, losses that depend on how a batch is cut,
runs that do not resume exactly, samplers that disagree with the trainer, rewards that do not depend on the answer. A
check compares the recipe's own machinery with itself under a change that must not matter, or with its data's text.
Nothing is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import AlexandraError
from alexandra.objectives import tokens
from alexandra.rng import derive
from alexandra.train.lm import examples
from alexandra.train.lm.build import Built, Given, build
from alexandra.train.lm.constitutional import Constitutional
from alexandra.train.lm.distill import Distill
from alexandra.train.lm.grpo import GroupPolicy
from alexandra.train.lm.likelihood import Likelihood
from alexandra.train.lm.patient import PLAIN, Check, Diagnosis, Finding, NotApplicable, OutOfTime, Patient, changed_by
from alexandra.train.lm.policy import ends_of
from alexandra.train.lm.ppo import ProximalPolicy
from alexandra.train.lm.preference_stages import Preference
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.rejection import Rejection
from alexandra.train.lm.rewards import Answer
from alexandra.train.lm.scores import RewardModel

ROWS = 8
SECONDS = 60.0
ANSWER_SECONDS = 3.0  # a reward has for an answer
SPLIT_TOLERANCE = 1e-4  # of the largest change of a weight
GAP_TOLERANCE = 1e-3  # between log-probabilities of sampler and trainer


def diagnose(
    recipe: Recipe, given: Given | None = None, base: Path | None = None, rows: int = ROWS, seconds: float = SECONDS
) -> Diagnosis:
    """Run every check on the first `rows` rows, for about `seconds`; what there was no time for is named.

    Raises what `build` raises: a recipe that cannot start at all.
    """
    began = time.monotonic()
    small = _small(recipe, rows)
    kept, folder = given or Given(), base or Path()
    patient = Patient(small, kept, folder, build(small, kept, folder), began + seconds)
    findings: list[Finding] = []
    passed, skipped = [], {}
    for name, check in CHECKS.items():
        try:
            if time.monotonic() > patient.deadline:
                raise OutOfTime
            found = check(patient)
        except NotApplicable as reason:
            skipped[name] = str(reason)
            continue
        except OutOfTime:
            skipped[name] = f"no time left of {seconds:g} s"
            continue
        except AlexandraError as error:
            found = [Finding(name, "while checking", error.message, error.hint or "mend this first")]
        finally:
            patient.rest()
        findings += found
        if not found:
            passed.append(name)
    return Diagnosis(tuple(findings), tuple(passed), skipped, time.monotonic() - began)


def _small(recipe: Recipe, rows: int) -> Recipe:
    """The recipe with batches of at most `rows` rows and short answers, in float32: rounding is no finding."""
    rollout, parts = recipe.rollout, recipe.rollout.minibatches
    prompts = parts * max(1, min(rows, rollout.prompts) // parts)
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"limit": recipe.data.limit or 50 * rows}),
            "train": recipe.train.model_copy(update={"batch": min(recipe.train.batch, rows), "precision": "float32"}),
            "reward": recipe.reward.model_copy(update={"timeout": min(recipe.reward.timeout, ANSWER_SECONDS)}),
            "rollout": rollout.model_copy(update={"prompts": prompts, "max_tokens": min(rollout.max_tokens, 32)}),
        }
    )


# --- text and masks -----------------------------------------------------------------------------------------


def check_mask(patient: Patient) -> list[Finding]:
    """What is learnt is the assistant's text and its end, by the row's own text."""
    stage, tokenizer = patient.built.stage, patient.built.tokenizer
    if not isinstance(stage, Likelihood | Preference | RewardModel) and not _reads_answers(stage):
        raise NotApplicable("this stage learns from what it samples, or from every token")
    found = []
    for where, wanted, row in _learnt_texts(patient)[:ROWS]:
        learnt = [token for token, counts in zip(row.tokens, row.mask, strict=True) if counts]
        if not learnt:
            found.append(
                Finding("mask", where, "no token of this row is learnt", "look at its length and its template")
            )
        elif all(row.mask[1:]) and len(learnt) > len(tokenizer.encode(wanted)) + 2:
            found.append(Finding("mask", where, "every token is learnt, the prompt too", "learn assistant turns only"))
        elif tokenizer.decode(learnt).strip() != wanted.strip() and not wanted.startswith(tokenizer.decode(learnt)):
            text = tokenizer.decode(learnt)
            found.append(
                Finding(
                    "mask", where, f"what is learnt is {text[:60]!r}, the answer {wanted[:60]!r}", "mend the template"
                )
            )
    return found


def _reads_answers(stage: object) -> bool:
    """Whether it is a distillation on given answers."""
    return isinstance(stage, Distill) and stage.settings.on_policy < 1


def _learnt_texts(patient: Patient) -> list[tuple[str, str, Any]]:
    """(where, the text that should be learnt, the row) of the first rows."""
    stage, records = patient.built.stage, patient.built.records
    if isinstance(stage, Likelihood | Distill):
        if len(stage.rows) != len(records):
            return []
        texts = []
        for i, record in enumerate(records[:ROWS]):
            turns = examples.conversation(record, i).messages
            texts.append("".join(turn.content for turn in turns if turn.role == "assistant"))
        return [(f"row {i}", text, row) for i, (text, row) in enumerate(zip(texts, stage.rows, strict=False))]
    assert isinstance(stage, Preference | RewardModel)
    found = []
    for i, (record, pair) in enumerate(zip(records[:ROWS], stage.pairs, strict=False)):
        own = examples.pair(record, i)
        found += [(f"row {i}, chosen", own.chosen, pair.chosen), (f"row {i}, rejected", own.rejected, pair.rejected)]
    return found


def check_end(patient: Patient) -> list[Finding]:
    """A model that never learns to stop answers until it is cut off."""
    stage, end = patient.built.stage, patient.built.tokenizer.eos
    if not isinstance(stage, Likelihood | Preference) and not _reads_answers(stage):
        raise NotApplicable("no answers are given")
    rows = [pair.chosen for pair in stage.pairs] if isinstance(stage, Preference) else getattr(stage, "rows", [])
    ended = [any(token == end and counts for token, counts in zip(r.tokens, r.mask, strict=True)) for r in rows]
    if any(ended):
        return []
    return [
        Finding("end", "every row", "the token that ends an answer is never learnt", "template: <eos> after assistant")
    ]


def check_length(patient: Patient) -> list[Finding]:
    """Rows that are cut lose their answers silently elsewhere; here it is said."""
    stage, length = patient.built.stage, patient.recipe.data.length
    if not isinstance(stage, Likelihood) or not length:
        raise NotApplicable("the length is that of the longest row")
    longer = patient.again(length=0)
    assert isinstance(longer.stage, Likelihood)
    cut = sum(row.positions > length for row in longer.stage.rows)
    lost = len(longer.stage.rows) - len(stage.rows)
    found = []
    if lost:
        found.append(
            Finding(
                "length", "[data] length", f"{lost} rows lose their whole answer at {length} positions", "raise length"
            )
        )
    elif cut > len(longer.stage.rows) // 10:
        found.append(Finding("length", "[data] length", f"{cut} rows are cut at {length} positions", "raise length"))
    return found


def check_leak(patient: Patient) -> list[Finding]:
    """Held-out rows that stand in the training rows measure memory."""
    aside = {repr(sorted(row.items(), key=str)) for row in patient.built.aside}
    if not aside:
        raise NotApplicable("no rows are held out")
    both = sum(repr(sorted(row.items(), key=str)) in aside for row in patient.built.records)
    if not both:
        return []
    return [
        Finding("leak", "[data]", f"{both} training rows are held out too", "remove duplicates, or split by content")
    ]


# --- the same batch, cut otherwise --------------------------------------------------------------------------


def check_split(patient: Patient) -> list[Finding]:
    """Micro-batches, padding and packing must not change a step (TRL PR 6024, verl 7200, TRL 784)."""
    number, whole = patient.first_change
    size = max(float(np.abs(array).max()) for array in whole.values())
    variants: list[tuple[str, dict[str, Any]]] = [("micro = 1", {"micro": 1}), ("micro = 3", {"micro": 3})]
    if not patient.recipe.train.pack and patient.recipe.stage != "pretrain":  # whose length is its data
        variants.append(("7 more positions of padding", {"length": _length(patient.built) + 7}))
    if patient.recipe.stage == "sft" and ends_of(patient.built.model).segments:
        packs = patient.recipe.train.pack
        variants.append(("packing off" if packs else "packing", {"pack": not packs, "length": _length(patient.built)}))
    found = []
    for words, changes in variants:
        other = changed_by(patient.again(**PLAIN, clip=0.0, **changes), number)
        gap = max(float(np.abs(other[name] - array).max()) for name, array in whole.items())
        if gap > SPLIT_TOLERANCE * size:
            text = f"with {words} a step differs by {gap / size:.1%}{_ratio(other, whole)}"
            found.append(Finding("split", "the loss", text, "divide by counts of the whole batch, not of a part"))
    return found


def check_slope(patient: Patient) -> list[Finding]:
    """The loss falls by what its gradient says: -lr |g|^2 for a small step (ms-swift 10117)."""
    stage = patient.built.stage
    own = isinstance(stage, Distill) and stage.samples_itself(0)
    if not isinstance(stage, Likelihood | Preference | Distill) or own:
        raise NotApplicable("the loss of a step is not that of fixed rows")
    lr = 1e-3
    built = patient.again(**{**PLAIN, "lr": lr}, clip=0.0, micro=0)
    before = _fixed_loss(built.stage)
    change = changed_by(built)
    fall = -sum(float((array**2).sum()) for array in change.values()) / lr
    seen = _fixed_loss(built.stage) - before
    if abs(fall) < 1e-9 or abs(seen - fall) <= 0.1 * abs(fall) + 1e-6:
        return []
    text = f"a small step changes the loss by {seen:.3g}, its gradient promises {fall:.3g}"
    return [Finding("slope", "the gradient", text, "the gradient is not that of this loss: look for a factor")]


def _fixed_loss(stage: Any) -> float:
    """The loss of step 0's rows as the weights are now."""
    if isinstance(stage, Likelihood):
        batch = stage.batch(0)
        total = tokens.rows_with_tokens(batch.mask_BT) if stage.settings.per_sequence else tokens.count(batch.mask_BT)
        per_sequence = stage.settings.per_sequence
        return tokens.sft(stage.policy.logprobs(batch), batch.mask_BT, total, per_sequence=per_sequence).value
    return float(stage.loss_of(0))


def _length(built: Built) -> int:
    settings: Any = getattr(built.stage, "settings", None)
    return int(settings.length)


def _ratio(other: Mapping[str, np.ndarray], whole: Mapping[str, np.ndarray]) -> str:
    """The common factor between two changes, when there is one."""
    up = sum(float((other[n] * whole[n]).sum()) for n in whole)
    down = sum(float((whole[n] ** 2).sum()) for n in whole)
    factor = up / down if down else math.nan
    return f" (about {factor:.2f} times as large)" if abs(factor - 1) > 0.01 else ""


def check_resume(patient: Patient) -> list[Finding]:
    """Two steps, a checkpoint, two steps more are four steps, bit for bit (torchtitan 809, TRL 3247)."""
    whole, first, second = (patient.again() for _ in range(3))
    for number in range(4):
        whole.stage.step(number)
    for number in range(2):
        first.stage.step(number)
    second.stage.restore({name: np.array(array) for name, array in first.stage.arrays().items()})
    for number in range(2, 4):
        second.stage.step(number)
    differ = [name for name, array in whole.stage.arrays().items() if not _same(array, second.stage.arrays().get(name))]
    if not differ:
        return []
    return [
        Finding(
            "resume",
            differ[0],
            f"{len(differ)} arrays differ after a restart",
            "put everything that decides a step into arrays()",
        )
    ]


def _same(array: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and array.shape == other.shape and array.tobytes() == other.tobytes()


def check_repeat(patient: Patient) -> list[Finding]:
    """Equal seeds give equal steps; another step takes other rows."""
    one, two = patient.again(), patient.again()
    first, again = changed_by(one), changed_by(two)
    if any(not _same(first[name], again[name]) for name in first):
        return [
            Finding(
                "repeat", "the first step", "two runs with one seed differ", "draw every random number from the seed"
            )
        ]
    stage = one.stage
    many = isinstance(stage, Likelihood) and len(stage.rows) > 2 * stage.settings.batch_rows
    if isinstance(stage, Likelihood) and many and (stage.batch(0).tokens_BT == stage.batch(1).tokens_BT).all():
        return [
            Finding(
                "repeat", "the second step", "it reads the rows of the first again", "advance the data with the step"
            )
        ]
    return []


def check_gradients(patient: Patient) -> list[Finding]:
    """A parameter that no step changes is not connected to the loss; A of an adapter waits for its B, which is 0."""
    _, change = patient.first_change
    waits = {n for n in change if "lora_A" in n and change.get(n.replace("lora_A", "lora_B"), np.zeros(1)).any()}
    frozen = patient.built.updates["grad_norm"].optimization.frozen
    still = [
        n
        for n, a in change.items()
        if n not in waits and not a.any() and not any(n == f or n.startswith(f) for f in frozen)
    ]
    if not still:
        return []
    text = f"{len(still)} of {len(change)} parameters get no gradient"
    return [Finding("gradients", still[0], text, "connect or freeze them")]


# --- preferences and rewards --------------------------------------------------------------------------------


def check_reference(patient: Patient) -> list[Finding]:
    """Before the first step policy and reference agree: DPO's loss is ln 2, its margins are 0."""
    stage, dpo = patient.again().stage, patient.recipe.dpo
    if not isinstance(stage, Preference) or patient.recipe.stage != "dpo" or dpo.loss != "sigmoid" or dpo.simpo_margin:
        raise NotApplicable("only the sigmoid loss of DPO has a known first value")
    loss = stage.step(0)["loss"]
    if abs(loss - math.log(2)) < 1e-4:
        return []
    return [
        Finding(
            "reference",
            "the first step",
            f"DPO's loss is {loss:.4f}, ln 2 = 0.6931 is due",
            "compute the reference before training, over the same tokens",
        )
    ]


def check_sampler(patient: Patient) -> list[Finding]:
    """Sampled log-probabilities are those that the trainer computes (vLLM RFC 48305, verl PR 3694)."""
    stage = patient.again().stage
    if not isinstance(stage, GroupPolicy):
        raise NotApplicable("nothing is sampled, or its log-probabilities are not used")
    gaps = [stage.step(number).get("sampler_gap") for number in range(2)]
    known = [gap for gap in gaps if gap is not None]
    if not known:
        raise NotApplicable("all answers of the first steps had one reward")
    if max(known) <= GAP_TOLERANCE:
        return []
    return [
        Finding(
            "sampler",
            "sampled answers",
            f"they differ by {max(known):.3g} from the trainer's log-probabilities",
            "sample with the weights and the precision that are trained",
        )
    ]


def check_reward(patient: Patient) -> list[Finding]:
    """A reward depends on the answer; one that is the same for everything teaches nothing or can be gamed."""
    stage = patient.again().stage
    if not isinstance(stage, GroupPolicy | ProximalPolicy | Rejection):
        raise NotApplicable("no rewards")
    tasks = stage.tasks[:ROWS]
    found = []
    right: list[Answer] = []
    for task in tasks:
        known = _own_answer(task.prompt.fields)
        if known is not None:
            right.append(Answer(task.prompt.text, known, task.prompt.fields))
    wrong = [replace(answer, completion=text) for answer, text in zip(right, _others(right), strict=True)]
    empty = [Answer(task.prompt.text, "", task.prompt.fields) for task in tasks]
    mix = stage.actor.mix
    judged = [mix.judge(answers) for answers in (right, wrong, empty)]
    good, bad, nothing = (_mean([one.reward for one in given]) for given in judged)
    least = stage.settings.at_least if isinstance(stage, Rejection) else -math.inf
    if right and all(one.reward is None or one.reward < least for one in judged[0]):
        what = f"at_least = {least:g} lets none of them pass, they get {good:.3g}"
        found.append(Finding("reward", "the data's own answers", what, "lower [rejection] at_least"))
    if right and math.isnan(good):
        found.append(
            Finding(
                "reward",
                "the data's own answers",
                "every judge abstains on them",
                "look at the judge's columns and its time limit",
            )
        )
    elif right and not good > bad:
        found.append(
            Finding(
                "reward",
                "the data's own answers",
                f"they get {good:.3g}, answers to other prompts {bad:.3g}",
                "compare with the row's own answer",
            )
        )
    if right and not math.isnan(nothing) and nothing >= good:
        found.append(
            Finding(
                "reward",
                "empty answers",
                f"they get {nothing:.3g}, right ones {good:.3g}",
                "give an empty answer the lowest reward",
            )
        )
    return found


def _others(answers: Sequence[Answer]) -> list[str]:
    """An answer that differs from each one's own."""
    texts = [answer.completion for answer in answers]
    return [next((t for t in (*texts[i + 1 :], *texts[:i]) if t != own), own + " 0") for i, own in enumerate(texts)]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan


def check_settings(patient: Patient) -> list[Finding]:
    """Settings that cannot mean what they say."""
    train, found = patient.recipe.train, []
    if train.warmup >= train.steps and train.schedule == "cosine":
        found.append(
            Finding(
                "settings", "[train] warmup", f"{train.warmup} steps of warm-up in {train.steps} steps", "lower warmup"
            )
        )
    if train.optimizer != "sgd" and train.lr > 0.1:
        found.append(Finding("settings", "[train] lr", f"{train.lr:g} is a step of SGD, not of Adam", "try 0.001"))
    if train.save_every == 0 and train.steps > 1000:
        found.append(Finding("settings", "[train] save_every", "a long run without checkpoints", "save_every = 100"))
    return found


def check_adapter(patient: Patient) -> list[Finding]:
    """Adapters that are merged into the weights answer as adapters do (PEFT 1043, 1388, 2502)."""
    if not patient.recipe.model.lora:
        raise NotApplicable("no adapters are trained")
    built = patient.again(lr=1e-2, warmup=0, schedule="constant")
    for number in range(2):
        built.stage.step(number)
    tokens_BT = derive(0, "adapter").below(built.tokenizer.vocab_size, 64).reshape(4, 16).astype(np.int32)
    gap = built.merge_gap(tokens_BT)
    if gap <= GAP_TOLERANCE:
        return []
    text = f"merged, their logits differ by {gap:.3g} from those of the adapters"
    return [Finding("adapter", "the adapters", text, "look at the layers that are merged (PEFT: leave merge off)")]


def check_principles(patient: Patient) -> list[Finding]:
    """A formal principle decides: the data's own answers, where there are any, do not all break it."""
    stage = patient.built.stage
    if not isinstance(stage, Constitutional):
        raise NotApplicable("no constitution is taught")
    rules = stage.critic.constitution
    if not rules.formal:
        raise NotApplicable("no principle can be checked by rule")
    tasks = [task.prompt for task in stage.tasks[:ROWS]]
    known = [(p.text, text) for p in tasks if (text := _own_answer(p.fields)) is not None]
    if not known:
        raise NotApplicable("the rows hold no answers that a principle could judge")
    found = []
    for principle in rules.formal:
        if all(rules.broken(principle, *one) for one in known):
            what = f"all {len(known)} answers of the data break it"
            found.append(Finding("principles", principle.name, what, "look at its pattern or function"))
    return found


def _own_answer(fields: Mapping[str, Any]) -> str | None:
    return next((str(fields[name]) for name in ("answer", "completion", "solution") if name in fields), None)


CHECKS: dict[str, Check] = {
    "mask": check_mask,
    "end": check_end,
    "length": check_length,
    "leak": check_leak,
    "split": check_split,
    "slope": check_slope,
    "repeat": check_repeat,
    "resume": check_resume,
    "gradients": check_gradients,
    "reference": check_reference,
    "sampler": check_sampler,
    "reward": check_reward,
    "principles": check_principles,
    "adapter": check_adapter,
    "settings": check_settings,
}
