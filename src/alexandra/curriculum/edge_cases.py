"""Edge cases of each level: the inputs at which programs and models go wrong. They are in no generated split.

Zeros, ones, negatives, powers of zero, nested signs, values at the ends of the pins, equations without a solution.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from alexandra.curriculum.items import Item
from alexandra.curriculum.levels import LEVELS
from alexandra.curriculum.questions import Question, question_key
from alexandra.maths import parse

EDGE = "edge"
# level -> inputs; bindings behind a bar
CASES: dict[int, tuple[str, ...]] = {
    1: (
        "(+ 0 0)",
        "(- 0 0)",
        "(+ 999 999)",
        "(- 0 999)",
        "(- 999 999)",
        "(+ 500 500)",
        "(- 100 1)",
        "(- 1 100)",
        "(+ 1 999)",
        "(+ 99 1)",
        "(- 1000 1)",
        "(- 10 9)",
        "(+ 909 91)",
        "(- 909 910)",
    ),
    2: (
        "(+ (* 0 20) 0)",
        "(/ (- 3 3) 7)",
        "(- 0 (/ 1 3))",
        "(/ 1 (/ 1 7))",
        "(- (- 5 9) (- 9 5))",
        "(* (- 0 20) (- 0 20))",
        "(/ (+ 1 1) (- 0 20))",
        "(+ (/ 1 3) (/ 2 3))",
        "(- (/ 1 19) (/ 1 20))",
        "(/ (/ (/ 20 19) 17) 13)",
        "(* (/ 1 7) 7)",
    ),
    3: (
        "(+ x 0)|x=0",
        "(* x y)|x=0,y=20",
        "(- x x)|x=7",
        "(^ x 2)|x=0",
        "(- y (^ x 2))|x=20,y=0",
        "(* x (- y x))|x=1,y=0",
        "(^ (- x 20) 3)|x=0",
        "(+ x 3)|x=2",
        "(- (- x y) (- y x))|x=3,y=5",
        "(^ (^ x 2) 2)|x=9",
    ),
    4: (
        "(sin 0)",
        "(cos 0)",
        "(tan 0)",
        "(exp 0)",
        "(ln 1)",
        "(log 1)",
        "(sqrt 0)",
        "(sqrt 1)",
        "(abs (- 0 99))",
        "(abs (- 5 5))",
        "(floor (/ -1 2))",
        "(ceil (/ -1 2))",
        "(floor (/ -4 2))",
        "(ceil (/ 1 12))",
        "(cos (/ (* 1 pi) 2))",
        "(sin (/ (* 3 pi) 2))",
        "(tan (/ (* 3 pi) 4))",
        "(log (/ 1 1000))",
        "(ln (exp -20))",
        "(- (sqrt 900) (abs (- 0 30)))",
    ),
    5: (
        "(derive x x)",
        "(derive 5 x)",
        "(derive (^ x 1) x)",
        "(derive (/ 1 x) x)",
        "(derive (^ x -1) x)",
        "(derive (sqrt x) x)",
        "(derive (ln x) x)",
        "(derive (exp x) x)",
        "(derive (* x x) x)",
        "(derive (/ x x) x)",
        "(derive (- x x) x)",
        "(derive (^ x x) x)",
        "(derive (abs x) x)",
        "(derive (tan x) x)",
        "(derive (^ 2 x) x)",
        "(derive (log x) x)",
        "(derive (exp (exp x)) x)",
        "(derive (^ (sin x) 2) x)",
        "(derive (^ x 2) x)",
    ),
    6: (
        "(integrate 0 x)",
        "(integrate 1 x)",
        "(integrate x x)",
        "(integrate (/ 1 x) x)",
        "(integrate (^ x -2) x)",
        "(integrate (sqrt x) x)",
        "(integrate (exp x) x)",
        "(integrate (ln x) x)",
        "(integrate (tan x) x)",
        "(integrate (^ x 2) x 0 1)",
        "(integrate x x 3 3)",
        "(integrate x x 1 0)",
        "(integrate (sin x) x 0 pi)",
        "(integrate (/ 1 x) x 1 e)",
        "(integrate (- x x) x)",
        "(integrate (* x (exp x)) x)",
        "(integrate (^ (sin x) 2) x)",
        "(integrate (/ x (+ (^ x 2) 1)) x)",
    ),
    7: (
        "(solve (= x 0) x)",
        "(solve (= (* 3 x) 0) x)",
        "(solve (= (^ x 2) 0) x)",
        "(solve (= (^ x 2) 2) x)",
        "(solve (= (^ x 2) -1) x)",
        "(solve (= (* 2 x) 1) x)",
        "(solve (= (+ x 1) x) x)",
        "(solve (= (sqrt x) -1) x)",
        "(solve (= (abs x) 0) x)",
        "(solve (= (exp x) 1) x)",
        "(solve (= (ln x) 0) x)",
        "(solve (= (/ 1 x) 1/3) x)",
        "(solve (= (+ x y) 0) (= (- x y) 0) x y)",
        "(solve (= (+ x y) 1) (= (+ x y) 2) x y)",
        "(solve (= (- (^ x 3) x) 0) x)",
        "(solve (= (+ (* 2 x) 5) 13) x)",
    ),
}


def edge_cases(level: int) -> list[Item]:
    """The edge cases of a level with their exact answers."""
    row = LEVELS[level]
    found = []
    for number, text in enumerate(CASES[level], 1):
        question = _question(text)
        item_key = question_key(question.expr, question.bindings)
        name = f"L{level}-edge-{number:03d}"
        found.append(Item(name, level, question.expr, row.answer(question), item_key, EDGE, question.bindings))
    return found


def _question(text: str) -> Question:
    polish, _, values = text.partition("|")
    pairs = [part.split("=") for part in values.split(",") if part]
    return Question(parse(polish), tuple((name, Fraction(value)) for name, value in pairs))


@lru_cache(maxsize=1)
def edge_keys() -> frozenset[str]:
    """The keys of all edge cases; no split that is generated holds them."""
    questions = (_question(text) for texts in CASES.values() for text in texts)
    return frozenset(question_key(one.expr, one.bindings) for one in questions)
