"""How a benchmark hands over what it found: JSON on stdout, and in a file where one is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def deliver(found: Mapping[str, object], place: Path | None) -> None:
    text = json.dumps(found, indent=1)
    print(text)
    if place:
        place.write_text(text + "\n")
