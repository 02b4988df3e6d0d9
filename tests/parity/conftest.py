"""Every backend but the reference, by the table of bind.py; one whose compiled module is absent is skipped."""

import pytest

from alexandra.backends.bind import BACKENDS, available


@pytest.fixture(params=[name for name in BACKENDS if name != "reference"])
def other(request: pytest.FixtureRequest) -> str:
    if reason := available(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    if reason := available(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param
