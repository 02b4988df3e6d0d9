"""What is installed is what constraints.txt pins, nothing with CUDA in it; what is imported is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

# Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "google": "protobuf",
    "grpc": "grpcio",
    "z3": "z3-solver",
    "importlinter": "import-linter",
    "llama_cpp": "llama-cpp-python",
    "mlflow": "mlflow-skinny",
    "tensorflow": "tensorflow-cpu",
    "PIL": "pillow",
    "yaml": "pyyaml",
}
# Brought by a declared dependency for good: rich brings pygments, typer brings click, pytest brings packaging.
BROUGHT = {"click": "typer", "packaging": "pytest", "grimp": "import-linter", "joblib": "scikit-learn"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project(repository: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return parsed


def pins(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").split()
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def declared(repository: Path, *extras: str) -> set[str]:
    settings = project(repository)
    texts = [*settings["dependencies"], *(t for extra in extras for t in settings["optional-dependencies"][extra])]
    return {normal(Requirement(text).name) for text in texts}


def imported(folder: Path) -> dict[str, Path]:
    """Third-party distributions that the files of a folder import -> one file that does."""
    found: dict[str, Path] = {}
    local = {folder.name, *(p.stem for p in folder.rglob("*.py"))}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for top in {name.split(".")[0] for name in names}:
                if top not in sys.stdlib_module_names | local and not top.startswith("alexandra"):
                    found[normal(DISTRIBUTIONS.get(top, BROUGHT.get(top, top)))] = path
    return found


def test_nothing_of_cuda_is_installed(repository: Path) -> None:
    installed = {normal(d.metadata["Name"]) for d in metadata.distributions()}
    bad = sorted(n for n in installed if n.startswith("nvidia-") or n in ("triton", "torchvision", "torchaudio"))
    assert not bad, (
        f"{bad} came with a CUDA build of torch, and torchvision breaks beside this torch: "
        "remove .venv and install the CPU build of torch first"
    )


def test_every_declared_dependency_is_pinned_inside_its_range(repository: Path) -> None:
    settings = project(repository)
    pinned = pins(repository)
    groups = [settings["dependencies"], *settings["optional-dependencies"].values()]
    for text in [text for group in groups for text in group]:
        requirement = Requirement(text)
        name = normal(requirement.name)
        assert name in pinned, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pinned[name]), f"{text} excludes the pin {pinned[name]}"


def test_everything_that_the_developers_environment_needs_is_pinned(repository: Path) -> None:
    """Walks the installed requirements of core, torch and dev: an unpinned one would drift under us."""
    pinned = pins(repository)
    queue = sorted(declared(repository, "torch", "dev"))
    seen: set[str] = set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            pytest.fail(f"{name} is not installed: make .venv/.ready")
        queue += [normal(r.name) for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    missing = sorted(seen - set(pinned) - {"setuptools", "pip", "wheel"})
    assert not missing, f"constraints.txt does not pin {missing}"
    drifted = {n: metadata.version(n) for n in seen & set(pinned) if metadata.version(n).split("+")[0] != pinned[n]}
    assert not drifted, f"installed at another version than pinned: {drifted}"


def test_every_import_of_the_package_is_declared(repository: Path) -> None:
    known = declared(repository, *project(repository)["optional-dependencies"])
    bad = {name: str(path) for name, path in imported(repository / "src").items() if name not in known}
    assert not bad, f"add it to pyproject.toml (and weigh it) or do without: {bad}"


def test_tests_import_only_what_make_test_installs(repository: Path) -> None:
    known = declared(repository, "torch", "dev")
    bad = {name: str(path) for name, path in imported(repository / "tests").items() if name not in known}
    assert not bad, f"the dev extra does not bring it: {bad}"


def test_every_extra_that_an_error_names_exists(repository: Path) -> None:
    extras = project(repository)["optional-dependencies"]
    for path in (repository / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "missing_extra":
                extra = node.args[1]
                assert isinstance(extra, ast.Constant) and extra.value in extras, f"{path}:{node.lineno}"
