"""A constitution is read, checked and taught; a model that criticises itself comes to keep it on prompts of its own."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import alexandra as ax
from alexandra.backends.bind import available
from alexandra.errors import ConfigError, UsageError
from alexandra.lang.nureon import compile_network
from alexandra.rng import derive
from alexandra.train.lm.chat import PLAIN, Message
from alexandra.train.lm.constitution import DEFAULT, Constitution, Principle, read_constitution, rule_judges
from alexandra.train.lm.critic import Critic, CriticJudge, longest_exchange
from alexandra.train.lm.dialogue import Dialogue
from alexandra.train.lm.folder import ModelFolder, read_model
from alexandra.train.lm.rewards import Answer
from alexandra.train.lm.sampling import Completion, Sampling
from alexandra.train.lm.tokenizer import CharTokenizer

RULES = r"""
clean = "ok"
[[principle]]
name = "helpful"
critique = "?thing "
revise = "!"
echo = '[a-z]+$'
[[principle]]
name = "harmless"
critique = "?rude "
revise = "!"
never = '\b(fool|oaf|pest)\b'
[[principle]]
name = "honest"
critique = "?count "
revise = "!"
echo = '\d'
[[principle]]
name = "ethical"
critique = "?please "
revise = "!"
must = '^please '
"""
THINGS = ["bun", "cup", "egg", "fig", "hat", "jug", "map", "nut", "oar", "pen"]
RUDE = ["fool", "oaf", "pest"]
PROMPTS = [f"{n} {thing}" for n in range(1, 10) for thing in THINGS]
TOKENIZER = CharTokenizer.of("abcdefghijklmnopqrstuvwxyz0123456789 .?!")
NET = """
BEGIN
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=embed vocab=AUTO size=64
  REPEAT 2 AS block
  BEGIN
    RESIDUAL BEGIN LAYER RMSNORM name=an LAYER ATTENTION name=attention heads=4 rope=10000 END
    RESIDUAL BEGIN LAYER RMSNORM name=fn LAYER FFN name=ffn hidden=128 END
  END
  LAYER RMSNORM name=norm
  LAYER OUTPUT name=logits size=AUTO bias=FALSE
  CONNECT tokens -> embed -> block -> norm -> logits
END
"""


def never_called(name: str) -> object:
    raise AssertionError(name)


def constitution(folder: Path) -> Constitution:
    (folder / "rules.toml").write_text(RULES)
    return read_constitution(folder / "rules.toml", never_called)


def reply(prompt: str, number: int) -> str:
    """What a careless shop says: each of its four faults with probability 0.3."""
    count, thing = prompt.split()
    u = derive(1, "reply", prompt, number).uniform(7)
    count = str(1 + int(u[4] * 9)) if u[0] < 0.3 else count
    thing = THINGS[int(u[5] * 10)] if u[1] < 0.3 else thing
    return f"{'please ' if u[2] >= 0.3 else ''}take {count} {thing} {RUDE[int(u[6] * 3)] if u[3] < 0.3 else 'sir'}."


def is_right(prompt: str, answer: str) -> bool:
    """What no rule says: the one reply that a good shop gives, letter by letter."""
    return answer == f"please take {prompt} sir."


def test_rules_say_what_breaks_them(tmp_path: Path) -> None:
    rules = constitution(tmp_path)
    found = {p.name: rules.broken(p, "2 bun", "take 3 cup fool.") for p in rules.principles}
    assert found == {"helpful": "bun", "harmless": "fool", "honest": "2", "ethical": "missing"}
    assert not any(rules.broken(p, "2 bun", "please take 2 bun sir.") for p in rules.principles)
    short = Constitution((Principle(name="short", critique="?", revise="!", most_words=2),))
    assert short.broken(short.principles[0], "", "a b c") == "long" and not short.broken(short.principles[0], "", "a b")
    judges = rule_judges(rules)
    answers = [Answer("2 bun", "take 2 bun sir."), Answer("2 bun", "please take 2 bun sir.")]
    assert [[value for value, _ in judge.judge(answers)] for judge in judges] == [[1, 1], [1, 1], [1, 1], [0, 1]]


def test_a_rule_may_be_a_function(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[[principle]]\nname = "even"\ncritique = "?"\nrevise = "!"\ncheck = "rules.py:even"\n'
    )
    found = read_constitution(tmp_path / "own.toml", lambda name: lambda prompt, answer: "odd" * (len(answer) % 2))
    assert found.broken(found.principles[0], "", "abc") == "odd" and found.broken(found.principles[0], "", "ab") == ""


def test_without_a_file_there_are_the_four_principles_that_no_rule_decides() -> None:
    found = read_constitution(None, never_called)
    assert [p.name for p in found.principles] == ["helpful", "harmless", "honest", "ethical"] and not found.formal
    assert found.principles == DEFAULT.principle
    with pytest.raises(UsageError, match="can be checked by rule"):
        rule_judges(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clean = 'ok'", "has no principle"),
        (RULES.replace('"honest"', '"helpful"'), "two principles called 'helpful'"),
        (RULES.replace(r"'\d'", "'('"), "is no pattern"),
        (RULES.replace("echo", "ehco"), "ehco"),
    ],
)
def test_a_file_that_is_wrong_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_constitution(tmp_path / "rules.toml", never_called)


def critic(rules: Constitution, says: dict[str, str]) -> Critic:
    """A critic whose policy gives to a prompt's text what `says` has for its end, and nothing else."""

    def sampler(prompts, sampling, streams):  # type: ignore[no-untyped-def]
        texts = [TOKENIZER.decode(prompt) for prompt in prompts]
        answers = [next((out for end, out in says.items() if text.endswith(end)), "") for text in texts]
        return [Completion(tuple(TOKENIZER.encode(one)), (0.0,) * len(one), True) for one in answers]

    unused: Any = None
    return Critic(rules, Dialogue(TOKENIZER, PLAIN), unused, sampler, Sampling(30, stop=(TOKENIZER.eos,)), 8)


