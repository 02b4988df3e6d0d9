"""Levels of tasks that make their own items: exact answers, splits that never mix, a check of any answer.

levels.py the table, its pins and draws; items.py one item, its record and its check; sample.py distinct items in order;
dataset.py data sets in files; proof.py what such files hold, worked out again.
"""

from alexandra.curriculum.dataset import generate
from alexandra.curriculum.items import SPLITS, Item, split_of
from alexandra.curriculum.levels import LEVELS, Level, level_of
from alexandra.curriculum.proof import Validation, validate
from alexandra.curriculum.sample import Sample, level

__all__ = [
    "LEVELS",
    "SPLITS",
    "Item",
    "Level",
    "Sample",
    "Validation",
    "generate",
    "level",
    "level_of",
    "split_of",
    "validate",
]
