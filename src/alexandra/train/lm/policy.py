"""A language model that can be trained and asked: log-probabilities of given tokens, one update, and completions.

A Policy hides what runs the network (native engine, torch, a transformers model). It knows no objective: a stage
computes the loss and its derivative by every log-probability (objectives/tokens.py) and the policy applies it, which
is exact for every objective that depends on the weights through those log-probabilities alone. NetworkPolicy is a
Graph on any backend.

Suffixes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from alexandra.backends.base import Model
from alexandra.backends.foreign import Foreign
from alexandra.errors import BackendError, DataError
from alexandra.ir.check import final_activation, infer
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph
from alexandra.objectives.spec import WeightedCrossEntropy
from alexandra.objectives.tokens import F64, TokenLoss
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.fed import FedRun, Optimization
from alexandra.train.lm.fixed_order import in_order
from alexandra.train.lm.ragged import RaggedRun, is_causal

LossOf = Callable[[F64], TokenLoss]  # log-probabilities [B, T] -> loss of the batch


class Policy(Protocol):
    """What a stage needs of a language model."""

    vocab: int

    def logprobs(self, batch: TokenBatch) -> F64:
        """ln p(target) of every position, float64 [B, T]; positions that the mask leaves out are 0."""
        ...

    def update(
        self, batch: TokenBatch, loss: LossOf, *, constant: bool = False, known_BT: F64 | None = None
    ) -> TokenLoss:
        """One optimiser step on `loss`; returns it. `constant`: its derivative does not depend on the values;
        `known_BT`: what `logprobs(batch)` gives with the weights of now, where the caller has it."""
        ...

    def next_logits(self, tokens: Sequence[Sequence[int]]) -> F64:
        """Logits [B, V] of the token after each of these sequences."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that decides the future of training: weights, moments, step."""
        ...

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None: ...


class FedPolicy(Protocol):
    """A Policy by the values and the inputs of its network: an update is a weighted cross-entropy."""

    updates: FedRun

    def logprobs(self, batch: TokenBatch) -> F64: ...

    def inputs(self, batch: TokenBatch) -> dict[str, np.ndarray]:
        """What the network reads of these rows."""
        ...

    def update(
        self, batch: TokenBatch, loss: LossOf, *, constant: bool = False, known_BT: F64 | None = None
    ) -> TokenLoss:
        """The derivative of the cross-entropy by the log-probabilities is the loss's.

        Two passes, values then gradients; one where the derivative is `constant` or the values are known.
        """
        if known_BT is None:
            known_BT = np.zeros(batch.mask_BT.shape) if constant else self.logprobs(batch)
        found = loss(known_BT)
        weights = np.ascontiguousarray(-found.grad_BT, np.float32)
        if self.updates.optimization.fixed_order:
            ordered = in_order(batch, weights)
            batch, weights = ordered.batch, ordered.gathered(weights)
        value = self.updates.update(self.inputs(batch), {"classes": batch.targets_BT, "weights": weights})
        if not np.isfinite(value):
            raise BackendError(f"the loss is {value} at step {self.step}")
        return TokenLoss(np.array([value]), found.grad_BT, found.stats) if constant else found

    def arrays(self) -> dict[str, np.ndarray]:
        return self.updates.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.updates.restore(arrays)

    @property
    def step(self) -> int:
        """How many updates there were."""
        return self.updates.step


def fed_run(model: Model, optimization: Optimization) -> FedRun:
    """The updates of a policy: the weights of the cross-entropy are the loss's derivative as it is."""
    if model.backend == "native" and not optimization.fixed_order and is_causal(model.graph):
        return RaggedRun(model, optimization)
    return FedRun(model, WeightedCrossEntropy(normalizer=1.0), optimization)


