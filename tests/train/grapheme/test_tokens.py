"""Graphs as tokens and back."""

import pytest

from alexandra.curriculum import LEVELS, Question, level
from alexandra.curriculum.derivation import derivation, text, tree
from alexandra.errors import DataError
from alexandra.maths import parse
from alexandra.train.grapheme.tokens import (
    ASK,
    BOS,
    EOS,
    NUMBER,
    STEP,
    VOCABULARY,
    WORDS,
    decode,
    document,
    encode,
    graphs,
    prompt,
)


@pytest.mark.parametrize("number", sorted(LEVELS))
def test_documents_are_read_back_graph_by_graph(number: int) -> None:
    for item in level(number, 60, seed=3):
        steps = derivation(item.question, item.expected)
        tokens, asked = document(item.question, steps)
        assert tokens[0] == BOS and tokens[asked - 1] == ASK and tokens[-1] == EOS
        assert max(tokens) < VOCABULARY and tokens[:asked] == prompt(item.question)
        found = [decode(part) for part in graphs(tokens[asked:])]
        assert [text(one) for one in found if one is not None] == [text(step) for step in steps]


def test_digits_stand_least_significant_first_with_their_place() -> None:
    assert [WORDS[token] for token in encode(-305)] == ["~", "5@0", "0@1", "3@2"]


def test_a_quotient_of_numbers_has_its_own_head() -> None:
    words = [WORDS[token] for token in encode(("/", 7, ("/", -2, 13)))]
    assert words == ["/", "7@0", "ratio", "~", "2@0", "3@0", "1@1"]
    assert decode(encode(("/", 7, ("/", -2, 13)))) == ("/", 7, ("/", -2, 13))


def test_tokens_that_are_no_graph_are_none() -> None:
    assert decode([]) is None
    assert decode([NUMBER["+"], NUMBER["1@0"]]) is None
    assert decode([NUMBER["1@0"], NUMBER["1@0"]]) is None
    assert decode([NUMBER["1@1"]]) is None
    assert decode([NUMBER["set"], NUMBER["1@0"]]) is None
    assert decode([NUMBER["~"]] * 500) is None
    assert decode([STEP]) is None


def test_what_has_no_token_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="'w'"):
        prompt(Question(parse("(+ w 1)")))
    with pytest.raises(DataError, match="9 digits"):
        prompt(Question(parse("(+ 1234567890 1)")))


def test_a_definite_integral_and_a_system_have_heads_of_their_own() -> None:
    assert WORDS[encode(tree(parse("(integrate x x 0 1)")))[0]] == "integral"
    assert WORDS[encode(tree(parse("(solve (= x y) (= y 2) x y)")))[0]] == "system"
