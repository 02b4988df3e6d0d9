"""How a benchmark hands over what it found: section after section, JSON on stdout and in a file where one is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path


def deliver(found: Mapping[str, object], place: Path | None = None) -> None:
    text = json.dumps(found, indent=1)
    print(text)
    if place:
        place.write_text(text + "\n")


def measured(sections: Mapping[str, Callable[[], object]], chosen: Collection[str]) -> dict[str, object]:
    """What the chosen sections find; one without its real data is skipped and says so."""
    found: dict[str, object] = {}
    for name, section in sections.items():
        if name in chosen:
            try:
                found[name] = section()
            except FileNotFoundError as error:
                found[name] = f"skipped: no real data: {error.filename}"
            print(f"{name} done", file=sys.stderr)
    return found
