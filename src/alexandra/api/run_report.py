"""One self-contained page on a training run: how it went, its curves, what the model said, and its recipe.

Everything is read from the run's folder, so the page of a run that is still going or was killed can be drawn as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.api import charts
from alexandra.api.html import Html, document, figure, grid, paragraph, section, table
from alexandra.errors import NotFoundError
from alexandra.storage import publish
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.run import read_recipe
from alexandra.train.watch import METRICS, TIMING, read_lines

Lines = Sequence[Mapping[str, Any]]
# What a reader asks first, in this order; all other numbers follow by name.
FIRST = ("loss", "reward", "check", "kl", "entropy", "grad_norm", "accuracy", "margin", "value_loss", "yield", "kept")
WORDS = {
    "loss": "loss (nats a token where it is a likelihood)",
    "reward": "mean reward of judged answers",
    "check": "held-out check, which trains nothing",
    "kl": "KL to the reference, nats a token",
    "entropy": "entropy of the policy, nats a token",
    "grad_norm": "norm of the gradient before clipping",
    "throughput": "tokens a second",
    "accuracy": "share of pairs that are ranked right",
    "yield": "share of sampled answers that were kept",
}
MOST_POINTS = 400


def write_report(folder: Path) -> Path:
    """Draw the page into the run's report.html. Raises NotFoundError for a folder without numbers."""
    steps = read_lines(folder / METRICS)
    if not steps:
        raise NotFoundError(f"{str(folder)!r} holds no {METRICS}", hint="name the folder of a training run")
    recipe, seconds = read_recipe(folder), {line["step"]: line["seconds"] for line in read_lines(folder / TIMING)}
    drawn = [*curves(steps), *_throughput(steps, seconds, recipe)]
    parts = [
        Html(f"<h1>{escape(recipe.stage)}</h1>"),
        paragraph(_course(steps, list(seconds.values()), recipe)),
        _alarm(steps),
        section("Measures", _measures(steps)),
        section("Curves", grid([figure(chart, caption) for caption, chart in drawn])),
        _flat(steps),
        section("Answers", _answers(folder)),
        section("Recipe", Html(f"<pre>{escape(recipe.model_dump_json(indent=1))}</pre>")),
    ]
    place = folder / "report.html"
    publish(place, document(f"{recipe.stage} run", "".join(parts)).encode())
    return place


def _course(steps: Lines, seconds: Sequence[float], recipe: Recipe) -> str:
    done, wanted = int(steps[-1]["step"]) + 1, recipe.train.steps
    whole = f"all {wanted} steps" if done == wanted else f"{done} of {wanted} steps"
    pace = f", {np.median(seconds):.3g} s a step (median), {sum(seconds):.3g} s in all" if seconds else ""
    return f"{whole}, seed {recipe.seed}{pace}."


def _alarm(steps: Lines) -> Html:
    """What the alarm for reward hacking says, where a check was made."""
    looks = [line for line in steps if "eval_alarm" in line]
    if not looks:
        return Html("")
    rang = [line["step"] + 1 for line in looks if line["eval_alarm"]]
    if not rang:
        return paragraph(f"The alarm for gamed rewards looked {len(looks)} times and did not ring.", muted=True)
    still = "It rings at the end." if looks[-1]["eval_alarm"] else "It does not ring at the end."
    return Html(
        f'<p class="no"><strong>Gamed reward?</strong> From step {rang[0]} on the held-out reward rose while the '
        f"independent check fell. {still} The policy may have learnt the reward instead of the task.</p>"
    )


def _measures(steps: Lines) -> Html:
    """Held-out numbers at first, at last, and at their best."""
    looks = [line for line in steps if any(name.startswith("eval_") for name in line)]
    if not looks:
        return paragraph("Nothing was held out, so nothing was measured.", muted=True)
    names = [name for name in dict.fromkeys(n for line in looks for n in line) if name.startswith("eval_")]
    rows = []
    for name in sorted(names, key=lambda name: _rank(name.removeprefix("eval_"))):
        known = [(line[name], line["step"] + 1) for line in looks if line.get(name) is not None]
        if known and name != "eval_alarm":
            values = [value for value, _ in known]
            rows.append([name.removeprefix("eval_"), known[0][0], known[-1][0], min(values), max(values)])
    caption = f"held-out measures, first after {looks[0]['step'] + 1} steps, last after {looks[-1]['step'] + 1}"
    return table(["measure", "first", "last", "lowest", "highest"], rows, caption)


def curves(steps: Lines) -> list[tuple[Html | str, str]]:
    """A (caption, chart) for every number: measures beside what they measure, rewards by framework in one."""
    noted = sorted({name for line in steps for name, value in line.items() if name != "step" and value is not None})
    kinds = sorted({name.removeprefix("eval_").partition("/")[0] for name in noted} - {"alarm"}, key=_rank)
    found = []
    for kind in kinds:
        own = [name for name in (kind, f"eval_{kind}") if name in noted]
        own = [] if all(_is_flat(name, steps) for name in own) else own
        found.append(_chart(kind, WORDS.get(kind, kind.replace("_", " ")), own, steps))
        parts = [name for start in (f"{kind}/", f"eval_{kind}/") for name in noted if name.startswith(start)]
        if len({name.removeprefix("eval_") for name in parts}) > 1:
            found.append(_chart(f"{kind} by framework", f"{kind} by framework", parts, steps))
    return [one for one in found if one is not None]


