"""TaskLang: one text becomes one Task; every refusal is a LanguageError with file, line, column and a way out.

The grammar is task.lark; what a task may hold is refused by task_spec.py and task_parts.py, here with positions.
The inverse is `Task.text()`, the formatter is fmt.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from alexandra.errors import suggest
from alexandra.lang import task_parts
from alexandra.lang.clauses import DEFAULT_LIMITS, Reader, Tree, is_token, read_program
from alexandra.lang.expr import Number
from alexandra.lang.facts import FACTS, FactSpec
from alexandra.lang.lexis import Limits, Source, parse, string_value
from alexandra.lang.task_parts import (
    Budget,
    DataSource,
    FamilyRef,
    Network,
    NetworkRef,
    ParamValue,
    Split,
    VerifierRef,
    check_known,
    check_name,
)
from alexandra.lang.task_spec import MetricRef, Task
from alexandra.lang.task_steps import Behaviour, TargetEncoding
from alexandra.metrics import METRICS

MARK = "\ue000"  # stands for every character of a network written in place; task.lark knows it


def parse_task(
    text: str, file: str = "<text>", *, known_facts: Mapping[str, FactSpec] = FACTS, limits: Limits = DEFAULT_LIMITS
) -> Task:
    """The task that a TaskLang program describes; raises LanguageError. Paths in it start at the file's folder."""
    source = masked(Source.of(text, file))
    tree = parse("task", source, limits=limits)
    return TaskReader(source, known_facts, limits).task(tree)


def load_task(path: str | Path) -> Task:
    """`parse_task` of a file; StorageError when it cannot be read."""
    return parse_task(read_program(path), str(path))


@dataclass(frozen=True)
class Masked(Source):
    """A source whose networks in place are hidden from the parser; errors show the lines as written."""

    original: str = ""

    @cached_property
    def lines(self) -> list[str]:
        return self.original.split("\n")


def masked(source: Source) -> Masked:
    """The source with every NETWORK name BEGIN ... END replaced by marks, character by character."""
    pieces, done = [], 0
    for start, end in task_parts.program_spans(source.text):
        pieces += [source.text[done:start], re.sub(r"[^\n]", MARK, source.text[start:end])]
        done = end
    return Masked("".join([*pieces, source.text[done:]]), source.file, source.text)


