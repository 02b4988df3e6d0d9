"""What training learns from nothing on two cores: text, and answers that a verifier accepts.

    python benchmarks/learning.py shakespeare [--threads 2] [--steps 3000] [--json out.json]
    python benchmarks/learning.py sort reverse brackets level1 level2 [--seed 0] [--threads 2]
    python benchmarks/learning.py preferences

shakespeare is examples/recipes/shakespeare.toml: nats per character of the last tenth of tiny Shakespeare, which is
never trained on, with samples. The toy tasks warm up by SFT on demonstrations until about a fifth of the answers to
validation prompts are right, then go on by GRPO with verifiers alone (toy_sft.toml, toy_grpo.toml); the figure is exact
match of greedy answers to 1,000 held-out prompts that neither phase nor any decision read. preferences: DPO, ORPO, KTO,
PPO and a reward model from one warm start, each by a measure on held-out prompts that it does not train on. Processor
seconds are counted beside wall time, because a machine may be shared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import alexandra as ax
from alexandra.config import validate
from alexandra.curriculum.items import Item
from alexandra.rng import Stream, derive
from alexandra.statistics import wilson
from alexandra.train.lm.build import Built, Given, build
from alexandra.train.lm.engines import engine_of
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.run import load_recipe
from alexandra.train.lm.run import run as run_recipe
from alexandra.train.lm.sampling import Sampling, complete
from alexandra.verifiers.loading import import_function

RECIPES = Path(__file__).resolve().parents[1] / "examples/recipes"
Row = dict[str, Any]


@dataclass
class Clock:
    """Wall and processor seconds since it was made."""

    wall: float
    cpu: float

    @staticmethod
    def start() -> Clock:
        return Clock(time.perf_counter(), time.process_time())

    def record(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def proportion(right: Sequence[bool]) -> dict[str, float]:
    """A share with Wilson's 95 % interval."""
    value, low, high = wilson(sum(right) / len(right), len(right), 0.95)
    return {"value": value, "low": low, "high": high, "n": len(right)}


# --- text ---------------------------------------------------------------------------------------------------


def shakespeare(options: argparse.Namespace) -> dict[str, Any]:
    extra = [f"model.threads={options.threads}", f"seed={options.seed}"]
    extra += [f"train.steps={options.steps}"] if options.steps else []
    recipe = load_recipe(RECIPES / "shakespeare.toml", extra)
    data = os.environ.get("ALEXANDRA_DATA")
    if data:
        place = str(Path(data) / "lm_text/tinyshakespeare_train.txt.gz")
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": place})})
    clock = Clock.start()

    def tell(text: str, done: int, total: int) -> None:
        if done % 100 == 0:
            say(f"{done}/{total} {text} {clock.record()}")

    folder = options.folder or Path(tempfile.mkdtemp())
    done = run_recipe(recipe, folder=folder / "shakespeare", base=RECIPES, tell=tell)
    policy, tokenizer = done.built.stage.policy, done.built.tokenizer  # type: ignore[attr-defined]
    seconds = clock.record()
    prompts = [tokenizer.encode(text) for text in ("ROMEO:\n", "First Citizen:\n")]
    sampling = Sampling(200, temperature=0.8)
    texts = complete(policy, prompts, sampling, [derive(options.seed, "sample", i) for i in range(len(prompts))])
    return {
        "steps": recipe.train.steps,
        "tokens": recipe.train.steps * recipe.train.batch * recipe.data.length,
        "parameters": sum(array.size for array in done.weights.values()),
        "threads": options.threads,
        "curve": [{"step": step, **numbers} for step, numbers in done.result.measures],
        "nats_per_character": done.result.measures[-1][1]["eval_loss"],
        "samples": [tokenizer.decode([*p, *one.tokens]) for p, one in zip(prompts, texts, strict=True)],
        **seconds,
    }


# --- answers that can be checked ----------------------------------------------------------------------------


def sorting(stream: Stream) -> tuple[str, str]:
    digits = [str(i) for i in stream.at(1).below(10, 3 + int(stream.at(0).below(4, 1)[0]))]
    return "".join(digits) + "=", "".join(sorted(digits))


def reverse_and_copy(stream: Stream) -> tuple[str, str]:
    text = "".join("abcdefgh"[int(i)] for i in stream.at(1).below(8, 3 + int(stream.at(0).below(3, 1)[0])))
    return text + "=", text[::-1] + "|" + text


