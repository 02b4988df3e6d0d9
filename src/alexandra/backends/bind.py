"""`bind`: a graph, weights and the name of a backend make a Model. Backends load when they are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from alexandra.backends.base import PRECISIONS, Execution, Model
from alexandra.backends.foreign import refuse_foreign
from alexandra.errors import BackendError, missing_extra, suggest
from alexandra.ir.check import auto_nodes, verify, with_length
from alexandra.ir.cost import flops, parameters
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet, initialise

# name -> "module:class"; the class is called as Cls(graph, weights, threads=threads)
BACKENDS = {
    "reference": "alexandra.backends.reference:ReferenceModel",
    "native": "alexandra.backends.native:NativeModel",
    "torch": "alexandra.backends.pytorch:TorchModel",
    "keras": "alexandra.backends.keras:KerasModel",
}
CHECKPOINTING = ("native", "torch")
_NATIVE_MODULE = "alexandra._native"
LARGE_PARAMETERS, LARGE_FLOPS, OPEN_LENGTH = 50_000_000, 20_000_000_000, 128


def bind(
    graph: Graph,
    backend: str = "auto",
    weights: WeightSet | str | Path | None = None,
    seed: int = 0,
    threads: int = 1,
    execution: Execution | None = None,
) -> Model:
    """A runnable model of `graph`. Without `weights` it starts from `initialise(graph, seed)`.

    `weights` may be the path of saved ones (`WeightSet.save`): they are mapped, checked against their checksums, and
    the native engine infers from the file's pages without a copy.

    `execution` asks for activation checkpointing (native, torch) or another precision than float32 (torch).

    "auto" is what `choose` says: the native engine, PyTorch for large networks, or the reference backend (with one
    warning) where neither is installed.
    Raises BackendError for an unknown or unavailable backend and for a graph with sizes left open,
    MissingExtraError where a backend's extra is not installed, WeightsError for weights of another graph.
    """
    if backend not in (*BACKENDS, "auto"):
        raise BackendError(f"unknown backend {backend!r}", hint=suggest(backend, [*BACKENDS, "auto"]))
    if threads < 1:
        raise BackendError(f"threads must be at least 1, got {threads!r}")
    refuse_foreign(graph, f"backend {backend!r}")
    verify(graph)
    if open_nodes := auto_nodes(graph):
        names = ", ".join(node.name for node in open_nodes)
        raise BackendError(
            f"network {graph.name!r} leaves sizes open (AUTO) in: {names}",
            hint=f"give them: sizes={{{open_nodes[0].name!r}: ...}} when compiling, or ir.check.bind_sizes",
        )
    if isinstance(weights, str | Path):
        weights = WeightSet.open(weights, graph)
    name = choose(graph).backend if backend == "auto" else backend
    options = _options(name, execution or Execution())
    return _load(name)(graph, initialise(graph, seed) if weights is None else weights, threads=threads, **options)


def _options(name: str, execution: Execution) -> dict[str, Any]:
    """What a backend's class is told of `execution`; BackendError for what it does not have."""
    if execution.precision not in PRECISIONS:
        raise BackendError(f"unknown precision {execution.precision!r}", hint=suggest(execution.precision, PRECISIONS))
    if execution.precision != "float32" and name != "torch":
        raise BackendError(
            f"backend {name!r} does not compute in {execution.precision}",
            hint='backend "torch" does ([model] backend = "torch"), or precision = "float32"',
        )
    if execution.checkpoint and name not in CHECKPOINTING:
        raise BackendError(
            f"backend {name!r} keeps every value of a training step",
            hint=f"activation checkpointing is of the backends {', '.join(CHECKPOINTING)}",
        )
    options: dict[str, Any] = {"checkpoint": True} if execution.checkpoint else {}
    return options | ({"precision": execution.precision} if execution.precision != "float32" else {})


def available(backend: str) -> str:
    """ "" when `backend` can run here, else the reason why not."""
    if backend == "native" and find_spec(_NATIVE_MODULE) is None:
        return "the native engine is not built (no compiled module alexandra._native)"
    if backend == "torch" and find_spec("torch") is None:
        return "PyTorch is not installed"
    if backend == "keras" and not (find_spec("keras") and find_spec("tensorflow")):
        return "Keras with TensorFlow is not installed"
    return ""


def _load(name: str) -> Callable[..., Model]:
    if reason := available(name):
        if name == "torch":
            raise missing_extra("backend 'torch'", "torch")
        if name == "keras":
            raise missing_extra("backend 'keras'", "keras")
        raise BackendError(f"backend {name!r} cannot run: {reason}", hint="reinstall with a C++ compiler present")
    module, _, attribute = BACKENDS[name].partition(":")
    return cast(Callable[..., Model], getattr(import_module(module), attribute))


@dataclass(frozen=True)
class Choice:
    """What "auto" means for a network on this machine, and why."""

    backend: str
    reason: str


def choose(graph: Graph) -> Choice:
    """The native engine for small and symbolic networks, PyTorch for large ones where it is installed.

    Large: LARGE_PARAMETERS, or LARGE_FLOPS for a row whose open axes have OPEN_LENGTH positions. Where the engine is
    not built: PyTorch, or with one warning the reference.
    """
    lacking, without_torch = available("native"), available("torch")
    if lacking:
        if not without_torch:
            return Choice("torch", lacking)
        _warn(lacking)
        return Choice("reference", lacking)
    if without_torch or auto_nodes(graph):
        return Choice("native", without_torch or "its sizes are still open")
    values = parameters(graph)
    work = flops(with_length(graph, OPEN_LENGTH))
    what = f"{values:,} parameters, {work:,} FLOPs a row"
    if values >= LARGE_PARAMETERS or work >= LARGE_FLOPS:
        return Choice("torch", f"{what}: large")
    return Choice("native", f"{what}: small")


@cache
def _warn(reason: str) -> None:
    warnings.warn(f"using the NumPy backend, which is slow: {reason}", UserWarning, stacklevel=4)
