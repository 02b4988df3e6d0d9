"""Words of the published samples that stand for several settings: tied= and LAYER_TYPE=."""

from __future__ import annotations

import numpy as np
import pytest

from alexandra.backends.bind import bind
from alexandra.errors import GraphError, LanguageError
from alexandra.ir.check import param_specs
from alexandra.ir.graph import AUTO, Graph
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network, format_nureon

TINY_LLAMA = """
NETWORK tiny_llama
BEGIN
  LET d = 128;
  LAYER INPUT name=tokens shape=(SEQ) dtype=int32
  LAYER EMBEDDING name=e vocab=AUTO size=d tied=y
  CONNECT tokens -> e
  REPEAT 4 AS block                    // block_1 ... block_4, chained; residual: adds its input to its output
  BEGIN
    RESIDUAL BEGIN LAYER RMSNORM LAYER ATTENTION heads=4 kv_heads=2 causal=TRUE rope=10000 END
    RESIDUAL BEGIN LAYER RMSNORM LAYER MOE experts=8 active=2 LAYER_TYPE=SWIGLU hidden=352 END
  END
  LAYER RMSNORM name=n
  LAYER OUTPUT name=y size=AUTO
  CONNECT e -> block -> n -> y
END
"""
WRITTEN_OUT = (
    TINY_LLAMA.replace(" tied=y", "")
    .replace("LAYER_TYPE=SWIGLU", "activation=silu gated=TRUE")
    .replace("name=y size=AUTO", "name=y size=AUTO bias=FALSE shared=e")
)
SMALL = """LAYER INPUT t shape=(SEQ) dtype=int32 LAYER EMBEDDING e vocab={vocab} size=4 {e}
LAYER OUTPUT y {y} CONNECT t -> e -> y"""


def small(vocab: int | str = 7, e: str = "", y: str = "size=AUTO") -> Graph:
    return compile_network(SMALL.format(vocab=vocab, e=e, y=y))


def test_the_published_sample_is_the_program_that_is_written_out() -> None:
    graph = compile_network(TINY_LLAMA)
    assert graph == compile_network(WRITTEN_OUT) == compile_network(format_nureon(TINY_LLAMA))
    assert graph.by_name["e"].attrs["vocab"] == graph.by_name["y"].attrs["size"] == AUTO


@pytest.mark.parametrize("sizes", [{"y": 11}, {"e": 11}, {"e": 11, "y": 11}])
def test_one_size_binds_both_tied_layers_and_one_matrix_is_left(sizes: dict[str, int]) -> None:
    graph = compile_network(TINY_LLAMA, sizes)
    names = set(param_specs(graph))
    assert param_specs(graph)["e.weight"].shape == (11, 128) and not {"y.weight", "y.bias"} & names


def test_two_sizes_of_tied_layers_are_refused() -> None:
    with pytest.raises((LanguageError, GraphError), match=r"'e' and 'y' share e.weight, .*\(12, 128\) and \(11, 128\)"):
        param_specs(compile_network(TINY_LLAMA, {"e": 12, "y": 11}))


def test_a_tied_output_is_the_product_with_the_embedding() -> None:
    graph = small(e="tied=y")
    weights = initialise(graph, 3)
    table = np.asarray(weights["e.weight"], np.float64)
    tokens = np.array([[0, 3, 6]], np.int32)
    logits = bind(graph, "reference", weights).forward({"t": tokens})["y"]
    np.testing.assert_allclose(logits[0], table[tokens[0]] @ table.T, rtol=1e-6)


def test_either_side_or_both_may_say_it_before_or_after_the_other() -> None:
    written = compile_network(SMALL.format(vocab=7, e="", y="size=7 bias=FALSE shared=e"))
    for e, y in (("tied=y", "size=AUTO"), ("", "size=AUTO tied=e"), ("tied=y", "size=7 bias=FALSE tied=e")):
        assert small(e=e, y=y) == written
    assert small("AUTO", "tied=y", "size=7") == written


