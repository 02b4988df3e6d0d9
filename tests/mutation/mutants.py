"""Bugs that are put into the training code one at a time, and the tests that must notice each of them.

    python tests/mutation/mutants.py [--per-file 10] [--only grpo] [--sample 20] [--seed 0] [--json out.json]

A mutant is a typed edit: a file, a span of its text, other text. Most come from the syntax tree (operators,
comparisons, constants, branches, calls, dropped statements), as many per file as `--per-file`, drawn by the seed; the
rest are public bugs written by hand in bugs.toml. Each runs in a copy of the tree, never in the tree itself, against
the narrow tests of its file (TARGETS); the first failure kills it, and so do TIMEOUT seconds of a processor. Workers
are forked from one process that has the libraries loaded. Edits that change nothing are listed in bugs.toml with the
reason and left out.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUGS = Path(__file__).with_name("bugs.toml")
SOURCE = "src/alexandra/"
# Their libraries are extras that the tests do without.
LEFT_OUT = {"TensorBoard", "MLflow", "WeightsAndBiases", "from_hub"}
TIMEOUT, PATIENCE = 60, 900.0  # seconds of processor and of wall time; the tests of one file take less than 10 alone

_LM, _TOKENS = "tests/train/lm/", "tests/objectives/test_token_objectives.py"
_STEPS, _ROLLOUTS = "tests/train/lm/test_steps.py", "tests/train/lm/test_rollout_steps.py"
_CREDIT = "tests/train/lm/test_credit.py"
TARGETS: dict[str, tuple[str, ...]] = {
    "objectives/tokens.py": (_TOKENS,),
    "objectives/preference.py": (_TOKENS,),
    "objectives/policy.py": (_TOKENS,),
    "objectives/advantages.py": ("tests/objectives/test_advantages.py", _CREDIT),
    "train/lm/batch.py": (f"{_LM}test_batch.py", f"{_LM}test_policy.py"),
    "train/lm/chat.py": (f"{_LM}test_chat.py",),
    "train/lm/examples.py": (f"{_LM}test_examples.py",),
    "train/lm/stage.py": (_STEPS,),
    "train/lm/likelihood.py": (_STEPS, f"{_LM}test_sources.py"),
    "train/lm/preference_stages.py": (_STEPS,),
    "train/lm/credit.py": (_CREDIT,),
    "train/lm/grpo.py": (_ROLLOUTS, _CREDIT),
    "train/lm/ppo.py": (_ROLLOUTS,),
    "train/lm/rollout.py": (_ROLLOUTS,),
    "train/lm/rewards.py": (f"{_LM}test_rewards.py", _CREDIT),
    "train/lm/scores.py": (_STEPS,),
    "train/lm/fed.py": (f"{_LM}test_fed.py", f"{_LM}test_policy.py"),
    "train/lm/policy.py": (f"{_LM}test_policy.py", f"{_LM}test_engines.py"),
    "train/lm/ragged.py": (f"{_LM}test_ragged.py",),
    "train/lm/sampling.py": (_ROLLOUTS,),
    "train/stages.py": ("tests/train/test_resume.py",),
    "train/checkpoint.py": ("tests/train/test_resume.py",),
    "train/watch.py": ("tests/train/test_resume.py",),
}


@dataclass(frozen=True)
class Mutant:
    """One edit of `path` (below src/alexandra): bytes start to stop become `new`."""

    path: str
    start: int
    stop: int
    new: str
    kind: str
    line: int
    old: str
    text: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What says that two edits are the same when lines move: path, the line's text, old, new."""
        return self.path, self.text, " ".join(self.old.split()), " ".join(self.new.split())

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line} {self.kind}: {' '.join(self.old.split())} -> {' '.join(self.new.split())}"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: killed, survived, or timeout (killed by the clock), and the first test that failed."""

    mutant: Mutant
    verdict: str
    by: str
    seconds: float

    @property
    def killed(self) -> bool:
        return self.verdict != "survived"


# --- edits from the syntax tree -----------------------------------------------------------------------------

_ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_CALLS = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "log_sigmoid": "sigmoid",
    "sigmoid": "log_sigmoid",
    "expm1": "exp",
    "exp": "expm1",
    "all": "any",
    "any": "all",
    "cumsum": "cumprod",
    "argmax": "argmin",
    "mean": "sum",
    "sum": "mean",
}


def edits(path: str, text: str) -> list[Mutant]:
    """Every edit of a file that the tables above know, in the order of the text."""
    data = text.encode()
    lines = [0]
    for line in data.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    found = []
    for node, new, kind in _changes(ast.parse(text)):
        start = lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        stop = lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        old = data[start:stop].decode()
        if new != old:
            line = node.lineno  # type: ignore[attr-defined]
            found.append(Mutant(path, start, stop, new, kind, line, old, text.splitlines()[line - 1].strip()))
    return sorted(found, key=lambda one: (one.start, one.stop, one.kind, one.new))


