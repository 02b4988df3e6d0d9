"""Import, compilation and planning of the example networks take well under a second of the processor before the first
step (benchmarks/startup.py measures all of them; the margin here is for machines that are slower or busy)."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("alexandra._native", reason="the native engine is not built")

BENCHMARK = Path(__file__).parents[2] / "benchmarks/startup.py"


@pytest.mark.parametrize("name", ["mlp", "lenet", "lstm", "gpt2"])
def test_an_example_network_is_ready_for_its_first_step(name: str) -> None:
    spec = importlib.util.spec_from_file_location("startup", BENCHMARK)
    assert spec is not None and spec.loader is not None
    startup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(startup)
    found = startup.measure(startup.NETWORKS / f"{name}.nl", 2)
    assert found["before the first step"] < 2.5, found
    assert ("first step" in found) == (name != "gpt2"), found
