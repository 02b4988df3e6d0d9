"""The Keras backend: a Graph as a Keras 3 model on TensorFlow, trained by `fit` or by our own loop, and saved its way.

    model = keras_model(graph, weights)        # a keras.Model: compile, fit, save("net.keras"), save_weights("n.h5")
    weights_of(model)                          # back into a WeightSet, for any other backend

KerasModel is the same behind the Model protocol. TensorFlow computes values and gradients in float32; the step itself
(clipping, moments, early stopping) is the reference backend's, in float64 on the host, so trajectories agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexandra.backends.admit import trained_names
from alexandra.backends.keras_ops import KERNELS, Call, Pass
from alexandra.backends.reference import Data, ReferenceModel, gate_losses
from alexandra.errors import BackendError, WeightsError
from alexandra.ir.check import auto_nodes, graph_from_dict, param_specs, verify
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.spec import Objective

Tensors = dict[str, np.ndarray]
Tensor = Any  # tf.Tensor; TensorFlow ships no types


@keras.saving.register_keras_serializable(package="alexandra")
class GraphModel(keras.Model):  # type: ignore[misc]
    """A graph of any ops as one Keras model; `model({"x": x})` gives {"y": y}, `model(x)` too where there is one input.

    In training mode dropout is Keras' own and running statistics move; losses of gates come by `add_loss`.
    """

    def __init__(self, graph: Graph | Mapping[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.graph = graph if isinstance(graph, Graph) else graph_from_dict(dict(graph))
        verify(self.graph)
        if open_nodes := auto_nodes(self.graph):
            raise BackendError(f"network {self.graph.name!r} leaves sizes open (AUTO) in: {open_nodes[0].name}")
        self.primitive = primitives(self.graph)
        self.variables_by_name = {
            name: self.add_weight(
                shape=spec.shape, trainable=spec.trained, name=name.replace(".", "_"), dtype="float32"
            )
            for name, spec in param_specs(self.graph).items()
        }
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {"graph": self.graph.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> GraphModel:
        return cls(config["graph"])

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The outputs by name; alone where there is one."""
        names = [node.name for node in self.primitive.inputs]
        given = inputs if isinstance(inputs, Mapping) else {names[0]: inputs}
        now = Pass(training=bool(training))
        values = self.values(given, now)
        for name, value in now.moved.items():
            self.variables_by_name[name].assign(value)
        outputs = {node.name: values[node.name] for node in self.primitive.outputs}
        return outputs if isinstance(inputs, Mapping) or len(outputs) > 1 else next(iter(outputs.values()))

    def values(self, inputs: Mapping[str, Tensor], now: Pass) -> dict[str, Tensor]:
        """The value of every primitive by name."""
        now.sizes = self._sizes(inputs)
        values: dict[str, Tensor] = {}
        for node in self.primitive.nodes:
            if node.op == "input":
                values[node.name] = tf.convert_to_tensor(inputs[node.name], str(node.attrs["dtype"]))
                continue
            before = f"{node.owner}."
            params = {
                name[len(before) :]: variable.value
                for name, variable in self.variables_by_name.items()
                if name.startswith(before) and "." not in name[len(before) :]
            }
            given = tuple(values[name] for name in node.inputs)
            values[node.name] = KERNELS[node.op](Call(node, given, params, now))
        return values

    def _sizes(self, inputs: Mapping[str, Tensor]) -> dict[str, int]:
        found: dict[str, int] = {}
        for node in self.primitive.inputs:
            shape = node.attrs["shape"]
            assert isinstance(shape, tuple)
            for dim, size in zip(shape, inputs[node.name].shape[1:], strict=True):
                if isinstance(dim, str):
                    found[dim] = int(size)
        return found


def keras_model(graph: Graph, weights: WeightSet | None = None, *, seed: int = 0) -> GraphModel:
    """`graph` as a Keras model with a copy of `weights` (without them, `initialise(graph, seed)`)."""
    model = GraphModel(graph)
    load_weights(model, initialise(graph, seed) if weights is None else weights)
    return model


def load_weights(model: GraphModel, weights: WeightSet) -> None:
    """Copy `weights` in; they must be exactly the graph's parameters (WeightsError)."""
    weights.exact(model.graph)
    for name, variable in model.variables_by_name.items():
        variable.assign(weights[name])


def weights_of(model: GraphModel) -> WeightSet:
    """What the model has learnt, for any backend."""
    if not isinstance(model, GraphModel):
        raise WeightsError(f"{type(model).__name__} is not a model of keras_model()")
    return WeightSet({name: np.array(variable) for name, variable in model.variables_by_name.items()})