def _changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """(node, its new text, the kind of the edit); messages, types, defaults and docstrings are left alone."""
    for node in _inside(tree):
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            yield node, _text(ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)), "operator"
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
            ops = [_COMPARISONS[type(node.ops[0])](), *node.ops[1:]]
            yield node, _text(ast.Compare(node.left, ops, node.comparators)), "comparison"
        elif isinstance(node, ast.BoolOp):
            other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
            yield node, _text(ast.BoolOp(other, node.values)), "logic"
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
            yield node, _text(node.operand), "sign"
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            yield node, _other_constant(node.value), "constant"
        elif isinstance(node, ast.IfExp):
            yield node, _text(ast.IfExp(node.test, node.orelse, node.body)), "branches"
        elif isinstance(node, ast.If | ast.While):
            yield node.test, f"not {_text(node.test)}", "condition"
        elif isinstance(node, ast.comprehension) and node.ifs:
            yield node.ifs[0], "True", "filter"
        elif isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
            other_op = _ARITHMETIC[type(node.op)]()
            yield node, ast.unparse(ast.AugAssign(node.target, other_op, node.value)), "update"
            yield node, "pass", "dropped"
        elif _is_effect(node):
            yield node, "pass", "dropped"
        elif isinstance(node, ast.Call):
            yield from _other_call(node)


def _is_effect(node: ast.AST) -> bool:
    """A call for what it does, or an assignment to a part of something."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _other_call(node: ast.Call) -> Iterator[tuple[ast.AST, str, str]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in _CALLS:
        function = (
            ast.Attribute(node.func.value, _CALLS[name]) if isinstance(node.func, ast.Attribute)
            else ast.Name(_CALLS[name])
        )  # fmt: skip
        yield node, ast.unparse(ast.Call(function, node.args, node.keywords)), "call"
    if name == "where" and len(node.args) == 3:
        swapped = [node.args[0], node.args[2], node.args[1]]
        yield node, ast.unparse(ast.Call(node.func, swapped, node.keywords)), "branches"


def _other_constant(value: float) -> str:
    if isinstance(value, bool):
        return repr(not value)
    if isinstance(value, int):
        return repr(value + 1)
    return "1.0" if value == 0 else repr(value * 2)


def _text(node: ast.AST) -> str:
    return f"({ast.unparse(ast.fix_missing_locations(node))})"


def _inside(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes of the bodies of functions, without what cannot be a fault of the arithmetic."""
    tops = [node for node in tree.body if getattr(node, "name", "") not in LEFT_OUT]
    waiting: list[ast.AST] = [one for top in tops for one in ast.walk(top) if isinstance(one, ast.FunctionDef)]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
            continue
        seen.add(id(node))
        if isinstance(node, ast.FunctionDef):
            waiting += node.body
            continue
        yield node
        if isinstance(node, ast.AnnAssign):
            waiting += [node.value] if node.value is not None else []
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant | ast.Slice | ast.Tuple):
            waiting += [node.value, *(_slices(node.slice))]
        else:
            waiting += list(ast.iter_child_nodes(node))


def _slices(node: ast.AST) -> list[ast.AST]:
    """Bounds inside brackets; a lone index of a tuple or a string's is a constant like any other."""
    return [child for child in ast.walk(node) if isinstance(child, ast.expr) and not isinstance(child, ast.Tuple)]


# --- which of them ------------------------------------------------------------------------------------------


def written() -> tuple[list[Mutant], dict[tuple[str, str, str, str], str]]:
    """The public bugs of bugs.toml, and the edits that change nothing: Mutant.key -> why."""
    record = tomllib.loads(BUGS.read_text(encoding="utf-8"))
    found = []
    for bug in record["bug"]:
        text = (ROOT / SOURCE / bug["file"]).read_bytes()
        old = bug["old"].encode()
        if text.count(old) != 1:
            raise SystemExit(f"bugs.toml: {bug['old']!r} stands {text.count(old)} times in {bug['file']}, not once")
        at = text.index(old)
        line = text[:at].count(b"\n") + 1
        found.append(Mutant(bug["file"], at, at + len(old), bug["new"], bug["name"], line, bug["old"]))
    same = {(one["file"], one["line"], one["old"], one["new"]): one["why"] for one in record["equivalent"]}
    return found, same


def chosen(per_file: int, seed: int) -> list[Mutant]:
    """All written bugs, and `per_file` edits of every target that are known to change something."""

    def draw(one: Mutant) -> bytes:
        return hashlib.blake2b(f"{seed} {one.name} {one.start}".encode()).digest()

    bugs, same = written()
    found = list(bugs)
    for path in TARGETS:
        known = [
            one for one in edits(path, (ROOT / SOURCE / path).read_text(encoding="utf-8"))
            if one.key not in same
        ]  # fmt: skip
        found += sorted(sorted(known, key=draw)[:per_file], key=lambda one: one.start)
    return found


# --- running them -------------------------------------------------------------------------------------------


