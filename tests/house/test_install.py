"""What a wheel holds, with a compiler and without one; the Makefile and CI promise the same commands as the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = ("src", "csrc", "include", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE", ".gitignore")


def build_wheel(repository: Path, folder: Path, **environment: str) -> Path:
    """pip's wheel of a copy of the sources, built with what is in this environment, offline."""
    source = folder / "source"
    source.mkdir()
    for name in TREE:
        place = repository / name
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif place.exists():
            shutil.copy(place, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    variables = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX")} | environment
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    done = subprocess.run(
        [*command, "-w", str(folder), str(source)], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return next(folder.glob("*.whl"))


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def package_files(repository: Path) -> set[str]:
    """Every source and data file of the package, as a wheel names it."""
    package = repository / "src"
    files = (p for p in package.rglob("*") if p.is_file() and p.suffix not in (".so", ".part"))
    kept = (p for p in files if "egg-info" not in str(p) and "__pycache__" not in p.parts)
    return {p.relative_to(package).as_posix() for p in kept}


def test_without_a_compiler_the_install_is_pure_python(repository: Path, tmp_path: Path) -> None:
    wheel = build_wheel(repository, tmp_path, CC="/bin/false", CXX="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = contents(wheel)
    assert package_files(repository) <= names
    assert not [name for name in names if name.endswith(".so")], "a stale build in src must not be packed"


@pytest.mark.slow
def test_with_a_compiler_the_wheel_carries_the_engine(repository: Path, tmp_path: Path) -> None:
    wheel = build_wheel(repository, tmp_path)
    names = contents(wheel)
    assert package_files(repository) <= names
    assert [name for name in names if re.fullmatch(r"alexandra/_native\..*\.so", name)]
    assert not [name for name in names if name.startswith(("csrc", "tests"))]


def test_ci_runs_the_command_that_the_readme_promises(repository: Path) -> None:
    assert re.search(r"^make test$", (repository / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    readme = (repository / "README.md").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in readme
