"""Verifiers, measured: labelled sets, claims per second, attacks, the sandbox, answer equivalence, scorers.

    python benchmarks/verifiers.py [--section labelled|logic|speed|proofs|...] [--n 400]

One JSON document per section. Every line of `labelled` has n, floor (the more frequent label), accuracy on what was
answered with its 95 % interval, coverage, and precision where the tool says true. The ceiling is 1.0 where labels were
made from the data by another program, and lower where people disagree (sentiment).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import verifier_answers
import verifier_attacks
import verifier_sets as sets

from alexandra.api.verify import Judge
from alexandra.records import Claim, Verdict
from alexandra.statistics import wilson
from alexandra.verifiers import aggregate
from alexandra.verifiers.claims import Derivation, Expression, Perturbed, Samples, Series, Swap
from alexandra.verifiers.loading import six, toolbox
from alexandra.verifiers.sandbox import escape
from alexandra.verifiers.sandbox.host import Limits, Sandbox


def measured(name: str, tool: str, verdicts: list[Verdict], labels: list[bool]) -> dict[str, Any]:
    """One line of the table."""
    answered = [(v, label) for v, label in zip(verdicts, labels, strict=True) if v.score is not None]
    right = sum(((v.score or 0) >= 0.5) == label for v, label in answered)
    said_true = [label for v, label in answered if (v.score or 0) >= 0.5]
    n = len(labels)
    accuracy = right / len(answered) if answered else float("nan")
    interval = wilson(accuracy, len(answered), 0.975)[1:] if answered else (0.0, 1.0)
    times = sorted(v.seconds for v in verdicts)
    return {
        "set": name, "tool": tool, "n": n, "floor": round(max(sum(labels), n - sum(labels)) / n, 3),
        "accuracy": round(accuracy, 4), "interval": [round(x, 4) for x in interval],
        "coverage": round(len(answered) / n, 4),
        "precision": round(sum(said_true) / len(said_true), 4) if said_true else None,
        "recall": round(sum(said_true) / max(1, sum(labels)), 4),
        "ms_median": round(1e3 * times[n // 2], 2), "ms_p99": round(1e3 * times[int(0.99 * (n - 1))], 2),
    }  # fmt: skip


def labelled(n: int) -> list[dict[str, Any]]:
    from alexandra.verifiers.tools import vader_sentiment

    tools = toolbox()
    plan: list[tuple[str, str, Callable[[], sets.Labelled]]] = [
        ("GSM8K calculations", "exact_maths", lambda: sets.calculations(n)),
        ("GSM8K calculations", "z3_arithmetic", lambda: sets.calculations(n)),
        ("Telco churn sentences", "duckdb_tables", lambda: sets.tables(n)),
        ("MBPP solutions", "code_tests", lambda: sets.code(min(n, 200))),
        ("NL4OPT plans, SciPy's optimum", "ortools_plan", lambda: sets.plans(n)),
        ("FOLIO premises are consistent", "z3_formulas", lambda: sets.folio_premises(n)),
        ("tweets (VADER's own)", "vader_sentiment", lambda: sets.sentiment("tweets.tsv.gz", n)),
        ("Amazon snippets", "vader_sentiment", lambda: sets.sentiment("amazonReviewSnippets.tsv.gz", n)),
        ("XQuAD languages", "language", lambda: sets.languages(n)),
        ("XQuAD question to paragraph", "faiss_similarity", lambda: sets.nearest_passage(n)),
        ("XQuAD sentences, answers exchanged", "passages_fts", lambda: sets.passages(n)),
        ("TimeQA answers of a period", "valid_time", lambda: sets.temporal(n)),
        ("CrowS-Pairs swaps, VADER as producer", "swap_invariance", lambda: sets.swaps(n, vader_sentiment.compound)),
        ("WinoBias, two resolvers of pronouns", "swap_invariance", lambda: sets.winobias(n)),
        ("BBQ age and nationality, two answerers", "swap_invariance", lambda: sets.bbq_swaps(n)),
    ]
    out = []
    for name, tool, make in plan:
        items = make()
        out.append(
            measured(name, tool, tools[tool].verify([claim for claim, _ in items]), [label for _, label in items])
        )
        print(json.dumps(out[-1]), file=sys.stderr, flush=True)
    return out


def logic(n: int) -> dict[str, Any]:
    """ProofWriter by three tools; the items on which they differ are listed."""
    items = sets.proofwriter(n)
    tools = toolbox()
    labels = [label for _, label in items]
    answers = {t: tools[t].verify([c for c, _ in items]) for t in ("z3_logic", "prolog_logic", "clingo_logic")}
    differ = [
        {t: v[i].reason for t, v in answers.items()}
        for i in range(len(items))
        if len({v[i].score for v in answers.values()}) > 1
    ]
    lines = [measured("ProofWriter OWA depth 5", tool, verdicts, labels) for tool, verdicts in answers.items()]
    return {"lines": lines, "differ": len(differ), "disagreements": differ[:20]}


def mixture(n: int, seed: int = 0) -> list[Claim]:
    """Distinct claims over all six frameworks, as training with verifiable rewards would ask them."""
    source = np.random.default_rng(seed)
    logic_items = [claim for claim, _ in sets.proofwriter(max(1, n // 10), seed)]
    plans = [claim for claim, _ in sets.plans(n)]
    snippets = [claim for claim, _ in sets.sentiment("amazonReviewSnippets.tsv.gz", n)]
    out: list[Claim] = []
    for i in range(n):
        a, b, c = (int(x) for x in source.integers(2, 999, 3))
        kind = i % 10
        if kind == 0:
            out.append(logic_items[i // 10 % len(logic_items)])
        elif kind == 1:
            out.append(
                Claim("expression", Expression(f"({a}*x + {b})*(x - {c})", "=", f"{a}*x^2+{b - a * c}*x-{b * c}"))
            )
        elif kind == 2:
            out.append(Claim("expression", Expression(f"{a} * {b} + {c}", "=", str(a * b + c + i % 2))))
        elif kind == 3:
            out.append(Claim("derivation", Derivation((f"{a}*(x+{b})", f"{a}*x+{a * b}", f"{a * b}+{a}*x"))))
        elif kind == 4:
            out.append(Claim("samples", Samples(tuple(str(a + x % 2) for x in range(5)), str(a))))
        elif kind == 5:
            out.append(Claim("swap", Swap({"women": a / 1000, "men": (a + b % 2) / 1000})))
        elif kind == 6 and plans:
            out.append(plans[i % len(plans)])
        elif kind == 7:
            out.append(
                Claim("series", Series(tuple(float(x) for x in source.normal(size=30) + np.arange(30) * (a % 2))))
            )
        elif kind == 8:
            out.append(Claim("perturbed", Perturbed(str(a), tuple(str(a + (b + x) % 3 // 2) for x in range(4)))))
        else:
            text = snippets[i % len(snippets)]
            history = tuple(bool(x) for x in source.integers(0, 2, 20))
            out.append(Claim("text", f"{text.content} {a}", {**text.context, "required": ("the",), "history": history}))
    return out


def p99_by_framework(verdicts: list[Verdict]) -> dict[str, float]:
    times: dict[str, list[float]] = {}
    for verdict in verdicts:
        for part in verdict.parts:
            if part.parts:
                times.setdefault(part.verifier, []).append(sum(one.seconds for one in part.parts))
    return {name: round(1e3 * float(np.quantile(values, 0.99)), 2) for name, values in times.items()}


def speed(n: int, workers: int) -> dict[str, Any]:
    """Cold: an empty cache, warm solvers; warm: the same claims again, from memory and from a fresh process's disk."""
    with tempfile.TemporaryDirectory() as folder:
        with Judge(workers=workers, cache=folder) as judge:
            judge.verify(mixture(200, seed=99))  # imports and solvers are loaded
            claims = mixture(n)
            began = time.perf_counter()
            cold = judge.verify(claims)
            cold_seconds = time.perf_counter() - began
            warm_seconds = min(_timed(judge, claims) for _ in range(3))
        with Judge(workers=workers, cache=folder) as judge:
            disk_seconds = _timed(judge, claims)
    own, children = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    kinds = Counter(claim.kind for claim in claims)
    return {
        "claims": n, "kinds": dict(kinds), "workers": workers, "cold_per_second": round(n / cold_seconds),
        "warm_per_second": round(n / warm_seconds), "from_disk_per_second": round(n / disk_seconds),
        "p99_ms_by_framework": p99_by_framework(aggregate.verify(claims[:500], six())), "memory_mib_own": round(own),
        "memory_mib_all_at_most": round(own + workers * children),
        "bands": dict(Counter(Judge([]).bands(claims, cold))),
    }  # fmt: skip


