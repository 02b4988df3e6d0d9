"""The output of a network, trained by any derivative of any loss by its values: scores, or whole logits.

A backend knows a few objectives. Whatever else is wanted is applied through one of them, the squared error: with
targets v - (N / 2) g the mean squared error over N values has exactly the derivative g at v. Suffixes: B rows, T
positions, V values of a position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from alexandra.backends.base import Model
from alexandra.errors import BackendError
from alexandra.ir.check import final_activation, make_graph
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph
from alexandra.objectives.distillation import entropy, log_softmax
from alexandra.objectives.spec import MSE
from alexandra.objectives.tokens import F64, TokenLoss, count
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.fed import FedRun, Optimization
from alexandra.train.lm.policy import LossOf, NetworkPolicy, ends_of


class Outputs:
    """A graph on a backend with one int32 input of tokens [T] (and maybe `segments`) and one output [T, V]."""

    def __init__(self, model: Model, optimization: Optimization | None = None) -> None:
        self.model = model
        ends = ends_of(model)
        self.tokens_name, self.segments_name, self.output = ends.tokens, ends.segments, ends.output
        self.updates = FedRun(model, MSE(), optimization or Optimization())

    def values(self, batch: TokenBatch) -> F64:
        """The values of every position, [B, T, V]: position t has read tokens 0 .. t."""
        return np.asarray(self.model.forward(self._inputs(batch))[self.output].astype(np.float64))

    def update(self, batch: TokenBatch, gradient: Callable[[F64], tuple[float, F64]]) -> float:
        """One optimiser step; `gradient` gives loss and derivative of the values. Returns the loss.

        BackendError for a loss that is not finite, before anything changes.
        """
        values_BTV = self.values(batch)
        loss, grad_BTV = gradient(values_BTV)
        if not np.isfinite(loss):
            raise BackendError(f"the loss is {loss} at step {self.updates.step}")
        targets = (values_BTV - 0.5 * values_BTV.size * grad_BTV).astype(np.float32)
        self.updates.update(self._inputs(batch), targets)
        return loss

    def _inputs(self, batch: TokenBatch) -> dict[str, np.ndarray]:
        inputs = {self.tokens_name: batch.tokens_BT}
        return inputs | ({self.segments_name: batch.segments_BT} if self.segments_name else {})


def logits_graph(graph: Graph) -> Graph:
    """`graph` with logits at its output, whose softmax is left away; the same parameters."""
    (output,) = graph.outputs
    if final_activation(primitives(graph), output.name)[0] != "softmax":
        return graph
    if output.attrs.get("activation") != "softmax":
        raise BackendError(
            f"output {output.name!r} of network {graph.name!r} hides its logits behind a layer of softmax",
            hint="let the network end in OUTPUT without an activation",
        )
    changed = replace(output, attrs={**output.attrs, "activation": "linear"})
    return make_graph(graph.name, [changed if node is output else node for node in graph.nodes])


class EntropicPolicy(NetworkPolicy):
    """A NetworkPolicy whose updates also raise its entropy: loss - coefficient * mean entropy of counted positions.

    The exact entropy over the vocabulary (Mnih et al. 2016), not an estimate from the tokens that were drawn. Its
    network must give logits: `logits_graph`.
    """

    def __init__(self, model: Model, optimization: Optimization, coefficient: float) -> None:
        super().__init__(model, optimization)
        if self.is_softmax:
            raise BackendError("an entropy bonus needs logits", hint="bind logits_graph(graph)")
        self.coefficient = coefficient
        self._outputs = Outputs(model, optimization)
        self.updates = self._outputs.updates

    def update(
        self, batch: TokenBatch, loss: LossOf, *, constant: bool = False, known_BT: F64 | None = None
    ) -> TokenLoss:
        found: list[TokenLoss] = []

        def gradient(logits_BTV: F64) -> tuple[float, F64]:
            logp_BTV = log_softmax(logits_BTV)
            index = batch.targets_BT[..., None].astype(np.int64)
            own_BT = np.take_along_axis(logp_BTV, index, -1)[..., 0] * batch.mask_BT
            base = loss(own_BT if known_BT is None else known_BT)
            bonus = entropy(logits_BTV, batch.mask_BT, count(batch.mask_BT))
            grad_BTV = -np.exp(logp_BTV) * base.grad_BT[..., None]
            np.put_along_axis(grad_BTV, index, np.take_along_axis(grad_BTV, index, -1) + base.grad_BT[..., None], -1)
            rows_B = base.rows_B - self.coefficient * bonus.rows_B
            found.append(TokenLoss(rows_B, base.grad_BT, {**base.stats, **bonus.stats}))
            return found[0].value, grad_BTV - self.coefficient * bonus.grad_BTV

        self._outputs.update(batch, gradient)
        return found[0]
