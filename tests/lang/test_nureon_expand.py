"""EXPAND: what the copies see, that they share weights, and that a rotated input rotates the result."""

from __future__ import annotations

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.errors import LanguageError
from alexandra.ir.check import param_specs
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network


def program(body: str, size: object = 12) -> str:
    return f"LAYER INPUT name=x size={size}\n{body}\nLAYER OUTPUT name=y\nCONNECT h -> y"


def values(text: str, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    graph = compile_network(text)
    weights = initialise(graph, 5)
    y = bind(graph, backend="reference", weights=weights).forward({"x": x})["y"]
    return np.asarray(y), {name: np.asarray(array, dtype=float) for name, array in weights.items()}


X = np.arange(24, dtype=float).reshape(2, 12) / 8 - 1


def test_space_applies_one_body_to_each_part() -> None:
    y, weights = values(program("EXPAND SPACE = 3D BEGIN LAYER DENSE name=h size=5 CONNECT x -> h END"), X)
    expected = [part @ weights["h.at_0.weight"].T for part in np.split(X, 3, axis=1)]
    np.testing.assert_allclose(y, np.concatenate(expected, axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("group", "orders"),
    [
        ("C3", [(0, 1, 2), (1, 2, 0), (2, 0, 1)]),
        ("D3", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0)]),
        ("S2", [(0, 1), (1, 0)]),
    ],
)
def test_a_group_applies_one_body_to_each_order_of_the_parts(group: str, orders: list[tuple[int, ...]]) -> None:
    text = program(f"EXPAND WITH GROUP {group} BEGIN LAYER DENSE name=h size=2 CONNECT x -> h END")
    y, weights = values(text, X)
    parts = np.split(X, len(orders[0]), axis=1)
    expected = [np.concatenate([parts[k] for k in order], axis=1) @ weights["h.at_0.weight"].T for order in orders]
    np.testing.assert_allclose(y, np.concatenate(expected, axis=1), rtol=1e-12)


def test_rotating_the_input_rotates_the_copies_also_through_two_of_them() -> None:
    body = """EXPAND GROUP = C4 BEGIN LAYER DENSE name=a size=6 activation=tanh CONNECT x -> a END
    EXPAND GROUP = C4
    BEGIN LAYER DENSE name=t size=3 activation=relu LAYER DENSE name=h size=2 CONNECT a -> t -> h END"""
    plain, _ = values(program(body), X)
    rotated, _ = values(program(body), np.roll(X, -3, axis=1))
    np.testing.assert_allclose(rotated, np.roll(plain, -2, axis=1), rtol=1e-12)
    assert not np.allclose(rotated, plain)


def test_the_copies_have_one_set_of_weights() -> None:
    body = "EXPAND SPACE = 3D BEGIN LAYER DENSE name=t size=5 LAYER LAYERNORM name=h CONNECT x -> t -> h END"
    graph = compile_network(program(body))
    names = ["h.at_0.bias", "h.at_0.weight", "t.at_0.bias", "t.at_0.weight"]
    assert sorted(param_specs(graph)) == names
    assert graph.by_name["h"].inputs == ("h.at_0", "h.at_1", "h.at_2")


def test_a_connection_from_outside_goes_to_every_copy() -> None:
    inside = program("EXPAND SPACE = 2D BEGIN LAYER RELU name=h CONNECT x -> h END")
    outside = program("EXPAND SPACE = 2D BEGIN LAYER RELU name=h END CONNECT x -> h")
    assert compile_network(inside) == compile_network(outside)


def test_in_a_chain_the_copies_are_chains() -> None:
    y, weights = values(
        program("RESIDUAL AS h BEGIN EXPAND SPACE = 3D BEGIN LAYER DENSE size=4 LAYER RELU END END CONNECT x -> h"), X
    )
    expected = [np.maximum(part @ weights["dense.at_0.weight"].T, 0) for part in np.split(X, 3, axis=1)]
    np.testing.assert_allclose(y, X + np.concatenate(expected, axis=1), rtol=1e-12)


def test_outputs_stand_side_by_side() -> None:
    body = "EXPAND SPACE = 3D BEGIN LAYER OUTPUT name=y size=2 activation=sigmoid CONNECT x -> y END"
    y, weights = values("LAYER INPUT name=x size=12\n" + body, X)
    logits = [part @ weights["y.at_0.weight"].T for part in np.split(X, 3, axis=1)]
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-np.concatenate(logits, axis=1))), rtol=1e-12)


def test_modules_branches_and_macros_may_stand_inside() -> None:
    body = """MODULE m(i, o) BEGIN LAYER RELU r CONNECT i -> r -> o END
    DEFINE pick(source, result)
    BEGIN
      IF source[0] > 0 BEGIN LAYER LINEAR name=result CONNECT source -> result END
      ELSE BEGIN LAYER TANH name=result CONNECT source -> result END
    END
    EXPAND SPACE = 2D BEGIN pick(x, p) CALL m AS h CONNECT p -> h END"""
    y, _ = values(program(body), X)
    halves = [np.maximum(np.where(half[:, :1] > 0, half, np.tanh(half)), 0) for half in np.split(X, 2, axis=1)]
    np.testing.assert_allclose(y, np.concatenate(halves, axis=1), rtol=1e-12)


def test_unknown_sizes_are_needed_while_compiling() -> None:
    text = program("EXPAND SPACE = 3D BEGIN LAYER DENSE name=h size=2 CONNECT x -> h END", "AUTO")
    with pytest.raises(LanguageError, match=r"2:51: EXPAND must know the size of 'x', which is AUTO"):
        compile_network(text)
    graph = compile_network(text, {"x": 6})
    assert dict(graph.by_name["x.part_2_of_3"].attrs) == {"start": 4, "stop": 6}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("EXPAND WITH GROUP SO3 BEGIN END", "unknown group 'SO3'"),
        ("EXPAND GROUP = C65 BEGIN END", "unknown group 'C65'"),
        ("EXPAND Residual BEGIN END", "unknown group 'Residual'"),
        ("EXPAND SPACE = 0D BEGIN END", "1 to 64 axes are possible"),
        ("EXPAND SPACE = 5D BEGIN LAYER RELU h CONNECT x -> h END", "cannot be cut into 5 equal parts"),
        ("EXPAND SPACE = 3D BEGIN LAYER INPUT z size=2 END", "an INPUT inside EXPAND would be several inputs"),
        ("LAYER RELU h EXPAND SPACE = 3D BEGIN LAYER RELU h END", "two layers are named 'h'"),
        ("EXPAND SPACE = 2D BEGIN LAYER OUTPUT z size=AUTO CONNECT x -> z END", "cannot have size=AUTO"),
        ("EXPAND GROUP BEGIN END", "unexpected 'BEGIN'"),
    ],
)
def test_mistakes(body: str, message: str) -> None:
    with pytest.raises(LanguageError) as caught:
        compile_network(program(body))
    assert message in caught.value.message
    assert caught.value.line == 2
