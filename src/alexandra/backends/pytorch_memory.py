"""How many bytes a training step takes on PyTorch at its worst moment, from the graph alone: nothing runs.

A tape of storages follows what torch does on a CPU in float32: values live until their last reader, autograd keeps
what backward needs, gradients flow back and are freed, the optimiser updates one parameter after the other. RULES
says for every primitive what it allocates; the numbers are torch's formulas (derivatives.yaml) and, where a kernel
has a workspace of its own, measured ones. tests/backends/test_pytorch_memory.py holds them against torch's allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, prod

from alexandra.backends.admit import trained_names
from alexandra.backends.noise import noisy
from alexandra.backends.reference_optim import num_moments
from alexandra.errors import BackendError
from alexandra.ir.check import final_activation, infer, input_types, param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph, Node, TensorType
from alexandra.ir.ops import OPS
from alexandra.ir.ops.convolution import window_of
from alexandra.ir.ops.rules import whole
from alexandra.objectives.spec import MSE, SGD, CrossEntropy, Objective, Program, WeightedCrossEntropy

FLOAT, INDEX = 4, 8
ONEDNN = 20_000  # a convolution's scratch, measured: 8 to 37 KB whatever its size
BLOCK, RECOMPUTED = 512, 1 << 22  # nn/attention.py: queries at once, pairs from which on a block is made again


@dataclass(frozen=True)
class Trace:
    """What one primitive allocates, in bytes.

    Backward needs the inputs `reads`, the output if `output`, and `kept` bytes more. `forward` and `backward` are what
    else lives at the worst moment of each (of backward: beside the gradients of output and inputs). `view`: the output
    is no storage of its own; `passes`: nor are the gradients of the inputs.
    """

    reads: tuple[int, ...] = ()
    output: bool = False
    kept: int = 0
    forward: int = 0
    backward: int = 0
    view: bool = False
    passes: bool = False


@dataclass(frozen=True)
class Call:
    """A primitive at work: bytes of its inputs `xs`, its output `y` and its parameters `w`, for `rows` rows."""

    node: Node
    xs: tuple[int, ...]
    y: int
    w: int
    rows: int
    given: tuple[TensorType, ...]

    @property
    def x(self) -> int:
        return self.xs[0]


Rule = Callable[[Call], Trace]

_BY_INPUT: Rule = lambda call: Trace(reads=(0,))  # noqa: E731
_BY_OUTPUT: Rule = lambda call: Trace(output=True)  # noqa: E731


def _many(call: Call) -> Trace:
    return Trace(forward=call.y if len(call.xs) > 2 else 0, passes=True)


def _mul(call: Call) -> Trace:
    between = (len(call.xs) - 2) * call.y
    return Trace(reads=tuple(range(len(call.xs))), kept=between, backward=call.y if between else 0)


def _reduce(call: Call) -> Trace:
    kind = call.node.attrs["kind"]
    if kind == "max":
        return Trace(kept=call.y * INDEX // FLOAT)
    return Trace(view=kind in ("first", "last"), passes=kind == "sum")


def _position(call: Call) -> Trace:
    angles = INDEX * prod(_numbers(call.given[0])) if call.node.attrs["kind"] == "sinusoidal" else 0
    return Trace(forward=angles, passes=True)


def _select(call: Call) -> Trace:
    holds = call.rows * prod(_numbers(call.given[0]))
    return Trace(kept=holds)


def _convolution(call: Call) -> Trace:
    """oneDNN's, with weights in an order of its own; one row alone is laid out as a matrix of windows."""
    window = window_of(call.node.attrs)
    uneven = window.before != window.after  # then the padding makes a copy, which is kept
    height, width, _ = _numbers(call.given[0])
    edges = (height + window.before[0] + window.after[0]) * (width + window.before[1] + window.after[1])
    padded = call.x // (height * width) * edges if uneven else 0
    columns = call.y // whole(call.node.attrs["size"]) * (call.x // (call.rows * height * width)) * prod(window.kernel)
    work = columns if call.rows == 1 else call.w + ONEDNN
    return Trace(reads=() if uneven else (0,), kept=padded, forward=work, backward=max(work, call.w))