def checkpoint_of(model: GraphModel) -> Any:
    """A tf.train.Checkpoint of the model's weights by name: `.write(path)`, `.read(path).assert_consumed()`."""
    return tf.train.Checkpoint(weights={name: variable.value for name, variable in model.variables_by_name.items()})


class KerasModel(ReferenceModel):
    """A graph and its weights on TensorFlow through Keras; `module` is the Keras model, as of the last call."""

    backend = "keras"

    def __init__(self, graph: Graph, weights: WeightSet, *, threads: int = 1) -> None:
        self.module = keras_model(graph, weights)
        super().__init__(graph, weights, threads=threads)

    @property
    def weights(self) -> WeightSet:
        return WeightSet({name: array.astype(np.float32) for name, array in self.master.items()})

    def forward(self, inputs: Mapping[str, Any]) -> Tensors:
        """The outputs by name, float32 [rows, *shape]; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        self._max_rows = max(self._max_rows, rows)
        self.admission.plan(arrays)
        values = self._values(self.master, arrays, Pass(masks={}))
        return {node.name: values[node.name].numpy() for node in self.graph.outputs}

    def loss_of(self, arrays: Tensors, targets: Tensors, objective: Objective) -> float:
        """The loss of admitted arrays."""
        self.admission.plan(arrays)
        values = _arrays(self._values(self.master, arrays, Pass(masks={})))
        return self.losses(values, targets, objective, self.norms(targets, objective))[0]

    def backward(
        self, inputs: Mapping[str, Any], gradients: Mapping[str, Any], frozen: Sequence[str] = ()
    ) -> tuple[Tensors, Tensors]:
        """(gradients of the float inputs, of the parameters) of sum(gradient * value) over the named nodes."""
        arrays, rows = self.admission.inputs(inputs)
        self.admission.plan(arrays)
        seeds = self.admission.seeds(gradients, arrays, rows)
        given = {name: tf.constant(array) for name, array in arrays.items()}
        with tf.GradientTape() as tape:
            floats = {name: tensor for name, tensor in given.items() if tensor.dtype == tf.float32}
            tape.watch(list(floats.values()))
            values = self._values(self.master, given, Pass(training=True, masks={}))
        grads, d_inputs = self._gradients(tape, values, seeds, floats)
        return d_inputs, {name: grads[name] for name in trained_names(frozen, self.master)}

    def training_pass(
        self,
        weights: Tensors,
        data: Data,
        objective: Objective,
        masks: Tensors,
        norms: Mapping[str, float] | None = None,
        share: float = 1.0,
    ) -> tuple[float, Tensors, Tensors]:
        """Loss, gradients and the value of every node, as training sees them."""
        arrays, targets = data
        graph, _ = self.admission.plan(arrays)
        noise = {name: tf.constant(mask, tf.float32) for name, mask in masks.items()}
        with tf.GradientTape() as tape:
            values = self._values(weights, arrays, Pass(training=True, masks=noise))
        known = _arrays(values)
        total, seeds = self.losses(known, targets, objective, norms or self.norms(targets, objective))
        added, gates = gate_losses(graph, weights, known, masks)
        for place, gradient in gates.items():
            seeds[place] = seeds[place] + share * gradient if place in seeds else share * gradient
        grads, _ = self._gradients(tape, values, seeds, {})
        return total + share * added, grads, known

    def _values(self, weights: Tensors, arrays: Mapping[str, Any], now: Pass) -> dict[str, Tensor]:
        for name, variable in self.module.variables_by_name.items():
            variable.assign(weights[name].astype(np.float32))
        return self.module.values(arrays, now)

    def _gradients(
        self, tape: Any, values: Mapping[str, Tensor], seeds: Tensors, floats: Mapping[str, Tensor]
    ) -> tuple[Tensors, Tensors]:
        """Of every parameter and of `floats`, float64; zeros where nothing reaches."""
        variables = {name: variable.value for name, variable in self.module.variables_by_name.items()}
        sources = [*variables.values(), *floats.values()]
        upstream = [tf.constant(seed, tf.float32) for seed in seeds.values()]
        found = tape.gradient([values[name] for name in seeds], sources, upstream, tf.UnconnectedGradients.ZERO)
        dense = [tf.convert_to_tensor(gradient).numpy().astype(np.float64) for gradient in found]
        return dict(zip(variables, dense, strict=False)), dict(zip(floats, dense[len(variables) :], strict=True))


def _arrays(values: Mapping[str, Tensor]) -> Tensors:
    return {
        name: value.numpy().astype(np.float64) if value.dtype.is_floating else value.numpy()
        for name, value in values.items()
    }