def balancing(stream: Stream) -> tuple[str, str]:
    """A beginning of nested brackets; the answer closes what is open."""
    opened, text = "", ""
    closing = {"(": ")", "[": "]", "{": "}"}
    length = 5 + int(stream.at(0).below(6, 1)[0])
    for i, word in enumerate(stream.at(1).below(7, length).tolist()):
        if opened and word < 3 and i:
            text, opened = text + closing[opened[-1]], opened[:-1]
        elif len(opened) < 7:
            mark = "([{"[word % 3]
            text, opened = text + mark, opened + mark
    opened, text = (opened, text) if opened else ("(", text + "(")
    return text + "=", "".join(closing[mark] for mark in reversed(opened))


def shifting(stream: Stream) -> tuple[str, str]:
    """Letters, and the capital of the letter after each."""
    draws = [int(i) for i in stream.below(8, 5)]
    return "".join("abcdefgh"[i] for i in draws) + "=", "".join("ABCDEFGH"[(i + 1) % 8] for i in draws[:3])


def toy(make: Callable[[Stream], tuple[str, str]]) -> Callable[[int], tuple[list[Row], list[Row]]]:
    """(training, held-out) rows, both as `make` draws them; held-out prompts are distinct and in no training row."""

    def rows(seed: int) -> tuple[list[Row], list[Row]]:
        held: dict[str, Row] = {}
        train: list[Row] = []
        number = 0
        while len(train) < 7500:
            prompt, answer = make(derive(seed, "toy", number))
            row = {"prompt": prompt, "completion": answer, "answer": answer}
            if len(held) < 1500:
                held[prompt] = row
            elif prompt not in held:
                train.append(row)
            number += 1
        return train, list(held.values())

    return rows


def carried(item: Item) -> tuple[str, str]:
    """A level 1 item in pairs of places, units first; of the result the sign, then each place with what it carries."""
    op, first, second = str(item.expr).strip("()").split()
    pairs = "".join(a + b for a, b in zip(first.zfill(3)[::-1], second.zfill(3)[::-1], strict=True))
    above, below = (int(first), int(second)) if op == "+" else sorted((int(first), int(second)), reverse=True)
    text, carry = "-" if int(item.expected) < 0 else "+", 0
    for place in (1, 10, 100):
        a, b = above // place % 10, below // place % 10
        value = a + b + carry if op == "+" else a - b - carry
        carry = int(not 0 <= value < 10)
        text += f"{value % 10}{carry}"
    return f"{op}{pairs}=", text


def columned(item: Item) -> tuple[str, str]:
    """A level 2 item as a list of operations and its derivation in columns, which ends with the item's number."""
    columns = module_of("columns.py:judged")
    lines = columns.operations(item.expr)
    answer = columns.solve(lines)
    assert columns.value(answer) == item.expected, f"{item.expr} is {item.expected}, not {answer}"
    return columns.question(lines), answer


def curriculum(level: int, write: Callable[[Item], tuple[str, str]]) -> Callable[[int], tuple[list[Row], list[Row]]]:
    """Items of a level; the curriculum's own splits keep training and test apart."""

    def rows(seed: int) -> tuple[list[Row], list[Row]]:
        parts: dict[str, list[Row]] = {"train": [], "test_iid": []}
        for item in ax.curriculum.level(level, count=40000, seed=seed):
            if item.split in parts:
                prompt, answer = write(item)
                parts[item.split].append({"prompt": prompt, "completion": answer, "answer": answer})
        return parts["train"], parts["test_iid"][:1500]

    return rows


TASKS: dict[str, Callable[[int], tuple[list[Row], list[Row]]]] = {
    "sort": toy(sorting),
    "reverse": toy(reverse_and_copy),
    "brackets": toy(balancing),
    "level1": curriculum(1, carried),
    "level2": curriculum(2, columned),
}
SIZES = {"width": 96, "layers": 3, "hidden": 256}
OWN_SIZES = {"level2": {"width": 128, "hidden": 352}}  # where they are not SIZES
WARM = {"level2": ["train.optimizer=muon", "train.lr=0.004"]}  # of SFT, where it is not the recipe's
SHORTEST = {"level2": 40}  # characters of a demonstration: longer ones show more kinds of steps
AGAIN = {"level2": (60, 60, 80, 80)}  # prompts whose demonstration is longer than one of these are asked once more
# Of GRPO, where it is not the recipe's. Level 1 has hundreds of small facts: where the policy is sure and wrong it
# never draws right again unless a reference keeps that possible; and most groups soon agree, so others are drawn. An
# answer on level 2 has 45 steps on average, so each is judged by itself.
OWN = {
    "brackets": ["train.steps=4000"],
    "level1": ["train.steps=5000", "rollout.kl=0.1", "rollout.redraws=3"],
    "level2": [
        'reward.functions=["columns.py:judged"]',
        "rollout.credit=verdicts",
        "rollout.variant=dr_grpo",
        "rollout.prompts=128",
        "rollout.group=1",
        "rollout.temperature=0.6",
        "train.optimizer=muon",
        "train.muon_lr=0.007",
        "train.lr=0.001",
        "train.steps=1400",
    ],
}


