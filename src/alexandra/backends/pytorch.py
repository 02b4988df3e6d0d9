"""The PyTorch backend: a Graph as an nn.Module, trained and run as every backend trains and runs it.

`TorchModel` stands behind the Model protocol; `module` gives the nn.Module itself, for programs that train it
their own way. Shuffling and dropout come from `rng`, not from torch's generators. Results agree with the
reference within 1e-5 * max(1, |b|); unlike the native engine's they may depend on threads and on other rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexandra.backends.admit import Admission, check_program, refuse_ops
from alexandra.backends.native_unsupported import UNSUPPORTED
from alexandra.backends.pytorch_run import (
    Tensors,
    TorchRun,
    array_of,
    check_owner,
    loss_of,
    tensors_of,
    threads_of,
)
from alexandra.backends.reference_optim import num_moments
from alexandra.errors import BackendError, WeightsError
from alexandra.ir.check import auto_nodes, param_specs, verify
from alexandra.ir.cost import BYTES_PER_VALUE
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.weights import WeightSet, initialise
from alexandra.nn.graph_module import GraphModule
from alexandra.objectives.spec import MSE, Objective, Program
from alexandra.rng import derive

Arrays = dict[str, np.ndarray]


def module(graph: Graph, weights: WeightSet | None = None, *, seed: int = 0, device: str = "cpu") -> GraphModule:
    """`graph` as an nn.Module in training mode, with a copy of `weights` (without them, `initialise(graph, seed)`).

    It takes and gives dicts of tensors, `module({"x": x_BI})["y"]`; `named_parameters` and `state_dict` use the
    names of the WeightSet. In training mode dropout draws from torch's generator. GraphError, WeightsError.
    """
    verify(graph)
    if open_nodes := auto_nodes(graph):
        raise BackendError(f"network {graph.name!r} leaves sizes open (AUTO) in: {open_nodes[0].name}")
    found = GraphModule(primitives(graph), device_named(device))
    copy_weights(found, graph, initialise(graph, seed) if weights is None else weights)
    return found


def device_named(name: str) -> torch.device:
    """BackendError for a device that torch does not know or this machine does not have."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackendError(f"torch cannot use device {name!r}: {reason}", hint="device='cpu' always works") from None
    return device


@torch.no_grad()
def copy_weights(found: GraphModule, graph: Graph, weights: WeightSet) -> None:
    """Copy `weights` into the module of `graph`; they must be exactly its parameters (WeightsError)."""
    weights.exact(graph)
    for name, parameter in found.named_parameters():
        parameter.copy_(torch.tensor(weights[name]))


def weights_of(found: GraphModule, graph: Graph) -> WeightSet:
    """The module's parameters as a WeightSet of `graph`, for instance after training it elsewhere."""
    parameters = dict(found.named_parameters())
    if absent := [name for name in param_specs(graph) if name not in parameters]:
        raise WeightsError(f"the module has no parameter {absent[0]!r} of network {graph.name!r}")
    return WeightSet({name: array_of(parameters[name]) for name in param_specs(graph)})


