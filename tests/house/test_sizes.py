"""Files stay short, functions too; what is longer is listed in exceptions.toml with its reason, and nothing else is."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_ARGUMENTS = 6
SUFFIXES = {".py", ".cpp", ".h", ".hpp", ".inl", ".lark"}
FOLDERS = ("src", "csrc", "include", "tests", "benchmarks", "examples")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(root: Path) -> list[Path]:
    return sorted(p for folder in FOLDERS for p in (root / folder).rglob("*") if p.suffix in SUFFIXES)


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function with its dotted name inside the module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        else:
            yield from functions(child, prefix)


def is_command(path: str, function: Function) -> bool:
    """A command of the CLI: its parameters, all annotated for typer, are the command's options."""
    return path.startswith("src/alexandra/cli/") and not function.name.startswith("_")


def argument_count(function: Function) -> int:
    """Parameters that a caller may give: without self, cls and the bare *."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def length(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def oversized(root: Path) -> dict[str, str]:
    """What is over a limit: "path" or "path:function" -> what is too large."""
    found: dict[str, str] = {}
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MAX_FILE_LINES:
            found[name] = f"{lines} lines, at most {MAX_FILE_LINES}"
        if path.suffix == ".py" and name.startswith("src/"):
            for function_name, function in functions(ast.parse(text)):
                problems = []
                if (lines := length(function)) > MAX_FUNCTION_LINES:
                    problems.append(f"{lines} lines, at most {MAX_FUNCTION_LINES}")
                if (count := argument_count(function)) > MAX_ARGUMENTS and not is_command(name, function):
                    problems.append(f"{count} arguments, at most {MAX_ARGUMENTS}")
                if problems:
                    found[f"{name}:{function_name}"] = "; ".join(problems)
    return found


def test_everything_over_a_limit_is_listed_with_a_reason_and_nothing_else_is(repository: Path) -> None:
    listed = tomllib.loads((repository / "tests/house/exceptions.toml").read_text(encoding="utf-8"))["sizes"]
    found = oversized(repository)
    new = {name: problem for name, problem in found.items() if name not in listed}
    assert not new, "split by meaning, or list in tests/house/exceptions.toml with the reason:\n" + "\n".join(
        f"  {name}: {problem}" for name, problem in sorted(new.items())
    )
    stale = sorted(set(listed) - set(found))
    assert not stale, f"no longer over a limit, remove from tests/house/exceptions.toml: {stale}"
    assert all(len(reason) >= 20 for reason in listed.values()), "every exception says why in a sentence"


def test_the_scan_sees_long_files_long_functions_and_many_arguments(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    wide = ", ".join(f"a{i}" for i in range(MAX_ARGUMENTS + 1))
    (tmp_path / "src/long.py").write_text(f"def f():\n{body}\nclass C:\n    def g(self, {wide}): ...\n")
    (tmp_path / "src/file.py").write_text("x = 1\n" * (MAX_FILE_LINES + 1))
    found = oversized(tmp_path)
    assert set(found) == {"src/long.py:f", "src/long.py:C.g", "src/file.py"}
