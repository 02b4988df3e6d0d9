"""ONNX rules of positions and attention. Axes whose length is open are read off the values when the file runs.

Angles are made and reduced in float64 and turned into float32 last, so that far positions keep their precision.
"""

from __future__ import annotations

import numpy as np

from alexandra.backends.onnx_writer import Writer
from alexandra.ir.graph import Node
from alexandra.ir.ops.rules import number, optional, whole
from alexandra.ir.positions import relative_buckets, rope_frequencies, sinusoidal, visible


def _length(out: Writer, node: Node, x: str) -> int | None:
    length = out.types[x].shape[0]
    return length if isinstance(length, int) else None


def _positions(out: Writer, node: Node, x: str) -> str:
    """0 .. S - 1 as int64 for a value [rows, S, C] whose S is open."""
    size = out.step("Gather", [out.step("Shape", [x], node), out.constant(f"{node.name}.one", np.array(1))], node)
    zero, one = (out.constant(f"{node.name}.{what}", np.array(n)) for what, n in (("zero", 0), ("step", 1)))
    return out.step("Range", [zero, size, one], node)


def _angles(out: Writer, node: Node, first: int, frequencies: np.ndarray) -> tuple[str, str]:
    """(cosines, sines) [S, pairs] of the positions of the node's input, of which the first has number `first`."""
    x = node.inputs[0]
    length = _length(out, node, x)
    if length is not None:
        angles = np.arange(first, first + length)[:, None] * frequencies
        cos, sin = (out.constant(f"{node.name}.{f.__name__}", f(angles).astype(np.float32)) for f in (np.cos, np.sin))
        return cos, sin
    places = out.step("Cast", [_positions(out, node, x)], node, to=11)  # double
    places = out.step("Add", [places, out.constant(f"{node.name}.first", np.array(float(first)))], node)
    product = [out.widened(node, places, 1), out.constant(f"{node.name}.frequencies", frequencies[None])]
    turn = out.constant(f"{node.name}.turn", np.array(2.0 * np.pi))
    reduced = out.step("Mod", [out.step("Mul", product, node), turn], node, fmod=1)
    angle = out.step("Cast", [reduced], node, to=1)
    return out.step("Cos", [angle], node), out.step("Sin", [angle], node)


def position(out: Writer, node: Node) -> None:
    x, first = node.inputs[0], whole(node.attrs["offset"])
    length, width = _length(out, node, x), out.types[x].shape[1]
    assert isinstance(width, int)
    if node.attrs["kind"] == "learned":
        weight = out.weights[f"{node.owner}.weight"]
        if length is not None:
            rows = out.constant(f"{node.name}.rows", weight[first : first + length])
        else:
            moved = out.step("Add", [_positions(out, node, x), out.whole(node, "first", first)], node)
            rows = out.step("Gather", [out.parameter(node, "weight"), moved], node, axis=0)
    elif length is not None:
        rows = out.constant(f"{node.name}.rows", sinusoidal(length, width, first).astype(np.float32))
    else:
        powers = 10000.0 ** (-np.arange(0, width, 2, dtype=np.float64) / width)
        cos, sin = _angles(out, node, first, powers)
        pairs = out.step("Concat", [out.widened(node, sin, 2), out.widened(node, cos, 2)], node, axis=2)
        rows = out.cut(node, out.reshaped(node, pairs, 0, -1), (0, width))
    out.put("Add", [x, rows], node.name)


