"""A task as data: what is to be learnt from which data, how it is checked, and within which bounds.

`Task.text()` is the TaskLang program that parses back to an equal Task. Only data and target are required:
`Task.of("customers.csv", "Churn")`. Missing parts stay empty here and are filled in one place, `resolved`.
Nothing here reads data or text.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path

from alexandra.lang.checks import canonical, check_condition, check_metric
from alexandra.lang.expr import IDENTIFIER, Condition, Fact, Gap, NoWorse, Number, facts_of, name_text, text
from alexandra.lang.lexis import quote
from alexandra.lang.task_parts import (
    Budget,
    DataSource,
    FamilyRef,
    Network,
    NetworkRef,
    Split,
    VerifierRef,
    check,
    check_known,
    check_name,
    repeated,
)
from alexandra.lang.task_steps import Behaviour, TargetEncoding

MetricRef = Fact

KINDS = ("binary", "multiclass", "regression", "curriculum")
FOLDS_BELOW_ROWS = 20_000
DEFAULT_SECONDS = 300.0

_DEFAULT_METRIC = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse", "curriculum": "exact"}
_DEFAULT_TAGS = {
    "binary": ("CLASSIFY", "TABULAR"),
    "multiclass": ("CLASSIFY", "TABULAR"),
    "regression": ("REGRESS", "TABULAR"),
    "curriculum": ("MATHS",),
}


@dataclass(frozen=True)
class Task:
    """See the module header. `folder` is where the task's file stands: relative paths start there."""

    data: DataSource
    target: str = ""
    name: str = ""
    about: str = ""
    tags: tuple[str, ...] = ()
    positive: str = ""
    drop: tuple[str, ...] = ()
    split: Split = Split()
    metric: MetricRef | None = None
    verify: tuple[VerifierRef, ...] = ()
    accept: Condition | None = None
    networks: tuple[Network, ...] = ()
    budget: Budget = Budget()
    protect: tuple[str, ...] = ()
    behaviour: Behaviour | None = None
    encode: TargetEncoding | None = None
    folder: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or _default_name(self.data))
        object.__setattr__(self, "tags", tuple(tag.upper() for tag in self.tags))
        for what, value in (("task", self.name), *(("tag", tag) for tag in self.tags)):
            check_name(what, value)
        if self.data.kind == "curriculum":
            bare = not (self.target or self.drop or self.positive or self.behaviour or self.encode)
            check(bare, "a curriculum has no columns", "leave out TARGET, POSITIVE, DROP, BEHAVIOUR and ENCODE")
        else:
            check(bool(self.target), "a task needs its TARGET column", "write TARGET and the column to predict")
            check(self.target not in self.drop, f"the target {self.target!r} stands in DROP")
        for what, values in (("TAGS", self.tags), ("DROP", self.drop), ("PROTECT", self.protect)):
            twice = repeated(values)
            check(twice is None, f"{what} names {twice!r} twice")
            check(all(values), f"{what} holds an empty name")
        self._check_steps()
        if self.metric is not None:
            check_metric(self.metric)
            object.__setattr__(self, "metric", canonical(self.metric.name, self.metric.kwargs))

    def _check_steps(self) -> None:
        if self.behaviour is not None:
            self.behaviour.check_target(self.target)
        for name in self.encode.columns if self.encode is not None else ():
            check(name != self.target, f"ENCODE names the target {name!r}")
            check(name not in self.drop, f"ENCODE names {name!r}, which stands in DROP")

    @classmethod
    def of(cls, data: object, target: str = "", name: str = "") -> Task:
        """The task that a path or a table and a target make; all else is default."""
        return cls(DataSource.of(data), target, name)

    def text(self) -> str:
        """The TaskLang program; `parse_task(task.text()) == task`."""
        return "\n".join([f"TASK {self.name}", "BEGIN", *(f"  {line}".rstrip() for line in self._lines()), "END", ""])

    def path(self, name: str) -> Path:
        """`name` as the task means it: relative to the folder of the task's file."""
        return Path(self.folder) / name

    def gaps(self) -> tuple[Gap, ...]:
        """The group gaps that ACCEPT asks for."""
        return tuple(fact for fact in facts_of(self.accept) if isinstance(fact, Gap))

    def _lines(self) -> list[str]:
        """The statements in their customary order; a statement may have several lines."""
        columns = [
            f"TARGET {name_text(self.target)}" if self.target else "",
            f"POSITIVE {quote(self.positive)}" if self.positive else "",
            f"DROP {', '.join(map(name_text, self.drop))}" if self.drop else "",
        ]
        statements = [
            f"ABOUT {quote(self.about)}" if self.about else "",
            f"TAGS {', '.join(self.tags)}" if self.tags else "",
            *joined([f"DATA {self.data.text()}", *filter(None, columns)]),
            self.behaviour.text() if self.behaviour else "",
            self.encode.text() if self.encode else "",
            self.split.text(),
            f"METRIC {text(self.metric)}" if self.metric else "",
            f"VERIFY {', '.join(ref.text() for ref in self.verify)}" if self.verify else "",
            f"ACCEPT {text(self.accept)}" if self.accept else "",
            f"NETWORKS {', '.join(network.text() for network in self.networks)}" if self.networks else "",
            f"BUDGET {self.budget.text()}" if self.budget.text() else "",
            f"PROTECT {', '.join(map(name_text, self.protect))}" if self.protect else "",
        ]
        return [line for statement in statements if statement for line in statement.split("\n")]


