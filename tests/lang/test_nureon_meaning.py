"""What constructs mean: arithmetic, scopes, macros, modules, chains, selections, IF on data, FILE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.errors import LanguageError, NotFoundError
from alexandra.ir.graph import Graph
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network, compile_program


def program(body: str) -> str:
    """`body` between an input x of 4 numbers and an output y that reads the layer h."""
    return f"LAYER INPUT name=x size=4\n{body}\nLAYER OUTPUT name=y\nCONNECT h -> y"


def size_of(expression: str, before: str = "") -> object:
    return (
        compile_network(program(f"{before} LAYER DENSE name=h size={expression} CONNECT x -> h"))
        .by_name["h"]
        .attrs["size"]
    )


def inputs(graph: Graph, name: str) -> tuple[str, ...]:
    return graph.by_name[name].inputs


# ---------------------------------------------------------------- constants


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2^3^2", 512),
        ("(2^3)^2", 64),
        ("10-4-3", 3),
        ("2+3*4", 14),
        ("7/7*3", 3),
        ("64/2", 32),
        ("65/2*2", 65),
        ("5-(0-3)", 8),
        ("10+-3", 7),
        ("-2^2+6", 2),
        ("(-2)^2", 4),
        ("2^-1*8", 4),
        ("17%5", 2),
        ("9^0.5", 3),
        ("1.5e1", 15),
        ("- -5", 5),
    ],
)
def test_arithmetic(expression: str, value: int) -> None:
    assert size_of(expression) == value


def test_constants_hold_until_the_end_of_their_block_and_may_be_hidden_inside() -> None:
    text = """
    LET n = 8;
    FOR n FROM 3 TO 3 BEGIN LAYER DENSE name=a size=n CONNECT x -> a END
    BEGIN LET n = 5; LAYER DENSE name=b size=n CONNECT a -> b END
    LAYER DENSE name=h size=n CONNECT b -> h"""
    graph = compile_network(program(text))
    assert [graph.by_name[name].attrs["size"] for name in "abh"] == [3, 5, 8]
    with pytest.raises(LanguageError, match="unknown constant 'm'"):
        compile_network(program("BEGIN LET m = 5; END LAYER DENSE name=h size=m CONNECT x -> h"))


def test_arrays_are_filled_by_entries_also_from_a_loop_and_by_lists() -> None:
    assert size_of("w[3]", "LET w[0] = 1; FOR i FROM 1 TO 3 BEGIN LET w[i] = w[i-1] * 2; END") == 8
    assert size_of("w[0]+w[1]", "LET w = (16, 8);") == 24


def test_words_and_texts_may_be_constants() -> None:
    text = """LET act = gelu; LET name = "hid" + "den"; LAYER DENSE name=name size=2 activation=act
    CONNECT x -> hidden -> h LAYER RELU h"""
    graph = compile_network(program(text))
    assert graph.by_name["hidden"].attrs["activation"] == "gelu"


def test_for_includes_its_last_value_and_may_be_empty() -> None:
    text = """LAYER DENSE name=h_0 size=4 CONNECT x -> h_0 FOR i FROM 1 TO {} BEGIN LAYER RELU name=h_[i]
    CONNECT h_[i-1] -> h_[i] END LAYER RELU h CONNECT h_{} -> h"""
    assert len(compile_network(program(text.format(3, 3))).nodes) == 7
    assert len(compile_network(program(text.format(0, 0))).nodes) == 4


def test_nested_loops_compute_two_part_names() -> None:
    text = """FOR i FROM 0 TO 1 BEGIN FOR j FROM 0 TO 1 BEGIN
      LAYER RELU name=g_[i]_[j] CONNECT x -> g_[i]_[j] CONNECT g[i][j] -> h END END LAYER CONCAT name=h"""
    assert inputs(compile_network(program(text)), "h") == ("g_0_0", "g_0_1", "g_1_0", "g_1_1")


@pytest.mark.parametrize(
    ("test", "op"),
    [
        ("n = 3", "relu"),
        ("n == 4", "tanh"),
        ("n != 4", "relu"),
        ("n^2 >= 9", "relu"),
        ("mode == fast", "relu"),
        ('mode != "fast"', "tanh"),
    ],
)
def test_if_on_constants_takes_one_branch(test: str, op: str) -> None:
    text = f"""LET n = 3; LET mode = fast; IF {test} BEGIN LAYER RELU name=h END ELSE BEGIN LAYER TANH name=h END
    CONNECT x -> h"""
    graph = compile_network(program(text))
    assert [node.op for node in graph.nodes] == ["input", op, "output"]


def test_else_if_chains() -> None:
    text = """LET n = 2; IF n == 1 BEGIN LAYER RELU h END ELSE IF n == 2 BEGIN LAYER TANH h END ELSE BEGIN
    LAYER GELU h END CONNECT x -> h"""
    assert compile_network(program(text)).by_name["h"].op == "tanh"


# ---------------------------------------------------------------- macros and modules

BLOCK = """DEFINE block(source, result)
BEGIN
  LAYER DENSE name=t size=3
  LAYER DENSE name=result size=4
  CONNECT source -> t -> result
