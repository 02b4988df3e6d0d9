"""A user's torch module as the inside of a Foreign: answers, gradients, training and files.

The module is the user's own object: it trains in place, and its mode is put back after every call. On disk it is
its state_dict as safetensors and the import path of a function that makes it; no code travels, and loading runs
that function only when the reader trusts it (trust.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alexandra.backends.admit import admit_inputs, admit_targets, check_program, check_validation, trained_names
from alexandra.backends.base import Progress
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
from alexandra.backends.trust import require_trust
from alexandra.errors import BackendError, StorageError, WeightsError
from alexandra.ir.graph import Node
from alexandra.ir.weights import WeightSet
from alexandra.objectives.spec import MSE, Objective, Program
from alexandra.rng import derive
from alexandra.storage import read_tensors, tensors_bytes

FILE = "weights.safetensors"
Arrays = dict[str, np.ndarray]


class ForeignModule:
    """What a Foreign asks of a torch module; `inputs` are in the order of its arguments, `outputs` of its results."""

    kind = "torch"
    classes: tuple[str, ...] = ()

    def __init__(
        self, module: nn.Module, inputs: Sequence[Node], outputs: Mapping[str, str], factory: str, threads: int
    ) -> None:
        self.module, self.inputs, self.outputs = module, tuple(inputs), dict(outputs)
        self.factory, self.threads = factory, threads
        self.words = f"the torch module {type(module).__name__}"
        self._moments = 0

    @property
    def device(self) -> torch.device:
        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._trainable().values())

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of the state and, once training, of gradients and moments; torch decides about the rest."""
        trained = sum(p.nbytes for p in self._trainable().values()) if self._moments else 0
        weights = sum(tensor.nbytes for tensor in self.module.state_dict().values())
        return {"weights": weights, "arena": 0, "gradients": trained, "optimizer": trained * self._moments}

    @property
    def weights(self) -> WeightSet:
        return WeightSet({name: array_of(tensor.float()) for name, tensor in self._floating().items()})

    @torch.no_grad()
    def load(self, weights: WeightSet) -> None:
        """Copy `weights` in; they must be exactly the module's (WeightsError)."""
        state = self._floating()
        differ = sorted(set(weights) ^ set(state))
        if differ:
            raise WeightsError(f"weights do not fit {self.words}: they differ in {', '.join(differ)}")
        for name, tensor in state.items():
            if weights[name].shape != tuple(tensor.shape):
                shapes = f"{name} has shape {weights[name].shape}, needs {tuple(tensor.shape)}"
                raise WeightsError(f"weights do not fit {self.words}: {shapes}")
        for name, tensor in state.items():
            tensor.copy_(torch.tensor(weights[name]))

    def forward(self, inputs: Mapping[str, Any]) -> Arrays:
        arrays, _ = admit_inputs(self.inputs, inputs)
        with torch.inference_mode(), threads_of(self.threads), self._mode(training=False):
            raw = self._raw(tensors_of(arrays, self.device))
            return {name: array_of(_read(value, self.outputs[name]).float()) for name, value in raw.items()}

    def loss_and_grads(
        self, inputs: Mapping[str, Any], targets: Any, objective: Objective, frozen: Sequence[str] = ()
    ) -> tuple[float, Arrays]:
        """The loss and its gradient by the names of the parameters that require one; evaluation mode."""
        arrays, _ = admit_inputs(self.inputs, inputs)
        parameters = self._trained(frozen)
        with threads_of(self.threads), self._mode(training=False):
            raw = self._raw(tensors_of(arrays, self.device))
            wanted = self._targets(targets, objective, {name: tuple(value.shape) for name, value in raw.items()})
            answers = tensors_of(wanted, self.device)
            loss = self._loss(raw, answers, answers, objective)
            grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        return float(loss.detach()), {name: array_of(g) for name, g in zip(parameters, grads, strict=True)}

    def loss(self, inputs: Mapping[str, Any], targets: Any, objective: Objective) -> float:
        """The loss alone; evaluation mode."""
        arrays, _ = admit_inputs(self.inputs, inputs)
        data = tensors_of(arrays, self.device)
        with torch.inference_mode(), threads_of(self.threads), self._mode(training=False):
            raw = self._raw(data)
            wanted = self._targets(targets, objective, {name: tuple(value.shape) for name, value in raw.items()})
            answers = tensors_of(wanted, self.device)
            return float(self._loss(raw, answers, answers, objective))

    def start(self, program: Program, inputs: Mapping[str, Any], targets: Any, validation: Any = None) -> TorchRun:
        """A run at step 0 over copies of these rows, in training mode.

        What the module draws itself (dropout) comes from torch's generator under derive(seed, "dropout").at(step).
        """
        check_program(program)
        arrays, rows = admit_inputs(self.inputs, inputs)
        data = tensors_of(arrays, self.device)
        with torch.inference_mode(), threads_of(self.threads), self._mode(training=False):
            one = self._raw({name: tensor[:1] for name, tensor in data.items()}) if rows else {}
        shapes = {name: (rows, *one[name].shape[1:]) if rows else (0,) for name in self.outputs}
        wanted = self._targets(targets, program.objective, shapes)
        self._fed_shapes = shapes
        self._moments = num_moments(program.optimizer)
        stream = derive(program.seed, "dropout")
        check_validation(program, validation)

        def loss(batch: Tensors, answers: Tensors, place: Place) -> Tensor:
            drawn = derive(program.seed, "dropout", place.first) if place.first else stream
            with seeded(drawn.at(place.step).integer(), self.device):
                return self._loss(self._raw(batch), answers, place.targets, program.objective)

        def valid() -> float:
            held_inputs, held_targets = validation
            return self.loss(held_inputs, held_targets, program.objective)

        tensors = self._trained(program.frozen), dict(self.module.named_buffers()), _hidden_matrices(self.module)
        answers = tensors_of(wanted, self.device)
        return TorchRun(self, program, tensors, (data, answers), loss, valid)

    def feed(self, state: TorchRun, inputs: Mapping[str, Any], targets: Any) -> None:
        """Other rows for a run, as many and of the same shapes; moments and step go on."""
        check_owner(state, self)
        arrays, rows = admit_inputs(self.inputs, inputs)
        shapes = {name: (rows, *shape[1:]) for name, shape in self._fed_shapes.items()}
        wanted = self._targets(targets, state.program.objective, shapes)
        state.replace_data(tensors_of(arrays, self.device), tensors_of(wanted, self.device))

    def run(self, state: TorchRun, steps: int, progress: Progress | None = None) -> np.ndarray:
        check_owner(state, self)
        with threads_of(self.threads), self._mode(training=True):
            return state.advance(steps, progress)

    def files(self) -> dict[str, bytes]:
        """The state_dict; BackendError when no factory was given, or it makes another module."""
        if not self.factory:
            raise BackendError(
                f"{self.words} is stored as its weights and a function that makes it again, and there is none",
                hint='say which: wrap(module, ..., factory="mypackage.nets:make")',
            )
        made, mine = _shapes(_make(self.factory)), _shapes(self.module)
        if made != mine:
            name = sorted(set(made.items()) ^ set(mine.items()))[0][0]
            raise BackendError(
                f"{self.factory!r} makes another module than {self.words}: they differ in {name!r} "
                f"({made.get(name, 'absent')} and {mine.get(name, 'absent')})",
            )
        arrays = {}
        for name, tensor in self.module.state_dict().items():
            try:
                arrays[name] = array_of(tensor)
            except TypeError:
                kind = str(tensor.dtype).removeprefix("torch.")
                hint = "convert it first: module.float()"
                raise BackendError(f"{self.words}: tensor {name!r} has type {kind}, not storable", hint=hint) from None
        return {FILE: tensors_bytes(arrays)}

    def description(self) -> dict[str, Any]:
        inputs = {
            node.name: {"shape": list(shape), "dtype": node.attrs["dtype"]}
            for node in self.inputs
            if isinstance(shape := node.attrs["shape"], tuple)
        }
        return {"kind": self.kind, "factory": self.factory, "inputs": inputs, "outputs": self.outputs}

    @classmethod
    def read(
        cls, files: Mapping[str, bytes], inputs: Sequence[Node], outputs: Mapping[str, str], factory: str, threads: int
    ) -> ForeignModule:
        """The inverse of `files`: makes the module by `factory`, which must be trusted, and loads its state."""
        require_trust("loading this model runs the function that makes it", [factory])
        arrays, _ = read_tensors(files[FILE], FILE)
        module = _make(factory)
        try:
            module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines()]
            raise WeightsError(f"the stored weights do not fit what {factory!r} makes: {' '.join(lines[:2])}") from None
        return cls(module, inputs, outputs, factory, threads)

    def _raw(self, inputs: Tensors) -> Tensors:
        """What the module returns, by the names of the outputs."""
        try:
            result = self.module(*[inputs[node.name] for node in self.inputs])
        except Exception as error:  # whatever a user's module raises is an answer that was not given
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise BackendError(f"{self.words} failed on these inputs: {reason[0]}") from error
        names = list(self.outputs)
        if isinstance(result, Mapping):
            absent = [name for name in names if name not in result]
            if absent:
                raise BackendError(f"{self.words} returns {', '.join(map(str, result))}, but no {absent[0]!r}")
            return {name: result[name] for name in names}
        values = list(result) if isinstance(result, tuple | list) else [result]
        if len(values) != len(names) or not all(isinstance(value, Tensor) for value in values):
            kinds = ", ".join(type(value).__name__ for value in values)
            raise BackendError(f"{self.words} returns {kinds}; outputs= names {', '.join(names)}")
        return dict(zip(names, values, strict=True))

    def _targets(self, targets: Any, objective: Objective, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
        if not isinstance(objective, MSE):
            for name, reading in self.outputs.items():
                if reading == "probabilities":
                    raise BackendError(
                        f"output {name!r} of {self.words} holds probabilities; cross-entropy needs logits",
                        hint=f'let the module return logits and say outputs={{{name!r}: "softmax"}}',
                    )
        return admit_targets(targets, objective, self.outputs, shapes)

    def _loss(self, raw: Tensors, targets: Tensors, whole: Tensors, objective: Objective) -> Tensor:
        read = {n: _read(v, self.outputs[n]) if isinstance(objective, MSE) else v for n, v in raw.items()}
        targets, whole = ({k: _typed_as(v, raw) for k, v in group.items()} for group in (targets, whole))
        return losses_of(read, targets, whole, objective, self.outputs)

    def _trained(self, frozen: Sequence[str]) -> Tensors:
        parameters = self._trainable()
        return {name: parameters[name] for name in trained_names(frozen, parameters)}

    def _trainable(self) -> Tensors:
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def _floating(self) -> Tensors:
        return {name: tensor for name, tensor in self.module.state_dict().items() if tensor.is_floating_point()}

    @contextmanager
    def _mode(self, *, training: bool) -> Iterator[None]:
        """Training or evaluation mode while this lasts; every submodule then gets back its own."""
        before = {child: child.training for child in self.module.modules()}
        self.module.train(training)
        try:
            yield
        finally:
            for child, mode in before.items():
                child.training = mode


def _typed_as(target: Tensor, raw: Tensors) -> Tensor:
    """Numbers in the type of the module's results; class indices as they are."""
    return target.to(next(iter(raw.values())).dtype) if target.is_floating_point() else target


def _read(value: Tensor, reading: str) -> Tensor:
    if reading == "softmax":
        return torch.softmax(value, dim=-1)
    return torch.sigmoid(value) if reading == "sigmoid" else value


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's generators under `seed` while this lasts, then as they were."""
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        for generator in [torch.default_generator, *(torch.cuda.default_generators[i] for i in cuda)]:
            generator.manual_seed(seed)
        yield


def _make(factory: str) -> nn.Module:
    """Import and call `factory`; StorageError when there is no such function or it makes something else."""
    path, _, name = factory.partition(":")
    try:
        made = getattr(import_module(path), name)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise StorageError(
            f"cannot make the module by {factory!r}: {error}",
            hint='a factory is "package.module:function", importable here and called without arguments',
        ) from error
    if not isinstance(made, nn.Module):
        raise StorageError(f"{factory!r} makes a {type(made).__name__}, not a torch module")
    return made


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _hidden_matrices(module: nn.Module) -> frozenset[str]:
    """The weights of linear layers, without that of the output head (and whatever it shares)."""
    head = getattr(module, "get_output_embeddings", lambda: None)()
    linear = {name: one for name, one in module.named_modules() if isinstance(one, nn.Linear)}
    return frozenset(
        f"{n}.weight".removeprefix(".") for n, one in linear.items() if head is None or one.weight is not head.weight
    )