def test_a_critic_revises_what_it_does_not_find_clean(tmp_path: Path) -> None:
    rules = constitution(tmp_path)
    says = {"fool.?rude ": "fool", "sir.?rude ": "ok", "?rude fool!": "take 2 bun sir."}
    own, prompts = critic(rules, says), [(Message("user", "2 bun"),)] * 2
    answers = ["take 2 bun fool.", "take 2 bun sir."]
    harmless = rules.principles[1]
    assert own.critiques(harmless, prompts, answers) == ["fool", ""]
    assert own.revised(harmless, prompts, answers, derive(0, "x")) == ["take 2 bun sir."] * 2
    judged = CriticJudge(own, harmless).judge([Answer("2 bun", one) for one in (*answers, "")])
    assert [value for value, _ in judged] == [0.0, 1.0, 0.0]


def test_lessons_are_what_the_rules_say_and_revisions_break_less(tmp_path: Path) -> None:
    rules = constitution(tmp_path)
    dialogue = Dialogue(TOKENIZER, PLAIN)
    drafts = ["take 2 bun fool.", "please take 2 bun sir.", "please take 2 cup sir."]
    rows = critic(rules, {}).lessons((Message("user", "2 bun"),), drafts, derive(0, "lessons"))
    texts = [
        (TOKENIZER.decode(row.tokens), TOKENIZER.decode([t for t, m in zip(row.tokens, row.mask, strict=True) if m]))
        for row in rows
    ]
    assert texts[0] == ("2 buntake 2 bun fool.", "take 2 bun fool.")
    revisions = [learnt for text, learnt in texts if "!" in text]
    assert revisions and set(revisions) == {"please take 2 bun sir."}
    for text, learnt in texts[1:]:
        principle = next(p for p in rules.principles if p.critique in text)
        draft = text[len("2 bun") : text.index(principle.critique)]
        wanted = rules.broken(principle, "2 bun", draft) or "ok"
        assert learnt == ("please take 2 bun sir." if "!" in text else wanted)
    limit = len("2 bun") + longest_exchange(rules, dialogue, 30, 8)
    assert max(len(row.tokens) for row in rows) <= limit


def test_learning_critiques_needs_a_rule() -> None:
    folder = ModelFolder(compile_network_of(), None, CharTokenizer.of("".join(map(chr, range(32, 127)))))
    settings = {"constitution": {"learn": 5}, "train": {"steps": 6}}
    with pytest.raises(UsageError, match="nothing can teach the critique"):
        ax.train("constitution", model=folder, data=[{"prompt": "2 bun"}], settings=settings)


def compile_network_of():  # type: ignore[no-untyped-def]
    return compile_network(NET)


SETTINGS = {
    "train": {"steps": 6, "lr": 2e-3, "eval_every": 3, "save_every": 2, "keep": 9, "warmup": 0, "schedule": "constant"},
    "rollout": {"prompts": 4, "group": 3, "max_tokens": 10},
    "data": {"held_out": 0.2},
}


