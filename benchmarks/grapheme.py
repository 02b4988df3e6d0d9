"""The brain of the GRAPHEME seed, measured on held-out items by its own decoding.

    python benchmarks/grapheme.py runs/grapheme [--items 10000] [--levels 1 2 3] [--json out.json]

For each level: greedy accuracy, exact or equivalent, with its Wilson interval, on test-IID and test-OOD; verified@8
beside it (the engine picks among the brain's own candidates; on `--k-items` items); abstention at a confidence that was
chosen on validation items so that 99.9 % of what is kept is right; answers emitted as verified that are wrong. Then, on
`--side-items` items each: the same weights shuffled, an echo of the question, one coefficient changed, and the sum of
two questions that were answered rightly (Welleck and others, AAAI 2022). The weights come from
`alexandra train examples/recipes/grapheme.toml`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexandra.api.brain import model_folder, solver
from alexandra.curriculum import level
from alexandra.curriculum.items import TEST_IID, TEST_OOD, VAL, Item
from alexandra.train.grapheme.brain import Solver
from alexandra.train.grapheme.robustness import joined, nearby
from alexandra.train.grapheme.score import (
    Answered,
    Score,
    abstention,
    answered,
    calibration_error,
    echo,
    score,
    shuffled,
    threshold_for,
    verified_at,
)
from alexandra.train.lm.folder import read_model

SEED, PRECISION, CANDIDATES = 2, 0.999, 8
TARGETS = {1: 0.99, 2: 0.98, 3: 0.95, 4: 0.92, 5: 0.85, 6: 0.80, 7: 0.75}


def part(found: Score) -> dict[str, Any]:
    return {"n": found.n, "right": found.right, "share": found.share, "interval": list(found.interval)}


def measured(brain: Solver, number: int, options: argparse.Namespace) -> tuple[dict[str, Any], list[Answered]]:
    """One level's row, and its outcomes in distribution."""
    began = time.monotonic()
    inside = answered(brain.write, list(level(number, options.items, SEED, TEST_IID)))
    seconds = time.monotonic() - began
    outside = answered(brain.write, list(level(number, options.ood_items, SEED, TEST_OOD)))
    threshold = threshold_for(answered(brain.write, list(level(number, options.val_items, SEED, VAL))), PRECISION)
    held = abstention(inside, threshold)
    proved = [one for one in inside if one.verified]
    row = {
        "level": number,
        "target": TARGETS[number],
        "iid": part(score(inside)),
        "ood": part(score(outside)),
        "verified_at_k": part(verified_at(brain, inside[: options.k_items], CANDIDATES)),
        "emitted_as_verified": len(proved),
        "emitted_as_verified_wrong": sum(not one.right for one in proved),
        "right_but_not_verified": sum(one.right and not one.verified for one in inside),
        "abstention": {"threshold": threshold, "kept": part(held.emitted), "coverage": held.coverage},
        "calibration_error": calibration_error(inside),
        "unfinished": sum(not one.written.finished for one in inside),
        "seconds": seconds,
    }
    return row, inside


def robustness(brain: Solver, outcomes: Sequence[Answered], count: int) -> dict[str, Any]:
    """Accuracy on questions next to those that were answered rightly, and on sums of two of them."""
    right = [one.item for one in outcomes if one.right]
    changed = [one for one in map(nearby, right[:count]) if one is not None]
    found = {"nearby": part(score(answered(brain.write, changed)))}
    pairs = zip(right[: 2 * count : 2], right[1 : 2 * count : 2], strict=False)
    sums: list[Item] = [one for one in (joined(a, b) for a, b in pairs) if one is not None]
    if sums:
        found["sums"] = part(score(answered(brain.write, sums)))
    return found


def nothing(model: str, count: int, levels: Sequence[int]) -> dict[str, Any]:
    """What the same weights in another order reach, and an echo."""
    place = model_folder(model)
    assert place is not None
    known = read_model(place)
    assert known.weights is not None
    mixed = Solver(known.graph, shuffled(dict(known.weights.items())))
    items = [item for number in levels for item in level(number, count, SEED, TEST_IID)]
    return {"shuffled": part(score(answered(mixed.write, items))), "echo": part(score(answered(echo, items)))}


def shown(row: dict[str, Any]) -> str:
    """A line of the table."""
    texts = [f"{row['level']}"]
    for name in ("iid", "ood", "verified_at_k"):
        low, high = row[name]["interval"]
        texts.append(f"{100 * row[name]['share']:.2f} [{100 * low:.2f}, {100 * high:.2f}]")
    held = row["abstention"]
    texts.append(f"{100 * held['kept']['share']:.2f} of {100 * held['coverage']:.1f} % kept")
    texts.append(f"{row['emitted_as_verified_wrong']} of {row['emitted_as_verified']}")
    return " | ".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="the folder that alexandra train wrote")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--ood-items", type=int, default=2_000)
    parser.add_argument("--val-items", type=int, default=2_000)
    parser.add_argument("--k-items", type=int, default=2_000)
    parser.add_argument("--side-items", type=int, default=500)
    parser.add_argument("--levels", type=int, nargs="*", default=list(TARGETS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    brain = solver(options.model)
    print("level | test-IID % | test-OOD % | verified@8 % | abstaining: right | verified and wrong", flush=True)
    rows, beside = [], {}
    for number in options.levels:
        row, outcomes = measured(brain, number, options)
        print(shown(row), flush=True)
        rows.append(row)
        beside[number] = robustness(brain, outcomes, options.side_items)
    found = {
        "levels": rows,
        "robustness": beside,
        "nothing": nothing(options.model, options.side_items // 5, options.levels),
        "load": os.getloadavg()[0],
        "seed": SEED,
    }
    for number, kinds in beside.items():
        print(f"level {number}", {name: f"{100 * one['share']:.2f} % of {one['n']}" for name, one in kinds.items()})
    print({name: f"{one['right']} of {one['n']}" for name, one in found["nothing"].items()})
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