class TaskReader(Reader):
    """Reads the statements of one task into the arguments of Task."""

    source: Masked

    def task(self, tree: Tree) -> Task:
        first, *more = tree.children
        if more:
            message = "one task per file: this is a second TASK"
            raise self.fail(more[0].children[0], message, "put it into a file of its own")
        name, *statements = (part for part in first.children if not is_token(part))
        seen: dict[str, Tree] = {}
        given: dict[str, Any] = {}
        for statement in statements:
            kind = str(statement.data)
            if kind in seen:
                line = self.span(seen[kind]).line
                raise self.fail(statement, f"a second {kind.upper()}: the first is in line {line}", "keep one of them")
            seen[kind] = statement
            given[kind] = _STATEMENTS[kind](self, statement)
        given["split"] = self._seeded(given.pop("split", Split()), given.pop("seed", None), seen)
        if "data" not in given:
            raise self.fail(name, "a task needs DATA", f"known sources: {', '.join(task_parts.SOURCES)}.")
        self.made(name, lambda: check_name("task", self.label(name)))
        folder = "" if self.source.file.startswith("<") else str(Path(self.source.file).parent)
        return self.made(seen.get("target", name), lambda: Task(name=self.label(name), folder=folder, **given))

    def _seeded(self, split: Split, seed: int | None, seen: Mapping[str, Tree]) -> Split:
        if seed is None:
            return split
        return self.made(seen["seed"], lambda: replace(split, seed=seed))

    # ------------------------------------------------------------ statements

    def about(self, tree: Tree) -> str:
        return string_value(self.source, tree.children[0])

    def names(self, tree: Tree) -> tuple[str, ...]:
        """TAGS, DROP, PROTECT: names, none of them twice."""
        out: dict[str, None] = {}
        for item in tree.children:
            name = self.label(item)
            name = name.upper() if tree.data == "tags" else name
            if name in out:
                raise self.fail(item, f"{str(tree.data).upper()} names {name!r} twice")
            out[name] = None
        return tuple(out)

    def single(self, tree: Tree) -> str:
        """TARGET."""
        return self.label(tree.children[0])

    def positive(self, tree: Tree) -> str:
        """The positive class as it stands in the data: a name, a text, or a number as written."""
        item = tree.children[0]
        if item.data == "label":
            return self.label(item)
        start, end = self.span(item)[2:]
        return re.sub(r"\s", "", self.source.text[start:end])

    def seed(self, tree: Tree) -> int:
        return self.whole(tree.children[0])

    def data(self, tree: Tree) -> DataSource:
        head, *items = tree.children
        kind = str(head).lower()
        self.made(head, lambda: check_known("data source", kind, task_parts.SOURCES))
        location = ""
        params: dict[str, tuple[Tree, Any]] = {}
        for item in (item.children[0] for item in items):
            if not is_token(item):
                allowed = ("levels", "count") if kind == "curriculum" else ()
                self._param(item, allowed, f"{kind}(...)", params)
            elif location or kind in ("curriculum", "frame"):
                raise self.fail(item, f"{kind} takes {'one text' if location else 'no text'}", _DATA_USAGE[kind])
            else:
                location = self.label(item)
        settings = self._curriculum(params) if kind == "curriculum" else {}
        return self.made(items[0] if items else head, lambda: DataSource(kind, location, **settings))

    def _curriculum(self, params: Mapping[str, tuple[Tree, Any]]) -> dict[str, Any]:
        settings: dict[str, Any] = {"levels": (1, 1), "count": 10_000}
        for name, (item, value) in params.items():
            is_range = name == "levels" and isinstance(value, tuple)
            if isinstance(value, bool) or not (is_range or isinstance(value, int)):
                noun = "a range" if name == "levels" else "a count"
                raise self.fail(item, f"{name} is {noun}, got {self._quoted(item)}", _DATA_USAGE["curriculum"])
            settings[name] = (value, value) if name == "levels" and isinstance(value, int) else value
        return settings

    def split(self, tree: Tree) -> Split:
        params: dict[str, tuple[Tree, Any]] = {}
        for item in tree.children:
            self._param(item, ("folds", "train", "validation", "test", "time", "group"), "SPLIT", params)
        shares: dict[str, float] = {}
        for name, (item, value) in params.items():
            if name in ("time", "group"):
                if not isinstance(value, str):
                    raise self.fail(item, f"{name} is a column, got {self._quoted(item)}")
            elif name == "folds":
                if not isinstance(value, int) or isinstance(value, bool):
                    raise self.fail(item, f"folds is a whole number, got {self._quoted(item)}")
            else:
                shares[name] = self._share(item)
        values = {name: value for name, (_, value) in params.items() if name not in shares}
        return self.made(tree, lambda: Split(fractions=_fractions(shares), **values))

    def metric(self, tree: Tree) -> MetricRef:
        head, *rest = tree.children
        self.made(head, lambda: check_known("metric", str(head), tuple(METRICS)))
        return self.fact_with_params(head, rest[0] if rest else None)

    def verify(self, tree: Tree) -> tuple[VerifierRef, ...]:
        out = []
        for item in tree.children:
            head, *items = item.children
            params: dict[str, tuple[Tree, Any]] = {}
            for param in items:
                self._param(param, None, self.label(head), params)
            out.append(self._verifier(head, {key: value for key, (_, value) in params.items()}))
        return tuple(out)

    def _verifier(self, head: Tree, params: Mapping[str, ParamValue]) -> VerifierRef:
        return self.made(head, lambda: VerifierRef(self.label(head), tuple(params.items())))

    def accept(self, tree: Tree) -> Any:
        return self.condition(tree.children[0], "accept")

    def networks(self, tree: Tree) -> tuple[Network, ...]:
        return tuple(self._network(item) for item in tree.children)

    def _network(self, item: Tree) -> Network:
        if item.data == "file":
            return NetworkRef(self.label(item))
        if item.data == "program":
            start, end = self.span(item)[2:]
            program = self.source.original[start:end]
            return self.made(item, lambda: NetworkRef(program=program))
        head, *extents = item.children
        given: dict[str, tuple[int, int]] = {}
        for extent in extents:
            size, unit = extent.children
            what = {"layers": "layers", "layer": "layers", "wide": "widths"}.get(str(unit).lower(), "")
            if not what or what in given:
                problem = "given twice" if what in given else "unknown"
                usage = "write FAMILY tabular(0..4 layers, 32..256 wide)"
                raise self.fail(unit, f"{str(unit)!r} is {problem} in a family", usage)
            given[what] = (self.whole(size),) * 2 if is_token(size) else self._range(size)
        return self.made(item, lambda: FamilyRef(str(head).lower(), **given))

    def budget(self, tree: Tree) -> Budget:
        params: dict[str, tuple[Tree, Any]] = {}
        for item in tree.children:
            self._param(item, ("time", "memory"), "BUDGET", params)
        given = {}
        for name, unit, example in (("time", "s", "5m"), ("memory", "B", "2GB")):
            if name in params:
                value = self._literal_number(params[name][0])
                if value is None or value.unit != unit:
                    what = "a duration" if unit == "s" else "a size"
                    item = params[name][0]
                    raise self.fail(item, f"{name} is {what}, got {self._quoted(item)}", f"write {name}={example}")
                given[name] = value.value
        memory = int(given["memory"]) if "memory" in given else None
        return self.made(tree, lambda: Budget(given.get("time"), memory))

    def behaviour(self, tree: Tree) -> Behaviour:
        columns, several, days = ("entity", "time", "amount"), ("distinct", "latest"), ("windows", "ahead")
        params: dict[str, tuple[Tree, Any]] = {}
        for item in tree.children:
            self._param(item, (*columns, "cutoff", *days, *several), "BEHAVIOUR", params)
        given: dict[str, Any] = {"entity": "", "time": "", "cutoff": ""}
        for name, (item, _) in params.items():
            parts = item.children if item.data == "list" else [item]
            if name in days:
                lengths = tuple(self._days(name, part) for part in parts)
                if name == "ahead" and len(lengths) != 1:
                    raise self.fail(item, f"ahead is one duration, got {self._quoted(item)}", "write ahead=90d")
                given[name] = lengths if name == "windows" else lengths[0]
                continue
            wrong = next((part for part in parts if part.data != "label"), None)
            if wrong is not None or (item.data == "list" and name not in several):
                what = "a text" if name == "cutoff" else "a column"
                usage = 'write cutoff="2023-10-01"' if name == "cutoff" else ""
                raise self.fail(wrong or item, f"{name} is {what}, got {self._quoted(wrong or item)}", usage)
            labels = tuple(self.label(part) for part in parts)
            given[name] = labels if name in several else labels[0]
        return self.made(tree, lambda: Behaviour(**given))

    def _days(self, name: str, item: Tree) -> int:
        value = self._literal_number(item)
        if value is None or value.unit != "s" or value.value % 86_400:
            raise self.fail(item, f"{name} counts whole days, got {self._quoted(item)}", f"write {name}=90d")
        return int(value.value) // 86_400

    def encode(self, tree: Tree) -> TargetEncoding:
        params: dict[str, tuple[Tree, Any]] = {}
        columns = tuple(self.label(item) for item in tree.children if item.data == "label")
        for item in (item for item in tree.children if item.data == "param"):
            self._param(item, ("prior", "folds"), "ENCODE", params)
        for name, (item, value) in params.items():
            if isinstance(value, bool) or not isinstance(value, int if name == "folds" else int | float):
                raise self.fail(item, f"{name} is a number, got {self._quoted(item)}", f"write {name}=20")
        given = {name: value for name, (_, value) in params.items()}
        return self.made(tree, lambda: TargetEncoding(columns, **given))

    # ------------------------------------------------------------ parameters

    def _param(
        self, item: Tree, allowed: tuple[str, ...] | None, owner: str, into: dict[str, tuple[Tree, Any]]
    ) -> None:
        """Read one name=value; `allowed` None takes any name."""
        name, *rest = item.children
        key = str(name)
        value = rest[-1]
        if allowed is not None and key not in allowed:
            hint = suggest(key, allowed) if allowed else "it takes none"
            raise self.fail(name, f"{owner} has no parameter {key!r}", hint)
        if key in into:
            raise self.fail(name, f"parameter {key!r} is given twice")
        into[key] = (value, self._value(value))

    def _value(self, item: Tree) -> ParamValue:
        match str(item.data):
            case "label":
                token = item.children[0]
                word = self.label(item)
                bare = getattr(token, "type", "") == "NAME"
                return word.upper() == "TRUE" if bare and word.upper() in ("TRUE", "FALSE") else word
            case "list":
                items = [self._value(part) for part in item.children]
                return tuple(part for part in items if not isinstance(part, tuple))
            case "range":
                return self._range(item)
        number = self._literal_number(item)
        assert number is not None
        written = item.children[-1]
        if getattr(written, "type", "") == "INT":
            return self.whole(written) * (-1 if len(item.children) > 1 else 1)
        return int(number.value) if number.unit == "B" else number.value

    def _range(self, item: Tree) -> tuple[int, int]:
        low, high = (self.whole(token) for token in item.children if token.type == "INT")
        return low, high

    def _literal_number(self, item: Tree) -> Number | None:
        if item.data != "literal":
            return None
        return self.number(item.children[-1], negative=len(item.children) > 1)

    def _share(self, item: Tree) -> float:
        value = self._literal_number(item)
        if value is None or value.unit not in ("", "%") or not 0 < value.value < 1:
            raise self.fail(item, f"a part lies above 0% and below 100%, got {self._quoted(item)}", "write train=70%")
        return value.value

    def _quoted(self, item: Tree) -> str:
        start, end = self.span(item)[2:]
        return repr(self.source.text[start:end][:40])


