"""What the brain learns by: structural loss alone (the seed's choice), cross-entropy, both, under equal compute.

    python benchmarks/grapheme_objectives.py [--minutes 10] [--levels 1 2 5] [--objectives structural both]

Every run starts from the same weights, reads the same documents of one level in the same order and stops after so many
minutes of processor time of the process; then the level is answered greedily, on validation items. The learning rate is
constant after its warm-up, so that a run that makes fewer updates is not cut off in a schedule of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from alexandra.backends.bind import bind
from alexandra.train.grapheme.brain import packed_graph, starting_weights
from alexandra.train.grapheme.recipe import BrainRecipe
from alexandra.train.grapheme.run import network
from alexandra.train.grapheme.stage import CurriculumStage

OBJECTIVES = ("structural", "cross_entropy", "both")


def learnt(objective: str, level: int, minutes: float) -> dict[str, Any]:
    """One run: its updates, and what it answers at the end."""
    recipe = BrainRecipe.model_validate(
        {
            "training": {
                "batch_size": 24, "document_tokens": 45, "updates_per_epoch": 20, "epochs": 100_000,
                "epochs_per_level": 100_000, "patience": 100_000, "learning_rate": 0.001, "warmup": 100, "final": 1.0,
            },
            "optimizer": {"type": "adamw", "beta2": 0.98, "weight_decay": 0.05},
            "curriculum": {"start_level": level, "end_level": level, "advance_threshold": 1.0, "measured": 1},
            "loss": {"objective": objective},
        }
    )  # fmt: skip
    graph = network(recipe)
    packed = packed_graph(graph)
    model = bind(packed, backend="native", weights=starting_weights(packed, 0), threads=1)
    stage = CurriculumStage(recipe, graph, model)
    began, epoch, found = time.process_time(), 0, {"loss": float("nan")}
    while time.process_time() - began < 60 * minutes:
        found = stage.step(epoch)
        epoch += 1
    spent = time.process_time() - began
    measuring = recipe.model_copy(update={"curriculum": recipe.curriculum.model_copy(update={"measured": 1000})})
    accuracy = CurriculumStage(measuring, graph, model).evaluate()["eval_accuracy"]
    record = {"objective": objective, "level": level, "accuracy": accuracy, "updates": stage.updates.step}
    return {**record, "last_loss": found["loss"], "cpu_seconds": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--levels", type=int, nargs="*", default=[1, 2, 5])
    parser.add_argument("--objectives", nargs="*", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for level in options.levels:
        for objective in options.objectives:
            rows.append(learnt(objective, level, options.minutes))
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "load": os.getloadavg()[0]}, indent=1))


if __name__ == "__main__":
    main()
