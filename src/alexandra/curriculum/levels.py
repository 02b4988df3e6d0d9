"""The levels: one literal table of what is asked at each. The pins are fixed: a level is never made easier.

docs/curriculum.md shows every level; docs/maths.md has the counts and how they are proved.
"""

from __future__ import annotations

from alexandra.curriculum.level_1_2 import LEVEL_1, LEVEL_1_FIRST, LEVEL_2
from alexandra.curriculum.level_3_4 import LEVEL_3, LEVEL_4
from alexandra.curriculum.level_5_6 import LEVEL_5, LEVEL_6
from alexandra.curriculum.level_7 import LEVEL_7
from alexandra.curriculum.pins import Level
from alexandra.errors import DataError, suggest

LEVELS = {row.number: row for row in (LEVEL_1, LEVEL_2, LEVEL_3, LEVEL_4, LEVEL_5, LEVEL_6, LEVEL_7)}
# Earlier versions of pins, by level and version
EARLIER = {(1, 1): LEVEL_1_FIRST}


def level_of(number: int, pins: int | None = None) -> Level:
    """The row of the table, by default with its newest pins; DataError names the levels that there are."""
    if number not in LEVELS:
        raise DataError(f"no level {number!r}", hint=suggest(str(number), map(str, LEVELS)))
    row = LEVELS[number]
    if pins is None or pins == row.version:
        return row
    if (number, pins) not in EARLIER:
        raise DataError(f"level {number} has no pins version {pins!r}", hint=f"the newest is {row.version}")
    return EARLIER[number, pins]