def answers(built: Built, rows: Sequence[Row], tokens: int) -> list[bool]:
    """Whether the greedy answer to each prompt is the right one."""
    stage: Any = built.stage
    policy, tokenizer = stage.actor.policy if hasattr(stage, "actor") else stage.policy, built.tokenizer
    sample, right = engine_of(policy).sample, list[bool]()
    for first in range(0, len(rows), 250):
        part = rows[first : first + 250]
        prompts = [tokenizer.encode(row["prompt"]) for row in part]
        sampling = Sampling(tokens, temperature=0.0, stop=(tokenizer.eos,))
        made = sample(prompts, sampling, [derive(0)] * len(part))
        right += [tokenizer.decode(one.tokens) == row["answer"] for one, row in zip(made, part, strict=True)]
    return right


def size(row: Row) -> int:
    return len(row["prompt"]) + len(row["answer"])


def warm(train: list[Row], valid: list[Row], options: argparse.Namespace, name: str = "") -> tuple[Built, Row]:
    """SFT until `options.share` of the validation answers are right."""
    values = [f"seed={options.seed}", f"model.threads={options.threads}", *WARM.get(name, [])]
    recipe = load_recipe(RECIPES / "toy_sft.toml", values)
    longest = max(len(row["answer"]) for row in train) + 1
    train = [row for row in train if size(row) >= SHORTEST.get(name, 0)]
    sizes = SIZES | OWN_SIZES.get(name, {}) | options.lets
    graph = ax.compile(RECIPES / "small_llama.nl", constants=sizes)
    built = build(recipe, Given(ModelFolder(graph), train, held_out=[]), RECIPES)
    step, stride, before = 0, 25, built.stage.arrays()
    while step < recipe.train.steps:
        for _ in range(stride):
            built.stage.step(step)
            step += 1
        right = answers(built, valid[:200], longest)
        share = sum(right) / len(right)
        say(f"  sft step {step}: {share:.3f}")
        if stride > 1 and share > 1.2 * options.share:  # too far: again from the last look, step by step
            built.stage.restore(before)
            step, stride = step - stride, 1
        elif share >= options.share:
            break
        else:
            before = built.stage.arrays()
            stride = min(stride, 5) if share else stride
    return built, {"sft_steps": step, "longest": longest}


def verified(name: str, options: argparse.Namespace) -> dict[str, Any]:
    train, held = TASKS[name](options.seed)
    valid, test = held[:500], held[500:]
    clock = Clock.start()
    built, notes = warm(train, valid, options, name)
    before = proportion(answers(built, test, notes["longest"]))
    say(f"{name}: after SFT {before['value']:.3f} {clock.record()}")
    values = [f"seed={options.seed}", f"model.threads={options.threads}", f"rollout.max_tokens={notes['longest']}"]
    values += OWN.get(name, [])
    values += [*options.set, *([f"train.steps={options.steps}"] if options.steps else [])]
    recipe = load_recipe(RECIPES / "toy_grpo.toml", values)
    folder = ModelFolder(built.model.graph, built.model.weights, built.tokenizer)
    asked = train + [row for longer in AGAIN.get(name, ()) for row in train if size(row) > longer]
    after = build(recipe, Given(folder, asked, held_out=[]), RECIPES)
    curve, step = [], 0
    for step in range(recipe.train.steps):
        metrics = after.stage.step(step)
        if step % 40 == 39:
            right = answers(after, valid[:300], notes["longest"])
            curve.append({"step": step + 1, "reward": metrics["reward"], "valid": sum(right) / len(right)})
            say(f"  grpo {curve[-1]} {clock.record()}")
            if curve[-1]["valid"] >= 0.985 or clock.record()["cpu_seconds"] > 60 * options.minutes:
                break
    return {
        "seed": options.seed,
        **notes,
        "after_sft": before,
        "grpo_steps": step + 1,
        "after_grpo": proportion(answers(after, test, notes["longest"])),
        "curve": curve,
        **clock.record(),
    }


def own_mistakes(built: Built, rows: Sequence[Row], seed: int) -> list[str]:
    """A sampled answer to each prompt that is not the right one; the right one reversed where the model never errs."""
    policy, tokenizer = built.stage.policy, built.tokenizer  # type: ignore[attr-defined]
    found = [row["answer"][::-1] + "A" for row in rows]
    for attempt in range(2):
        for first in range(0, len(rows), 250):
            part = rows[first : first + 250]
            prompts = [tokenizer.encode(row["prompt"]) for row in part]
            streams = [derive(seed, "mistakes", attempt, first + i) for i in range(len(part))]
            made = complete(policy, prompts, Sampling(4, stop=(tokenizer.eos,)), streams)
            for i, (one, row) in enumerate(zip(made, part, strict=True)):
                text = tokenizer.decode(one.tokens)
                found[first + i] = text if text and text != row["answer"] else found[first + i]
    return found


