"""The parts of a task, frozen, each with its text: data source, split, verifiers, networks, budget.

A part refuses what it cannot mean with a TaskError; the reader of a text (task.py) adds the position.
Nothing here reads data.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from alexandra.errors import TaskError, suggest
from alexandra.lang.expr import IDENTIFIER, name_text, number_text
from alexandra.lang.lexis import quote

ParamItem = bool | int | float | str
ParamValue = ParamItem | tuple[ParamItem, ...]

SOURCES = ("csv", "parquet", "bundled", "curriculum", "frame")
BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
FRAMEWORKS = ("empirical", "contextual", "consistency", "power_dynamics", "utility", "evolution")
FAMILIES = ("tabular", "curriculum")
MAX_LAYERS, MAX_WIDTH = 64, 65536

_CHECK_FILE = re.compile(r"[^:\0\n]+\.py:[A-Za-z_][A-Za-z_0-9]*\Z")


def check(condition: bool, message: str, hint: str = "") -> None:
    """Refuse a value that no task may hold."""
    if not condition:
        raise TaskError(message, hint=hint)


def check_known(what: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a name outside a closed list."""
    if value not in known:
        raise TaskError(f"unknown {what} {value!r}", hint=suggest(value, known))


def check_name(what: str, name: str) -> None:
    """Refuse a name that is no identifier."""
    check(bool(IDENTIFIER.match(name)), f"a {what} is named by letters, digits and underscores, got {name!r}")


def repeated(values: Iterable[str]) -> str | None:
    """The first value that stands there a second time."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


@dataclass(frozen=True)
class DataSource:
    """Where the rows come from. Use the constructors: csv, parquet, bundled, curriculum, frame, of.

    `location` is the path or the bundled name; `levels` (first, last) and `count` belong to a curriculum;
    `value` holds the object of a frame and takes no part in comparisons.
    """

    kind: str
    location: str = ""
    levels: tuple[int, int] = (0, 0)
    count: int = 0
    value: object = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_known("data source", self.kind, SOURCES)
        if self.kind in ("csv", "parquet", "bundled"):
            what = "a name" if self.kind == "bundled" else "a path"
            check(bool(self.location), f"{self.kind} needs {what}", f'write {self.kind}("...")')
        if self.kind == "bundled":
            check_known("bundled data set", self.location, BUNDLED)
        if self.kind == "curriculum":
            first, last = self.levels
            check(1 <= first <= last, f"levels {first}..{last} are not a range that starts at 1 or above")
            check(self.count >= 1, f"a curriculum needs a count of items from 1 up, got {self.count}")

    @classmethod
    def csv(cls, path: str | Path) -> DataSource:
        return cls("csv", str(path))

    @classmethod
    def parquet(cls, path: str | Path) -> DataSource:
        return cls("parquet", str(path))

    @classmethod
    def bundled(cls, name: str) -> DataSource:
        """One of scikit-learn's sets that need no file."""
        return cls("bundled", name)

    @classmethod
    def curriculum(cls, levels: tuple[int, int] = (1, 1), count: int = 10_000) -> DataSource:
        """`count` generated items of the levels first .. last."""
        return cls("curriculum", levels=levels, count=count)

    @classmethod
    def frame(cls, value: object) -> DataSource:
        """A table in memory: anything that `tables.from_any` accepts."""
        return cls("frame", value=value)

    @classmethod
    def of(cls, data: object) -> DataSource:
        """A DataSource as it is; a path by its suffix; anything else as a frame."""
        if isinstance(data, DataSource):
            return data
        if isinstance(data, str | Path):
            return cls.parquet(data) if str(data).lower().endswith((".parquet", ".pq")) else cls.csv(data)
        return cls.frame(data)

    def text(self) -> str:
        if self.kind == "frame":
            return "frame"
        if self.kind == "curriculum":
            return f"curriculum(levels={self.levels[0]}..{self.levels[1]}, count={self.count})"
        return f"{self.kind}({quote(self.location)})"


@dataclass(frozen=True)
class Split:
    """How outcomes are measured; all empty means the default by the number of rows.

    folds     pooled out-of-fold outcomes of k folds
    fractions (train, validation, test), summing to 1
    time      column by which the parts follow each other;  group  column whose equal values stay together
    """

    folds: int | None = None
    fractions: tuple[float, float, float] | None = None
    time: str = ""
    group: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        in_order = "train=70% validation=15% test=15%"
        one_way = self.folds is None or self.fractions is None
        check(one_way, "a split is by folds or by train, validation and test, not both")
        check(not (self.time and self.group), "a split is by time or by group, not both")
        check(not self.time or self.folds is None, "folds do not keep the order of time", f"write {in_order}")
        check(self.folds is None or 2 <= self.folds <= 100, f"folds must be 2 to 100, got {self.folds}")
        check(0 <= self.seed < 2**63, f"a seed is a whole number from 0 up, got {self.seed}")
        if self.fractions is not None:
            check(len(self.fractions) == 3, f"fractions are train, validation and test, got {self.fractions!r}")
            shown = ", ".join(f"{share * 100:g}%" for share in self.fractions)
            right = all(0 < share < 1 for share in self.fractions)
            check(right, f"train, validation and test must each lie above 0% and below 100%, got {shown}")
            whole = math.isclose(sum(self.fractions), 1.0, abs_tol=1e-9)
            check(whole, f"train, validation and test must sum to 100%, got {shown}", f"for instance {in_order}")

    @property
    def is_default(self) -> bool:
        """Neither folds nor fractions are given."""
        return self.folds is None and self.fractions is None

    def text(self) -> str:
        """The whole statement; empty when nothing is set."""
        parts = [] if self.folds is None else [f"folds={self.folds}"]
        shares = zip(("train", "validation", "test"), self.fractions or (), strict=False)
        parts += [f"{name}={number_text(share, '%')}" for name, share in shares]
        parts += [f"{name}={name_text(value)}" for name, value in (("time", self.time), ("group", self.group)) if value]
        statement = [f"SPLIT {' '.join(parts)}"] if parts else []
        return " ".join(statement + [f"SEED {self.seed}"] * bool(self.seed))


