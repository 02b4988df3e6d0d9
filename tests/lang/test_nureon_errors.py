"""Every mistake in a program is one LanguageError with file, line, column, underlined source and a way out."""

from __future__ import annotations

import pytest

from alexandra.errors import LanguageError
from alexandra.lang.lexis import Limits
from alexandra.lang.nureon import compile_network, format_nureon


def failure(text: str, **options: object) -> LanguageError:
    with pytest.raises(LanguageError) as caught:
        compile_network(text, file="net.nl", **options)  # type: ignore[arg-type]
    return caught.value


def around(body: str) -> str:
    """A program whose third line is `body`."""
    return f"LAYER INPUT name=x size=4\nLAYER OUTPUT name=y size=2 CONNECT h -> y\n{body}\n"


def test_the_sample_of_the_language_page() -> None:
    text = """NETWORK churn
BEGIN
  LAYER INPUT name=x size=4
  DEFINE block(src, dst, n)
  BEGIN
    LAYER DENSE name=dst size=n activation=gelo
    CONNECT src -> dst
  END
  block(x, h, 3)
  LAYER OUTPUT name=y CONNECT h -> y
END"""
    assert str(failure(text)) == (
        "net.nl:6:44: unknown activation 'gelo'\n"
        "        LAYER DENSE name=dst size=n activation=gelo\n"
        "                                               ^^^^\n"
        "known: elu, gelu, gelu_tanh, leaky_relu, linear, relu, sigmoid, silu, softmax, softplus, tanh. "
        "Did you mean 'gelu'?"
    )


