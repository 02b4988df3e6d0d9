"""Tool `oxigraph`: a SPARQL ASK query over the claim's own knowledge graph (Turtle), by Oxigraph in memory.

Only ASK is read, and no SERVICE: nothing is fetched. A false answer refutes under the closed world of the graph given.
"""

from __future__ import annotations

import re

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import Tool, needs_package, package_version


def _judge(tool: Tool, claim: Claim) -> Verdict:
    import pyoxigraph

    query = claim.content.ask
    bare = re.sub(r'<[^>]*>|"(?:[^"\\]|\\.)*"|#[^\n]*', " ", query)
    if not re.search(r"\bask\b", bare, re.IGNORECASE) or re.search(
        r"\b(service|load|insert|delete|from)\b", bare, re.I
    ):
        return tool.abstains("it reads ASK queries over the graph that the claim brings, and nothing else")
    store = pyoxigraph.Store()
    store.load(claim.content.turtle.encode(), pyoxigraph.RdfFormat.TURTLE)
    answer = bool(store.query(query))
    return tool.holds(claim, answer, f"{len(store)} triples say {'yes' if answer else 'no'}", f"{query} -> {answer}")


TOOL = Tool(
    "oxigraph", "empirical", ("triples",), package_version("pyoxigraph"), one=_judge,
    missing=needs_package("pyoxigraph", "pyoxigraph"), hard=True, isolated=True,
)  # fmt: skip
