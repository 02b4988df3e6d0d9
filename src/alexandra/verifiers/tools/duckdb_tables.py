"""Tool `duckdb_tables`: sentences about a table, executed as queries (notations/table.py) by DuckDB in memory.

The database sees nothing but the claim's own columns: file access is off, the values of the sentence are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexandra.errors import VerifierError
from alexandra.records import Claim, Verdict
from alexandra.verifiers.notations import table
from alexandra.verifiers.tool import Tool, needs_package, package_version


def _judge(tool: Tool, claims: Sequence[Claim]) -> list[Verdict]:
    """Claims about one and the same table share its loading."""
    verdicts: list[Verdict | None] = [None] * len(claims)
    by_table: dict[int, list[int]] = {}
    for i, claim in enumerate(claims):
        by_table.setdefault(id(claim.content.columns), []).append(i)
    for places in by_table.values():
        columns = claims[places[0]].content.columns
        try:
            connection = _loaded(columns)
        except VerifierError as error:
            for i in places:
                verdicts[i] = tool.abstains(str(error))
            continue
        try:
            for i in places:
                verdicts[i] = _one(tool, connection, claims[i])
        finally:
            connection.close()
    return [verdict for verdict in verdicts if verdict is not None]


def _loaded(columns: Mapping[str, Sequence[Any]]) -> Any:
    import duckdb

    if len({len(values) for values in columns.values()}) != 1:
        raise VerifierError("the columns have different lengths")
    connection = duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False})
    arrays = {name: _array(values) for name, values in columns.items()}
    connection.register("t", arrays)
    return connection


def _array(values: Sequence[Any]) -> np.ndarray:
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return np.array([None if value is None else str(value) for value in values], dtype=object)


def _one(tool: Tool, connection: Any, claim: Claim) -> Verdict:
    try:
        query = table.parse(claim.content.statement, list(claim.content.columns))
        result = connection.execute(query.sql, list(query.parameters)).fetchone()[0]
    except Exception as error:
        return tool.abstains(f"the sentence gives no query: {str(error).splitlines()[0][:300]}")
    words = f"the table gives {result!r}, the sentence says {query.how} {query.value!r}".replace("  ", " ")
    output = f"{query.sql} {list(query.parameters)} -> {result!r}"
    return tool.holds(claim, table.met(query, result), words, output)


TOOL = Tool(
    "duckdb_tables", "empirical", ("table",), package_version("duckdb"), batch=_judge,
    missing=needs_package("duckdb", "duckdb"), hard=True,
)  # fmt: skip