# body of the third line, the words that are underlined, message, part of the way out
MISTAKES = [
    ("LAYER DENS name=h size=8 CONNECT x -> h", "DENS", "unknown layer type 'DENS'", "Did you mean 'DENSE'?"),
    (
        "LAYER DENSE name=h siz=8 CONNECT x -> h",
        "siz",
        "unknown attribute 'siz' of DENSE",
        "known: activation, bias, name, size. Did you mean 'size'?",
    ),
    ("LAYER DENSE name=h CONNECT x -> h", "LAYER DENSE name=h", "DENSE needs size=", "width"),
    ("LAYER DENSE name=h size=8 size=9", "size", "size is given twice", ""),
    ("LAYER DENSE h name=k size=8", "name", "this layer is named twice", ""),
    ("LAYER DENSE name=h size=0 CONNECT x -> h", "0", "size must be at least 1, got 0", ""),
    ("LAYER DENSE name=h size=9/2 CONNECT x -> h", "9/2", "size must be a whole number, got 4.5", "(a - a % b) / b"),
    ("LAYER DENSE name=h size=AUTO CONNECT x -> h", "AUTO", "size cannot be AUTO here", "a whole number"),
    ("LAYER DENSE name=h size=8 bias=maybe CONNECT x -> h", "maybe", "unknown constant 'maybe'", "TRUE or FALSE"),
    ("LAYER DENSE name=3 size=8", "3", "3 is not the name of a layer", "letters, digits"),
    (
        "LET width = 3; LAYER DENSE name=h size=widht CONNECT x -> h",
        "widht",
        "unknown constant 'widht'",
        "Did you mean 'width'?",
    ),
    ("LET a = 1; LET a = 2;", "a", "'a' is defined twice in this block", "line 3"),
    ("LET a[1] = 1; LET b = a[2];", "[2]", "a[2] has no value", "known: 1."),
    ("LET a = 1 / 0;", "0", "division by zero", ""),
    ("LET a = 2^64;", "2^64", "this number is too large", "2^63"),
    ("LET a = (0-8)^0.5;", "(0-8)^0.5", "-8 to the power 0.5 is not a real number", ""),
    ('LET a = 1 - "x";', '"x"', 'arithmetic needs numbers, got "x"', ""),
    ("LAYER DENSE name=h size=8 CONNECT xx -> h", "xx", "unknown layer 'xx'", "Did you mean 'x'?"),
    ("LAYER RELU h CONNECT x -> h LAYER RELU h", "h", "two layers are named 'h'", "line 3"),
    ("LAYER RELU name=h", "LAYER RELU name=h", "layer 'h' (relu) is not connected", "CONNECT something -> h"),
    (
        "LAYER RELU h CONNECT x -> h LAYER TANH k CONNECT x -> k",
        "LAYER TANH k",
        "layer 'k' (tanh) leads to no output",
        "CONNECT k -> ...",
    ),
    ("LAYER ADD h CONNECT x -> h", "LAYER ADD h", "layer 'h' (add) needs at least 2 inputs, got 1", ""),
    ("LAYER RELU h LAYER TANH k CONNECT h -> k -> h", "LAYER RELU h", "the network has a cycle: h -> k -> h", ""),
    ("LAYER RELU h CONNECT y -> h", "y", "'y' is an OUTPUT and feeds nothing", "connect what it reads"),
    ("LAYER RELU h CONNECT h -> x", "x", "'x' is an INPUT and reads nothing", ""),
    ("LAYER RELU h CONNECT x -> h[0]", "h[0]", "a connection cannot end in a part, 'h[0]'", "CONNECT x[0] -> h"),
    (
        "LAYER RELU h CONNECT x[3:9] -> h",
        "x[3:9]",
        "layer 'x.slice_3_9' (slice) stop=9 is beyond the last axis of float32[4], which has 4 elements",
        "",
    ),
    ("LAYER RELU h CONNECT x[2:2] -> h", "[2:2]", "the range 2:2 is empty", "not included"),
    ("LAYER RELU h CONNECT x[0-1] -> h", "0-1", "an index counts from 0, got -1", ""),
    ("LAYER RELU h_[0-1] CONNECT x -> h", "[0-1]", "-1 cannot be part of a name: use a whole number from 0 up", ""),
    ("blok(x, h)", "blok", "unknown macro or module 'blok'", "DEFINE or MODULE"),
    ("DEFINE block(a, b) BEGIN END blok(x, h)", "blok", "unknown macro or module 'blok'", "Did you mean 'block'?"),
    ("DEFINE f(a, b) BEGIN END f(x)", "f(x)", "f takes 2 arguments, got 1", "f(a, b) on line 3"),
    (
        "DEFINE f(a) BEGIN LAYER RELU name=a END f(8)",
        "a",
        "parameter 'a' is 8, where the name of a layer is needed",
        "pass a name",
    ),
    (
        "DEFINE f(a) BEGIN END DEFINE f(a) BEGIN END",
        "DEFINE f(a) BEGIN END",
        "'f' is defined twice in this block",
        "line 3",
    ),
    (
        "MODULE m(i, o) BEGIN LAYER RELU r CONNECT i -> r END CALL m",
        "MODULE m",
        "module 'm' never uses its port 'o'",
        "CONNECT it inside",
    ),
    (
        "MODULE m(i, o) BEGIN LAYER RELU r CONNECT i -> r -> o END CALL m CONNECT m -> h LAYER RELU h",
        "CALL m",
        "port 'i' of 'm' is not connected",
        "CONNECT something -> m.i",
    ),
    (
        "MODULE m BEGIN LAYER RELU r END CONNECT x -> m LAYER RELU h CONNECT x -> h",
        "m",
        "'m' names a module that is not called here",
        "CALL m",
    ),
    (
        "REPEAT 2 AS b BEGIN LAYER RELU END CONNECT b -> h LAYER RELU h",
        "REPEAT 2",
        "'b' is not connected",
        "CONNECT something -> b",
    ),
    ("RESIDUAL BEGIN END", "RESIDUAL BEGIN END", "this RESIDUAL holds no layer", ""),
    ("FOR i FROM 0 TO 1.5 BEGIN END", "1.5", "the last value of a FOR must be a whole number, got 1.5", ""),
    ("IF inputs > 3 BEGIN END", "inputs", "'inputs' is neither a constant nor a layer declared above", "known: x, y."),
    ("IF x[0] == x[1] BEGIN END", "IF x[0]", "a layer is compared with a number, got x[1]", "IF x[0] >= 0.5"),
    (
        "IF x[0] > 0 BEGIN LAYER RELU h CONNECT x -> h END",
        "h",
        "'h' is only in one branch of the IF of line 3",
        "other branch",
    ),
    (
        "LAYER RELU h IF x[0] > 0 BEGIN CONNECT x -> h END",
        "CONNECT x -> h",
        "'h', declared outside the IF, is connected in one branch only",
        "ELSE",
    ),
    (
        "IF x[0] > 0 BEGIN LAYER OUTPUT z CONNECT x -> z END",
        "LAYER OUTPUT z",
        "output 'z' is in one branch of the IF only",
        "both branches",
    ),
    ("NETWORK a NETWORK b", "NETWORK b", "a file holds one network", "the first is 'a'"),
    ('FILE "a" FILE "b"', 'FILE "b"', "FILE stands once in a network, outside modules and macros", ""),
    ("LAYER RELU name=h shared=hh CONNECT x -> h", "hh", "unknown layer 'hh'", "Did you mean 'h'?"),
    ("LAYR RELU name=h", "LAYR", "unknown statement 'LAYR'", "Did you mean 'LAYER'?"),
    ("LAYER RELU h CONNECT x - > h", "-", "unexpected '-'", "'->'"),
    ('LET a = "x', '"x', "this text is not closed", "same line"),
    ("/* open", "/*", "this comment is not closed", "close it with */"),
    ("LAYER DENSE name=h size=8relu", "8relu", "'8relu' is not a number", "a whole number"),
    ("LAYER DENSE name=h size=é", "é", "unexpected character 'é' (U+00E9)", "a name"),
]


