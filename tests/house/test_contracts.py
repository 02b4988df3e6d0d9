"""The import contracts in pyproject.toml cover every module there is, and they do catch an import that breaks them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

# Top-level modules that may reach torch, through backends that run on it; all the others are the symbolic half.
MAY_REACH_TORCH = {"nn", "backends", "objectives", "continual", "train", "evolve", "serve", "jobs", "api", "cli"}
# Files inside those that must stay torch-free all the same: the light core runs the main job on them.
TORCH_FREE_FILES = {
    "backends": {
        "admit",
        "base",
        "bind",
        "decode",
        "decode_config",
        "decode_graph",
        "decode_plan",
        "decode_tokenizer",
        "foreign",
        "foreign_estimator",
        "gguf",
        "gguf_export",
        "huggingface",
        "native",
        "native_program",
        "onnx",
        "population",
        "quant",
        "reference",
        "stopping",
        "trust",
    },
    "objectives": {"advantages", "policy", "preference", "spec", "tokens"},
}
TRANSPORT = {"api", "cli"}
# lint-imports on ./src instead of the editable install, whose finder would come first.
LINT_HERE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]
sys.path.insert(0, "src")
from importlinter.cli import lint_imports_command
lint_imports_command(["--no-cache", "--no-logo"])
"""


def contracts(repository: Path) -> dict[str, dict[str, Any]]:
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    return {c["name"]: c for c in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}


def top_level(repository: Path) -> set[str]:
    """Names of the modules and folders directly under the package."""
    package = repository / "src/alexandra"
    files = {p.stem for p in package.glob("*.py") if not p.stem.startswith("__")}
    return files | {p.parent.name for p in package.glob("*/__init__.py")}


def torch_free(repository: Path) -> set[str]:
    names = {f"alexandra.{name}" for name in top_level(repository) - MAY_REACH_TORCH}
    for folder, stems in TORCH_FREE_FILES.items():
        for stem in stems:
            path = repository / "src/alexandra" / folder / stem
            if path.is_dir() or path.with_suffix(".py").exists():
                names.add(f"alexandra.{folder}.{stem}")
    return names


def test_the_torch_contract_names_the_whole_symbolic_half(repository: Path) -> None:
    listed = set(contracts(repository)["the symbolic half never imports torch"]["source_modules"])
    assert torch_free(repository) == listed


def test_the_transport_contract_names_everything_but_api_and_the_command_line(repository: Path) -> None:
    listed = set(contracts(repository)["only api knows a transport"]["source_modules"])
    assert {f"alexandra.{name}" for name in top_level(repository) - TRANSPORT} == listed


def test_only_folders_that_do_not_exist_yet_are_optional_layers(repository: Path) -> None:
    layers = contracts(repository)["layers: a module imports only from lines below its own"]["layers"]
    names = [name.strip() for line in layers for name in line.split("|")]
    optional = {name.strip("()") for name in names if name.startswith("(")}
    assert not optional & top_level(repository), "it exists now: take the parentheses off in pyproject.toml"


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("errors.py", "from alexandra.ir import graph", "layers"),
        ("records.py", "import alexandra.storage", "layers"),
        ("ir/graph.py", "def f():\n    import torch", "the symbolic half never imports torch"),
        ("train/loop.py", "import fastapi", "only api knows a transport"),
        ("astray.py", "", "layers"),
    ],
)
def test_a_breaking_import_is_caught(repository: Path, tmp_path: Path, module: str, line: str, contract: str) -> None:
    shutil.copytree(repository / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(repository / "pyproject.toml", tmp_path)
    path = tmp_path / "src/alexandra" / module
    path.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + f"\n{line}\n", encoding="utf-8")
    command = [sys.executable, "-c", LINT_HERE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False)
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text]
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(text.startswith(contract) for text in broken), done.stdout
