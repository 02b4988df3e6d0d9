"""How a network's parameters lie on many devices: a plan from the graph alone, nothing is allocated.

Experts are spread over devices (expert parallel), the other matrices are cut along the axis that needs no exchange
before the next product (tensor parallel: q, k, v, up and gate by rows, out and down by columns; Shoeybi et al.,
"Megatron-LM", 2019), and what training adds is cut over all replicas (Zhao et al., "FSDP", 2023; Rajbhandari et al.,
"ZeRO", 2020). The plan is the first that fits, from no tensor parallelism and experts as far apart as they go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from alexandra.errors import GraphError
from alexandra.ir.check import param_specs
from alexandra.ir.expand import primitives
from alexandra.ir.graph import Graph
from alexandra.ir.ops import ParamSpec

ROWS, COLUMNS, EXPERTS, COPIED = "rows", "columns", "experts", "copied"
BY_COLUMNS = ("out", "down")  # what reads values that are cut along their last axis
FILL = 0.8  # of a device's memory; the rest is for values, buffers and fragments


@dataclass(frozen=True)
class Placement:
    """The parameters of one kind: how many tensors and values, how they are cut, values on one device."""

    kind: str
    tensors: int
    parameters: int
    cut: str
    per_device: int


@dataclass(frozen=True)
class Plan:
    """Degrees (their product with `data` is `devices`), what lies where, and bytes of weights and states a device."""

    devices: int
    data: int
    tensor: int
    expert: int
    placements: tuple[Placement, ...]
    bytes_per_device: int

    def lines(self) -> list[str]:
        """The plan as text."""
        head = f"{self.devices} devices = {self.data} data x {self.expert} expert x {self.tensor} tensor parallel"
        rows = [
            f"{p.kind:<14}{p.tensors:>7} tensors{p.parameters:>20,} parameters  {p.cut:<9}{p.per_device:>16,} a device"
            for p in self.placements
        ]
        return [head, *rows, f"{self.bytes_per_device / 2**30:.1f} GiB of weights and states a device"]


def sharding_plan(graph: Graph, devices: int, device_bytes: int, training: bool = True, value_bytes: int = 2) -> Plan:
    """The plan with the least tensor parallelism that fits; GraphError when none does.

    Weights have `value_bytes`; training adds a gradient of the same, and 12 bytes of float32 master and two moments,
    all cut over the replicas. Without training a replica holds its weights whole.
    """
    kinds = list(_kinds(graph))
    found: Plan | None = None
    for tensor, expert in _degrees(kinds, devices):
        plan = _plan(kinds, (devices, tensor, expert), training, value_bytes)
        if found is None or plan.bytes_per_device < found.bytes_per_device:
            found = plan
        if plan.bytes_per_device <= FILL * device_bytes:
            return plan
    assert found is not None
    need = f"{found.bytes_per_device / 2**30:.1f} GiB of {device_bytes / 2**30:.1f}"
    raise GraphError(
        f"network {graph.name!r} does not fit {devices} devices: the best plan needs {need} GiB on each",
        hint="give more devices (--devices)",
    )


def _kinds(graph: Graph) -> Iterator[tuple[str, str, list[ParamSpec]]]:
    """(kind, how it can be cut, the parameters) in the order of their first layer."""
    groups: dict[tuple[str, str], list[ParamSpec]] = {}
    primitive = primitives(graph)
    owners = {node.owner: node for node in primitive.nodes if node.op != "reshape"}
    for name, spec in param_specs(primitive).items():
        owner, _, suffix = name.rpartition(".")
        op, last = owners[owner].op if owner in owners else "", owner.rpartition(".")[2]
        if op == "experts":
            key = f"experts.{suffix}", EXPERTS
        elif len(spec.shape) < 2 or last == "router":
            key = "router" if last == "router" else "norms, biases", COPIED
        else:
            key = last.rstrip("0123456789").rstrip("_"), COLUMNS if last in BY_COLUMNS else ROWS
        groups.setdefault(key, []).append(spec)
    for (kind, cut), specs in groups.items():
        yield kind, cut, specs


Kinds = list[tuple[str, str, list[ParamSpec]]]


def _degrees(kinds: Kinds, devices: int) -> Iterator[tuple[int, int]]:
    """(tensor, expert) degrees that divide devices and experts: little tensor parallelism, much of the other, first."""
    experts = [spec.shape[0] for _, cut, specs in kinds if cut == EXPERTS for spec in specs]
    spread = [n for n in range(1, min(experts, default=1) + 1) if devices % n == 0 and all(e % n == 0 for e in experts)]
    for tensor in (1, 2, 4, 8):
        for expert in reversed(spread):
            if devices % (tensor * expert) == 0:
                yield tensor, expert


def _plan(kinds: Kinds, degrees: tuple[int, int, int], training: bool, value_bytes: int) -> Plan:
    devices, tensor, expert = degrees
    data = devices // (tensor * expert)
    placements, total = [], 0
    for kind, cut, specs in kinds:
        ways = {EXPERTS: tensor * expert, ROWS: tensor, COLUMNS: tensor, COPIED: 1}[cut]
        held = sum(ceil(spec.size / ways) for spec in specs)
        replicas = devices // ways  # that hold the same values, and share gradient and states among them
        kept = ceil(held / replicas) if training else held
        placements.append(Placement(kind, len(specs), sum(spec.size for spec in specs), cut, kept))
        total += kept * (2 * value_bytes + 12 if training else value_bytes)
    if training:  # the largest matrix is gathered whole, of experts those of the device
        apart = {EXPERTS: expert}
        total += value_bytes * max(specs[0].size // apart.get(cut, 1) for _, cut, specs in kinds)
    return Plan(devices, data, tensor, expert, tuple(placements), total)
