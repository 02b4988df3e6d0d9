"""Over generated tasks, rules and texts: parse and text are inverses, formatting keeps meaning, damage is refused."""

from __future__ import annotations

import os
import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexandra.errors import LanguageError, TaskError
from alexandra.lang import expr
from alexandra.lang.checks import check_compare
from alexandra.lang.expr import (
    TESTS,
    And,
    Arith,
    Better,
    Compare,
    Fact,
    Function,
    Gap,
    Has,
    Neg,
    Not,
    NoWorse,
    Number,
    Or,
    Word,
)
from alexandra.lang.facts import FACTS, STAGES
from alexandra.lang.fmt import format_text
from alexandra.lang.lexis import Limits, Source, comments
from alexandra.lang.rules import default_text, parse_rules
from alexandra.lang.rules_spec import COMBINE, Abstain, Fallback, Gate, Pipeline, Rule, Rules, Select
from alexandra.lang.task import masked, parse_task
from alexandra.lang.task_parts import BUNDLED, FRAMEWORKS
from alexandra.lang.task_spec import (
    Behaviour,
    Budget,
    DataSource,
    FamilyRef,
    MetricRef,
    NetworkRef,
    Split,
    TargetEncoding,
    Task,
    VerifierRef,
    resolved,
)

RESERVED = ("AND", "OR", "NOT", "BEGIN", "END")
ODD = ["END", "not", "true", "mean radius", "a//b", 'say "x"', "a\\", "BEGIN", "\u00e9", "a\nb", "\x85"]

identifiers = st.text("abcXYZ_019", min_size=1, max_size=6).map(lambda word: f"_{word}" if word[0].isdigit() else word)
tags = identifiers.map(str.upper)
texts = st.text(min_size=1, max_size=9)
names = identifiers | texts | st.sampled_from(ODD)
some_names = st.lists(names, unique=True, max_size=3).map(tuple)
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)
shares = st.floats(min_value=1e-6, max_value=0.999)
seconds = st.floats(min_value=1e-9, max_value=1e9)
sizes = st.integers(1, 2**52)
numbers = st.builds(Number, finite, st.sampled_from(["", "%"]))
positive = st.builds(Number, shares, st.sampled_from(["", "%"]))

with_share = ("recall_at", "lift_at")
metrics = st.one_of(
    st.sampled_from(["roc_auc", "rmse", "log_loss", "exact", "r2"]).map(MetricRef),
    st.builds(lambda name, share: MetricRef(name, (("share", share),)), st.sampled_from(with_share), shares),
    st.builds(
        lambda fp, gain: MetricRef("profit", (("tp", fp + gain), ("fp", fp))), st.integers(-9, 9), st.integers(1, 9)
    ),
)


@cache
def facts(place: str) -> st.SearchStrategy[Fact | Gap]:
    """Number facts without a unit that are known at `place`."""
    known = [name for name, row in FACTS.items() if place in row.places and row.kind.unit == ""]
    found = st.sampled_from([name for name in known if name not in (*with_share, "profit")]).map(Fact)
    if place in ("accept", "require"):
        return st.one_of(found, metrics, st.builds(Gap, names, st.sampled_from(expr.GAPS)))
    return found


@cache
def expressions(place: str) -> st.SearchStrategy[expr.Expr]:
    one = st.sampled_from(["log10", "log", "sqrt", "abs"])
    more = st.sampled_from(["min", "max"])

    def grow(inner: st.SearchStrategy[expr.Expr]) -> st.SearchStrategy[expr.Expr]:
        return st.one_of(
            st.builds(Arith, inner, st.sampled_from(expr.ARITHMETIC), inner),
            inner.map(lambda node: Function("abs", (node,)) if isinstance(node, Number) else Neg(node)),
            st.builds(lambda name, arg: Function(name, (arg,)), one, inner),
            st.builds(lambda name, args: Function(name, tuple(args)), more, st.lists(inner, min_size=2, max_size=3)),
        )

    return st.recursive(numbers | facts(place), grow, max_leaves=5)


def sound(node: Compare) -> bool:
    """Whether a comparison passes the checks: it names a fact and stays in its range."""
    try:
        check_compare(node)
    except TaskError:
        return False
    return True


