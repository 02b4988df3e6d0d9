"""The published dialect and its corpus: every program compiles, and its flat text compiles to an equal graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from alexandra.errors import LanguageError
from alexandra.ir.check import infer, param_specs
from alexandra.ir.graph import Graph
from alexandra.lang.lexis import Source
from alexandra.lang.nureon import compile_network
from alexandra.lang.nureon_ast import parse_nureon

HERE = Path(__file__).resolve().parent
PROGRAMS = sorted((HERE / "programs").glob("*.nl")) + sorted((HERE.parents[1] / "examples" / "networks").glob("*.nl"))


def layers(graph: Graph) -> list[str]:
    """`name op inputs`, one a node."""
    return [" ".join([node.name, node.op, *node.inputs]) for node in graph.nodes]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_every_program_compiles_and_its_flat_text_gives_an_equal_graph(path: Path) -> None:
    graph = compile_network(path)
    assert compile_network(graph.text()) == graph
    assert compile_network(path.read_text(), name=graph.name) == graph


def test_addition_joins_two_inputs() -> None:
    graph = compile_network(HERE / "programs" / "addition.nl")
    assert graph.name == "addition"
    assert layers(graph) == ["a input", "b input", "add dense a b", "out output add"]


def test_sequence_selects_single_elements_and_numbers_names() -> None:
    graph = compile_network(HERE / "programs" / "sequence.nl")
    assert graph.by_name["hidden_2"].inputs == ("seq_in.slice_2",)
    assert dict(graph.by_name["seq_in.slice_2"].attrs) == {"start": 2, "stop": 3}
    assert graph.by_name["final_hidden"].inputs == ("hidden_0", "hidden_1", "hidden_2", "hidden_3")


def test_a_layer_of_a_macro_inside_a_called_module_is_found_by_its_name() -> None:
    graph = compile_network(HERE / "programs" / "image.nl")
    assert layers(graph) == [
        "preprocess.img_in input",
        "preprocess.normed dense preprocess.img_in",
        "features dense preprocess.normed",
        "class_out output features",
    ]
    assert infer(graph)["preprocess.img_in"].shape == (28, 28)


def test_a_thousand_rounds_compute_their_names() -> None:
    graph = compile_network(HERE / "programs" / "thousand.nl")
    assert sum(node.name.startswith("t_") for node in graph.nodes) == 1000
    assert [graph.by_name[f"dimension_{d}"].inputs[0] for d in (0, 5, 12)] == ["t_13", "t_78", "t_169"]


def test_nested_ifs_on_data_become_two_selects_with_the_shared_activation_last() -> None:
    graph = compile_network(HERE / "programs" / "mood.nl")
    selects = [node for node in graph.nodes if node.op == "select"]
    assert [node.attrs["value"] for node in selects] == [7.0, 3.0]
    assert [node.attrs["cmp"] for node in selects] == ["<", "<"]
    assert graph.by_name["mood_out"].attrs["activation"] == "sigmoid"
    assert [node.name for node in graph.outputs] == ["mood_out"]
    heads = {name for name in param_specs(graph) if name.startswith("mood_out")}
    assert len(heads) == 6  # three projections, weight and bias each


def test_the_readme_form_connects_what_it_leaves_out() -> None:
    graph = compile_network(HERE / "programs" / "readme_form.nl")
    assert layers(graph) == [
        "x input",
        "Encoder.e1 dense x",
        "Encoder.e2 dense Encoder.e1",
        "e2_out output Encoder.e2",
    ]
    assert infer(graph)["e2_out"].shape == (1, 64)


def test_the_forms_that_the_published_grammar_refuses() -> None:
    graph = compile_network(HERE / "programs" / "forms.nl")
    assert layers(graph) == [
        "image input",
        "flat reshape image",
        "relu relu flat",
        "h_1 dense relu",
        "h_2 dense h_1",
        "y output h_2",
    ]
    assert graph.by_name["h_1"].attrs["size"] == 8  # 2^(3^2) / 64
    assert graph.by_name["h_1"].attrs["activation"] == "relu"
    assert dict(graph.by_name["y"].attrs) == {"size": 10, "activation": "softmax", "bias": False}


def test_a_type_that_is_no_layer_is_named_with_those_that_are() -> None:
    text = (HERE / "programs" / "tiny_llama.txt").read_text().replace("ATTENTION", "TELEPATHY")
    assert len(parse_nureon(Source.of(text))) == 2
    with pytest.raises(
        LanguageError, match=r"unknown layer type 'TELEPATHY'\n(?s:.*)known: ADD, .*DENSE, .*TRANSPOSE\."
    ) as caught:
        compile_network(text)
    assert (caught.value.line, caught.value.column) == (9, 44)


def test_the_llama_skeleton_expands_with_the_layers_that_exist() -> None:
    text = (HERE / "programs" / "tiny_llama.txt").read_text().replace(" tied=y", "").replace("REPEAT 4", "REPEAT 2")
    text = text.replace("ATTENTION heads=4 kv_heads=2 causal=TRUE rope=10000", "DENSE size=d")
    text = text.replace("MOE experts=8 active=2 LAYER_TYPE=SWIGLU hidden=352", "DENSE size=d activation=silu")
    graph = compile_network(text)
    assert layers(graph)[2:8] == [
        "block_1.rmsnorm rmsnorm e",
        "block_1.dense dense block_1.rmsnorm",
        "block_1.add add e block_1.dense",
        "block_1.rmsnorm_1 rmsnorm block_1.add",
        "block_1.dense_1 dense block_1.rmsnorm_1",
        "block_1.add_1 add block_1.add block_1.dense_1",
    ]
    assert graph.by_name["block_2.rmsnorm"].inputs == ("block_1.add_1",)
    assert graph.by_name["n"].inputs == ("block_2.add_1",)
    assert graph.inputs[0].attrs["shape"] == ("SEQ",)


def test_churn_mlp_binds_its_auto_sizes() -> None:
    graph = compile_network(HERE / "programs" / "churn_mlp.nl", {"x": 30, "y": 2})
    assert graph.name == "churn_mlp"
    shapes = {name: spec.shape for name, spec in param_specs(graph).items() if name.endswith("weight")}
    assert shapes == {"h_0.weight": (64, 30), "h_1.weight": (32, 64), "h_2.weight": (32, 32), "y.weight": (2, 32)}
