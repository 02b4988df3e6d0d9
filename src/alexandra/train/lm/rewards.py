"""Rewards from whatever can judge an answer: our verifiers, TRL-style functions, anything with `score_answer`.

A reward is a number, or None when the judge abstained: it could not tell, or ran out of time. Abstained is not zero;
the rollout then counts in no mean and teaches nothing. A mix is a weighted mean over the judges that answered, a hard
verifier that refuses vetoes it, and every judge's own number is kept for the log. A function that follows an answer
step by step gives {"reward": number, "steps": [(end, number), ..]}: what each part of it is worth (credit.py).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from alexandra.errors import UsageError
from alexandra.records import Claim, Verdict


@dataclass(frozen=True)
class Answer:
    """What is judged: the prompt's text, the completion's text, and the data's other columns."""

    prompt: str
    completion: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class Steps(float):
    """A reward that also says what each step of the answer is worth, from 0 (wrong) to 1 (right).

    `marks` are (end, worth): the characters from the mark before up to `end` are a step. An end behind the answer's
    last character is of the step that ends the answer there. What stands behind the last mark was not judged.
    """

    marks: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, value: float, marks: Sequence[tuple[int, float]]) -> Steps:
        found = cls(value)
        found.marks = tuple((int(end), float(worth)) for end, worth in marks)
        return found


@dataclass(frozen=True)
class Judgement:
    """The reward of one answer (None: abstained), the number of each judge, and what steps are worth if one tells."""

    reward: float | None
    parts: Mapping[str, float | None]
    steps: tuple[tuple[int, float], ...] | None = None


class Judge(Protocol):
    """Numbers for answers, None where it abstains; `veto` where a hard verifier refuses."""

    name: str

    def judge(self, answers: Sequence[Answer]) -> list[tuple[float | None, bool]]: ...


@dataclass(frozen=True)
class Mix:
    """Judges with weights. A veto makes the reward `veto_reward`, whatever the others say."""

    judges: tuple[Judge, ...]
    weights: tuple[float, ...] = ()
    veto_reward: float = 0.0

    def __post_init__(self) -> None:
        if not self.judges:
            raise UsageError("a policy needs at least one reward", hint="rewards=[f] or --reward file.py:function")
        if self.weights and (len(self.weights) != len(self.judges) or any(w <= 0 for w in self.weights)):
            raise UsageError(f"{len(self.judges)} rewards need as many weights above 0, got {self.weights}")

    def judge(self, answers: Sequence[Answer]) -> list[Judgement]:
        """One Judgement an answer."""
        columns = [judge.judge(answers) for judge in self.judges]
        weights = self.weights or (1.0,) * len(self.judges)
        return [self._joined([column[i] for column in columns], weights) for i in range(len(answers))]

    def _joined(self, given: Sequence[tuple[float | None, bool]], weights: Sequence[float]) -> Judgement:
        parts = {
            judge.name: None if value is None else float(value)
            for judge, (value, _) in zip(self.judges, given, strict=True)
        }
        told = [value.marks for value, _ in given if isinstance(value, Steps)]
        if len(told) > 1:
            raise UsageError("two rewards judge the steps of an answer", hint="let one of them give a number alone")
        steps = told[0] if told else None
        if any(veto for _, veto in given):
            return Judgement(self.veto_reward, parts, steps)
        known = [(weight, value) for weight, (value, _) in zip(weights, given, strict=True) if value is not None]
        if not known:
            return Judgement(None, parts)
        return Judgement(sum(w * v for w, v in known) / sum(w for w, _ in known), parts, steps)