@pytest.mark.parametrize("then", ["dpo", "rl"])
def test_a_run_goes_on_exactly_across_the_moment_when_the_critic_is_kept(then: str, tmp_path: Path) -> None:
    constitution(tmp_path)
    rules = {"path": str(tmp_path / "rules.toml"), "learn": 3, "critique_tokens": 3, "then": then}
    model = ModelFolder(compile_network(NET.replace("64", "16").replace("REPEAT 2", "REPEAT 1")), None, TOKENIZER)
    data = [{"prompt": prompt} for prompt in PROMPTS[:20]]
    for name in ("whole", "cut"):
        ax.train(
            "constitution", model=model, data=data, folder=tmp_path / name, settings=SETTINGS | {"constitution": rules}
        )
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        if path.name > "step-00000004.safetensors":
            path.unlink()
    again = ax.train(
        "constitution",
        model=model,
        data=data,
        folder=tmp_path / "cut",
        settings=SETTINGS | {"constitution": rules},
        resume=True,
    )
    assert again.result.resumed_at == 4 and "eval_reward/honest" in again.result.measures[-1][1]
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    saved = [read_model(tmp_path / name / "model").weights for name in ("whole", "cut")]
    for name in saved[0] or ():
        np.testing.assert_array_equal(saved[0][name], saved[1][name])  # type: ignore[index]


def test_rules_are_rewards_too(tmp_path: Path) -> None:
    constitution(tmp_path)
    settings = {**SETTINGS, "train": {"steps": 1}, "reward": {"constitution": str(tmp_path / "rules.toml")}}
    model = ModelFolder(compile_network(NET), None, TOKENIZER)
    found = ax.train("grpo", model=model, data=[{"prompt": p} for p in PROMPTS[:8]], settings=settings)
    assert {"reward/helpful", "reward/harmless", "reward/honest", "reward/ethical"} <= set(found.result.last)


@pytest.mark.slow
@pytest.mark.skipif(bool(available("native")), reason="the native engine is not built")
def test_a_careless_shop_learns_manners_from_its_own_critiques(tmp_path: Path) -> None:
    """On held-out prompts, by a check that no rule states; the interval is of the paired difference over prompts."""
    constitution(tmp_path)
    network = ModelFolder(compile_network(NET), None, TOKENIZER)
    native = {"model": {"backend": "native"}}
    rows = [{"prompt": p, "completion": reply(p, i)} for p in PROMPTS for i in range(40)]
    train = {"steps": 600, "batch": 32, "lr": 3e-3, "weight_decay": 0.0, "eval_every": 600}
    base = ax.train("sft", model=network, data=rows, folder=tmp_path / "base", settings=native | {"train": train})
    assert base.model is not None
    order = derive(0, "split").permutation(90).tolist()
    held, given = [PROMPTS[i] for i in order[:30]], [{"prompt": PROMPTS[i]} for i in order[30:]]
    settings = native | {
        "train": {"steps": 230, "lr": 2e-3, "schedule": "constant", "weight_decay": 0.0, "warmup": 0, "eval_every": 50},
        "constitution": {"path": str(tmp_path / "rules.toml"), "learn": 150, "critique_tokens": 6},
        "rollout": {"prompts": 16, "group": 4, "max_tokens": 28},
        "dpo": {"beta": 0.2},
        "data": {"held_out": 0.0},
    }
    tuned = ax.train("constitution", model=base.model, data=given, folder=tmp_path / "tuned", settings=settings)
    shares = [answered_right(folder, held) for folder in (base.model, tuned.model)]
    gain = shares[1] - shares[0]
    half = 1.96 * float(gain.std(ddof=1)) / math.sqrt(len(gain))
    means = " -> ".join(f"{share.mean():.3f}" for share in shares)
    print(f"right: {means}, gain {gain.mean():.3f} +- {half:.3f} over {len(held)} prompts")
    assert gain.mean() - half > 0.2


def answered_right(folder: Path | None, prompts: list[str]) -> np.ndarray:
    """The share of 16 drawn answers to each prompt that are right."""

    def right(completion: str, asked: str) -> float:
        return float(is_right(asked, completion))

    settings = {
        "train": {"steps": 1},
        "rollout": {"prompts": len(prompts), "group": 16, "max_tokens": 28},
        "rejection": {"learn": False},
        "data": {"held_out": 0.0},
        "model": {"backend": "native"},
    }
    rows = [{"prompt": prompt, "asked": prompt} for prompt in prompts]
    found = ax.train("rejection", model=str(folder), data=rows, rewards=[right], settings=settings)
    rollouts = found.built.stage.last  # type: ignore[attr-defined]
    by_prompt = {
        task.prompt.text: float(own.mean()) for task, own in zip(rollouts.tasks, rollouts.rewards_PG, strict=True)
    }
    return np.array([by_prompt[prompt] for prompt in prompts])