@pytest.mark.parametrize(
    ("e", "y", "message", "way_out"),
    [
        ("tied=z", "size=AUTO", "unknown layer 'z'", "known: e, t, y"),
        ("tied=t", "size=AUTO", "'e' (embedding) and 't' (input) cannot be tied", "shared="),
        ("tied=y", "size=AUTO bias=TRUE", "'y' is tied and has bias=TRUE", "bias=FALSE"),
        ("tied=y", "size=8", "'y' has size=8, but 'e' has vocab=7", "AUTO at the other"),
        ("tied=y", "activation=tanh", "'y' has no size, so it is its input as it is", "size=AUTO"),
        ("tied=y", "size=7 shared=h", "'y' already uses the weights of another layer", ""),
        ("tied=3", "size=7", "tied= names the layer whose weights are used", ""),
    ],
)
def test_what_cannot_be_tied_is_named(e: str, y: str, message: str, way_out: str) -> None:
    with pytest.raises(LanguageError) as caught:
        small(e=e, y=y)
    assert caught.value.message == message and way_out in caught.value.hint


def test_two_embeddings_cannot_have_one_projection() -> None:
    text = SMALL.format(vocab=7, e="tied=y", y="size=7")
    text += " LAYER EMBEDDING f vocab=7 size=4 tied=y CONNECT t -> f -> y"
    with pytest.raises(LanguageError, match="'y' already uses the weights of another layer"):
        compile_network(text)


def test_instances_of_a_shared_module_keep_their_tie() -> None:
    text = """LAYER INPUT t shape=(SEQ) dtype=int32
    MODULE tower(in, out)
    BEGIN
      LAYER EMBEDDING e vocab=7 size=4 tied=d
      LAYER DENSE d size=7
      CONNECT in -> e -> d -> out
    END
    CALL tower AS a
    CALL tower AS b SHARED
    LAYER OUTPUT y
    CONNECT t -> a -> y
    CONNECT t -> b -> y"""
    graph = compile_network(text)
    assert [graph.by_name[name].owner for name in ("a.d", "b.e", "b.d")] == ["a.e"] * 3


FEED = "LAYER INPUT x size=8 LAYER {type} h hidden=6 {more} LAYER OUTPUT y size=2 CONNECT x -> h -> y"


@pytest.mark.parametrize(
    ("word", "activation", "gated"),
    [
        ("SWIGLU", "silu", "TRUE"),
        ("geglu", "gelu", "TRUE"),
        ("REGLU", "relu", "TRUE"),
        ("GLU", "sigmoid", "TRUE"),
        ("BILINEAR", "linear", "TRUE"),
        ("GELU", "gelu", "FALSE"),
        ('"relu"', "relu", "FALSE"),
        ("SILU", "silu", "FALSE"),
    ],
)
@pytest.mark.parametrize("kind", ["FFN", "MOE"])
def test_a_feed_forward_type_is_an_activation_and_a_gate(kind: str, word: str, activation: str, gated: str) -> None:
    rest = "experts=4 top_k=2 " if kind == "MOE" else ""
    named = compile_network(FEED.format(type=kind, more=f"{rest}LAYER_TYPE={word}"))
    assert named == compile_network(FEED.format(type=kind, more=f"{rest}activation={activation} gated={gated}"))


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("FFN", "LAYER_TYPE=SWIGLOO", "unknown LAYER_TYPE 'SWIGLOO'"),
        ("FFN", "LAYER_TYPE=(1, 2)", "unknown LAYER_TYPE '(1, 2)'"),
        ("FFN", "LAYER_TYPE=3", "unknown LAYER_TYPE '3'"),
        ("FFN", "LAYER_TYPE=SWIGLU activation=relu", "activation is given twice"),
        ("FFN", "gated=FALSE LAYER_TYPE=GEGLU", "gated is given twice"),
        ("DENSE", "LAYER_TYPE=SWIGLU", "unknown attribute 'hidden' of DENSE"),
    ],
)
def test_a_wrong_feed_forward_type_is_named(kind: str, more: str, message: str) -> None:
    with pytest.raises(LanguageError) as caught:
        compile_network(FEED.format(type=kind, more=more))
    assert caught.value.message == message