class FunctionJudge:
    """A reward function in TRL's signature: f(prompts=, completions=, **columns) -> list of numbers or None.

    A function of one answer, f(completion, **fields) -> number, is taken too when its first parameter is not plural.
    """

    def __init__(self, function: Callable[..., Any], name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        parameters = inspect.signature(function).parameters
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._names = set(parameters)
        self.is_batched = bool({"completions", "prompts"} & self._names)

    def judge(self, answers: Sequence[Answer]) -> list[tuple[float | None, bool]]:
        values = self._batch(answers) if self.is_batched else [self._one(answer) for answer in answers]
        if len(values) != len(answers):
            raise UsageError(f"reward {self.name!r} gave {len(values)} numbers for {len(answers)} answers")
        return [(number(value, self.name), False) for value in values]

    def _batch(self, answers: Sequence[Answer]) -> list[Any]:
        columns: dict[str, Any] = {
            "prompts": [answer.prompt for answer in answers],
            "completions": [answer.completion for answer in answers],
        }
        for name in {name for answer in answers for name in answer.fields}:
            columns[name] = [answer.fields.get(name) for answer in answers]
        try:
            return list(self.function(**self._wanted(columns)))
        except TimeoutError:
            return [None] * len(answers)

    def _one(self, answer: Answer) -> Any:
        columns = {**answer.fields, "prompt": answer.prompt, "completion": answer.completion}
        try:
            return self.function(**self._wanted(columns))
        except TimeoutError:
            return None

    def _wanted(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        return dict(columns) if self._takes_all else {k: v for k, v in columns.items() if k in self._names}


class VerifierJudge:
    """One of our verifiers: an answer becomes a Claim, its score the reward, a hard zero a veto."""

    def __init__(self, verifier: Any, claim: Callable[[Answer], Claim]) -> None:
        self.verifier, self.claim, self.name = verifier, claim, str(getattr(verifier, "name", "verifier"))

    def judge(self, answers: Sequence[Answer]) -> list[tuple[float | None, bool]]:
        verdicts: Sequence[Verdict] = self.verifier.verify([self.claim(answer) for answer in answers])
        return [(verdict.score, verdict.vetoes) for verdict in verdicts]


class AnswerJudge:
    """Anything with score_answer(answer, entry), such as a reasoning-gym data set; the row's fields are the entry."""

    def __init__(self, scorer: Any, name: str = "score_answer") -> None:
        self.scorer, self.name = scorer, name

    def judge(self, answers: Sequence[Answer]) -> list[tuple[float | None, bool]]:
        found: list[tuple[float | None, bool]] = []
        for answer in answers:
            entry = answer.fields.get("entry", dict(answer.fields))
            found.append((number(self.scorer.score_answer(answer.completion, entry), self.name), False))
        return found


def answer_claim(answer: Answer) -> Claim:
    """The claim that most verifiers read: the completion as free text, prompt and columns as its context."""
    return Claim("text", answer.completion, {"prompt": answer.prompt, **answer.fields})


def judge_of(given: Any) -> Judge:
    """A Judge from a function, a verifier, or an object with `score_answer`."""
    if hasattr(given, "judge") and hasattr(given, "name"):
        return given  # type: ignore[no-any-return]
    if hasattr(given, "verify"):
        return VerifierJudge(given, answer_claim)
    if hasattr(given, "score_answer"):
        return AnswerJudge(given, type(given).__name__)
    if callable(given):
        return FunctionJudge(given)
    raise UsageError(
        f"{given!r} is no reward", hint="pass a function, a verifier, or an object with score_answer(answer, entry)"
    )


def number(value: Any, name: str) -> float | None:
    """A finite number or None; Steps of {"reward": .., "steps": ..}; else an error that names the reward."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _stepped(value, name)
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise UsageError(f"reward {name!r} gave {value!r}, not a number") from None
    if not math.isfinite(found):
        raise UsageError(f"reward {name!r} gave {found}", hint="return None to abstain")
    return found


def _stepped(value: Mapping[str, Any], name: str) -> float | None:
    """Steps, whose ends rise and whose worth is from 0 to 1."""
    hint = 'a reward of steps is {"reward": 0.5, "steps": [(4, 1.0), (9, 0.0)]}: where each ends, and what it is worth'
    if set(value) != {"reward", "steps"}:
        raise UsageError(f"reward {name!r} gave a record with {', '.join(map(str, value)) or 'nothing'}", hint=hint)
    whole = number(value["reward"], name)
    if whole is None:
        return None
    try:
        found = Steps.of(whole, value["steps"])
    except (TypeError, ValueError):
        raise UsageError(f"reward {name!r} gave steps that are no pairs of numbers", hint=hint) from None
    ends = [0, *(end for end, _ in found.marks)]
    for before, (end, worth) in zip(ends, found.marks, strict=False):
        if end <= before:
            raise UsageError(f"reward {name!r} gave a step to {end} behind one that ends at {before}", hint=hint)
        if not 0 <= worth <= 1:
            raise UsageError(f"reward {name!r} gave a step worth {worth}, not 0 to 1", hint=hint)
    return found
