"""The seed's log: what its authors print of an epoch, line by line, to a file that can be followed.

[Level 1] Epoch 1/10
  Batch 156/156: loss=0.189
  Epoch complete: avg_loss=0.201, accuracy=0.87
[Level 1] Advancing to Level 2 (accuracy 0.96, at least 0.95)
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from alexandra.train.grapheme.recipe import BrainRecipe
from alexandra.train.watch import Numbers


class SeedLog:
    """A Watcher that appends to `path`, and prints on `also`; what a killed run wrote stays above."""

    def __init__(self, path: Path, recipe: BrainRecipe, also: TextIO | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._recipe, self._also = recipe, also

    def note(self, step: int, numbers: Numbers) -> None:
        for line in self.lines(step, numbers):
            self._file.write(line + "\n")
            if self._also is not None:
                print(line, file=self._also)
        self._file.flush()

    def lines(self, step: int, numbers: Numbers) -> list[str]:
        """What epoch `step` (from 0) says of itself."""
        level, loss, updates = int(numbers["level"]), numbers["loss"], int(numbers["updates"])
        alone = "accuracy" in numbers
        if alone:
            head = f"[Level {level}] Epoch {int(numbers['epoch'])}/{self._recipe.training.epochs_per_level}"
        else:
            head = f"[All levels] Epoch {step + 1}/{self._recipe.epochs}"
        found = [head, f"  Batch {updates}/{updates}: loss={loss:.4f}"]
        accuracy = f", accuracy={numbers['accuracy']:.4f}" if alone else ""
        found.append(f"  Epoch complete: avg_loss={loss:.4f}{accuracy}")
        measured = [
            f"L{name[-1]} {value:.3f}" for name, value in sorted(numbers.items()) if name.startswith("eval_level_")
        ]
        if measured:
            found.append("  Levels so far: " + ", ".join(measured))
        if numbers.get("advanced"):
            found.append(
                f"[Level {level}] Advancing to Level {level + 1} (accuracy {numbers['accuracy']:.4f}, at least "
                f"{numbers['accuracy_low']:.4f} >= {self._recipe.curriculum.advance_threshold})"
            )
        elif numbers.get("left"):
            found.append(f"[Level {level}] Leaving for Level {level + 1} (at least {numbers['accuracy_low']:.4f})")
        return found

    def close(self) -> None:
        self._file.close()
