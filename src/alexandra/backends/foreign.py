"""Models that have no Graph behind the Model protocol: a user's torch module, a fitted scikit-learn estimator.

    model = wrap(pipeline)
    model = wrap(module, inputs={"x": 30}, outputs={"y": "softmax"}, factory="mypackage.nets:make")

CAPABILITIES says what each kind can do; everything else is refused by name, in the one place here. The insides are
foreign_estimator.py and pytorch_foreign.py, which loads when a torch module is wrapped.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from alexandra.backends.base import Arrays, Model, Progress, TrainState
from alexandra.backends.foreign_estimator import ForeignEstimator
from alexandra.errors import BackendError, StorageError, missing_extra, suggest
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.ops import OPS
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import Objective, Program

# kind -> what it can do beside answering; a kind is also the name of its library
CAPABILITIES = {
    "torch": ("forward", "loss_and_grads", "start", "run", "weights", "load", "files"),
    "scikit-learn": ("forward", "files"),
}
_DOING = {
    "loss_and_grads": "give gradients",
    "start": "be trained here",
    "run": "be trained here",
    "weights": "show its weights",
    "load": "take weights",
}
# what a torch module's output holds -> what `forward` makes of it
READINGS = ("linear", "probabilities", "sigmoid", "softmax")
_TORCH = "alexandra.backends.pytorch_foreign"


class RefusedError(BackendError, AttributeError):
    """What a foreign model was asked and cannot do; an AttributeError too, so that `hasattr` says no."""


class Foreign(Model):
    """A model that runs itself. `columns` are the feature columns that it reads, () when nobody said; `encoder` turns
    raw rows into its input where one was given. RefusedError for what its kind cannot do."""

    backend = "foreign"

    def __init__(self, inside: Any, columns: Sequence[str] = (), encoder: Any = None) -> None:
        self.inside, self.encoder = inside, encoder
        self.columns = tuple(encoder.features) if encoder is not None else tuple(columns)

    @property
    def kind(self) -> str:
        """The library that it belongs to: "torch" or "scikit-learn"."""
        return str(self.inside.kind)

    @property
    def words(self) -> str:
        """What it is, for messages: the scikit-learn Pipeline."""
        return str(self.inside.words)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The methods that do not refuse."""
        return CAPABILITIES[self.kind]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of its output's columns, () when it does not know them."""
        return tuple(self.inside.classes)

    @property
    def num_parameters(self) -> int:
        """Trainable values, 0 when it cannot count them."""
        return int(self.inside.num_parameters)

    @property
    def graph(self) -> Graph:  # type: ignore[override]
        """A foreign model has none: RefusedError."""
        raise RefusedError(
            f"{self.words} is a foreign model, it has no graph: "
            "no text, no cost, no ONNX, no native engine or other backend",
            hint=f"it can: {', '.join(self.capabilities)}",
        )

    @property
    def weights(self) -> WeightSet:
        """Parameters and running means as float32."""
        weights = self._asked("weights").weights
        assert isinstance(weights, WeightSet)
        return weights

    @property
    def memory(self) -> dict[str, int]:
        return dict(self.inside.memory)

    def load(self, weights: WeightSet) -> None:
        self._asked("load").load(weights)

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs by name, probabilities where they are classes'. An estimator takes a data frame too."""
        return dict(self.inside.forward(inputs))

    def loss(self, inputs: Arrays, targets: Any, objective: Objective) -> float:
        return float(self._asked("loss_and_grads").loss(inputs, targets, objective))

    def loss_and_grads(
        self, inputs: Arrays, targets: Any, objective: Objective, frozen: Sequence[str] = ()
    ) -> tuple[float, dict[str, np.ndarray]]:
        loss, grads = self._asked("loss_and_grads").loss_and_grads(inputs, targets, objective, frozen)
        return float(loss), dict(grads)

    def start(self, program: Program, inputs: Arrays, targets: Any, validation: Any = None) -> TrainState:
        state = self._asked("start").start(program, inputs, targets, validation)
        assert isinstance(state, TrainState)
        return state

    def backward(
        self, inputs: Arrays, gradients: Arrays, frozen: Sequence[str] = ()
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """A foreign model has no layers to start from: RefusedError."""
        raise RefusedError(
            f"{self.words} cannot run backward from given gradients", hint=f"it can: {', '.join(self.capabilities)}"
        )

    def feed(self, state: TrainState, inputs: Arrays, targets: Any) -> None:
        self._asked("start").feed(state, inputs, targets)

    def run(self, state: TrainState, steps: int, progress: Progress | None = None) -> np.ndarray:
        return np.asarray(self._asked("run").run(state, steps, progress))

    def files(self) -> dict[str, bytes]:
        """What an artifact keeps of the model; `read_foreign` is the inverse."""
        return dict(self.inside.files())

    def description(self) -> dict[str, Any]:
        """JSON-ready: the kind, and what beside the files it takes to read them."""
        return dict(self.inside.description())

    def _asked(self, what: str) -> Any:
        if what not in self.capabilities:
            raise RefusedError(f"{self.words} cannot {_DOING[what]}", hint=f"it can: {', '.join(self.capabilities)}")
        return self.inside


def wrap(
    model: Any,
    *,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    columns: Any = (),
    factory: str = "",
    threads: int = 1,
) -> Foreign:
    """A torch.nn.Module or a fitted scikit-learn estimator or pipeline as a model that can be measured and registered.

    inputs   of a module: name -> size, shape or TensorType, in the order of its arguments: {"x": 30}
    outputs  of a module: name -> what it returns, in its order: "softmax" or "sigmoid" for the logits of those,
             "probabilities", "linear" for numbers (the default, under the name "y")
    columns  the feature columns that it reads, in order, or a fitted Encoder; an estimator that was fitted on a
             data frame knows them
    factory  "package.module:function" that makes the module again, called without arguments; registering needs it
    threads  inside torch, while the model is called
    """
    if threads < 1:
        raise BackendError(f"threads must be at least 1, got {threads!r}")
    encoder = columns if hasattr(columns, "transform") else None
    names = () if encoder is not None else (columns,) if isinstance(columns, str) else tuple(columns)
    if is_module(model):
        if not inputs:
            raise BackendError("a torch module needs its inputs named", hint='wrap(module, inputs={"x": 30})')
        inside = import_module(_TORCH).ForeignModule(model, _nodes(inputs), _readings(outputs), factory, threads)
        return Foreign(inside, names, encoder)
    if isinstance(model, Foreign):
        raise BackendError(f"{model.words} is wrapped already")
    if not is_estimator(model):
        raise BackendError(
            f"cannot wrap a {type(model).__name__}",
            hint="wrap a torch.nn.Module or a fitted scikit-learn estimator; ax.evaluate measures any function",
        )
    if inputs or outputs or factory:
        given = next(name for name, value in (("inputs", inputs), ("outputs", outputs), ("factory", factory)) if value)
        raise BackendError(f"{given}= belongs to torch modules, got {type(model).__name__}", hint="leave it out")
    inside = ForeignEstimator(model)
    return Foreign(inside, inside.features or names, encoder)


def refuse_foreign(model: object, what: str) -> None:
    """BackendError when `model` is foreign; `what` says which part needs a graph."""
    if isinstance(model, Foreign):
        raise BackendError(
            f"{what} needs a graph, and {model.words} is a foreign model without one",
            hint=f"it can: {', '.join(model.capabilities)}",
        )


def is_module(model: Any) -> bool:
    """Whether `model` is a torch module; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def is_estimator(model: Any) -> bool:
    """Whether `model` keeps scikit-learn's conventions."""
    return not isinstance(model, type) and all(hasattr(model, name) for name in ("fit", "predict", "get_params"))


def read_foreign(
    files: Mapping[str, bytes], description: Mapping[str, Any], *, columns: Any = (), threads: int = 1
) -> Foreign:
    """The inverse of `Foreign.files` and `description`; code and types that the files name must be trusted."""
    kind = str(description.get("kind"))
    try:
        if kind == "torch":
            if find_spec("torch") is None:
                raise missing_extra("this model", "torch")
            inputs = {
                name: TensorType(tuple(body["shape"]), body["dtype"]) for name, body in description["inputs"].items()
            }
            settings = _nodes(inputs), _readings(description["outputs"]), str(description["factory"]), threads
            inside: Any = import_module(_TORCH).ForeignModule.read(files, *settings)
        elif kind == "scikit-learn":
            inside = ForeignEstimator.read(files, description)
        else:
            raise StorageError(f"unknown kind of foreign model {kind!r}", hint=suggest(kind, CAPABILITIES))
    except KeyError as error:
        raise StorageError(f"the artifact of a foreign model has no {error.args[0]!r}") from error
    encoder = columns if hasattr(columns, "transform") else None
    return Foreign(inside, () if encoder is not None else columns, encoder)


def _nodes(inputs: Mapping[str, Any]) -> tuple[Node, ...]:
    """Input nodes, which is how inputs are described to `admit`."""
    nodes = []
    for name, given in inputs.items():
        typed = given if isinstance(given, TensorType) else None
        shape = OPS["input"].attrs["shape"].canonical(typed.shape if typed else given)
        dtype = OPS["input"].attrs["dtype"].canonical(typed.dtype if typed else "float32")
        if not isinstance(shape, tuple):
            raise BackendError(f"input {name!r} needs a size or a shape, got {given!r}")
        nodes.append(Node(name, "input", (), {"shape": shape, "dtype": dtype}))
    return tuple(nodes)


def _readings(outputs: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(outputs or {"y": "linear"})
    for name, reading in found.items():
        if reading not in READINGS:
            raise BackendError(f"output {name!r} cannot be read as {reading!r}", hint=suggest(str(reading), READINGS))
    return found