@cache
def comparisons(place: str) -> st.SearchStrategy[expr.Condition]:
    ops = st.sampled_from(expr.COMPARISONS)
    equal = st.sampled_from(["==", "!="])
    references = st.sampled_from(expr.REFERENCES)
    kinds: list[st.SearchStrategy[expr.Condition]] = [
        st.builds(Compare, expressions(place), ops, expressions(place)).filter(sound),
        st.builds(Compare, st.just(Fact("latency_p95")), ops, st.builds(Number, seconds, st.just("s"))),
    ]
    if place == "accept":
        kinds.append(st.builds(Compare, st.just(Fact("size")), ops, st.builds(Number, sizes.map(float), st.just("B"))))
    if place in ("accept", "require"):
        alphas = st.builds(Number, st.floats(1e-9, 0.5), st.sampled_from(["", "%"]))
        kinds += [
            st.builds(NoWorse, references, positive),
            st.builds(Better, references, st.sampled_from(TESTS), alphas),
        ]
    if place == "select":
        roles = names.filter(lambda name: name not in FACTS)
        kinds += [
            st.builds(Has, st.sampled_from(expr.SUBJECTS), free_tags),
            st.builds(Compare, st.just(Fact("stage")), equal, st.sampled_from(STAGES).map(Word)),
            st.builds(Compare, roles.map(Word), equal, st.just(Fact("role"))),
        ]
    return st.one_of(kinds)


@cache
def conditions(place: str) -> st.SearchStrategy[expr.Condition]:
    def grow(inner: st.SearchStrategy[expr.Condition]) -> st.SearchStrategy[expr.Condition]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(inner.map(Not), several.map(And), several.map(Or))

    return st.recursive(comparisons(place), grow, max_leaves=4)


free = identifiers.filter(lambda word: word.upper() not in RESERVED)
free_tags = tags.filter(lambda word: word not in RESERVED)
parts = st.tuples(st.floats(0.1, 0.5), st.floats(0.1, 0.4)).map(lambda pair: (*pair, 1 - pair[0] - pair[1]))
maybe_name = st.just("") | names
splits = st.one_of(
    st.builds(Split, folds=st.none() | st.integers(2, 100), group=maybe_name, seed=st.integers(0, 10**9)),
    st.builds(Split, fractions=parts, time=maybe_name),
)
values = st.one_of(st.booleans(), st.integers(-(10**9), 10**9), finite, names)
params = st.dictionaries(free, values | st.lists(values, max_size=3).map(tuple), max_size=2)
checks = free.map(lambda name: f"checks/{name}.py:{name}")
verifiers = st.builds(VerifierRef, st.sampled_from(FRAMEWORKS) | checks, params.map(lambda found: tuple(found.items())))
programs = st.sampled_from(
    [
        "NETWORK a BEGIN END",
        "NETWORK two BEGIN\n  LAYER INPUT name=x size=AUTO  // END\n  IF 1 == 1 BEGIN\n    CONNECT x -> y\n  END\nEND",
        'NETWORK b\nBEGIN\n  LAYER DENSE name="END" /* END */ size=3\n\nEND',
    ]
)
families = st.builds(
    lambda low, more, narrow, wider: FamilyRef("tabular", (low, low + more), (narrow, narrow + wider)),
    *(st.integers(0, 9), st.integers(0, 9), st.integers(1, 99), st.integers(0, 99)),
)
networks = st.one_of(texts.map(NetworkRef), programs.map(lambda program: NetworkRef(program=program)), families)
sources = st.one_of(
    texts.map(DataSource.csv),
    texts.map(DataSource.parquet),
    st.sampled_from(BUNDLED).map(DataSource.bundled),
    st.just(DataSource.frame(None)),
)
common = st.fixed_dictionaries(
    {
        "name": free,
        "about": st.just("") | texts,
        "tags": st.lists(free_tags, unique=True, max_size=2).map(tuple),
        "metric": st.none() | metrics,
        "verify": st.lists(verifiers, max_size=2).map(tuple),
        "accept": st.none() | conditions("accept"),
        "networks": st.lists(networks, max_size=2).map(tuple),
        "budget": st.builds(Budget, st.none() | seconds, st.none() | sizes),
        "protect": some_names,
        "split": splits,
    }
)
encodings = st.builds(
    TargetEncoding,
    st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    st.floats(0, 1e6),
    st.integers(2, 9),
)


def _encoding(found: TargetEncoding | None, taken: tuple[str, ...]) -> TargetEncoding | None:
    return None if found is None or set(found.columns) & set(taken) else found


