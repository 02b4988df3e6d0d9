"""No source of the package unpickles, evaluates text, seeds a global generator, or uses the package's own surface."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "random"}
FORBIDDEN_CALLS = {
    "eval": "parse it",
    "exec": "run it in the sandbox",
    "__import__": "use importlib with a literal table",
    "os.system": "use subprocess with a list",
    "torch.load": "read safetensors",
    "joblib.load": "read safetensors or JSON",
    "pickle.load": "read safetensors or JSON",
    "pickle.loads": "read safetensors or JSON",
    "yaml.load": "use TOML or JSON",
    "np.random.seed": "use rng.derive",
    "numpy.random.seed": "use rng.derive",
    "torch.manual_seed": "use a torch.Generator seeded by rng.derive",
}


def dotted(node: ast.AST) -> str:
    """`a.b.c` as text; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return ""


def call_problem(call: ast.Call) -> str:
    name = dotted(call.func)
    if name in FORBIDDEN_CALLS:
        return f"{name}(): {FORBIDDEN_CALLS[name]}"
    keywords = {k.arg: k.value for k in call.keywords}
    allowed = keywords.get("allow_pickle")
    if isinstance(allowed, ast.Constant) and allowed.value:
        return "allow_pickle=True: arrays are read without pickle"
    shell = keywords.get("shell")
    if name.startswith("subprocess.") and isinstance(shell, ast.Constant) and shell.value:
        return "shell=True: pass a list"
    if name.endswith("random.default_rng") and not call.args and not call.keywords:
        return "default_rng() without a seed: use rng.derive"
    return ""


def import_problem(node: ast.Import | ast.ImportFrom, modules: set[str]) -> str:
    names = [alias.name for alias in node.names]
    if isinstance(node, ast.Import):
        if "alexandra" in names:
            return "import alexandra: name the module, the lazy surface is for users"
        bad = [name for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
    else:
        if node.module == "alexandra" and (public := [n for n in names if n not in modules | {"__version__"}]):
            return f"from alexandra import {public}: name the module, the lazy surface is for users"
        bad = [node.module] if (node.module or "").split(".")[0] in FORBIDDEN_MODULES else []
    return f"import of {bad}: not in this package" if bad else ""


def problems(path: Path, modules: set[str]) -> list[str]:
    """`line: what` for each forbidden construct in one file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ""
        if isinstance(node, ast.Call):
            text = call_problem(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            text = import_problem(node, modules)
        if text:
            found.append(f"{path}:{node.lineno}: {text}")
    return found


def test_no_source_does_what_a_hostile_file_could_use(repository: Path) -> None:
    package = repository / "src/alexandra"
    modules = {p.name.split(".")[0] for p in package.iterdir()} | {"_native"}
    init = package / "__init__.py"
    found = [text for path in sorted(package.rglob("*.py")) if path != init for text in problems(path, modules)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "import torch\ntorch.load('x')",
        "np.load(f, allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "np.random.default_rng()",
        "import alexandra as ax",
        "from alexandra import solve",
    ],
)
def test_the_scan_finds(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert problems(path, {"errors"})


@pytest.mark.parametrize("source", ["re.compile('x')", "model.eval()", "from alexandra import errors", "retrieval(1)"])
def test_the_scan_leaves_alone(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert not problems(path, {"errors"})
