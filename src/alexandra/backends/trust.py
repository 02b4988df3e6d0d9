"""Which code and types that a file names may be used: none, but for those that the environment variable
ALEXANDRA_TRUST lists, separated by commas.

An artifact may come from anyone, so nothing inside it can widen this list, and nothing is remembered between calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from alexandra.errors import BackendError

VARIABLE = "ALEXANDRA_TRUST"


def trusted() -> frozenset[str]:
    """The names that this process trusts."""
    return frozenset(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())


def require_trust(what: str, names: Iterable[str]) -> None:
    """BackendError that lists the names among `names` that are not trusted, and how to trust them."""
    known = trusted()
    missing = [name for name in names if name not in known]
    if missing:
        listed = ",".join([*sorted(known), *missing])
        raise BackendError(
            f"{what}: {', '.join(missing)} is not trusted here",
            hint=f"if you know where the file comes from, set {VARIABLE}={listed}",
        )