def _timed(judge: Judge, claims: list[Claim]) -> float:
    began = time.perf_counter()
    judge.verify(claims)
    return time.perf_counter() - began


def attacks(n: int, workers: int) -> dict[str, Any]:
    """No claim of these is true; an approval is a false one."""
    items = list(verifier_attacks.attacks(n))
    began = time.perf_counter()
    bands: Counter[str] = Counter()
    approved: list[str] = []
    slowest = 0.0
    with Judge(workers=workers) as judge:
        for start in range(0, n, 1000):
            some = items[start : start + 1000]
            claims = [claim for _, claim in some]
            verdicts = judge.verify(claims)
            found = judge.bands(claims, verdicts)
            bands.update(found)
            approved += [name for (name, _), band in zip(some, found, strict=True) if band == "approve"]
            slowest = max(slowest, *(part.seconds for verdict in verdicts for part in verdict.parts))
        alive = judge.verify([Claim("expression", Expression("2+2", "=", "4"))])[0].score == 1.0
    return {
        "claims": n, "kinds": dict(Counter(name for name, _ in items)), "bands": dict(bands),
        "false_approvals": dict(Counter(approved)), "seconds": round(time.perf_counter() - began, 1),
        "slowest_part_seconds": round(slowest, 2), "still_answers": alive,
    }  # fmt: skip