_DATA_USAGE = {
    "csv": 'write csv("file.csv")',
    "parquet": 'write parquet("file.parquet")',
    "bundled": 'write bundled("breast_cancer")',
    "curriculum": "write curriculum(levels=1..2, count=20000)",
    "frame": "write frame; the table is given in Python",
}


def _fractions(shares: Mapping[str, float]) -> tuple[float, float, float] | None:
    """(train, validation, test); one missing part is the remainder, exactly as the decimals say."""
    if not shares:
        return None
    names = ("train", "validation", "test")
    missing = [name for name in names if name not in shares]
    if len(missing) > 1:
        raise ValueError("SPLIT needs two of train, validation and test; the third is the remainder")
    if missing:
        rest = 1 - sum(Decimal(repr(value)) for value in shares.values())
        shares = {**shares, missing[0]: float(rest)}
    return shares["train"], shares["validation"], shares["test"]


_STATEMENTS: dict[str, Callable[[TaskReader, Any], Any]] = {
    "about": TaskReader.about,
    "tags": TaskReader.names,
    "data": TaskReader.data,
    "target": TaskReader.single,
    "positive": TaskReader.positive,
    "drop": TaskReader.names,
    "split": TaskReader.split,
    "seed": TaskReader.seed,
    "metric": TaskReader.metric,
    "verify": TaskReader.verify,
    "accept": TaskReader.accept,
    "networks": TaskReader.networks,
    "budget": TaskReader.budget,
    "protect": TaskReader.names,
    "behaviour": TaskReader.behaviour,
    "encode": TaskReader.encode,
}
