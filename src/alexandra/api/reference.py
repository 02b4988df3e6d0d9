"""The reference of the three languages, written from their grammars and tables, and the editors' grammar beside it.

    python -m alexandra.api.reference            # docs/reference/*.md and editors/*.json of this checkout

Everything that a table knows comes from the table: layers from ir.ops, facts from lang.facts, metrics, verifiers,
limits. What only prose can say stands in reference_words.py. A test holds the committed files equal to `files()`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from alexandra import __version__
from alexandra.api.reference_words import COMBINE, IGNORED, REFERENCES, SAMPLES, SOURCES, STATEMENTS, WORDS
from alexandra.ir.ops import OPS, REQUIRED, AttrSpec, OpSpec
from alexandra.lang import textmate
from alexandra.lang.ebnf import GRAMMARS, blocks, keywords, productions, words
from alexandra.lang.expr import FUNCTIONS, GAPS, TESTS
from alexandra.lang.facts import FACTS, GAP, PLACES, STAGES
from alexandra.lang.lexis import Limits
from alexandra.lang.nureon_values import show
from alexandra.metrics import BREAK_EVEN, METRICS, Metric
from alexandra.storage import json_bytes, publish
from alexandra.verifiers.loading import FRAMEWORKS

FOLDER, EDITORS = "docs/reference", "editors"
TITLES = {"nureonlang": "NureonLang", "tasklang": "TaskLang", "rulelang": "RuleLang"}
LEADS = {
    "nureonlang": "What a network is, as text. `alexandra compile FILE.nl` checks one and prints its graph, "
    "`ax.compile(text)` gives the graph in Python, `alexandra fmt` lays it out.",
    "tasklang": "What a model is for, from which data it is learnt, and how it is checked. `alexandra init FILE.csv "
    "--target COLUMN` writes one with every default spelled out, `alexandra solve FILE.task` solves it. Statements "
    "come in any order, each at most once; only DATA and TARGET are needed.",
    "rulelang": "Who answers, who is promoted, who is withdrawn. `alexandra rules show` prints the rules in force, "
    "`alexandra ask TASK --explain` which of them fired on which facts.",
}
GRAMMAR_NOTE = (
    "Words in quotes are known in any case; the formatter writes capitals. Semicolons are optional, `//` and "
    "`/* */` are comments."
)
WRITTEN = "<!-- Written by `python -m alexandra.api.reference` from the grammars and tables; edit those. -->"


def files() -> dict[str, bytes]:
    """Path inside the repository -> content, for every generated file."""
    found = {f"{FOLDER}/{name}.md": page(name).encode() for name in GRAMMARS}
    found[f"{EDITORS}/alexandra.tmLanguage.json"] = json_bytes(textmate.grammar())
    found[f"{EDITORS}/package.json"] = json_bytes(textmate.extension(__version__))
    found[f"{EDITORS}/language-configuration.json"] = json_bytes(textmate.CONFIGURATION)
    return found


def write(repository: Path) -> list[Path]:
    """Publish what differs; returns those paths."""
    changed = []
    for name, content in files().items():
        path = repository / name
        if not path.is_file() or path.read_bytes() != content:
            publish(path, content)
            changed.append(path)
    return changed


def page(language: str) -> str:
    """The reference page of one language, Markdown."""
    sections = [
        ("Sample", _fence(language, SAMPLES[language])),
        ("Statements", _statements(language)),
        *SECTIONS[language](),
        ("Grammar", _grammar(language)),
        ("Limits", _limits()),
    ]
    parts = [WRITTEN, f"# {TITLES[language]}", LEADS[language]]
    for title, content in sections:
        parts += [f"## {title}", content.strip()]
    return "\n\n".join(parts) + "\n"


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a pipe inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(text: object) -> str:
    return f"`{text}`"


def _statements(language: str) -> str:
    """The sentence of every statement with the words that open it, in the order of the table."""
    known = productions(GRAMMARS[language])
    rows = []
    for name, meaning in STATEMENTS[language].items():
        openers = [token.split('"')[1] for token in known[name].tokens if token.startswith('"')]
        words_in_it = [word for word in openers if word.isalpha()]
        rows.append((_code("BEGIN ... END" if name == "block" else words_in_it[0]), meaning))
    return table(("statement", "meaning"), rows)


def statement_rules(language: str) -> set[str]:
    """The rules of the grammar that are statements: what the table of meanings must cover."""
    known = productions(GRAMMARS[language])
    top = {"nureonlang": "statement", "tasklang": "_statement"}.get(language)
    if top:
        return {token for token in known[top].tokens if token in known}
    clauses = {token for token in known["_clause"].tokens if token in known}
    return clauses | {"rules", "rule", "otherwise", "gate", "require", "quarantine"}


def _grammar(language: str) -> str:
    grammar = GRAMMARS[language]
    parts = [GRAMMAR_NOTE]
    for file, text in blocks(grammar):
        parts += [f"### {file}.lark", _fence("ebnf", text)]
    named = [one.name for one in words(grammar) if one.name not in IGNORED]
    rows = [(_code(name), _code(WORDS[name][0]), WORDS[name][1]) for name in named]
    parts += ["### Names and literals", table(("word", "example", "meaning"), rows)]
    listed = ", ".join(_code(word) for word in keywords(grammar))
    return "\n\n".join([*parts, f"Words of the language: {listed}."])


def _limits() -> str:
    doc = inspect.getdoc(Limits) or ""
    meanings = dict(line.split(None, 1) for line in doc.splitlines() if line.split(None, 1)[:1] and _is_limit(line))
    rows = [(_code(one.name), f"{one.default:,}", meanings[one.name]) for one in fields(Limits)]
    note = "Each ends in an error that names it. Another is passed in Python: `Limits(layers=100_000)`."
    return f"{table(('limit', 'value', 'of what'), rows)}\n\n{note}"


def _is_limit(line: str) -> bool:
    return line.split(None, 1)[0] in {one.name for one in fields(Limits)}


# --- NureonLang -----------------------------------------------------------------------------------------


def _nureonlang() -> list[tuple[str, str]]:
    layers = [(_code(f"LAYER {op.name.upper()}"), _arity(op), op.doc) for op in OPS.values()]
    attributes = [
        (_code(op.name.upper()), _code(name), _values(spec), _default(spec), spec.doc)
        for op in OPS.values()
        for name, spec in op.attrs.items()
    ]
    joined = (
        "Layers see shapes without the batch axis. Where several wires enter a layer with one input they are joined "
        "along the last axis."
    )
    arithmetic = (
        "`^` is right-associative and binds tighter than the sign before it; `/` of two whole numbers is whole when it "
        "comes out even; `%` is the remainder; `+` joins texts."
    )
    return [
        ("Layers", f"{joined}\n\n{table(('layer', 'inputs', 'what it computes'), layers)}"),
        ("Attributes", table(("layer", "attribute", "value", "default", "meaning"), attributes)),
        ("Arithmetic", arithmetic),
    ]


def _arity(op: OpSpec) -> str:
    if op.joins:
        return "1, joined"
    if op.max_inputs is None:
        return f"{op.min_inputs} or more"
    return str(op.max_inputs) if op.min_inputs == op.max_inputs else f"{op.min_inputs} to {op.max_inputs}"


def _values(spec: AttrSpec) -> str:
    text = spec.wanted()
    if spec.low is not None:
        text += f", at least {spec.low:g}"
    if spec.below is not None:
        text += f", below {spec.below:g}"
    return text + (f" (also {', '.join(map(_code, spec.aliases))})" if spec.aliases else "")


def _default(spec: AttrSpec) -> str:
    if spec.default is REQUIRED:
        return "needed"
    if spec.default is None:
        return "nothing"
    return _code(spec.default if isinstance(spec.default, str) else show(spec.default))


# --- TaskLang and RuleLang -------------------------------------------------------------------------------


def _tasklang() -> list[tuple[str, str]]:
    sources = [(_code(text), meaning) for text, meaning in SOURCES.values()]
    verifiers = [(_code(_signature(name)), _claim(function)) for name, function in FRAMEWORKS.items()]
    own = (
        'A function of your own is named by its file, `"checks.py:no_missing_contract"`; it gets a claim and returns '
        "a score, True or False, a Verdict, or None to abstain. It is run with your rights."
    )
    return [
        ("Data", table(("source", "what it reads"), sources)),
        ("Metrics", _metrics()),
        ("Verifiers", f"{table(('verifier', 'what it judges'), verifiers)}\n\n{own}"),
        ("Conditions", _conditions(("accept",))),
    ]


def _rulelang() -> list[tuple[str, str]]:
    combine = [(_code(name), meaning) for name, meaning in COMBINE.items()]
    stages = f"Stages: {', '.join(map(_code, STAGES))}."
    return [
        ("Combining", table(("COMBINE", "how answers become one"), combine)),
        ("Conditions", _conditions(("select", "require", "quarantine")) + f"\n\n{stages}"),
    ]


SECTIONS: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "nureonlang": _nureonlang,
    "tasklang": _tasklang,
    "rulelang": _rulelang,
}


def _metrics() -> str:
    rows = [
        (_code(_metric_usage(one)), one.kind, "higher" if one.higher_is_better else "lower", _reach(one), one.doc)
        for one in METRICS.values()
    ]
    return table(("metric", "target", "better", "range", "meaning"), rows)


def _metric_usage(one: Metric) -> str:
    params = [
        f"{name}=..." if math.isnan(value) else f"{name}={value:g}"
        for name, value in one.params.items()
        if value != BREAK_EVEN
    ]
    return f"{one.name}({', '.join(params)})" if params else one.name


def _reach(one: Metric) -> str:
    low, high = (f"{end:g}".replace("inf", "∞") for end in one.bounds)
    return f"{low} to {high}"


def _signature(name: str) -> str:
    params = [
        one.name if one.default is one.empty else f"{one.name}={_shown(one.default)}"
        for one in inspect.signature(FRAMEWORKS[name]).parameters.values()
    ]
    return f"{name}({', '.join(params)})"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "NONE" if value is None else str(value)


def _claim(function: Callable[..., object]) -> str:
    """The first line of the framework's module, then the first paragraph of its own docstring."""
    module = (inspect.getmodule(function).__doc__ or "").split("\n")[0].partition(": ")[2]
    own = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    return f"{module[:1].upper()}{module[1:]} {own}"


