"""Levels of tasks that make their own items: exact answers, splits that never mix, a check of any answer.

levels.py the table; pins.py what a row is; level_1_2.py to level_7.py pins, draws and proofs; questions.py and
items.py a question, its key and its record; checks.py whether an answer is right; sample.py distinct items in order;
edge_cases.py hard inputs; dataset.py data sets in files; proof.py what such files hold, worked out again; gallery.py
a page of examples.
"""

from alexandra.curriculum.dataset import generate
from alexandra.curriculum.edge_cases import edge_cases
from alexandra.curriculum.items import SPLITS, Item, split_of
from alexandra.curriculum.levels import LEVELS, level_of
from alexandra.curriculum.pins import Level
from alexandra.curriculum.proof import Validation, validate
from alexandra.curriculum.questions import Question
from alexandra.curriculum.sample import Sample, level

__all__ = [
    "LEVELS",
    "SPLITS",
    "Item",
    "Level",
    "Question",
    "Sample",
    "Validation",
    "edge_cases",
    "generate",
    "level",
    "level_of",
    "split_of",
    "validate",
]