class Copy:
    """A copy of the tree that mutants are put into; byte code of the targets is not kept."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mutants-"))
        skip = shutil.ignore_patterns("*.so", "__pycache__", "build")
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, self.root / name, ignore=skip)
        for name in ("pyproject.toml",):
            shutil.copy(ROOT / name, self.root / name)
        for engine in (ROOT / SOURCE).glob("*.so"):
            shutil.copy(engine, self.root / SOURCE / engine.name)
        (self.root / "shared").symlink_to(ROOT.parent / "shared")

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, mutant: Mutant | None, targets: tuple[str, ...]) -> tuple[str, str, float]:
        """Verdict, the first test that failed, seconds. `None` runs the tree as it is."""
        place = original = None
        if mutant is not None:
            place = self.root / SOURCE / mutant.path
            original = place.read_bytes()
            place.write_bytes(original[: mutant.start] + mutant.new.encode() + original[mutant.stop :])
        began = time.monotonic()
        try:
            verdict, by = self._forked(targets)
        finally:
            if place is not None and original is not None:
                place.write_bytes(original)
        return verdict, by, time.monotonic() - began

    def _forked(self, targets: tuple[str, ...]) -> tuple[str, str]:
        log = self.root / "out.txt"
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT, TIMEOUT + 5))
            _pytest(self.root, log, targets)
        deadline = time.monotonic() + PATIENCE
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "timeout", ""
            time.sleep(0.02)
        text = log.read_text(errors="replace")
        by = next((line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
        code = os.waitstatus_to_exitcode(status)
        if code == 5:
            raise SystemExit(f"no test was collected in {targets}: {text[-400:]}")
        if code == -signal.SIGXCPU:
            return "timeout", ""
        return ("survived" if code == 0 else "killed"), by[:160]


def _pytest(root: Path, log: Path, targets: tuple[str, ...]) -> None:
    """In a child: the tests on the copy, quietly; never returns."""
    with log.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        os.chdir(root)
        sys.dont_write_bytecode = True
        sys.meta_path[:] = [one for one in sys.meta_path if "ScikitBuild" not in type(one).__name__]
        source = str(root / "src")
        sys.path[:] = [source, *(one for one in sys.path if Path(one) != ROOT / "src")]
        os.environ["PYTHONPATH"] = source
        import alexandra

        assert alexandra.__file__ is not None and alexandra.__file__.startswith(source), alexandra.__file__
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--no-header"]
        code = int(pytest.main([*options, *targets]))
        out.flush()
        os._exit(code)


def preload() -> None:
    """What every child would import again; nothing of the product."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[name] = "1"
    for name in ("numpy", "scipy.special", "pydantic", "lark", "safetensors.numpy", "pytest", "hypothesis", "torch"):
        try:
            __import__(name)
        except ImportError:  # an extra that is not there: its tests skip
            continue


def run_all(mutants: list[Mutant], tell: bool = True) -> list[Outcome]:
    """Every mutant against its targets. SystemExit when the untouched tree does not pass them."""
    preload()
    copy = Copy()
    try:
        for targets in sorted({TARGETS[one.path] for one in mutants}):
            verdict, by, seconds = copy.run(None, targets)
            if verdict != "survived":
                raise SystemExit(f"the tree itself fails {targets} ({verdict}): {by}")
            if tell:
                print(f"baseline {seconds:5.1f} s  {' '.join(targets)}", flush=True)
        found = []
        for mutant in mutants:
            outcome = Outcome(mutant, *copy.run(mutant, TARGETS[mutant.path]))
            found.append(outcome)
            if tell:
                print(f"{outcome.verdict:8} {outcome.seconds:5.1f} s  {mutant.name}", flush=True)
        return found
    finally:
        copy.close()


def summary(outcomes: list[Outcome]) -> dict[str, object]:
    """Counts, the survivors by name, and the slowest file."""
    killed = sum(one.killed for one in outcomes)
    return {
        "mutants": len(outcomes),
        "killed": killed,
        "rate": killed / len(outcomes),
        "by_timeout": sum(one.verdict == "timeout" for one in outcomes),
        "seconds": sum(one.seconds for one in outcomes),
        "survivors": [one.mutant.name for one in outcomes if not one.killed],
        "outcomes": [
            {"name": one.mutant.name, "verdict": one.verdict, "by": one.by, "seconds": round(one.seconds, 2)}
            for one in outcomes
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-file", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=0, help="run so many of them")
    parser.add_argument("--only", default="", help="a part of the mutant's name")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    mutants = [one for one in chosen(options.per_file, options.seed) if options.only in one.name]
    if options.sample:
        mutants = mutants[:: max(1, len(mutants) // options.sample)][: options.sample]
    if options.list:
        print("\n".join(one.name for one in mutants))
        return
    found = summary(run_all(mutants))
    print(f"{found['killed']} of {found['mutants']} killed ({found['rate']:.1%}) in {found['seconds']:.0f} s")
    for name in found["survivors"]:  # type: ignore[attr-defined]
        print(f"  survived: {name}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