LINE_WIDTH = 100


def joined(statements: list[str], width: int = LINE_WIDTH) -> list[str]:
    """Statements that belong together on one line where they fit, otherwise one a line."""
    line = " ".join(statements)
    return [line] if len(line) <= width else statements


def _default_name(data: DataSource) -> str:
    stem = Path(data.location).name.split(".")[0] if data.location else data.kind
    name = re.sub(r"[^A-Za-z_0-9]+", "_", stem).strip("_") or data.kind
    return name if IDENTIFIER.match(name) else f"_{name}"


def resolved(task: Task, n_rows: int, kind: str) -> Task:
    """The task with every default filled in, given the number of distinct rows and the kind of target.

    kind is "binary", "multiclass", "regression" or "curriculum". Under 20,000 rows 5 folds, otherwise (and
    along time) 70/15/15. ACCEPT defaults to no_worse(baseline, margin=1%). A gap in ACCEPT brings
    power_dynamics with its column, because nothing else measures it. Also the last check of a task built in
    Python: an ACCEPT over unknown facts is refused here.
    """
    check_known("kind of target", kind, KINDS)
    if task.accept is not None:
        check_condition(task.accept, "accept")
    split = task.split
    if split.is_default and n_rows < FOLDS_BELOW_ROWS and not split.time:
        split = dataclasses.replace(split, folds=5)
    elif split.is_default:
        split = dataclasses.replace(split, fractions=(0.70, 0.15, 0.15))
    family = "curriculum" if kind == "curriculum" else "tabular"
    return dataclasses.replace(
        task,
        tags=task.tags or _DEFAULT_TAGS[kind],
        split=split,
        metric=task.metric or MetricRef(_DEFAULT_METRIC[kind]),
        verify=_with_gaps(task.verify or (VerifierRef("empirical"),), task.gaps()),
        accept=task.accept or NoWorse("baseline", Number(0.01, "%")),
        networks=task.networks or (FamilyRef(family),),
        budget=dataclasses.replace(task.budget, seconds=task.budget.seconds or DEFAULT_SECONDS),
    )


def _with_gaps(verify: tuple[VerifierRef, ...], gaps: tuple[Gap, ...]) -> tuple[VerifierRef, ...]:
    """power_dynamics over its own groups and the columns of `gaps`, where it stands, or last."""
    columns = tuple(dict.fromkeys(gap.column for gap in gaps))
    if not columns:
        return verify
    out = []
    for ref in verify:
        if ref.name == "power_dynamics":
            own = ref.kwargs.get("groups", ())
            groups = tuple(dict.fromkeys([*(own if isinstance(own, tuple) else (own,)), *columns]))
            ref = VerifierRef(ref.name, (("groups", groups), *(pair for pair in ref.params if pair[0] != "groups")))
        out.append(ref)
    if not any(ref.name == "power_dynamics" for ref in out):
        out.append(VerifierRef("power_dynamics", (("groups", columns),)))
    return tuple(out)


__all__ = [
    "Behaviour",
    "Budget",
    "DataSource",
    "FamilyRef",
    "MetricRef",
    "Network",
    "NetworkRef",
    "Split",
    "TargetEncoding",
    "Task",
    "VerifierRef",
    "resolved",
]
