"""Training: the one loop, what `bind` and `solve` do with it, and the stages of language models.

The package is also the function `alexandra.train("grpo", model=..., data=..., rewards=[...])` of lm/run.py; that it
can be called is all that its module class adds.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Train(ModuleType):
    """A module that can be called."""

    def __call__(self, stage: str, **settings: Any) -> Any:
        from alexandra.train.lm.run import train

        return train(stage, **settings)


sys.modules[__name__].__class__ = _Train
