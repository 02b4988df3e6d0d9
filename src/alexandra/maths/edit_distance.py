"""Expressions as labelled graphs, and how far two are apart: exact edit distances for evaluation.

`tree_distance` is Zhang and Shasha's (1989) for ordered trees: inserting, deleting and renaming nodes cost 1 each.
`graph_distance` is the graph edit distance with the weights of the structural loss, found by A* over assignments of
nodes (Riesen and Bunke, 2009): exact, and exponential in the worst case, so that it is refused beyond MAX_NODES
nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alexandra.maths.expr import Apply, Expr, ExpressionError

MAX_NODES = 14
POSITIONS = 4  # operands of one operator that are told apart


@dataclass(frozen=True)
class EditCosts:
    """What one edit costs."""

    node_insertion: float = 1.0
    node_deletion: float = 1.0
    node_substitution: float = 1.0
    edge_insertion: float = 0.5
    edge_deletion: float = 0.5


def name_of(node: Expr) -> str:
    """The label of a node: its operator, or its text."""
    return node.op if isinstance(node, Apply) else node.text()


def graph_arrays(expr: Expr, labels: Sequence[str], positions: int = POSITIONS) -> tuple[np.ndarray, np.ndarray]:
    """The graph of an expression: labels [m], 1 for the first of `labels`, and edges [m, m, positions], where
    edges[i, j, k] = 1 says that node j is operand k of node i."""
    known: Mapping[str, int] = {name: i + 1 for i, name in enumerate(labels)}
    names, links = _graph(expr)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ExpressionError(f"no label for {unknown[0]!r}", hint=f"labels: {', '.join(labels)}")
    if max((k for _, _, k in links), default=0) >= positions:
        raise ExpressionError(f"an operator has more than {positions} operands")
    edges = np.zeros((len(names), len(names), positions))
    for i, j, k in links:
        edges[i, j, k] = 1
    return np.array([known[name] for name in names]), edges


def _graph(expr: Expr) -> tuple[list[str], list[tuple[int, int, int]]]:
    """Labels in pre-order, and (parent, child, position) for every edge."""
    names: list[str] = []
    links: list[tuple[int, int, int]] = []

    def add(node: Expr) -> int:
        place = len(names)
        names.append(name_of(node))
        if isinstance(node, Apply):
            for k, arg in enumerate(node.args):
                links.append((place, add(arg), k))
        return place

    add(expr)
    return names, links


# --- ordered trees -------------------------------------------------------------------------------------------------


def tree_distance(a: Expr, b: Expr) -> int:
    """The least number of insertions, deletions and renamings of nodes that turn one ordered tree into the other."""
    (names_a, left_a, roots_a), (names_b, left_b, roots_b) = _post_order(a), _post_order(b)
    table = np.zeros((len(names_a), len(names_b)), dtype=np.int64)
    for i in roots_a:
        for j in roots_b:
            _fill_forest(table, (i, j), (left_a, left_b), (names_a, names_b))
    return int(table[-1, -1])


def _post_order(expr: Expr) -> tuple[list[str], list[int], list[int]]:
    """Labels in post-order, the leftmost leaf below each node, and the key roots."""
    names: list[str] = []
    leftmost: list[int] = []

    def walk(node: Expr) -> int:
        first = -1
        for arg in node.args if isinstance(node, Apply) else ():
            leaf = walk(arg)
            first = leaf if first < 0 else first
        names.append(name_of(node))
        leftmost.append(len(names) - 1 if first < 0 else first)
        return leftmost[-1]

    walk(expr)
    last = {leaf: i for i, leaf in enumerate(leftmost)}
    return names, leftmost, sorted(last.values())


def _fill_forest(
    table: np.ndarray, roots: tuple[int, int], leftmost: tuple[list[int], list[int]], names: tuple[list[str], list[str]]
) -> None:
    (i, j), (left_a, left_b) = roots, leftmost
    p, q = left_a[i], left_b[j]
    forest = np.zeros((i - p + 2, j - q + 2), dtype=np.int64)
    forest[:, 0], forest[0, :] = range(i - p + 2), range(j - q + 2)
    for x in range(1, i - p + 2):
        for y in range(1, j - q + 2):
            u, v = p + x - 1, q + y - 1
            best = min(forest[x - 1, y], forest[x, y - 1]) + 1
            if left_a[u] == p and left_b[v] == q:
                best = min(best, forest[x - 1, y - 1] + (names[0][u] != names[1][v]))
                table[u, v] = best
            else:
                best = min(best, forest[left_a[u] - p, left_b[v] - q] + table[u, v])
            forest[x, y] = best


# --- graphs --------------------------------------------------------------------------------------------------------

Edges = Mapping[tuple[int | None, int | None], frozenset[int]]
Labelled = tuple[Sequence[str], Sequence[tuple[int, int, int]]]


def graph_distance(a: Expr | Labelled, b: Expr | Labelled, costs: EditCosts | None = None) -> float:
    """The graph edit distance of two expressions, or of two graphs given as labels and (from, to, kind) edges."""
    (names_a, links_a), (names_b, links_b) = (_graph(one) if isinstance(one, Expr) else one for one in (a, b))
    if max(len(names_a), len(names_b)) > MAX_NODES:
        raise ExpressionError(f"a graph edit distance is worked out for at most {MAX_NODES} nodes")
    return _Search((names_a, _edges(links_a)), (names_b, _edges(links_b)), costs or EditCosts()).run()


def _edges(links: Sequence[tuple[int, int, int]]) -> Edges:
    found: dict[tuple[int | None, int | None], frozenset[int]] = {}
    for i, j, k in links:
        found[i, j] = found.get((i, j), frozenset()) | {k}
    return found


_NO_EDGE: frozenset[int] = frozenset()


class _Search:
    """A* over assignments of the first graph's nodes, in order, to nodes of the second or to None."""

    def __init__(self, a: tuple[Sequence[str], Edges], b: tuple[Sequence[str], Edges], costs: EditCosts) -> None:
        (self.a, self.ea), (self.b, self.eb), self.costs = a, b, costs

    def run(self) -> float:
        n, count = len(self.a), 0
        queue: list[tuple[float, int, float, tuple[int | None, ...]]] = [(0.0, 0, 0.0, ())]
        while queue:
            _, _, so_far, chosen = heapq.heappop(queue)
            if len(chosen) == n + 1:
                return so_far
            if len(chosen) == n:
                total = so_far + self._insertions(chosen)
                count += 1
                heapq.heappush(queue, (total, count, total, (*chosen, None)))
                continue
            used = {j for j in chosen if j is not None}
            for j in (*(j for j in range(len(self.b)) if j not in used), None):
                total = so_far + self._step(chosen, j)
                count += 1
                heapq.heappush(queue, (total + self._bound((*chosen, j)), count, total, (*chosen, j)))
        raise AssertionError("deleting and inserting everything is always a way")

    def _step(self, chosen: tuple[int | None, ...], j: int | None) -> float:
        """The cost of giving node len(chosen) to j, with its edges to the nodes before it."""
        i, c = len(chosen), self.costs
        total = c.node_deletion if j is None else c.node_substitution * (self.a[i] != self.b[j])
        for p, q in enumerate(chosen):
            for here, there in (((i, p), (j, q)), ((p, i), (q, j))):
                mine = self.ea.get(here, _NO_EDGE)
                theirs = self.eb.get(there, _NO_EDGE)
                total += c.edge_deletion * len(mine - theirs) + c.edge_insertion * len(theirs - mine)
        return total

    def _insertions(self, chosen: tuple[int | None, ...]) -> float:
        """Nodes of the second graph that nothing was given to, and the edges that touch them."""
        used = {j for j in chosen if j is not None}
        new = len(self.b) - len(used)
        edges = sum(len(kinds) for ends, kinds in self.eb.items() if not set(ends) <= used)
        return self.costs.node_insertion * new + self.costs.edge_insertion * edges

    def _bound(self, chosen: tuple[int | None, ...]) -> float:
        """What the remaining nodes cost at least: their labels alone, as multisets."""
        used = {j for j in chosen if j is not None}
        left = list(self.a[len(chosen) :])
        right = [name for j, name in enumerate(self.b) if j not in used]
        c = self.costs
        equal = 0
        pool = list(right)
        for name in left:
            if name in pool:
                pool.remove(name)
                equal += 1
        both = min(len(left), len(right))
        swap = min(c.node_substitution, c.node_deletion + c.node_insertion)
        rest = c.node_deletion * max(0, len(left) - both) + c.node_insertion * max(0, len(right) - both)
        return swap * (both - equal) + rest