def _conditions(places: tuple[str, ...]) -> str:
    every = (*((name, spec) for name, spec in FACTS.items() if name not in METRICS), ("gap", GAP))
    here = [(name, spec) for name, spec in every if set(places) & set(spec.places)]
    known_in = [", ".join(_code(PLACES[place]) for place in spec.places if place in places) for _, spec in here]
    rows = [(_code(n), spec.kind.noun, place, spec.doc) for (n, spec), place in zip(here, known_in, strict=True)]
    bounds = (
        "A comparison holds when its interval proves it: `>=` by the lower end of the 95 % interval, `<=` by the upper "
        "end. What was not measured does not hold, and the reason says so."
    )
    functions = ", ".join(_code(f"{name}(...)") for name in FUNCTIONS)
    known = [PLACES[place] for place in FACTS["roc_auc"].places if place in places]
    metrics = f"Every [metric](tasklang.md#metrics) is a fact of {', '.join(known)} under its own name. Beside them:"
    parts = [bounds, metrics, table(("fact", "value", "known in", "meaning"), rows), f"Functions: {functions}."]
    if GAP in dict(here).values():
        parts.append(f"`gap(COLUMN, of=...)` of {', '.join(map(_code, GAPS))}; it abstains where groups are small.")
    if {"accept", "require"} & set(places):
        tests = f"`better(REFERENCE, paired=..., alpha=1%)` with the tests {', '.join(map(_code, TESTS))}, and"
        against = table(("reference", "compared with"), [(_code(name), text) for name, text in REFERENCES.items()])
        paired = f"{tests} `no_worse(REFERENCE, margin=1%)` compare two models item by item:"
        parts += [paired, against]
    return "\n\n".join(parts)


if __name__ == "__main__":
    write(Path())
