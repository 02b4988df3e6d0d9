"""The PyTorch backend: a Graph as an nn.Module, trained and run as every backend trains and runs it.

`TorchModel` stands behind the Model protocol; `module` gives the nn.Module itself, for programs that train it
their own way. Shuffling and dropout come from `rng`, not from torch's generators. Results agree with the
reference within 1e-5 * max(1, |b|); unlike the native engine's they may depend on threads and on other rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexandra.backends.admit import Admission, check_program, trained_names
from alexandra.backends.base import Progress
from alexandra.backends.noise import noise, noisy
from alexandra.backends.pytorch_precision import casting, prepare
from alexandra.backends.pytorch_run import (
    Place,
    Tensors,
    TorchRun,
    array_of,
    check_owner,
    losses_of,
    tensors_of,
    threads_of,
)
from alexandra.backends.reference_optim import num_moments
from alexandra.errors import BackendError, WeightsError
from alexandra.ir.check import auto_nodes, hidden_matrices, param_specs, verify
from alexandra.ir.cost import BYTES_PER_VALUE
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.weights import WeightSet, initialise
from alexandra.nn.graph_module import GraphModule
from alexandra.nn.passing import Pass
from alexandra.objectives.spec import MSE, Objective, Program

Arrays = dict[str, np.ndarray]


def module(
    graph: Graph,
    weights: WeightSet | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    checkpointed: bool = False,
) -> GraphModule:
    """`graph` as an nn.Module in training mode, with a copy of `weights` (without them, `initialise(graph, seed)`).

    On device "meta" nothing is allocated, whatever the size. `checkpointed` trains in less memory (GraphModule).

    It takes and gives dicts of tensors, `module({"x": x_BI})["y"]`; `named_parameters` and `state_dict` use the
    names of the WeightSet. In training mode dropout draws from torch's generator. GraphError, WeightsError.
    """
    verify(graph)
    if open_nodes := auto_nodes(graph):
        raise BackendError(f"network {graph.name!r} leaves sizes open (AUTO) in: {open_nodes[0].name}")
    found = GraphModule(primitives(graph), device_named(device), checkpointed)
    if weights is None and device == "meta":
        return found
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
    `checkpoint` trains in less memory: values are forgotten inside segments of the network and computed again.
    `precision` is what forward and backward compute in (pytorch_precision.py).
    """

    backend = "torch"

    def __init__(
        self,
        graph: Graph,
        weights: WeightSet,
        *,
        threads: int = 1,
        device: str = "cpu",
        checkpoint: bool = False,
        precision: str = "float32",
    ) -> None:
        self.graph, self.threads, self.device = graph, threads, device_named(device)
        self.admission = Admission(graph)
        self.module = GraphModule(self.admission.primitive, self.device, checkpoint).eval()
        self.precision = precision
        prepare(self.module, precision, self.device)
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
            with casting(self.precision, self.device):
                outputs = self.module(tensors_of(arrays, self.device))
            return {node.name: array_of(outputs[node.name].float()) for node in self.graph.outputs}

    def loss_and_grads(
        self, inputs: Mapping[str, Any], targets: Any, objective: Objective, frozen: Sequence[str] = ()
    ) -> tuple[float, Arrays]:
        """The loss and its gradient by full parameter name but for the frozen ones; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        self._plan(arrays, rows)
        parameters = self._trained(frozen)
        with threads_of(self.threads):
            answers = tensors_of(wanted, self.device)
            batch = tensors_of(arrays, self.device), answers
            loss = self._training_loss(batch, answers, objective, Pass(training=True))
            grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        found = {name: array_of(g) for name, g in zip(parameters, grads, strict=True)}
        return float(loss.detach()), self.admission.with_untrained(found, frozen)

    def loss(self, inputs: Mapping[str, Any], targets: Any, objective: Objective) -> float:
        """The loss alone; dropout is off."""
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, objective, arrays, rows)
        return self._loss_alone(tensors_of(arrays, self.device), tensors_of(wanted, self.device), objective)

    def backward(
        self, inputs: Mapping[str, Any], gradients: Mapping[str, Any], frozen: Sequence[str] = ()
    ) -> tuple[Arrays, Arrays]:
        """(gradients of the float inputs, of the parameters) of sum(gradient * value) over the named nodes.

        `gradients` gives [rows, *shape] for outputs or for any layers: the ones above them cost nothing.
        """
        arrays, rows = self.admission.inputs(inputs)
        seeds = self.admission.seeds(gradients, arrays, rows)
        self._plan(arrays, rows)
        parameters, tensors = self._trained(frozen), tensors_of(arrays, self.device)
        floats = {name: tensor.requires_grad_() for name, tensor in tensors.items() if tensor.is_floating_point()}
        with threads_of(self.threads):
            given = tensors_of(seeds, self.device)
            with casting(self.precision, self.device):
                values = self.module.values(tensors, Pass(training=True), given)
            total = torch.stack([(values[name].float() * seed).sum() for name, seed in given.items()]).sum()
            wanted = [*floats.values(), *parameters.values()]
            grads = [array_of(g) for g in torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)]
        found = dict(zip(parameters, grads[len(floats) :], strict=True))
        return dict(zip(floats, grads, strict=False)), self.admission.with_untrained(found, frozen)

    def start(self, program: Program, inputs: Mapping[str, Any], targets: Any, validation: Any = None) -> TorchRun:
        """A run at step 0 over copies of these rows; `validation` is (inputs, targets) for `program.stop`."""
        check_program(program)
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, program.objective, arrays, rows)
        held = self.admission.validation(program, validation)
        types = self._plan(arrays, min(rows, program.batch_size))
        self._moments = num_moments(program.optimizer)
        sources = [(node, types[node.name]) for node in noisy(self.admission.primitive)]

        kept = [n for n in trained_names(program.frozen, param_specs(self.graph)) if n in self.admission.untrained]
        moving = {name: self.module.get_parameter_by_name(name) for name in kept}

        def loss(batch: Tensors, answers: Tensors, place: Place) -> Tensor:
            size = len(next(iter(batch.values())))
            masks = {node.name: self._mask(program.seed, (node, given), place, size) for node, given in sources}
            now = Pass(training=True, masks=masks, share=size / len(next(iter(place.targets.values()))))
            total = self._training_loss((batch, answers), place.targets, program.objective, now)
            now.moved = {name: value for name, value in now.moved.items() if name in moving}
            self.module.move(now)
            return total

        def valid() -> float:
            assert aside is not None
            return self._loss_alone(*aside, program.objective)

        aside = (tensors_of(held[0], self.device), tensors_of(held[1], self.device)) if held else None
        data = tensors_of(arrays, self.device), tensors_of(wanted, self.device)
        hidden = hidden_matrices(self.graph)
        run = TorchRun(self, program, (self._trained(program.frozen), moving, hidden), data, loss, valid)
        return run.scaled() if self.precision == "fp16" else run

    def feed(self, state: TorchRun, inputs: Mapping[str, Any], targets: Any) -> None:
        """Other rows for a run, as many and of the same shapes; moments and step go on."""
        check_owner(state, self)
        arrays, rows = self.admission.inputs(inputs)
        wanted = self.admission.targets(targets, state.program.objective, arrays, rows)
        state.replace_data(tensors_of(arrays, self.device), tensors_of(wanted, self.device))

    def run(self, state: TorchRun, steps: int, progress: Progress | None = None) -> np.ndarray:
        """`steps` steps of the run; the float64 loss of each step, taken before its update."""
        check_owner(state, self)
        with threads_of(self.threads):
            return state.advance(steps, progress)

    def _plan(self, arrays: Arrays, rows: int) -> dict[str, TensorType]:
        """The types of all nodes for these inputs; `rows` of them is what a call holds at once."""
        _, types = self.admission.plan(arrays)
        values = sum(prod(int(dim) for dim in given.shape) for given in types.values())
        self._arena = max(self._arena, BYTES_PER_VALUE["torch"] * rows * values)
        return types

    def _trained(self, frozen: Sequence[str]) -> Tensors:
        """The parameters that are not frozen, in the graph's order."""
        parameters = dict(self.module.named_parameters())
        names = trained_names(frozen, param_specs(self.graph))
        return {name: parameters[name] for name in names if name not in self.admission.untrained}

    def _training_loss(self, batch: tuple[Tensors, Tensors], whole: Tensors, objective: Objective, now: Pass) -> Tensor:
        """The loss of a batch (inputs, targets) as training sees it, with its share of what gates add."""
        keep = {place for _, place in self.admission.heads.values()} | set(self.admission.heads)
        with casting(self.precision, self.device):
            values = self.module.values(batch[0], now, keep)
        loss = self._loss(values, batch[1], whole, objective)
        return loss + now.share * torch.stack(now.losses).sum() if now.losses else loss

    def _loss(self, values: Tensors, targets: Tensors, whole: Tensors, objective: Objective) -> Tensor:
        """The losses of all outputs, added; `whole` are the targets of the update that `targets` are a part of."""
        heads = self.admission.heads
        read = {n: values[n if isinstance(objective, MSE) else place].float() for n, (_, place) in heads.items()}
        return losses_of(read, targets, whole, objective, {name: kind for name, (kind, _) in heads.items()})

    def _loss_alone(self, inputs: Tensors, targets: Tensors, objective: Objective) -> float:
        with torch.inference_mode(), threads_of(self.threads):
            with casting(self.precision, self.device):
                values = self.module.values(inputs)
            return float(self._loss(values, targets, targets, objective))

    def _mask(self, seed: int, given: tuple[Node, TensorType], place: Place, rows: int) -> Tensor:
        """The noise of a node for `rows` rows of an update."""
        node, kind = given
        shape = rows, *(int(dim) for dim in kind.shape)
        drawn = noise(seed, node, (place.step, place.first), shape)
        return torch.tensor(drawn.astype(np.float32), device=self.device)