with_columns = st.builds(
    lambda common, source, target, dropped, positive, encode: Task(
        source,
        target,
        positive=positive,
        drop=tuple(name for name in dropped if name != target),
        encode=_encoding(encode, (target, *dropped)),
        **common,
    ),
    *(common, sources, names, some_names, st.just("") | texts, st.none() | encodings),
)
days = st.integers(1, 36_525)
behaviours = st.builds(
    Behaviour,
    entity=names,
    time=names,
    cutoff=st.sampled_from(("2024-03-01", "1999-12-31 23:59", "2011-09-01T10:00:30")),
    amount=names,
    windows=st.lists(days, unique=True, max_size=3).map(tuple),
    distinct=some_names,
    latest=some_names,
    ahead=days,
)
over_events = st.builds(
    lambda common, source, target, steps: Task(source, target, behaviour=steps, **common),
    *(common, sources, st.sampled_from(("churned", "spent")), behaviours),
)
generated = st.builds(
    lambda common, last, count: Task(DataSource.curriculum((1, last), count), **common),
    *(common, st.integers(1, 7), st.integers(1, 10**6)),
)
tasks = with_columns | generated | over_events

top = st.builds(Select, st.integers(1, 9), st.sampled_from(COMBINE))
pipelines = st.lists(names, min_size=2, max_size=3).map(lambda found: Pipeline(tuple(found)))
scores = st.none() | expressions("select")
when = st.none() | conditions("select")
bodies = st.tuples(top, when, scores) | st.tuples(pipelines, when, st.none())
fallbacks = st.builds(Fallback, top, scores) | st.builds(Fallback, pipelines)
gates = st.dictionaries(
    free,
    st.tuples(*(st.lists(conditions(place), max_size=2).map(tuple) for place in ("require", "quarantine"))),
    max_size=2,
)
rule_sets = st.builds(
    lambda name, rules, otherwise, gates: Rules(
        name,
        tuple(Rule(key, *body) for key, body in rules.items()),
        otherwise,
        tuple(Gate(key, *body) for key, body in gates.items()),
    ),
    *(free, st.dictionaries(free, bodies, max_size=3), st.builds(Abstain, texts) | fallbacks, gates),
)


@given(tasks)
def test_a_task_is_its_text_which_is_already_formatted(task: Task) -> None:
    assert parse_task(task.text()) == task
    assert format_text(task.text()) == task.text()
    assert all(line == line.rstrip() for line in task.text().split("\n"))


@given(rule_sets)
def test_rules_are_their_text_which_is_already_formatted(rules: Rules) -> None:
    rules.check_facts()
    assert parse_rules(rules.text()) == rules
    assert format_text(rules.text()) == rules.text()


@given(tasks, st.sampled_from(["binary", "multiclass", "regression", "curriculum"]), st.integers(0, 50_000))
def test_resolving_is_complete_and_done_once(task: Task, kind: str, rows: int) -> None:
    whole = resolved(task, rows, kind)
    assert whole.metric and whole.accept and whole.verify and whole.networks and whole.tags and whole.budget.seconds
    assert whole.split.folds or whole.split.fractions
    assert resolved(whole, rows, kind) == whole
    assert parse_task(whole.text()) == whole


@given(finite, st.sampled_from(["", "%"]))
def test_a_number_reads_back_as_the_same_float(value: float, unit: str) -> None:
    node = Compare(Fact("rmse"), "<=", Arith(Fact("rmse"), "*", Number(value, unit)))
    rules = Rules("r", (Rule("a", when=node),))
    assert parse_rules(rules.text()) == rules


# ---------------------------------------------------------------- layout


@st.composite
def scattered(draw: st.DrawFn, text: str) -> tuple[str, list[str]]:
    """The text with other white space, other case in its keywords, and comments between its words."""
    from alexandra.lang.fmt import kind_of_program
    from alexandra.lang.lexis import parser

    source = masked(Source.of(text))
    tokens = list(parser(kind_of_program(text)).parse_interactive(source.text).iter_parse())
    out, said = "", []
    for number, token in enumerate(tokens):
        word = source.original[token.start_pos : token.end_pos]
        out += word.lower() if str(token).isalpha() and token.type not in ("NAME", "STRING") else word
        filler = draw(st.sampled_from([" "] * 6 + ["\n", "\n\n\n", "  \n ", "//", "/*", "\n//", "\n\n/*"]))
        if filler.strip():
            note = f"{filler.strip()} note {number}" + (" */" if "*" in filler else "")
            said.append(note)
            blank = filler.replace(filler.strip(), "")
            out += f"{blank or ' '}{note}" + ("\n" if "//" in note else draw(st.sampled_from([" ", "\n"])))
        else:
            out += filler
    return out, said