def _pool(call: Call) -> Trace:
    return Trace(reads=(0,), kept=call.y * INDEX // FLOAT if call.node.attrs["kind"] == "max" else 0)


def _recurrent(call: Call) -> Trace:
    """The states of all positions, and what a step leaves of its gates."""
    steps, width = _numbers(call.given[0])
    size = whole(call.node.attrs["size"])
    states = FLOAT * call.rows * steps * size
    last = states if call.node.attrs["last"] else 0
    if call.node.op == "lstm":  # oneDNN's workspace and scratch, as measured
        workspace = FLOAT * call.rows * steps * (6 * max(width, size) + 9 * size) + 20480
        scratch = call.w + 4 * states + 12 * FLOAT * call.rows * size + 12856
        return Trace((0,), kept=last + workspace, forward=scratch, backward=scratch)
    if call.node.op == "gru":
        return Trace(kept=call.x + last + 7 * states, forward=3 * states, backward=3 * states)
    return Trace(kept=call.x + last + states, forward=states, backward=states)


def _sdpa(call: Call) -> Trace:
    """Fused: the sums of a row's weights are kept. With a bias that learns or capped scores: all weights."""
    attrs = call.node.attrs
    heads, (queries, _), keys = whole(attrs["heads"]), _numbers(call.given[0]), _numbers(call.given[1])[0]
    sums = FLOAT * call.rows * heads * queries
    weights = sums * keys
    copies = 2 * call.y
    if attrs["softcap"]:
        return Trace((0, 1, 2), kept=copies + 2 * weights, forward=2 * weights)
    if attrs["relative_buckets"]:
        table = FLOAT * heads * queries * keys
        return Trace(
            (0, 1, 2), kept=copies + weights + INDEX * queries * keys, forward=weights + weights // 4 + 2 * table
        )
    window, size = attrs["window"], queries
    if window is not None and max(queries, keys) > whole(window):
        size = min(queries, max(BLOCK, whole(window)))
    mask = FLOAT * size * min(keys, 2 * size) if len(call.xs) > 3 or size < queries or window is not None else 0
    blocks = ceil(queries / size)
    if blocks > 1 and queries * keys >= RECOMPUTED:
        return Trace((0, 1, 2), forward=call.y + mask, backward=2 * mask + 4 * call.y // blocks + sums)
    parts = call.y if blocks > 1 else 0
    return Trace((0, 1, 2), output=not parts, kept=sums + parts + blocks * mask)


def _gate(call: Call) -> Trace:
    attrs = call.node.attrs
    extra = 2 * call.y if attrs["balance"] or attrs["z_loss"] else 0
    return Trace(kept=5 * call.y + extra, forward=3 * call.y, backward=2 * call.y)


def _experts(call: Call) -> Trace:
    """Each position is copied to every expert that it goes to; of an expert's layers all values are kept."""
    attrs, share = call.node.attrs, _used(call)
    width = _numbers(call.given[0])[-1]
    pairs = int(call.x * share)
    hidden = pairs * whole(attrs["hidden"]) // width
    inner = hidden * (4 if attrs["gated"] else 2) - (hidden if attrs["activation"] == "linear" else 0)
    kept = 3 * pairs + inner + 2 * INDEX * pairs // (FLOAT * width)
    return Trace(kept=kept, forward=call.x, backward=max(pairs, call.w // 3))


def _used(call: Call) -> float:
    """How many experts a position goes to."""
    experts = _numbers(call.given[1])[-1]
    used = call.node.attrs["used"]
    return experts if used is None else min(experts, whole(used))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus", "embedding", "dense"), _BY_INPUT),
    **dict.fromkeys(("relu", "sigmoid", "tanh", "softmax"), _BY_OUTPUT),
    **dict.fromkeys(("rnn", "lstm", "gru"), _recurrent),
    **dict.fromkeys(("output", "reshape", "transpose"), lambda call: Trace(view=True, passes=True)),
    **dict.fromkeys(("scale", "dropout"), lambda call: Trace()),
    "layernorm": _BY_INPUT,
    "rmsnorm": lambda call: Trace((0,), kept=call.y, backward=2 * call.y),
    "batchnorm": lambda call: Trace((0,), kept=2 * call.x, forward=call.x, backward=call.x),
    "add": _many,
    "mul": _mul,
    "concat": lambda call: Trace(passes=True),
    "slice": lambda call: Trace(view=True),
    "reduce": _reduce,
    "matmul": lambda call: Trace((0, 1), forward=call.y),
    "select": _select,
    "position": _position,
    "rope": lambda call: Trace(forward=call.y, backward=call.y),
    "sdpa": _sdpa,
    "conv2d": _convolution,
    "pool2d": _pool,
    "top_k_gate": _gate,
    "experts": _experts,
}


@dataclass(eq=False)
class _Storage:
    """Bytes that several may hold."""

    size: int
    held: int = 0


class _Tape:
    """The bytes that live, and their peak."""

    def __init__(self, live: int) -> None:
        self.live = self.peak = live

    def hold(self, storage: _Storage) -> _Storage:
        if not storage.held:
            self.see(storage.size)
            self.live += storage.size
        storage.held += 1
        return storage

    def drop(self, storage: _Storage) -> None:
        storage.held -= 1
        if not storage.held:
            self.live -= storage.size

    def see(self, more: int) -> None:
        self.peak = max(self.peak, self.live + more)


def training_memory(graph: Graph, program: Program, rows: int | None = None) -> dict[str, int]:
    """Bytes by tier at the worst moment of a step of TorchModel over `rows` rows of data (program.batch_size).

    Sizes and axes must be bound. "weights" and "optimizer" are all of them; "gradients" is all gradients of parameters;
    "arena" is the rest of the peak; "total" is the peak. Updates of one batch on a CPU (accumulate=1, no checkpoint).
    """
    found = _Step(graph, program, rows)
    return found.tiers()


def inference_memory(graph: Graph, rows: int) -> int:
    """Bytes that suffice for a forward pass of `rows` rows: weights, inputs and what lives between layers."""
    run = _Network(graph, rows)
    tape = _Tape(run.weights)
    run.forward(tape, keep=run.outputs, saves=False)
    return tape.peak


class _Network:
    """The primitives of a graph with the bytes of their values, and the passes over them."""

    def __init__(self, graph: Graph, rows: int) -> None:
        self.rows, self.primitive = rows, primitives(graph)
        self.types = infer(self.primitive)
        for name, given in self.types.items():
            if not all(isinstance(dim, int) for dim in given.shape):
                hint = "bind its axes first: ir.check.bind_sizes(graph, {axis: length})"
                raise BackendError(f"the memory of {graph.name!r} depends on the length of {name!r}", hint=hint)
        self.outputs = {node.name for node in self.primitive.outputs}
        specs = param_specs(self.primitive)
        self.weights = FLOAT * sum(spec.size for spec in specs.values())
        self.trained = {name: FLOAT * spec.size for name, spec in specs.items() if spec.trained}
        self.last = {name: at for at, node in enumerate(self.primitive.nodes) for name in node.inputs}
        self.values: dict[str, _Storage] = {}
        self.saved: dict[str, list[_Storage]] = {}
        self.grads: dict[str, _Storage] = {}
        self.learns: set[str] = set()

    def size(self, name: str) -> int:
        return FLOAT * self.rows * prod(_numbers(self.types[name]))

    def own(self, node: Node) -> dict[str, int]:
        """The bytes of the trained parameters of a node by full name."""
        given = input_types(node, self.types)
        names = [f"{node.owner}.{suffix}" for suffix in OPS[node.op].params(node.attrs, given)]
        return {name: self.trained[name] for name in names if name in self.trained}

    def call(self, node: Node) -> Call:
        sizes = tuple(self.size(name) for name in node.inputs)
        given = tuple(self.types[name] for name in node.inputs)
        return Call(node, sizes, self.size(node.name), sum(self.own(node).values()), self.rows, given)

    def forward(self, tape: _Tape, keep: set[str], saves: bool) -> None:
        """Values of `keep` stay; `saves`: so does what backward needs."""
        for at, node in enumerate(self.primitive.nodes):
            if node.op == "input":
                self.values[node.name] = tape.hold(_Storage(self.size(node.name)))
                continue
            call = self.call(node)
            trace = RULES[node.op](call)
            held = [self.values[name] for name in node.inputs]
            tape.see(trace.forward + trace.kept + (0 if trace.view else call.y))
            self.values[node.name] = tape.hold(held[0] if trace.view else _Storage(call.y))
            if self.own(node) or any(name in self.learns for name in node.inputs):
                self.learns.add(node.name)
            if saves and node.name in self.learns:
                needed = [held[i] for i in trace.reads] + ([self.values[node.name]] if trace.output else [])
                self.saved[node.name] = [tape.hold(s) for s in (*needed, _Storage(trace.kept))]
            for name in {*node.inputs, node.name}:
                if self.last.get(name, -1) <= at and name not in keep and self._is_value(name):
                    tape.drop(self.values.pop(name))

    def _is_value(self, name: str) -> bool:
        return name in self.values and all(node.name != name for node in self.primitive.inputs)

    def _before(self, names: Iterable[str]) -> set[str]:
        """These nodes and all that they are computed from."""
        found = set(names)
        for node in reversed(self.primitive.nodes):
            if node.name in found:
                found |= set(node.inputs)
        return found

    def backward(self, tape: _Tape, parameters: dict[str, _Storage], moving: set[str]) -> None:
        """From the gradients in `grads` to those of the parameters."""
        for node in reversed(self.primitive.nodes):
            if node.name not in self.grads:
                continue
            call, after = self.call(node), self.grads.pop(node.name)
            trace = RULES[node.op](call)
            wanted = [name for name in node.inputs if name in self.learns]
            made = [after if trace.passes else _Storage(self.size(name)) for name in wanted]
            for storage in made:
                tape.hold(storage)
            for name, size in self.own(node).items():
                if name in moving:
                    tape.see(size + trace.backward if name in parameters else trace.backward)
                    parameters.setdefault(name, _Storage(size))
                    if not parameters[name].held:
                        tape.hold(parameters[name])
            tape.see(trace.backward)
            tape.drop(after)
            for storage in self.saved.pop(node.name, []):
                tape.drop(storage)
            for name, storage in zip(wanted, made, strict=True):
                self._add(tape, name, storage)

    def _add(self, tape: _Tape, name: str, storage: _Storage) -> None:
        """Another gradient of `name`: added in place where its memory is nobody else's."""
        before = self.grads.get(name)
        if before is None:
            self.grads[name] = storage
        elif before.held == 1:
            tape.drop(storage)
        else:
            self.grads[name] = tape.hold(_Storage(storage.size))
            tape.drop(before)
            tape.drop(storage)


class _Step(_Network):
    """A step of training: fixed bytes, the passes, and the update."""

    def __init__(self, graph: Graph, program: Program, rows: int | None) -> None:
        super().__init__(graph, min(program.batch_size, rows or program.batch_size))
        if program.accumulate != 1:
            raise BackendError("the memory of accumulated updates is not predicted on torch", hint="accumulate=1")
        heads = {name: final_activation(self.primitive, name) for name in self.outputs}
        self.program = program
        self.reads = {name: name if isinstance(program.objective, MSE) else place for name, (_, place) in heads.items()}
        self.places = {place for _, place in heads.values()} | set(heads)
        self.moving = set(_moving(program, self.trained))
        self.moments = num_moments(program.optimizer) * sum(self.trained[name] for name in self.moving)
        batch = sum(self.size(node.name) for node in self.primitive.inputs)
        self.targets = sum(_target_bytes(self, program.objective, name, kind) for name, (kind, _) in heads.items())
        whole = self.rows if rows is None else rows
        self.data = (batch + self.targets) * whole // self.rows + 2 * INDEX * whole

    def tiers(self) -> dict[str, int]:
        tape = _Tape(self.weights + self.moments + self.data + self.targets)
        tape.live += FLOAT * self.rows * sum(prod(_numbers(self.types[n.name])) for n in noisy(self.primitive))
        self.forward(tape, self.places, saves=True)
        self._losses(tape)
        parameters: dict[str, _Storage] = {}
        self.backward(tape, parameters, self.moving)
        gradients = sum(self.trained[name] for name in self.moving)
        tape.see(sum(self.trained[name] for name in self.moving - set(parameters)))
        largest = max((self.trained[name] for name in self.moving), default=0)
        update = 0 if isinstance(self.program.optimizer, SGD) else largest
        clipping = max(2 * largest, gradients + update) if self.program.clip_norm else 0  # norms are taken in float64
        tape.see(max(update, clipping))
        known = {"weights": self.weights, "gradients": gradients, "optimizer": self.moments}
        return {**known, "arena": tape.peak - sum(known.values()), "total": tape.peak}

    def _losses(self, tape: _Tape) -> None:
        """The loss of every output, and the gradients that it starts."""
        kept, squares = [], isinstance(self.program.objective, MSE)
        for place in self.reads.values():
            size = self.size(place)
            tape.see(2 * size if squares else size)
            kept.append(tape.hold(_Storage(size)))
        for name in list(self.values):
            if self._is_value(name):
                tape.drop(self.values.pop(name))
        for name in self.saved.keys() - self._before(self.reads.values()):
            for storage in self.saved.pop(name):  # what only an output that no loss reads needed
                tape.drop(storage)
        for place, storage in zip(self.reads.values(), kept, strict=True):
            tape.see((3 if squares else 2) * storage.size)
            self._add(tape, place, tape.hold(_Storage(storage.size)))
            tape.drop(storage)


def _target_bytes(run: _Network, objective: Objective, output: str, kind: str | None) -> int:
    """Of the targets of one output: a class number or as many floats as it has."""
    shape = _numbers(run.types[output])
    classes = kind != "sigmoid" and isinstance(objective, CrossEntropy | WeightedCrossEntropy)
    return run.rows * (INDEX * prod(shape[:-1]) if classes else FLOAT * prod(shape))


def _moving(program: Program, trained: Mapping[str, int]) -> list[str]:
    return [name for name in trained_names(program.frozen, trained) if name in trained]


def _numbers(given: TensorType) -> tuple[int, ...]:
    return tuple(dim for dim in given.shape if isinstance(dim, int))
