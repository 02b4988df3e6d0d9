"""Hostile files: millions of damaged GGUF, safetensors and manifest inputs under sanitizers."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = ("fuzz/loaders.cpp", "gguf.cpp", "safetensors.cpp", "json_cursor.cpp", "quant.cpp", "bytes.cpp")
INPUTS = 5_000_000


@pytest.mark.slow
def test_readers_survive_five_million_inputs_in_time_and_memory(repository: Path, tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path / "fuzz_loaders"
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *flags, "-o", program, *SOURCES], cwd=repository / "csrc", check=True, timeout=900)
    made = subprocess.run([program, str(INPUTS), "1"], capture_output=True, text=True, timeout=3000)
    assert made.returncode == 0, made.stdout + made.stderr[-4000:]
    report = json.loads(made.stdout)
    assert report["inputs"] == INPUTS and report["slowest_seconds"] < 1.0
    assert INPUTS / 100 < report["taken"] < INPUTS / 2  # most are refused, and some get through to be walked