# Each stage's own keys; a preference loss wants a smaller rate than likelihood, or both answers lose their probability.
STAGES: dict[str, dict[str, Any]] = {
    "dpo": {"train": {"lr": 3e-4}, "dpo": {"beta": 0.1}},
    "orpo": {"train": {"lr": 2e-3}, "orpo_weight": 1.0},
    "kto": {"train": {"lr": 3e-4}, "kto": {"beta": 0.1}},
    "ppo": {
        "train": {"lr": 5e-4, "steps": 150},
        "rollout": {"prompts": 128, "group": 1, "max_tokens": 4, "epochs": 2, "minibatches": 2, "kl": 0.02},
    },
    "reward": {"train": {"lr": 1e-3}},
}


def preferences(options: argparse.Namespace) -> dict[str, Any]:
    """Each stage from one warm start: greedy exact match on held-out prompts before and after (pairs ranked right for
    the reward model), on answers that shift three letters. A pair is the right answer and a mistake of the warm model's
    own; KTO sees one of the two, PPO the letters that are right."""
    train, held = toy(shifting)(options.seed)
    train, test = train[:4000], held[:500]
    demonstrations = [{**row, "completion": row["answer"]} for row in train]
    clock = Clock.start()
    built, notes = warm(demonstrations, held[500:], options)
    folder = ModelFolder(built.model.graph, built.model.weights, built.tokenizer)
    before = proportion(answers(built, test, 4))
    say(f"preferences: after SFT {before['value']:.3f} {clock.record()}")
    for rows in (train, test):
        for number, (row, bad) in enumerate(zip(rows, own_mistakes(built, rows, options.seed), strict=True)):
            row |= {"chosen": row["answer"], "rejected": bad, "label": number % 2 == 0}
            row["completion"] = row["chosen"] if row["label"] else row["rejected"]
    found: dict[str, Any] = {"seed": options.seed, **notes, "after_sft": before}
    common = {"warmup": 10, "batch": 32, "schedule": "constant", "weight_decay": 0.0, "steps": 250}
    for stage in options.stages:
        more = STAGES[stage]
        record = {"stage": stage, "seed": options.seed, "model": {"backend": "native"}, "data": {"held_out": 0.0}}
        recipe = validate({**record, **more, "train": common | more["train"]}, Recipe)
        letters = module_of("rewards.py:exact")
        rewards = (letters.exact, letters.places) if stage == "ppo" else ()
        after = build(recipe, Given(folder, train, held_out=test, rewards=rewards))
        first = after.stage.evaluate() if stage == "reward" else {}
        for step in range(options.steps or recipe.train.steps):
            numbers = after.stage.step(step)
            if step % 50 == 49 and stage != "reward":
                say(f"    {stage} {step + 1} {sum(answers(after, test[:200], 4)) / 200:.3f} {numbers}")
        if stage == "reward":
            right = [i < round(after.stage.evaluate()["eval_accuracy"] * len(test)) for i in range(len(test))]
            found[stage] = {"before": first["eval_accuracy"], "after": proportion(right)}
        else:
            found[stage] = {"before": before["value"], "after": proportion(answers(after, test, 4))}
        say(f"  {stage}: {found[stage]} {clock.record()}")
    return {**found, **clock.record()}


@cache
def module_of(function: str) -> Any:
    """The module of a recipe's function, "rewards.py:exact"."""
    return sys.modules[import_function(function, RECIPES).__module__]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=["shakespeare", *TASKS, "preferences"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20.0, help="processor minutes of a toy task: ten of two cores")
    parser.add_argument("--let", action="append", default=[], help="a size of the toy tasks' network: width=64")
    parser.add_argument("--set", action="append", default=[], help="a key of toy_grpo.toml: train.lr=0.0003")
    parser.add_argument("--share", type=float, default=0.2, help="of right answers at which the warm start ends")
    parser.add_argument("--stages", nargs="*", default=list(STAGES), help="of preferences")
    parser.add_argument("--folder", type=Path, help="keep runs here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.lets = {name: int(value) for name, value in (text.split("=") for text in options.let)}
    found: dict[str, Any] = {}
    for name in options.sections:
        if name == "shakespeare":
            found[name] = shakespeare(options)
        else:
            found[name] = preferences(options) if name == "preferences" else verified(name, options)
        say(json.dumps({name: {k: v for k, v in found[name].items() if k not in ("curve", "samples")}}))
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