def sandbox(n: int) -> dict[str, Any]:
    with Sandbox() as box:
        box.run("pass")
        times = []
        for _ in range(min(n, 300)):
            began = time.perf_counter()
            assert box.run("pass").ok
            times.append(1e3 * (time.perf_counter() - began))
        level = escape.level(box, tuple(escape.PROBES))
        bounded = {}
        for name, source in verifier_attacks.PROGRAMS.items():
            ran = box.run(source, Limits(seconds=1.0))
            bounded[name] = {"seconds": round(ran.seconds, 2), "ended": ran.why or ran.code, "bytes": len(ran.stdout)}
    times.sort()
    return {
        "starts": len(times), "start_ms_p50": round(times[len(times) // 2], 2), "start_ms_min": round(times[0], 2),
        "start_ms_p95": round(times[int(0.95 * len(times))], 2), "level": level.name, "escape_tried": level.tried,
        "escapes": list(level.escapes), "layers": dict(level.layers), "bounded": bounded,
    }  # fmt: skip


def answers(n: int) -> dict[str, Any]:
    pairs = verifier_answers.pairs()[: n or None]
    tool = toolbox()["exact_maths"]
    claims = [Claim("expression", Expression(left, "=", right)) for left, right, _, _ in pairs]
    verdicts = tool.verify(claims)
    said = np.array([v.score == 1.0 for v in verdicts])
    equal = np.array([same for _, _, same, _ in pairs])
    wrong = [
        {"left": a, "right": b, "equal": same, "kind": kind, "said": v.reason[:120]}
        for (a, b, same, kind), v in zip(pairs, verdicts, strict=True)
        if (v.score == 1.0) != same
    ]
    hits = int((said & equal).sum())
    return {
        "pairs": len(pairs), "equal": int(equal.sum()), "precision": round(hits / max(1, int(said.sum())), 4),
        "recall": round(hits / max(1, int(equal.sum())), 4), "abstained": sum(v.score is None for v in verdicts),
        "wrong_by_kind": dict(Counter(one["kind"] for one in wrong)), "wrong": wrong[:30],
    }  # fmt: skip


def scorers(n: int) -> list[dict[str, Any]]:
    from alexandra.verifiers.scorers import recipe

    out = []
    for framework, name in recipe.SETS.items():
        texts, labels = sets.texts(name)
        card = recipe.measured(texts[: 20 * n], labels[: 20 * n])
        out.append({"framework": framework, "set": name, **card})
        print(json.dumps(out[-1]), file=sys.stderr, flush=True)
    return out


ENCODERS = {
    "empirical": "t5", "contextual": "bert", "consistency": "roberta", "power_dynamics": "deberta-v2",
    "utility": "albert", "evolution": "longformer",
}  # fmt: skip


def encoders(n: int, only: str) -> list[dict[str, Any]]:
    """The recipe of fine-tuned scorers, from random weights: the seed's family of each framework, ONNX and INT8."""
    import torch

    from alexandra.api.verify_scorer import train_scorer
    from alexandra.train.scorer import Recipe, Size, small
    from alexandra.verifiers.scorers import folder, recipe

    torch.set_num_threads(1)
    out = []
    for framework, name in recipe.SETS.items():
        if only and framework != only:
            continue
        texts, labels = sets.texts(name)
        chosen = np.sort(np.random.default_rng(0).permutation(len(texts))[: 10 * n])
        texts, labels = [texts[i] for i in chosen], labels[chosen]
        with tempfile.TemporaryDirectory() as place:
            began = time.perf_counter()
            first = small(ENCODERS[framework], texts, f"{place}/first", Size(length=96))
            settings = Recipe(epochs=4, learning_rate=2e-3, max_length=96)
            made = train_scorer(framework, first, texts, labels.tolist(), f"{place}/scorer", settings)
            line = {"framework": framework, "set": name, "family": ENCODERS[framework], **made.card}
            line["seconds_to_train"] = round(time.perf_counter() - began, 1)
            for int8 in (False, True):
                scorer = folder.load(made.path, int8)
                scorer.raw(texts[:32])
                began = time.perf_counter()
                scorer.raw(texts[:512])
                rate = round(min(512, len(texts)) / (time.perf_counter() - began))
                line["int8_per_second" if int8 else "per_second"] = rate
        out.append(line)
        print(json.dumps(line), file=sys.stderr, flush=True)
    return out


def proofs(n: int) -> list[dict[str, Any]]:
    """Proof assistants, a line of their own: each proof is checked by a new process in the sandbox."""
    path = Path(__file__).parents[1] / "tests/verifiers/tools/examples.py"
    spec = importlib.util.spec_from_file_location("verifier_examples", path)
    assert spec is not None and spec.loader is not None
    examples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(examples)
    out = []
    for name in ("coq", "metamath", "lean"):
        tool = toolbox()[name]
        if tool.absent():
            out.append({"tool": name, "absent": tool.absent()})
            continue
        claims = [claim for _ in range(n) for claim in examples.PAIRS[name]]
        verdicts = [tool.verify([claim])[0] for claim in claims]
        times = sorted(verdict.seconds for verdict in verdicts)
        right = sum((verdict.score == 1.0) == (i % 2 == 0) for i, verdict in enumerate(verdicts))
        out.append({
            "tool": name, "n": len(claims), "right": right, "per_second": round(len(times) / sum(times), 2),
            "ms_median": round(1e3 * times[len(times) // 2]), "ms_p99": round(1e3 * times[int(0.99 * len(times))]),
        })  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    known = ("labelled", "logic", "speed", "proofs", "attacks", "sandbox", "answers", "scorers", "encoders")
    parser.add_argument("--section", choices=known, action="append")
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--framework", default="", help="of `encoders`: only this one")
    asked = parser.parse_args()
    made: dict[str, Callable[[], Any]] = {
        "labelled": lambda: labelled(asked.n),
        "logic": lambda: logic(asked.n),
        "speed": lambda: speed(10 * asked.n, asked.workers),
        "attacks": lambda: attacks(25 * asked.n, asked.workers),
        "sandbox": lambda: sandbox(asked.n),
        "answers": lambda: answers(0),
        "scorers": lambda: scorers(asked.n),
        "encoders": lambda: encoders(asked.n, asked.framework),
        "proofs": lambda: proofs(max(3, asked.n // 40)),
    }
    for name in asked.section or known:
        if name in ("labelled", "logic", "speed", "scorers", "encoders") and not sets.DATA.is_dir():
            print(json.dumps({"section": name, "skipped": f"no labelled sets in {sets.DATA}"}))
            continue
        print(json.dumps({"section": name, "result": made[name]()}, indent=1), flush=True)


if __name__ == "__main__":
    main()
