"""Answer checks and items per second of processor time on one core, by level; prints one JSON document.

taskset -c 0 python benchmarks/maths.py
"""

from __future__ import annotations

import time

from delivery import deliver

from alexandra.curriculum import LEVELS, level

COUNT = 400
REPEATS = 5


def main() -> None:
    found = {}
    for number in LEVELS:
        began = time.process_time()
        sample = level(number, COUNT, seed=3)
        items = list(sample)
        drawn = time.process_time() - began
        asked = [(item.answer, item) for item in items]
        asked += [(other.answer, item) for item, other in zip(items, items[1:], strict=False)]
        seconds = []
        for _ in range(REPEATS):
            began = time.process_time()
            for answer, item in asked:
                sample.check(answer, item)
            seconds.append(time.process_time() - began)
        found[f"level {number}"] = {
            "n": len(asked),
            "checks_per_second": round(len(asked) / min(seconds)),
            "spread": round(max(seconds) / min(seconds) - 1, 3),
            "items_per_second": round(COUNT / drawn),
        }
    deliver(found)


if __name__ == "__main__":
    main()