def _throughput(steps: Lines, seconds: Mapping[int, float], recipe: Recipe) -> list[tuple[Html | str, str]]:
    """Tokens a second; steps a second where nobody counted tokens."""
    timed = [(line, seconds[line["step"]]) for line in steps if seconds.get(line["step"])]
    pace = [{"step": line["step"], "throughput": _tokens(line, recipe) / took} for line, took in timed]
    counted = any("tokens" in line or "answer_tokens" in line for line in steps)
    words = "tokens a second" if counted else "steps a second"
    found = _chart("throughput", words, ["throughput"], pace) if pace else None
    return [found] if found else []


def _is_flat(name: str, steps: Lines) -> bool:
    """Whether a number never changed."""
    return len({line[name] for line in steps if line.get(name) is not None}) == 1


def _flat(steps: Lines) -> Html:
    """The numbers that never changed, in a line instead of a chart each."""
    names = sorted({name for line in steps for name in line if name != "step"} - {"eval_alarm"})
    same = [name for name in names if _is_flat(name, steps)]
    if not same:
        return Html("")
    values = {name: next(line[name] for line in steps if line.get(name) is not None) for name in same}
    words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    return paragraph(f"The same at every step: {words}.", muted=True)


def _tokens(line: Mapping[str, Any], recipe: Recipe) -> float:
    """How many tokens a step learnt from or sampled; 1 where nobody counted (steps a second then)."""
    if line.get("tokens"):
        return float(line["tokens"])
    if line.get("answer_tokens"):
        return float(line["answer_tokens"]) * recipe.rollout.prompts * recipe.rollout.group
    return 1.0


def _rank(kind: str) -> tuple[int, str]:
    head = kind.partition("/")[0]
    return (FIRST.index(head) if head in FIRST else len(FIRST), kind)


def _chart(title: str, words: str, names: Sequence[str], steps: Lines) -> tuple[Html | str, str] | None:
    """Lines of some numbers; held-out ones are dashed, and in the colour of what they are beside."""
    last, series, colors = int(steps[-1]["step"]) + 1, [], dict[str, int]()
    for name in names:
        plain = name.removeprefix("eval_")
        values = np.full(last, np.nan)
        for line in steps:
            if line.get(name) is not None:
                values[int(line["step"])] = line[name]
        if np.isfinite(values).sum() > 1:
            color = colors.setdefault(plain, len(colors))
            series.append((name, _thinned(values), color, name != plain))
    if not series:
        return None
    legend = [_key(name, color, dashed) for name, _, color, dashed in series] if len(series) > 1 else []
    return Html(f"{escape(words)}{' ' if legend else ''}{' '.join(legend)}"), charts.lines(series, "step", title, title)


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS values: each kept one is the mean of those around it."""
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) <= MOST_POINTS:
        return values
    kept = np.full(len(values), np.nan)
    for group in np.array_split(finite, MOST_POINTS):
        kept[group[len(group) // 2]] = values[group].mean()
    return kept


def _key(name: str, color: int, dashed: bool) -> str:
    """One entry of a legend."""
    shown = name.removeprefix("eval_").rpartition("/")[2] + (" (held out)" if dashed else "")
    line = "border-bottom:2px " + ("dashed" if dashed else "solid") + f" {charts.COLORS[color % len(charts.COLORS)]}"
    return f'<span style="{line};margin-left:.6rem">{escape(shown)}</span>'


def _answers(folder: Path) -> Html:
    """What was answered at the first and at the last measure."""
    place = folder / "samples.jsonl"
    lines = [json.loads(text) for text in place.read_text(encoding="utf-8").splitlines()] if place.exists() else []
    if not lines:
        return paragraph("No answers were written down ([log] samples, and train.eval_every).", muted=True)
    steps = sorted({line["step"] for line in lines})
    parts = []
    for title, step in (("first measure", steps[0]), ("last measure", steps[-1]))[: len(steps)]:
        own = [line for line in lines if line["step"] == step]
        names = [name for name in own[0] if name not in ("step", "parts")]
        judges = list(own[0].get("parts", {}))
        judges = judges if len(judges) > 1 else []
        rows = [[*(_cell(line.get(n)) for n in names), *(_cell(line["parts"].get(j)) for j in judges)] for line in own]
        parts.append(table([*names, *judges], rows, f"{title}, after {step + 1} steps"))
    return Html("".join(parts))


def _cell(value: Any) -> object:
    if value is None:
        return "abstained"
    if isinstance(value, str):
        return Html(f'<pre class="said">{escape(value)}</pre>')
    return "yes" if value is True else "no" if value is False else float(value)

