"""Many machines: the same tasks as rows of a Ray Data set.

Ray's machines must see the recipe's files and work folder at one path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from alexandra.errors import missing_extra


def run_on_ray(function: Callable[[Any], Any], tasks: list[Any], concurrency: int) -> Iterator[Any]:
    """function(task) for each task, at most `concurrency` at once, in any order. Uses the cluster that Ray is connected
    to, or starts a local one."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise missing_extra("running on Ray", "ray") from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    rows = ray.data.from_items([{"number": number} for number in range(len(tasks))], override_num_blocks=len(tasks))

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "result": function(tasks[row["number"]])}

    for row in rows.map(one, concurrency=max(1, concurrency)).iter_rows():
        yield row["result"]
