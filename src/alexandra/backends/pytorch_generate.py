"""Text generation on torch: tokens appended one by one, with a cache of keys and values or without.

    generate(model, {"tokens": prompt}, 20)              # greedy; the same tokens with cache=False

The input that grows is the one that the output's attention is causal in; what does not depend on it (an encoder) is
computed once. A network whose other layers mix positions (convolutions, recurrent layers) is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alexandra.backends.pytorch import TorchModel
from alexandra.backends.pytorch_run import threads_of
from alexandra.errors import BackendError, suggest
from alexandra.ir.graph import Graph, Node
from alexandra.nn.passing import Cache, Pass
from alexandra.rng import derive

MIXING = ("conv2d", "pool2d", "rnn", "lstm", "gru", "reduce", "transpose", "matmul", "batchnorm")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the likeliest at temperature 0, else drawn; `stop` ends a row."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: Sequence[int] = ()


def generate(
    model: TorchModel,
    inputs: Mapping[str, np.ndarray],
    count: int,
    sampling: Sampling | None = None,
    *,
    cache: bool = True,
    grows: str = "",
) -> np.ndarray:
    """The prompt and up to `count` tokens behind it, int32 [rows, positions].

    A row that reached a stop token repeats it. `grows` names the input that grows (by default "tokens", "target" or
    the only one). With sampling, row r at position p draws from derive(seed, "sample", r).at(p).
    """
    rule = sampling or Sampling()
    arrays, _ = model.admission.inputs(inputs)
    name = _growing(model.graph, grows)
    graph = model.admission.primitive
    _check(graph, name)
    tokens = torch.tensor(arrays[name], device=model.device)
    given = {key: torch.tensor(array, device=model.device) for key, array in arrays.items()}
    held = Cache() if cache else None
    with torch.inference_mode(), threads_of(model.threads):
        if held is not None:
            held.fixed = _fixed(model, graph, given, name)
            held.skipped = frozenset(graph.by_name) - _dependent(graph, name) - set(held.fixed)
        new, ended = tokens, torch.zeros(len(tokens), dtype=torch.bool, device=model.device)
        for _ in range(count):
            logits = _logits(model, {**given, name: tokens if held is None else new}, held)
            if held is not None:
                held.length = tokens.shape[1]
            chosen = _choose(logits, rule, tokens.shape[1])
            chosen = torch.where(ended, tokens[:, -1], chosen.to(tokens.dtype))
            ended |= torch.isin(chosen, torch.tensor(list(rule.stop), device=model.device, dtype=chosen.dtype))
            new = chosen[:, None]
            tokens = torch.cat((tokens, new), dim=1)
            if bool(ended.all()):
                break
    return np.array(tokens.cpu().numpy(), np.int32)


def _growing(graph: Graph, wanted: str) -> str:
    names = [node.name for node in graph.inputs]
    if wanted:
        if wanted not in names:
            raise BackendError(f"the network has no input {wanted!r}", hint=suggest(wanted, names))
        return wanted
    found = next((name for name in ("tokens", "target") if name in names), names[0] if len(names) == 1 else "")
    if not found:
        raise BackendError(f"which input grows? The network has {', '.join(names)}", hint="say grows='...'")
    return found


def _dependent(graph: Graph, name: str) -> set[str]:
    """The nodes whose value depends on the input `name`."""
    found = {name}
    for node in graph.nodes:
        if any(source in found for source in node.inputs):
            found.add(node.name)
    return found


def _check(graph: Graph, name: str) -> None:
    """BackendError unless what depends on `name` can be run a few positions at a time."""
    grown = _dependent(graph, name)
    for node in graph.nodes:
        if node.name not in grown or node.op in ("input", "output"):
            continue
        if node.op in MIXING or (node.op == "sdpa" and node.inputs[1] in grown and not _causal(node, grown)):
            raise BackendError(
                f"cannot generate: layer {node.name!r} ({node.op}) lets positions see later ones",
                hint="a network that generates attends causally and treats each position alone elsewhere",
            )


def _causal(node: Node, grown: set[str]) -> bool:
    return bool(node.attrs["causal"]) and len(node.inputs) == 3


def _fixed(model: TorchModel, graph: Graph, given: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The values that do not depend on the growing input and that something which does reads."""
    grown = _dependent(graph, name)
    if grown == {node.name for node in graph.nodes}:
        return {}
    read = {source for node in graph.nodes if node.name in grown for source in node.inputs} - grown
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.name not in grown:
            values[node.name] = model.module.value(node, values, given, Pass())
    return {key: values[key] for key in values if key in read}


def _logits(model: TorchModel, given: Mapping[str, Tensor], held: Cache | None) -> Tensor:
    """What the first output says of the last position, [rows, vocabulary]."""
    head = model.graph.outputs[0].name
    _, place = model.admission.heads[head]
    values = model.module.values(given, Pass(cache=held), {place})
    return values[place][:, -1]


def _choose(logits: Tensor, rule: Sampling, position: int) -> Tensor:
    if rule.temperature == 0.0:
        return logits.argmax(-1)
    scores = logits.double() / rule.temperature
    scores, order = scores.sort(descending=True, stable=True)
    if rule.top_k:
        scores[:, rule.top_k :] = float("-inf")
    chances = torch.softmax(scores, -1)
    total = chances.cumsum(-1)
    chances = chances.masked_fill(total - chances >= rule.top_p, 0.0)
    uniform = [float(derive(rule.seed, "sample", row).at(position).uniform(1)[0]) for row in range(len(logits))]
    goal = torch.tensor(uniform, device=logits.device, dtype=total.dtype)[:, None] * chances.sum(-1, keepdim=True)
    place = (chances.cumsum(-1) <= goal).sum(-1).clamp(max=int(chances.shape[-1]) - 1)
    return order.gather(-1, place[:, None])[:, 0]