@pytest.mark.parametrize(("body", "underlined", "message", "way_out"), MISTAKES, ids=[row[2][:50] for row in MISTAKES])
def test_mistakes(body: str, underlined: str, message: str, way_out: str) -> None:
    error = failure(around(body))
    assert error.message == message
    assert way_out in error.hint
    assert error.file == "net.nl"
    if (
        "OUTPUT and feeds" not in message
        and "unknown layer 'h" not in message
        and not message.startswith("'h' is only")
    ):
        assert error.line == 3
        start = error.column - 1
        assert body[start : start + error.length].startswith(underlined) or body[start:].startswith(underlined)


def test_a_block_that_is_not_closed_is_named() -> None:
    error = failure("BEGIN\n  LAYER INPUT name=x size=3\n  FOR i FROM 0 TO 2\n  BEGIN\n    LAYER RELU r_[i]\nEND\n")
    assert error.message == "the text ends too early"
    assert error.hint.startswith("the BEGIN of line 1 has no END.")


@pytest.mark.parametrize(
    ("text", "message"), [("", "no INPUT"), (";;", "no INPUT"), ("LAYER INPUT x size=3", "no OUTPUT")]
)
def test_programs_without_ends(text: str, message: str) -> None:
    assert message in failure(text).message


def test_sizes_that_do_not_fit_point_at_their_layer() -> None:
    text = "LAYER INPUT name=x size=AUTO\nLAYER OUTPUT name=y size=AUTO\nCONNECT x -> y"
    error = failure(text, sizes={"x": 3})
    assert (error.line, error.message) == (2, "layer 'y' (output) has size=AUTO and no size was given")
    assert "no layer 'z' takes a size" in failure(text, sizes={"z": 3}).message


@pytest.mark.parametrize(
    ("text", "limits", "name"),
    [
        ("LAYER RELU\n" * 50, Limits(characters=100), "characters"),
        ("FOR i FROM 0 TO 10^9 BEGIN END", Limits(steps=1000), "steps"),
        ("REPEAT 10^9 AS b BEGIN END", Limits(steps=1000), "steps"),
        ("LET a = " + "1+" * 1000 + "1", Limits(steps=500), "steps"),
        ("FOR i FROM 0 TO 99 BEGIN LAYER RELU r_[i] END", Limits(layers=50), "layers"),
        ("DEFINE f(a) BEGIN f(a) END f(1)", Limits(), "nesting"),
        ("DEFINE f(a) BEGIN f(a) f(a) END f(1)", Limits(), "nesting"),
        ("MODULE m BEGIN CALL m END CALL m", Limits(), "nesting"),
        ("BEGIN " * 100 + "END " * 100, Limits(), "nesting"),
        ("LET a = " + "(" * 100000, Limits(), "nesting"),
        ("LET a = " + "a[" * 100000, Limits(), "nesting"),
        ("IF 1 == 2 BEGIN END " + "ELSE IF 1 == 2 BEGIN END " * 5000, Limits(), "nesting"),
        ("CONNECT " + "a." * 10000 + "a -> b", Limits(), "nesting"),
    ],
)
def test_limits_end_in_an_error_that_names_them(text: str, limits: Limits, name: str) -> None:
    error = failure(text, limits=limits)
    value = getattr(limits, name)
    assert f"the limit '{name}' is {value:,}" in error.message
    assert f"limits=Limits({name}=...)" in error.hint


def test_limits_can_be_raised() -> None:
    loop = """LAYER INPUT r_0 size=2 FOR i FROM 1 TO 99 BEGIN LAYER RELU r_[i] CONNECT r_[i-1] -> r_[i] END
    LAYER OUTPUT y CONNECT r_99 -> y"""
    assert len(compile_network(loop, limits=Limits(layers=101)).nodes) == 101
    assert "'layers' is 100" in failure(loop, limits=Limits(layers=100)).message


def test_the_formatter_refuses_what_does_not_parse() -> None:
    with pytest.raises(LanguageError, match="a.nl:1:12: unexpected"):
        format_nureon("LAYER RELU =", "a.nl")
