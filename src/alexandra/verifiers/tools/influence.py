"""Tool `influence`: does one node hold more influence in a graph than is claimed? NetworkX's centralities."""

from __future__ import annotations

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, needs_package, package_version

MAX_EDGES = 20_000
MEASURES = ("pagerank", "betweenness", "degree")


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import networkx as nx

    content = claim.content
    if content.measure not in MEASURES:
        raise VerifierError(f"unknown measure {content.measure!r}", hint="one of: " + ", ".join(MEASURES))
    if not 0 < len(content.edges) <= MAX_EDGES:
        return tool.abstains(f"it reads graphs of 1 to {MAX_EDGES:,} edges, given {len(content.edges):,}")
    graph = nx.DiGraph([(str(a), str(b)) for a, b in content.edges])
    if content.measure == "pagerank":
        shares = nx.pagerank(graph)
    elif content.measure == "degree":
        shares = {node: degree / (2 * graph.number_of_edges()) for node, degree in graph.degree()}
    else:
        found = nx.betweenness_centrality(graph, k=min(200, len(graph)), seed=0)
        total = sum(found.values()) or 1.0
        shares = {node: value / total for node, value in found.items()}
    holder = max(sorted(shares), key=shares.__getitem__)
    words = f"{holder!r} holds {shares[holder]:.3f} of {content.measure}, claimed at most {content.limit:g}"
    return tool.holds(claim, shares[holder] <= content.limit + 1e-9, words)


TOOL = Tool(
    "influence", "power_dynamics", ("influence",), package_version("networkx"), one=_judge,
    missing=needs_package("networkx", "networkx"), hard=True, seconds=5.0, isolated=True,
)  # fmt: skip
