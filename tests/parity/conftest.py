"""Every backend but the reference, by the table of bind.py; one whose compiled module is absent is skipped."""

import pytest

from alexandra.backends.bind import BACKENDS, available

# Keras brings TensorFlow, which `make test-slow` installs.
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name == "keras" else name for name in BACKENDS]


@pytest.fixture(params=[name for name in NAMES if name != "reference"])
def other(request: pytest.FixtureRequest) -> str:
    if reason := available(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> str:
    if reason := available(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param