EXAMPLES = [
    'TASK t BEGIN ABOUT "a // b" DATA csv("x.csv") TARGET y POSITIVE -1 DROP a, "b c" SPLIT folds=5 SEED 7 '
    "METRIC profit(tp=100, fp=-10) VERIFY empirical, power_dynamics(groups=[a, b], least=-5) "
    "ACCEPT NOT (roc_auc - -1 >= 0.8 OR -f1 < 3) AND gap(a, of=auc) <= 15% AND no_worse(baseline, margin=1%) "
    'NETWORKS "n.nl", NETWORK q BEGIN\n  LAYER x // y\nEND, FAMILY tabular(0..4 layers, 3 wide) BUDGET time=5m END',
    default_text(),
    'RULES r BEGIN RULE a WHEN task HAS TEXT SELECT PIPELINE b, "c d" RULE e SCORE roc_auc - 0.01 * log10(parameters) '
    "SELECT 3 COMBINE vote OTHERWISE SCORE metric SELECT 1 END GATE g BEGIN QUARANTINE WHEN failed > 3% END",
]


@given(st.data(), st.sampled_from(EXAMPLES))
def test_formatting_keeps_meaning_and_comments_and_is_done_once(data: st.DataObject, text: str) -> None:
    parse = parse_task if text.startswith("TASK") else parse_rules
    wild, said = data.draw(scattered(text))
    tidy = format_text(wild, "task" if parse is parse_task else "rules")
    assert parse(tidy) == parse(text)
    assert format_text(tidy) == tidy
    kept = [comment.text for comment in comments(masked(Source.of(tidy)))]
    assert sorted(kept) == sorted(said)
    assert all(line == line.rstrip() for line in tidy.split("\n"))


# ---------------------------------------------------------------- damage

PIECES = ["BEGIN", "END", "AND", "NOT", "(", ")", ",", "=", "..", "5m", "7%", "2GB", "1e9", '"', "//", "/*", "*/", ";"]
PIECES += [
    "TASK",
    "DATA",
    "roc_auc",
    ">=",
    "-",
    "\ue000",
    "\x00",
    "\u2028",
    "NETWORK a BEGIN",
    "9" * 400,
    "\ufeff",
    "é",
]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.sampled_from(["", *PIECES]) | st.text(max_size=4)) + text[end:]
    return text


def format_task(text: str) -> str:
    return format_text(text, "task")


def format_rules(text: str) -> str:
    return format_text(text, "rules")


def refused_in_order(text: str) -> None:
    """Only a LanguageError leaves the parser and the formatter, and it points into the text."""
    for parse in (
        parse_task,
        parse_rules,
        lambda given: format_text(given, "task"),
        lambda given: format_text(given, "rules"),
    ):
        try:
            parse(text)
        except LanguageError as error:
            lines = Source.of(text).lines
            assert 1 <= error.line <= len(lines)
            assert 1 <= error.column <= len(lines[error.line - 1]) + 1
            assert error.message


@given(damaged())
def test_a_damaged_program_is_refused_with_a_position(text: str) -> None:
    refused_in_order(text)


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=20).map(" ".join))
def test_noise_is_refused_with_a_position(text: str) -> None:
    refused_in_order(text)


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("ALEXANDRA_FUZZ", "20000")), deadline=None)
@given(damaged() | st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map(" ".join))
def test_many_damaged_programs_are_refused_with_a_position(text: str) -> None:
    refused_in_order(text)


def test_a_text_over_the_stated_length_is_refused() -> None:
    with pytest.raises(LanguageError, match="the limit 'characters' is 1,000"):
        parse_task("TASK t BEGIN " + " " * 2000, limits=Limits(characters=1000))


@pytest.mark.parametrize(
    "text",
    [
        "/*" * 90_000,
        '"' + '\\"' * 90_000,
        "NETWORK x BEGIN " * 12_000,
        "TASK t BEGIN DATA frame TARGET y DROP " + ",".join(f"a{i}" for i in range(20_000)) + ", a1 END",
        "TASK t BEGIN DATA frame TARGET y ACCEPT " + "NOT " * 40_000 + "f1 > 0.5 END",
        "TASK t BEGIN " + "// note\n" * 20_000,
        "TASK t BEGIN DATA frame TARGET y " * 5_000,
    ],
    ids=["comments", "quotes", "networks", "names", "nots", "notes", "statements"],
)
def test_a_hostile_text_is_refused_in_time_that_grows_with_its_length(text: str) -> None:
    began = time.process_time()
    with pytest.raises(LanguageError):
        format_text(text, "task")
    assert time.process_time() - began < 20
