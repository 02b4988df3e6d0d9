"""Tabular data in one import: read a table, profile it, code its features and its target.

table = readers.bundled("breast_cancer")
report = profile(table, "target")
encoder = Encoder.fit(table.take(train), report.features)
x = encoder.transform(table)
"""

from alexandra.data.encoder import Encoder
from alexandra.data.leakage import Leak, Strength
from alexandra.data.profile import ColumnProfile, Profile, profile, strongest_words
from alexandra.data.readers import bundled, read
from alexandra.data.target import TargetEncoder, is_classification

__all__ = [
    "ColumnProfile",
    "Encoder",
    "Leak",
    "Profile",
    "Strength",
    "TargetEncoder",
    "bundled",
    "is_classification",
    "profile",
    "read",
    "strongest_words",
]