def rope(out: Writer, node: Node) -> None:
    x, head = node.inputs[0], whole(node.attrs["head_dim"])
    dims = whole(optional(node.attrs["dims"], head))
    frequencies, factor = rope_frequencies(node.attrs)
    cos, sin = (out.widened(node, table, 1) for table in _angles(out, node, 0, frequencies))
    if factor != 1.0:
        cos, sin = (out.step("Mul", [table, out.scalar(node, "factor", factor)], node) for table in (cos, sin))
    heads = out.reshaped(node, x, 0, 0, -1, head)
    half = node.attrs["layout"] == "half"
    places = ((0, dims // 2), (dims // 2, dims)) if half else ((0, dims, 2), (1, dims, 2))
    a, b = (out.cut(node, heads, place) for place in places)

    def mixed(op: str, left: str, right: str) -> str:
        return out.step(op, [out.step("Mul", [left, cos], node), out.step("Mul", [right, sin], node)], node)

    first, second = mixed("Sub", a, b), mixed("Add", b, a)
    if half:
        turned = out.step("Concat", [first, second], node, axis=-1)
    else:
        pairs = out.step("Concat", [out.widened(node, first, 4), out.widened(node, second, 4)], node, axis=-1)
        turned = out.reshaped(node, pairs, 0, 0, 0, -1)
    if dims < head:
        turned = out.step("Concat", [turned, out.cut(node, heads, (dims, head))], node, axis=-1)
    out.put("Reshape", [turned, out.whole(node, "flat", 0, 0, -1)], node.name)


def sdpa(out: Writer, node: Node) -> None:
    """Scores of all pairs, [rows, key heads, query heads of one, queries, keys]."""
    q, k, v = node.inputs[:3]
    heads = whole(node.attrs["heads"])
    groups = whole(optional(node.attrs["kv_heads"], heads))
    width = out.types[q].shape[1]
    assert isinstance(width, int)
    q_BKGSD = out.turned(node, out.reshaped(node, q, 0, 0, groups, heads // groups, width // heads), 0, 2, 3, 1, 4)
    k_BK1DT = out.widened(node, out.turned(node, out.reshaped(node, k, 0, 0, groups, width // heads), 0, 2, 3, 1), 2)
    v_BK1TD = out.widened(node, out.turned(node, out.reshaped(node, v, 0, 0, groups, -1), 0, 2, 1, 3), 2)
    given, cap = node.attrs["scale"], number(node.attrs["softcap"])
    scale = (width // heads) ** -0.5 if given is None else number(given)
    scores = out.step("MatMul", [q_BKGSD, k_BK1DT], node)
    scores = out.step("Mul", [scores, out.scalar(node, "scale", scale / (cap or 1.0))], node)
    if cap:
        scores = out.step("Mul", [out.step("Tanh", [scores], node), out.scalar(node, "cap", cap)], node)
    places = _Places(out, node)
    if node.attrs["relative_buckets"]:
        bias = out.step("Gather", [out.parameter(node, "relative"), places.buckets()], node, axis=0)
        bias = out.turned(node, bias, 2, 0, 1)
        shape = out.step("Shape", [bias], node)
        split = out.step(
            "Concat", [out.whole(node, "split", groups, -1), out.cut(node, shape, (1, 3), 0)], node, axis=0
        )
        scores = out.step("Add", [scores, out.step("Reshape", [bias, split], node)], node)
    seen = places.seen()
    if seen is None:
        weights = out.step("Softmax", [scores], node, axis=-1)
    else:
        scores = out.step("Where", [seen, scores, out.scalar(node, "hidden", -3e38)], node)
        weights = out.step("Softmax", [scores], node, axis=-1)
        weights = out.step("Where", [seen, weights, out.scalar(node, "none", 0.0)], node)
    y_BSKGD = out.turned(node, out.step("MatMul", [weights, v_BK1TD], node), 0, 3, 1, 2, 4)
    out.put("Reshape", [y_BSKGD, out.whole(node, "flat", 0, 0, -1)], node.name)


class _Places:
    """The pairs of positions of an sdpa: constants where both lengths are known, else made when the file runs."""

    def __init__(self, out: Writer, node: Node) -> None:
        self.out, self.node = out, node
        lengths = [_length(out, node, name) for name in node.inputs[:2]]
        self.known = None if None in lengths else [np.arange(length) for length in lengths if length is not None]
        self._pair: tuple[str, str] | None = None

    def pair(self) -> tuple[str, str]:
        """(i [S, 1], j [1, T]) as int64."""
        if self._pair is None:
            q, k = self.node.inputs[:2]
            i, j = (_positions(self.out, self.node, x) for x in (q, k))
            self._pair = self.out.widened(self.node, i, 1), self.out.widened(self.node, j, 0)
        return self._pair

    def _number(self, value: int) -> str:
        return self.out.constant(f"{self.node.name}.number", np.array(value, np.int64))

    def _step(self, op: str, *inputs: str) -> str:
        return self.out.step(op, list(inputs), self.node)

    def buckets(self) -> str:
        """T5's buckets [S, T]; beyond the largest distance they stay the same, so a table by distance will do."""
        attrs = self.node.attrs
        if self.known is not None:
            return self.out.constant(f"{self.node.name}.buckets", relative_buckets(attrs, *self.known).astype(np.int64))
        far = whole(attrs["relative_distance"])
        table = relative_buckets(attrs, np.array([0]), np.arange(-far, far + 1))[0].astype(np.int64)
        i, j = self.pair()
        ahead = self._step("Min", self._step("Max", self._step("Sub", j, i), self._number(-far)), self._number(far))
        names = [self.out.constant(f"{self.node.name}.table", table), self._step("Add", ahead, self._number(far))]
        return self._step("Gather", *names)

    def seen(self) -> str | None:
        """The mask, broadcast over [rows, K, G, S, T]; None when everything is visible."""
        attrs = self.node.attrs
        mask: str | None = None
        if attrs["causal"] or attrs["window"] is not None:
            if self.known is not None:
                mask = self.out.constant(f"{self.node.name}.seen", visible(attrs, *self.known))
            else:
                mask = self._pattern()
        if len(self.node.inputs) > 3:
            segments = self._segments()
            mask = segments if mask is None else self._step("And", mask, segments)
        return mask

    def _pattern(self) -> str:
        attrs, (i, j) = self.node.attrs, self.pair()
        parts = [self._step("LessOrEqual", j, i)] if attrs["causal"] else []
        if attrs["window"] is not None:
            apart = self._step("Sub", i, j)
            near = self._step("Less", self._step("Abs", apart), self._number(whole(attrs["window"])))
            if attrs["globals"]:
                for place in (i, j):
                    near = self._step("Or", near, self._step("Less", place, self._number(whole(attrs["globals"]))))
            if attrs["stride"]:
                rest = self._step("Mod", apart, self._number(whole(attrs["stride"])))
                near = self._step("Or", near, self._step("Equal", rest, self._number(0)))
            parts.append(near)
        return parts[0] if len(parts) == 1 else self._step("And", *parts)

    def _segments(self) -> str:
        """A key's segment is not 0 and, where queries are the same positions, is the query's."""
        out, node = self.out, self.node
        q, k, segments = node.inputs[0], node.inputs[1], node.inputs[3]
        keys = out.widened(node, segments, 1, 2, 3)
        zero = out.constant(f"{node.name}.zero", np.array(0, np.int32))
        seen = self._step("Not", self._step("Equal", keys, zero))
        if out.types[q].shape[0] == out.types[k].shape[0]:
            seen = self._step("And", seen, self._step("Equal", keys, out.widened(node, segments, 1, 2, 4)))
        return seen