END
"""


def test_macros_are_hygienic_and_their_names_deterministic() -> None:
    text = program(BLOCK + "block(x, t) block(t, h)")
    graph = compile_network(text)
    assert graph == compile_network(text)
    assert [(node.name, *node.inputs) for node in graph.nodes][1:-1] == [
        ("t_1", "x"),
        ("t", "t_1"),
        ("t_2", "t"),
        ("h", "t_2"),
    ]


def test_a_macro_does_not_see_the_layers_of_another_instance() -> None:
    other = "DEFINE other(result) BEGIN LAYER DENSE name=result size=4 CONNECT t -> result END\n"
    with pytest.raises(LanguageError, match="unknown layer 't'"):
        compile_network(program(BLOCK + other + "block(x, a) other(h)"))
    with pytest.raises(LanguageError, match="unknown layer 't'"):
        compile_network(program(BLOCK + "block(x, a) block(x, b) LAYER RELU h CONNECT t -> h"))


def test_macro_arguments_may_be_numbers_names_types_and_selections() -> None:
    text = """DEFINE f(kind, source, result, n, act) BEGIN LAYER kind name=result size=n*2 activation=act
    CONNECT source -> result END f(dense, x[1:3], h, 3, tanh)"""
    graph = compile_network(program(text))
    assert (inputs(graph, "h"), graph.by_name["h"].attrs["size"]) == (("x.slice_1_3",), 6)
    assert graph.by_name["h"].attrs["activation"] == "tanh"


def test_a_macro_may_call_itself_with_a_smaller_number() -> None:
    text = """DEFINE tower(source, result, n)
    BEGIN
      IF n == 0 BEGIN LAYER LINEAR name=result CONNECT source -> result END
      ELSE BEGIN LAYER DENSE name=step size=n CONNECT source -> step tower(step, result, n-1) END
    END
    tower(x, h, 3)"""
    graph = compile_network(program(text))
    assert [node.attrs["size"] for node in graph.nodes if node.op == "dense"] == [3, 2, 1]


ENCODER = """MODULE encoder(in, out)
BEGIN
  LAYER DENSE name=e1 size=4 activation=relu
  LAYER DENSE name=e2 size=4
  CONNECT in -> e1 -> e2 -> out