class NetworkPolicy(FedPolicy):
    """A Graph on a backend: one int32 input of tokens [T] (and, to pack, one named `segments`), one output [T, V]."""

    def __init__(self, model: Model, optimization: Optimization | None = None) -> None:
        self.model, self.optimization = model, optimization or Optimization()
        ends = ends_of(model)
        self.tokens_name, self.segments_name, self.output = ends.tokens, ends.segments, ends.output
        self.is_softmax = final_activation(primitives(model.graph), self.output)[0] == "softmax"
        self.vocab = _width(model.graph, self.output)
        self.updates = fed_run(model, self.optimization)

    def logprobs(self, batch: TokenBatch) -> F64:
        """In pieces of `micro_rows` rows; document by document in fixed order."""
        if not self.optimization.fixed_order:
            return self._logprobs(batch, self.optimization.micro_rows or len(batch.tokens_BT))
        ordered = in_order(batch)
        return ordered.scattered(self._logprobs(ordered.batch, 1))

    def _logprobs(self, batch: TokenBatch, size: int) -> F64:
        rows = len(batch.tokens_BT)
        pieces = []
        for first in range(0, rows, max(1, size)):
            part = slice(first, first + size)
            outputs = self.model.forward(self.inputs(batch, part))[self.output]
            pieces.append(_picked(outputs, batch.targets_BT[part], self.is_softmax))
        return np.where(batch.mask_BT > 0, np.concatenate(pieces), 0.0)

    def next_logits(self, tokens: Sequence[Sequence[int]]) -> F64:
        """Right-padded: a causal network does not see the padding."""
        longest = max(len(row) for row in tokens)
        given = np.zeros((len(tokens), longest), np.int32)
        for row, own in enumerate(tokens):
            given[row, : len(own)] = own
        inputs = {self.tokens_name: given}
        if self.segments_name:
            inputs[self.segments_name] = np.ones_like(given)
        outputs = self.model.forward(inputs)[self.output]
        last_BV = outputs[np.arange(len(tokens)), [len(own) - 1 for own in tokens]].astype(np.float64)
        return np.log(np.maximum(last_BV, 1e-45)) if self.is_softmax else last_BV

    def inputs(self, batch: TokenBatch, part: slice = slice(None)) -> dict[str, np.ndarray]:
        """What the network reads of these rows."""
        inputs = {self.tokens_name: batch.tokens_BT[part]}
        if self.segments_name:
            inputs[self.segments_name] = batch.segments_BT[part]
        elif batch.segments_BT.size and batch.segments_BT.max() > 1:
            raise DataError(
                f"network {self.model.graph.name!r} cannot keep packed documents apart",
                hint="give its attention an int32 input named segments, or turn packing off",
            )
        return inputs


@dataclass(frozen=True)
class Ends:
    """The names of a model's inputs of tokens and of segments ("" without one), and of its output."""

    tokens: str
    segments: str
    output: str


def ends_of(model: Model) -> Ends:
    """What a language model reads and gives. BackendError for one that is none."""
    if isinstance(model, Foreign):
        reads = {node.name for node in model.inside.inputs}
        return Ends("tokens", "segments" if "segments" in reads else "", next(iter(model.inside.outputs)))
    tokens, segments = token_inputs(model.graph)
    if len(model.graph.outputs) != 1:
        names = ", ".join(node.name for node in model.graph.outputs)
        raise BackendError(f"a policy has one output, the logits; network {model.graph.name!r} has {names}")
    return Ends(tokens, segments, model.graph.outputs[0].name)


def token_inputs(graph: Graph) -> tuple[str, str]:
    """The names of the input of tokens and of that of segments ("" without one)."""
    names = [node.name for node in graph.inputs if node.attrs["dtype"] == "int32"]
    tokens = [name for name in names if name != "segments"]
    if len(tokens) != 1 or len(names) != len(graph.inputs):
        given = ", ".join(f"{node.name} ({node.attrs['dtype']})" for node in graph.inputs)
        raise BackendError(
            f"a policy reads one int32 input of tokens, and maybe one named segments; {graph.name!r} reads {given}",
        )
    return tokens[0], "segments" if "segments" in names else ""


def _width(graph: Graph, output: str) -> int:
    last = infer(graph)[output].shape[-1]
    if not isinstance(last, int):
        raise BackendError(f"the size of output {output!r} is open: bind it to the tokenizer's vocabulary")
    return last


def _picked(outputs: np.ndarray, targets_BT: np.ndarray, is_softmax: bool) -> F64:
    """ln p(target) from logits or probabilities [B, T, V], in float64."""
    index = targets_BT[..., None].astype(np.int64)
    values = np.take_along_axis(outputs, index, axis=-1)[..., 0].astype(np.float64)
    if is_softmax:
        return np.asarray(np.log(np.maximum(values, 1e-45)))
    top = outputs.max(-1).astype(np.float64)
    total = np.exp(outputs - top[..., None].astype(outputs.dtype)).sum(-1, dtype=np.float64)
    return np.asarray(values - top - np.log(total))