@dataclass(frozen=True)
class VerifierRef:
    """A framework by name, or "file.py:function", with its parameters in order."""

    name: str
    params: tuple[tuple[str, ParamValue], ...] = ()

    def __post_init__(self) -> None:
        if not _CHECK_FILE.match(self.name):
            check_known("verifier", self.name, (*FRAMEWORKS, "file.py:function"))
        twice = repeated(name for name, _ in self.params)
        check(twice is None, f"parameter {twice!r} is given twice")
        for name, value in self.params:
            check(bool(IDENTIFIER.match(name)), f"a parameter's name is an identifier, got {name!r}")
            for item in value if isinstance(value, tuple) else (value,):
                check(not isinstance(item, float) or math.isfinite(item), f"{name} must be finite, got {item!r}")

    @property
    def kwargs(self) -> dict[str, ParamValue]:
        """The parameters as a dict."""
        return dict(self.params)

    def text(self) -> str:
        params = ", ".join(f"{name}={_value_text(value)}" for name, value in self.params)
        return f"{name_text(self.name)}({params})" if params else name_text(self.name)


def _value_text(value: ParamValue) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_value_text(item) for item in value)}]"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return name_text(value)
    return str(value) if isinstance(value, int) else number_text(value)


@dataclass(frozen=True)
class NetworkRef:
    """A candidate network: a NureonLang file, or the program itself (NETWORK name BEGIN ... END) in `program`."""

    file: str = ""
    program: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "program", dedented(self.program))
        check(bool(self.file) != bool(self.program), "a network is either a file or a program")
        if self.program:
            whole = program_spans(self.program) == [(0, len(self.program))]
            check(whole, "a program in a task is one whole network", "write NETWORK name BEGIN ... END")

    def text(self) -> str:
        return self.program or quote(self.file)


@dataclass(frozen=True)
class FamilyRef:
    """Candidates built by Alexandra: layers[0]..layers[1] hidden layers, each widths[0]..widths[1] wide."""

    name: str = "tabular"
    layers: tuple[int, int] = (0, 4)
    widths: tuple[int, int] = (32, 256)

    def __post_init__(self) -> None:
        check_known("family", self.name, FAMILIES)
        (low, high), (narrow, wide) = self.layers, self.widths
        check(0 <= low <= high <= MAX_LAYERS, f"{low}..{high} layers is not a range within 0..{MAX_LAYERS}")
        check(1 <= narrow <= wide <= MAX_WIDTH, f"{narrow}..{wide} wide is not a range within 1..{MAX_WIDTH}")

    def text(self) -> str:
        (low, high), (narrow, wide) = self.layers, self.widths
        return f"FAMILY {self.name}({low}..{high} layers, {narrow}..{wide} wide)"


Network = NetworkRef | FamilyRef


@dataclass(frozen=True)
class Budget:
    """Limits of one solve; None means the default (time) or no limit (memory)."""

    seconds: float | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        check(self.seconds is None or 0 < self.seconds < math.inf, f"time must be above 0, got {self.seconds}")
        check(self.bytes is None or 0 < self.bytes <= 2**53, f"memory must be from 1B to {2**53}B, got {self.bytes}B")

    def text(self) -> str:
        """The parameters; empty when nothing is set."""
        parts = [] if self.seconds is None else [f"time={number_text(self.seconds, 's')}"]
        return " ".join(parts + ([] if self.bytes is None else [f"memory={number_text(self.bytes, 'B')}"]))


_HEADER = re.compile(r"NETWORK\s+[A-Za-z_][A-Za-z_0-9]*\s+BEGIN\b", re.IGNORECASE)
_SKIPPED = r'"(?:\\.|[^"\\\n])*"?|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)'  # texts and comments, open ones to their end
_TOKEN = re.compile(_SKIPPED + r"|(?<![\w.=])(NETWORK|BEGIN|END)\b", re.IGNORECASE)


def program_spans(text: str) -> list[tuple[int, int]]:
    """Where networks are written in place, NETWORK name BEGIN ... END with nested blocks; an open one is left out."""
    spans = []
    start, depth, skip = -1, 0, 0
    for match in _TOKEN.finditer(text):
        word = (match.group(1) or "").upper()
        if not word or match.start() < skip:
            continue
        if start < 0:
            header = _HEADER.match(text, match.start()) if word == "NETWORK" else None
            if header:
                start, depth, skip = header.start(), 1, header.end()
            continue
        depth += {"BEGIN": 1, "END": -1}.get(word, 0)
        if depth == 0:
            spans.append((start, match.end()))
            start = -1
    return spans


def dedented(program: str) -> str:
    """A program without trailing blanks, surrounding blank lines and the common indentation below its first line."""
    lines = [line.rstrip() for line in program.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4).split("\n")]
    first, _, rest = "\n".join(lines).strip("\n").partition("\n")
    return f"{first.strip()}\n{textwrap.dedent(rest)}".strip()
