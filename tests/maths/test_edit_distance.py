"""Exact edit distances: pinned values, metric laws, agreement with networkx."""

from __future__ import annotations

import itertools

import pytest

from alexandra.maths import ExpressionError, graph_distance, parse, tree_distance
from alexandra.maths.edit_distance import _graph

TEXTS = ("x", "(sin x)", "(+ x 1)", "(+ 1 x)", "(+ (sin x) 1)", "(- (+ x 1) (sin x))", "(sin (sin x))")
TREES = [parse(text) for text in TEXTS]


@pytest.mark.parametrize(
    ("a", "b", "tree", "graph"),
    [
        ("x", "x", 0, 0.0),
        ("x", "y", 1, 1.0),
        ("(sin x)", "x", 1, 1.5),
        ("(+ x 1)", "(+ x 2)", 1, 1.0),
        ("(- 1 2)", "(- 2 1)", 2, 2.0),
        ("(+ x y)", "(* x y)", 1, 1.0),
        ("(sin (cos x))", "(sin x)", 1, 2.5),
    ],
)
def test_pinned_distances(a: str, b: str, tree: int, graph: float) -> None:
    assert tree_distance(parse(a), parse(b)) == tree == tree_distance(parse(b), parse(a))
    assert graph_distance(parse(a), parse(b)) == pytest.approx(graph)


def test_distances_are_metrics() -> None:
    for a, b in itertools.product(TREES, repeat=2):
        assert (tree_distance(a, b) == 0) == (a == b) == (graph_distance(a, b) == 0)
        assert graph_distance(a, b) == pytest.approx(graph_distance(b, a))
    for a, b, c in itertools.product(TREES[:5], repeat=3):
        assert tree_distance(a, c) <= tree_distance(a, b) + tree_distance(b, c)
        assert graph_distance(a, c) <= graph_distance(a, b) + graph_distance(b, c) + 1e-9


def test_networkx_finds_the_same_graph_distances() -> None:
    networkx = pytest.importorskip("networkx")

    def graph(expr: object) -> object:
        names, links = _graph(expr)  # type: ignore[arg-type]
        made = networkx.DiGraph()
        made.add_nodes_from((i, {"name": name}) for i, name in enumerate(names))
        made.add_edges_from((i, j, {"kind": k}) for i, j, k in links)
        return made

    half, one = (lambda _: 0.5), (lambda _: 1.0)
    for a, b in itertools.combinations(TREES[:6], 2):
        theirs = networkx.graph_edit_distance(
            graph(a), graph(b), node_subst_cost=lambda x, y: float(x["name"] != y["name"]), node_del_cost=one,
            node_ins_cost=one, edge_subst_cost=lambda x, y: float(x["kind"] != y["kind"]), edge_del_cost=half,
            edge_ins_cost=half,
        )  # fmt: skip
        assert graph_distance(a, b) == pytest.approx(theirs), (a, b)


def test_large_graphs_are_refused() -> None:
    deep = parse("(sin " * 20 + "x" + ")" * 20)
    with pytest.raises(ExpressionError, match="at most 14 nodes"):
        graph_distance(deep, deep)
    assert tree_distance(deep, deep) == 0
