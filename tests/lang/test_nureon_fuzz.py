"""Hostile programs: only LanguageError escapes, nothing hangs, and what compiles or formats keeps its laws."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexandra.errors import LanguageError
from alexandra.lang.lexis import Limits, Source
from alexandra.lang.nureon import compile_network, format_nureon
from alexandra.lang.nureon_ast import parse_nureon
from alexandra.lang.nureon_forms import canonical

HERE = Path(__file__).resolve().parent
CORPUS = [path.read_text() for path in sorted((HERE / "programs").iterdir()) if path.stem != "thousand"]
CORPUS += [path.read_text() for path in sorted((HERE.parents[1] / "examples" / "networks").glob("*.nl"))]
CORPUS += [
    "LAYER INPUT name=x size=12 EXPAND SPACE = 3D BEGIN LAYER DENSE name=h size=4 CONNECT x -> h END "
    "EXPAND GROUP = C4 BEGIN LAYER RELU name=g CONNECT h -> g END LAYER OUTPUT y CONNECT g -> y",
    "LAYER INPUT name=x size=4 MODULE e(i, o) BEGIN LAYER DENSE a size=4 CONNECT i -> a -> o END CALL e AS p "
    "CALL e AS q SHARED CONNECT x -> p -> q -> h RESIDUAL AS h BEGIN LAYER RELU IF x[0] > 1 BEGIN LAYER TANH END END "
    "LAYER OUTPUT y CONNECT h -> y",
    "LAYER INPUT x size=4 IF x[1] < 0 BEGIN LAYER RELU h CONNECT x -> h END ELSE BEGIN LAYER TANH h "
    "CONNECT x[0:4] -> h END  "
    "LET w[0] = 2^2 LAYER DENSE k size=w[0] shared=k CONNECT h -> k LAYER OUTPUT y CONNECT k -> y FILE \"w\"",
]  # fmt: skip
TOKEN = re.compile(r'"[^"\n]*"|//[^\n]*|\w+|->|[=!<>]=|\s+|.', re.DOTALL)
WORDS = sorted({token for text in CORPUS for token in TOKEN.findall(text) if not token.isspace()})
STATEMENT = re.compile(r"(?=LAYER |CONNECT |LET |FOR |IF |BEGIN|END|REPEAT |RESIDUAL|CALL |MODULE |DEFINE )")
LIMITS = Limits(steps=20_000, layers=2_000)


def alike(left: str, right: str) -> bool:
    """Whether two tokens are of one kind: words, numbers or signs."""
    return [left[0].isdigit(), left[0].isalpha() or left[0] == "_"] == [
        right[0].isdigit(),
        right[0].isalpha() or right[0] == "_",
    ]


def mutate(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        if rng.random() < 0.6:
            tokens = TOKEN.findall(text) or [" "]
            at = rng.randrange(len(tokens))
            similar = [token for token in (tokens if rng.random() < 0.5 else WORDS) if alike(token, tokens[at])]
            tokens[at] = rng.choice(similar or [";"]) if rng.random() < 0.85 else rng.choice(WORDS) + " "
            text = "".join(tokens)
        else:
            parts = STATEMENT.split(text)
            at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
            action = rng.random()
            if action < 0.4:
                del parts[at]
            elif action < 0.7:
                parts.insert(at, rng.choice(STATEMENT.split(rng.choice(CORPUS))))
            else:
                parts[at], parts[other] = parts[other], parts[at]
            text = "".join(parts)
    return text


def check(text: str) -> bool:
    """Whether `text` compiles; asserts the laws of whatever it does."""
    try:
        graph = compile_network(text, limits=LIMITS)
    except LanguageError as error:
        assert error.line >= 1 and error.column >= 1 and error.message and str(error)
        compiled = False
    else:
        assert compile_network(graph.text()) == graph
        compiled = True
    try:
        tidy = format_nureon(text)
    except LanguageError:
        return compiled
    assert format_nureon(tidy) == tidy
    assert canonical(parse_nureon(Source.of(text))) == canonical(parse_nureon(Source.of(tidy)))
    return compiled


@pytest.mark.parametrize("seed", range(4))
def test_mutated_programs(seed: int) -> None:
    rng = random.Random(seed)
    compiled = sum(check(mutate(rng.choice(CORPUS), rng)) for _ in range(200))
    assert compiled > 10


@pytest.mark.slow
def test_many_mutated_programs_end_in_language_errors_alone_and_in_time() -> None:
    """ALEXANDRA_FUZZ says how many (20,000 without it)."""
    rng = random.Random(2026)
    for _ in range(int(os.environ.get("ALEXANDRA_FUZZ", "20000"))):
        text = mutate(rng.choice(CORPUS), rng)
        began = time.process_time()
        check(text)
        assert time.process_time() - began < 10, text


@settings(max_examples=150)
@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_words_in_any_order(text: str) -> None:
    check(text)


@settings(max_examples=150)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    check(text)


MANY = 20_000
HOSTILE = {
    "brackets": "LET a = " + "(" * MANY,
    "begins": "BEGIN " * MANY,
    "signs": "LET a = " + "-" * MANY + "1",
    "powers": "LET a = 2" + "^2" * MANY,
    "sum": "LET a = 1" + "+1" * MANY,
    "dots": "CONNECT a" + ".a" * MANY + " -> b",
    "selections": "CONNECT a" + "[0]" * MANY + " -> b",
    "dims": "LAYER INPUT name=x shape=2" + "x2" * MANY,
    "digits": "LET a = " + "9" * MANY,
    "exponent": "LET a = 1e" + "9" * MANY,
    "arguments": "DEFINE f(" + ", ".join(f"a{i}" for i in range(5_000)) + ") BEGIN END",
    "comments": "LAYER INPUT a " + "/* */" * MANY + "b",
    "open comments": "LAYER INPUT a " + "/* " * MANY,
    "quotes": '"\\' * MANY,
    "spaces": "LAYER INPUT a" + " " * MANY + "b",
    "loops": "FOR i FROM 0 TO 10^9 BEGIN LET a = i * 2; END",
    "towers": "LET a = 9^9^9^9^9;",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_end_soon(name: str) -> None:
    began = time.process_time()
    check(HOSTILE[name])
    assert time.process_time() - began < 10


CHAINS = {
    "flat": "LAYER INPUT h_0 size=4\n"
    + "".join(f"LAYER DENSE name=h_{i} size=8 activation=relu\nCONNECT h_{i - 1} -> h_{i}\n" for i in range(1, 1001)),
    "loop": "LAYER INPUT h_0 size=4 FOR i FROM 1 TO 1000 BEGIN LAYER DENSE h_[i] size=8 CONNECT h_[i-1] -> h_[i] END\n",
    "macros": "DEFINE f(a, b) BEGIN LAYER DENSE t size=4 LAYER RELU b CONNECT a -> t -> b END LAYER INPUT h_0 size=4 "
    "FOR i FROM 1 TO 1000 BEGIN f(h_[i-1], h_[i]) END\n",
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_thousand_layers_compile_within_a_second(name: str) -> None:
    text = CHAINS[name] + "LAYER OUTPUT y size=2 CONNECT h_1000 -> y"
    compile_network("LAYER INPUT x size=1 LAYER OUTPUT y CONNECT x -> y")  # the parser is built once per process
    began = time.process_time()
    graph = compile_network(text)
    assert time.process_time() - began < 1.0
    assert len(graph.nodes) >= 1002