class TorchModel:
    """A graph and its weights on torch; `device` is torch's name of one ("cpu", "cuda", "cuda:1").

    `threads` holds inside the calls of this model only. `module` shares the weights that training changes.
    """

    backend = "torch"

    def __init__(self, graph: Graph, weights: WeightSet, *, threads: int = 1, device: str = "cpu") -> None:
        self.graph, self.threads, self.device = graph, threads, device_named(device)
        self.admission = Admission(graph)
        refuse_ops(self.admission.primitive, UNSUPPORTED, self.backend)
        self.module = GraphModule(self.admission.primitive, self.device).eval()
        self._arena, self._moments = 0, 0
        self.load(weights)

    @property
    def weights(self) -> WeightSet:
        return weights_of(self.module, self.graph)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by tier; the arena is every value of the largest call so far, twice once training."""
        weights = sum(parameter.nbytes for parameter in self.module.parameters())
        training = self._moments > 0
        return {
            "weights": weights,
            "arena": self._arena * (2 if training else 1),
            "gradients": weights if training else 0,
            "optimizer": weights * self._moments,
        }

    def load(self, weights: WeightSet) -> None:
        """Take `weights`, which must be exactly this graph's (WeightsError)."""
        copy_weights(self.module, self.graph, weights)

    def forward(self, inputs: Mapping[str, Any]) -> Arrays:
        """The outputs by name, float32 [rows, *shape]; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        self._plan(arrays, rows)
        with torch.inference_mode(), threads_of(self.threads):
            outputs = self.module(tensors_of(arrays, self.device))
            return {node.name: array_of(outputs[node.name]) for node in self.graph.outputs}

    def loss_and_grads(self, inputs: Mapping[str, Any], targets: Any, objective: Objective) -> tuple[float, Arrays]:
        """The loss and its gradient by full parameter name; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        self._plan(arrays, rows)
        parameters = dict(self.module.named_parameters())
        with threads_of(self.threads):
            values = self.module.values(tensors_of(arrays, self.device))
            loss = self._loss(values, tensors_of(wanted, self.device), objective)
            grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        by_name = dict(zip(parameters, grads, strict=True))
        return float(loss.detach()), {name: array_of(by_name[name]) for name in param_specs(self.graph)}

    def start(self, program: Program, inputs: Mapping[str, Any], targets: Any) -> TorchRun:
        """A run at step 0 over copies of these rows."""
        check_program(program)
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, program.objective, arrays, rows)
        types = self._plan(arrays, min(rows, program.batch_size))
        self._moments = num_moments(program.optimizer)
        dropouts = [(node, types[node.name]) for node in self.admission.primitive.nodes if node.op == "dropout"]

        def loss(batch: Tensors, answers: Tensors, step: int) -> Tensor:
            size = len(next(iter(batch.values())))
            masks = {node.name: self._mask(program.seed, node, given, (step, size)) for node, given in dropouts}
            return self._loss(self.module.values(batch, masks), answers, program.objective)

        data = tensors_of(arrays, self.device), tensors_of(wanted, self.device)
        return TorchRun(self, program, dict(self.module.named_parameters()), data, loss)

    def run(self, state: TorchRun, steps: int) -> np.ndarray:
        """`steps` steps of the run; the float64 loss of each step, taken before its update."""
        check_owner(state, self)
        with threads_of(self.threads):
            return state.advance(steps)

    def _plan(self, arrays: Arrays, rows: int) -> dict[str, TensorType]:
        """The types of all nodes for these inputs; `rows` of them is what a call holds at once."""
        _, types = self.admission.plan(arrays)
        values = sum(prod(int(dim) for dim in given.shape) for given in types.values())
        self._arena = max(self._arena, BYTES_PER_VALUE["torch"] * rows * values)
        return types

    def _loss(self, values: Tensors, targets: Tensors, objective: Objective) -> Tensor:
        """The losses of all outputs, added."""
        losses = []
        for name, target in targets.items():
            kind, place = self.admission.heads[name]
            losses.append(loss_of(values[name if isinstance(objective, MSE) else place], target, objective, kind))
        return torch.stack(losses).sum()

    def _mask(self, seed: int, node: Node, given: TensorType, place: tuple[int, int]) -> Tensor:
        """Keep where uniform >= rate, scaled by 1 / (1 - rate); `place` is the step and the number of rows."""
        (step, rows), rate = place, node.attrs["rate"]
        assert isinstance(rate, float)
        shape = rows, *(int(dim) for dim in given.shape)
        uniform = derive(seed, "dropout", node.name).at(step).uniform(prod(shape))
        mask = np.where(uniform >= rate, 1.0 / (1.0 - rate), 0.0).astype(np.float32)
        return torch.tensor(mask.reshape(shape), device=self.device)