END
"""


def test_instances_of_a_module_have_their_own_names_and_weights() -> None:
    graph = compile_network(
        program(ENCODER + "CALL encoder AS a CALL encoder AS b CONNECT x -> a -> b -> h LAYER RELU h")
    )
    assert [node.name for node in graph.nodes] == ["x", "a.e1", "a.e2", "b.e1", "b.e2", "h", "y"]
    assert all(node.param == "" for node in graph.nodes)


def test_shared_instances_use_the_weights_of_the_first() -> None:
    graph = compile_network(program(ENCODER + "CALL encoder(x, m) CALL encoder(m, h) SHARED"))
    assert {node.name: node.param for node in graph.nodes if node.param} == {
        "encoder_1.e1": "encoder.e1",
        "encoder_1.e2": "encoder.e2",
    }
    assert inputs(graph, "encoder_1.e1") == ("encoder.e2",)
    assert inputs(graph, "y") == ("encoder_1.e2",)


def test_ports_are_named_and_several_connections_join_in_them() -> None:
    text = """MODULE two(left, right, out) BEGIN LAYER ADD name=sum CONNECT left -> sum CONNECT right -> sum
    CONNECT sum -> out END
    CALL two AS m CONNECT x -> m.left CONNECT x[0:2] -> m.right CONNECT x[2:4] -> m.right
    CONNECT m.out -> h LAYER RELU h"""
    graph = compile_network(program(text))
    assert inputs(graph, "m.sum") == ("x", "m.right")
    assert (graph.by_name["m.right"].op, inputs(graph, "m.right")) == ("concat", ("x.slice_0_2", "x.slice_2_4"))


def test_a_module_without_ports_reads_into_its_open_layers_and_gives_its_last() -> None:
    text = """MODULE m BEGIN LAYER RELU a LAYER TANH b LAYER ADD c CONNECT a -> c CONNECT b -> c END CALL m
    CONNECT x -> m -> h LAYER GELU h"""
    graph = compile_network(program(text))
    assert [inputs(graph, name) for name in ("m.a", "m.b", "h")] == [("x",), ("x",), ("m.c",)]


def test_modules_call_modules() -> None:
    text = (
        ENCODER + "MODULE outer(i, o) BEGIN CALL encoder AS first CONNECT i -> first -> o END CALL outer AS z "
        "CONNECT x -> z -> h LAYER RELU h"
    )
    assert [node.name for node in compile_network(program(text)).nodes] == ["x", "z.first.e1", "z.first.e2", "h", "y"]


# ---------------------------------------------------------------- chains and selections


def test_residual_adds_what_enters() -> None:
    graph = compile_network(program("RESIDUAL AS h BEGIN LAYER DENSE size=4 LAYER RELU END CONNECT x -> h"))
    assert (inputs(graph, "dense"), inputs(graph, "relu"), inputs(graph, "h")) == (("x",), ("dense",), ("x", "relu"))
    assert graph.by_name["h"].op == "add"


def test_in_a_chain_a_written_connection_replaces_the_silent_one() -> None:
    text = "REPEAT 1 AS h BEGIN LAYER RELU a LAYER TANH b LAYER ADD c CONNECT a -> c CONNECT b -> c END CONNECT x -> h"
    graph = compile_network(program(text))
    assert (inputs(graph, "h_1.b"), inputs(graph, "h_1.c")) == (("h_1.a",), ("h_1.a", "h_1.b"))


def test_rounds_can_be_named_from_outside() -> None:
    text = """REPEAT 3 AS b BEGIN LAYER DENSE name=d size=4 END CONNECT x -> b LAYER ADD h CONNECT b_1 -> h
    CONNECT b[2].d -> h CONNECT b -> h"""
    assert inputs(compile_network(program(text)), "h") == ("b_1.d", "b_2.d", "b_3.d")


def test_no_rounds_pass_the_input_through() -> None:
    assert inputs(
        compile_network(program("REPEAT 0 AS b BEGIN LAYER RELU END CONNECT x -> b -> h LAYER RELU h")), "h"
    ) == ("x",)


def test_brackets_select_on_a_layer_and_name_one_where_there_is_none() -> None:
    text = """LAYER RELU name=g LAYER RELU name=k[0] CONNECT x -> g CONNECT x -> k[0] CONNECT g[0] -> h
    CONNECT k[0] -> h CONNECT k[0][1] -> h LAYER CONCAT h"""
    assert inputs(compile_network(program(text)), "h") == ("g.slice_0", "k_0", "k_0.slice_1")


def test_one_selection_is_one_slice() -> None:
    graph = compile_network(program("LAYER ADD h CONNECT x[0:2] -> h CONNECT x[0:2] -> h CONNECT x[2:4] -> h"))
    assert [node.name for node in graph.nodes if node.op == "slice"] == ["x.slice_0_2", "x.slice_2_4"]
    assert inputs(graph, "h") == ("x.slice_0_2", "x.slice_0_2", "x.slice_2_4")


def test_shared_names_the_owner_of_the_weights() -> None:
    graph = compile_network(
        program(
            "LAYER DENSE name=a size=4 LAYER DENSE name=b size=4 shared=a LAYER DENSE name=h size=4 shared=b "
            "CONNECT x -> a -> b -> h"
        )
    )
    assert [graph.by_name[name].param for name in "abh"] == ["", "a", "a"]


# ---------------------------------------------------------------- IF on data


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
    return np.asarray(bind(graph, backend="reference", weights=initialise(graph, 3)).forward({"x": x})["y"])


X = np.array([[1.0, 0.25, -0.125, 0.5], [0.0, -0.375, 0.125, 0.875], [2.0, 0.75, 0.625, -1.0]])


def test_each_row_gets_the_value_of_its_branch() -> None:
    text = "IF x[0] == 1 BEGIN LAYER RELU h CONNECT x -> h END ELSE BEGIN LAYER TANH h CONNECT x -> h END"
    expected = np.where(X[:, :1] == 1, np.maximum(X, 0), np.tanh(X))
    np.testing.assert_allclose(run(compile_network(program(text)), X), expected, rtol=1e-12)


def test_a_flipped_comparison_means_the_same() -> None:
    text = "IF {} BEGIN LAYER RELU h CONNECT x -> h END ELSE BEGIN LAYER TANH h CONNECT x -> h END"
    left, right = (compile_network(program(text.format(test))) for test in ("x[0] < 0.5", "0.5 > x[0]"))
    assert left == right


def test_connections_of_both_branches_into_an_outer_layer_are_selected() -> None:
    text = """LAYER RELU a LAYER TANH b LAYER LINEAR h CONNECT x -> a CONNECT x -> b IF x[1] > 0 BEGIN
    CONNECT a -> h END ELSE BEGIN CONNECT b -> h END"""
    expected = np.where(X[:, 1:2] > 0, np.maximum(X, 0), np.tanh(X))
    np.testing.assert_allclose(run(compile_network(program(text)), X), expected, rtol=1e-12)


def test_outputs_of_branches_have_their_own_projection() -> None:
    text = """LAYER INPUT name=x size=4
    IF x[0] == 1 BEGIN LAYER OUTPUT name=y size=2 activation=softmax CONNECT x -> y END
    ELSE BEGIN LAYER RELU r LAYER OUTPUT name=y size=2 activation=softmax CONNECT x -> r -> y END"""
    graph = compile_network(text)
    weights = initialise(graph, 3)

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max(1, keepdims=True))
        return np.asarray(e / e.sum(1, keepdims=True))

    then = X @ weights["y.then.weight"].T.astype(float)
    other = np.maximum(X, 0) @ weights["y.else.weight"].T.astype(float)
    np.testing.assert_allclose(run(graph, X), softmax(np.where(X[:, :1] == 1, then, other)), rtol=1e-6)
    assert graph.by_name["y"].attrs["activation"] == "softmax"


def test_different_activations_stay_in_their_branches() -> None:
    text = """LAYER INPUT name=x size=4
    IF x[0] == 1 BEGIN LAYER OUTPUT name=y activation=tanh CONNECT x -> y END
    ELSE BEGIN LAYER OUTPUT name=y activation=relu CONNECT x -> y END"""
    expected = np.where(X[:, :1] == 1, np.tanh(X), np.maximum(X, 0))
    np.testing.assert_allclose(run(compile_network(text), X), expected, rtol=1e-12)


def test_inside_a_chain_the_branches_are_chains() -> None:
    text = "RESIDUAL AS h BEGIN LAYER LINEAR IF x[0] > 0.5 BEGIN LAYER TANH LAYER TANH END END CONNECT x -> h"
    expected = X + np.where(X[:, :1] > 0.5, np.tanh(np.tanh(X)), X)
    np.testing.assert_allclose(run(compile_network(program(text)), X), expected, rtol=1e-12)


def test_a_macro_may_declare_its_callers_layer_in_both_branches() -> None:
    text = """DEFINE pick(source, result)
    BEGIN
      IF source[0] == 1 BEGIN LAYER RELU name=result CONNECT source -> result END
      ELSE BEGIN LAYER TANH name=result CONNECT source -> result END
    END
    pick(x, h)"""
    expected = np.where(X[:, :1] == 1, np.maximum(X, 0), np.tanh(X))
    np.testing.assert_allclose(run(compile_network(program(text)), X), expected, rtol=1e-12)


# ---------------------------------------------------------------- files


def test_a_network_is_read_from_a_path_or_the_name_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plain.nl"
    path.write_text("LAYER INPUT name=x size=2\nLAYER OUTPUT name=y size=1\nCONNECT x -> y\n")
    assert compile_network(path) == compile_network(str(path)) == compile_network(path.read_text(), name="plain")
    assert compile_network(path).name == "plain"
    with pytest.raises(NotFoundError, match=r"no file '.*absent\.nl'"):
        compile_network(tmp_path / "absent.nl")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LanguageError, match="not UTF-8"):
        compile_network(path)


def test_file_binds_only_weights_of_this_network(tmp_path: Path) -> None:
    path = tmp_path / "net.nl"
    path.write_text('LAYER INPUT name=x size=2\nLAYER OUTPUT name=y size=1\nCONNECT x -> y\nFILE "w.safetensors"\n')
    compiled = compile_program(path)
    with pytest.raises(LanguageError, match=r"net\.nl:4:1: cannot read weights"):
        compiled.weights()
    weights = initialise(compiled.graph, 1)
    weights.save(tmp_path / "w.safetensors", compiled.graph)
    assert compiled.weights() == weights
    other = compile_program(path.read_text().replace("size=1", "size=2"), file=str(path))
    with pytest.raises(LanguageError, match=r"net\.nl:4:1"):
        other.weights()
    assert compile_program("LAYER INPUT name=x size=2 LAYER OUTPUT name=y CONNECT x -> y").weights() is None
