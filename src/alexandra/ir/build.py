"""Networks from Python (`ax.net`): `mlp`, `linear`, `sequential` of layers, and a Builder for any graph.

All of them end in `make_graph`, so they return verified graphs that equal what the same text compiles to.
"""

from __future__ import annotations

from collections.abc import Iterable

from alexandra.errors import GraphError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import AUTO, Attr, Graph, Node
from alexandra.ir.ops import OPS

Shape = int | str | tuple[int | str, ...]


class Layer:
    """One layer of a `sequential` network: an op and its attributes, checked against the op table when built.

    `Layer("dense", size=64, activation="relu")`; the attributes are the op's own (`ir.ops.OPS`).
    """

    def __init__(self, op: str, **attrs: Attr) -> None:
        self.op, self.attrs = op, attrs

    def __repr__(self) -> str:
        return f"Layer({', '.join([repr(self.op), *(f'{k}={v!r}' for k, v in self.attrs.items())])})"


class Builder:
    """A graph written layer by layer; each method returns the layer's name, to be used as an input.

    Layers without a name are called by their op and a number: dense_1, dense_2 ...
    """

    def __init__(self, name: str = "net") -> None:
        self.name = name
        self._nodes: list[Node] = []
        self._counts: dict[str, int] = {}

    def input(self, name: str = "x", shape: Shape = AUTO, dtype: str = "float32") -> str:
        """An INPUT; a number is the shape (number,)."""
        return self._put(Node(name, "input", (), {"shape": shape, "dtype": dtype}))

    def layer(self, layer: Layer, *inputs: str, name: str = "", shared: str = "") -> str:
        """`layer` on `inputs` (several are concatenated by one-input ops); `shared` names whose weights it uses."""
        return self._put(Node(name or self._fresh(layer.op), layer.op, inputs, layer.attrs, shared))

    def output(self, name: str, *inputs: str, size: int | str | None = None, activation: str = "linear") -> str:
        """An OUTPUT; without a size it passes its input through."""
        return self._put(Node(name, "output", inputs, {"size": size, "activation": activation}))

    def graph(self) -> Graph:
        """The verified graph of everything that was written; GraphError says what is wrong."""
        return make_graph(self.name, self._nodes)

    def _put(self, node: Node) -> str:
        self._nodes.append(node)
        return node.name

    def _fresh(self, op: str) -> str:
        self._counts[op] = self._counts.get(op, 0) + 1
        return f"{op}_{self._counts[op]}"


def sequential(
    layers: Iterable[Layer],
    *,
    inputs: Shape = AUTO,
    outputs: int | str | None = AUTO,
    output: str = "softmax",
    name: str = "sequential",
) -> Graph:
    """`layers` one after the other between input `x` and output `y` (`output` is its activation)."""
    build = Builder(name)
    last = build.input("x", inputs)
    for layer in layers:
        if layer.op in OPS and OPS[layer.op].min_inputs != 1:
            raise GraphError(f"a sequential network cannot hold {layer!r}", hint="use a Builder")
        last = build.layer(layer, last)
    build.output("y", last, size=outputs, activation=output)
    return build.graph()


def mlp(
    *widths: int,
    activation: str = "gelu",
    dropout: float = 0.0,
    norm: str | None = None,
    output: str = "softmax",
    inputs: Shape = AUTO,
    outputs: int | str = AUTO,
) -> Graph:
    """Hidden layers of these widths, each dense, then `norm` ("layernorm", "rmsnorm"), activation and dropout.

    Without widths it is the linear model.
    """
    if norm not in (None, "layernorm", "rmsnorm"):
        raise GraphError(f"norm must be None, 'layernorm' or 'rmsnorm', got {norm!r}")
    build = Builder("_".join(["mlp", *map(str, widths)]))
    last = build.input("x", inputs)
    for number, width in enumerate(widths, 1):
        if norm is None:
            last = build.layer(Layer("dense", size=width, activation=activation), last, name=f"h{number}")
        else:
            last = build.layer(Layer("dense", size=width), last, name=f"l{number}")
            last = build.layer(Layer(norm), last, name=f"n{number}")
            last = build.layer(Layer(activation), last, name=f"h{number}")
        if dropout != 0.0:
            last = build.layer(Layer("dropout", rate=dropout), last, name=f"d{number}")
    build.output("y", last, size=outputs, activation=output)
    return build.graph()


def linear(*, inputs: Shape = AUTO, outputs: int | str = AUTO, output: str = "softmax") -> Graph:
    """One dense layer and the output's activation: logistic (or, with output="linear", linear) regression."""
    build = Builder("linear")
    build.output("y", build.input("x", inputs), size=outputs, activation=output)
    return build.graph()
