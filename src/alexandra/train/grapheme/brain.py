"""The network bound for training and for answering: one Graph, one set of weights, two ways to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alexandra.backends.decode import Generator, Sampling
from alexandra.backends.decode_graph import GraphDecoder, graph_decoder
from alexandra.curriculum.derivation import Tree, text
from alexandra.curriculum.questions import Question
from alexandra.errors import DataError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet, initialise
from alexandra.train.grapheme.tokens import EOS, decode, graphs, prompt

CONTEXT = 320
DOCUMENTS = "documents"
EMBEDDING_SCALE, BRANCH_SCALE = 25.0, 0.25


def packed_graph(graph: Graph) -> Graph:
    """The same network for rows of several documents: a second input numbers them, attention stays inside one."""
    tokens = graph.inputs[0]
    numbers = Node(DOCUMENTS, "input", (), dict(tokens.attrs))
    nodes = [
        Node(node.name, node.op, (*node.inputs, DOCUMENTS), node.attrs) if node.op == "attention" else node
        for node in graph.nodes
    ]
    return make_graph(graph.name, [numbers, *nodes])


def starting_weights(graph: Graph, seed: int) -> WeightSet:
    """Weights to learn from: a token's own vector has the size of a half, what a layer adds to it begins small.

    With the usual 0.02 what attention averages would drown the token itself in the residual stream.
    """
    scales = {"embed.weight": EMBEDDING_SCALE, "out.weight": BRANCH_SCALE, "down.weight": BRANCH_SCALE}
    found = {}
    for name, array in initialise(graph, seed).items():
        factor = next((scale for end, scale in scales.items() if name.endswith(end)), 1.0)
        found[name] = (array * np.float32(factor)).astype(np.float32)
    return WeightSet(found)


@dataclass(frozen=True)
class Written:
    """What the network wrote for one question. `answer` is its last graph as text, "" where that is no graph.

    `confidence` is the probability of everything that was written; `steps` the graphs before, as texts.
    """

    answer: str
    confidence: float
    steps: tuple[str, ...]
    finished: bool


class Solver:
    """Answers questions with a Graph and its weights, greedily or by sampling."""

    def __init__(self, graph: Graph, weights: Mapping[str, np.ndarray], *, slots: int = 64, threads: int = 1) -> None:
        made = graph_decoder(graph, weights)
        self._decoder = GraphDecoder(graph, made.weights, None, (EOS,), "the brain")
        self._generator = Generator(self._decoder, slots=slots, context=CONTEXT + 96, threads=threads)

    def write(self, questions: Sequence[Question], temperature: float = 0.0, seed: int = 0) -> list[Written]:
        """One Written per question; a question that has no tokens gets none, and no confidence."""
        prompts, places = [], []
        for place, question in enumerate(questions):
            try:
                prompts.append(prompt(question))
                places.append(place)
            except DataError:
                continue
        found = [Written("", 0.0, (), False)] * len(questions)
        longest = max(map(len, prompts), default=0)
        fits = [i for i, one in enumerate(prompts) if len(one) <= 2 * CONTEXT // 3]
        sampling = Sampling(max_tokens=min(CONTEXT, CONTEXT + 96 - longest), temperature=temperature, seed=seed)
        for i, completion in zip(fits, self._generator.generate([prompts[i] for i in fits], sampling), strict=True):
            confidence = float(np.exp(sum(completion.logprobs)))
            found[places[i]] = written(completion.tokens, confidence, completion.finish == "end")
        return found


def written(tokens: Sequence[int], confidence: float, finished: bool) -> Written:
    """Tokens after the question, read."""
    parts: list[Tree | None] = [decode(one) for one in graphs(tokens)]
    texts = ["" if part is None else text(part) for part in parts]
    return Written(texts[-1] if finished else "", confidence, tuple(texts[:-1]), finished)
