"""Registered models for other runtimes: `alexandra export REF --to onnx --out DIR`."""

from __future__ import annotations

from pathlib import Path

from alexandra.api.models import Store, open_registry
from alexandra.errors import BackendError
from alexandra.serve.engine import Engine
from alexandra.train import export as exporting
from alexandra.train.export import Exported
from alexandra.train.specialist import Specialist


def export(ref: str, out: str | Path, *, to: str = "onnx", registry: Store = None) -> Exported:
    """Write the version that `ref` names (churn, churn@production, churn:3) to the new folder `out`."""
    store = open_registry(registry)
    version = store.get(ref)
    specialist = Engine(store).specialist(version)
    if not isinstance(specialist, Specialist):
        raise BackendError(
            f"{version.ref} {version.name} was made elsewhere and has no network to write",
            hint="export it with the library that made it",
        )
    return exporting.export(specialist, to, out)
