"""Single kernels of every instruction set that this processor has: bit-equal with their naive versions, elementary
functions within a few units in the last place of float64, random words equal to rng.py."""

import numpy as np
import pytest
from scipy.special import ndtr

from alexandra.rng import derive

_native = pytest.importorskip("alexandra._native", reason="the native engine is not built")
ISAS = _native.available_isas()
testing = _native.testing


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    return request.param


def normal(*shape: int, path: str = "x") -> np.ndarray:
    return derive(5, path).normal(int(np.prod(shape))).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("m", [1, 2, 5, 6, 13, 14, 15, 29])
@pytest.mark.parametrize(("k", "n"), [(1, 16), (7, 32), (33, 48), (100, 64)])
def test_the_tiled_product_is_the_naive_one_bit_for_bit(isa: str, m: int, k: int, n: int, across: bool) -> None:
    a = normal(*((k, m) if across else (m, k)), path="a")
    b = normal(k, n, path="b")
    for accumulate in (False, True):
        fast, naive = normal(m, n, path="c"), normal(m, n, path="c")
        testing.product(isa, a, b, fast, across, accumulate, False)
        testing.product(isa, a, b, naive, across, accumulate, True)
        np.testing.assert_array_equal(fast, naive)
        exact = (a.T if across else a).astype(np.float64) @ b + (normal(m, n, path="c") if accumulate else 0)
        np.testing.assert_allclose(fast, exact, atol=1e-5 * k)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 1000])
def test_the_striped_sum_is_the_naive_one_bit_for_bit(isa: str, n: int) -> None:
    x = normal(n)
    assert testing.sum_of_squares(isa, x, False) == testing.sum_of_squares(isa, x, True)
    assert testing.sum_of_squares(isa, x, False) == pytest.approx(float((x.astype(np.float64) ** 2).sum()), rel=1e-6)


def test_the_adam_step_is_the_naive_one_bit_for_bit(isa: str) -> None:
    fast = normal(4, 100)
    fast[3] = fast[3] ** 2
    naive = fast.copy()
    testing.adam(isa, fast, False)
    testing.adam(isa, naive, True)
    np.testing.assert_array_equal(fast, naive)


def wide(low: float, high: float, count: int = 200_000) -> np.ndarray:
    """Values evenly spread over the range, and as many again with magnitudes spread over the exponents."""
    even = low + (high - low) * derive(5, "even").uniform(count)
    sizes = np.exp2(-40 + 40 * derive(5, "sizes").uniform(count)) * max(abs(low), abs(high))
    signed = sizes * np.where(derive(5, "signs").uniform(count) < 0.5, -1, 1)
    return np.concatenate([even, signed[(signed >= low) & (signed <= high)]]).astype(np.float32)


# name -> (number in kernels.h, float64 oracle, range, units in the last place)
ELEMENTARY = {
    "exp": (0, np.exp, (-87.0, 88.7), 2.0),
    "log": (1, np.log, (1e-30, 1e30), 2.0),
    "tanh": (2, np.tanh, (-20.0, 20.0), 3.0),
    "expm1": (3, np.expm1, (-50.0, 0.0), 2.0),
    "normal cdf": (4, ndtr, (-4.0, 6.0), 9.0),
    "sigmoid": (5, lambda x: 1 / (1 + np.exp(-x)), (-80.0, 80.0), 4.0),
    "softplus": (6, lambda x: np.logaddexp(0, x), (-80.0, 80.0), 4.0),
}


@pytest.mark.parametrize("isa", ISAS)
def test_the_root_of_adam_is_correctly_rounded_for_every_mantissa(isa: str) -> None:
    y = np.empty(2**20, np.float32)
    for first in range(0x3F800000, 0x40800000, 2**20):  # 1 <= x < 4
        x = np.arange(first, first + 2**20, dtype=np.uint32).view(np.float32)
        testing.elementary(isa, 7, x, y)
        np.testing.assert_array_equal(y, np.sqrt(x))
    x = np.abs(wide(-1e38, 1e38))
    x = np.concatenate([x, x * np.float32(1e-38), [0.0, np.inf, 2.0**-96, 2.0**96]]).astype(np.float32)
    x[np.abs(x) < 2.0**-126] = 0.0  # the engine's subnormal numbers are 0
    y = np.empty_like(x)
    testing.elementary(isa, 7, x, y)
    np.testing.assert_array_equal(y, np.sqrt(x))


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_are_accurate(isa: str, name: str) -> None:
    which, oracle, (low, high), ulps = ELEMENTARY[name]
    x = wide(low, high)
    if name == "log":
        x = np.abs(x[x != 0])
    y = np.empty_like(x)
    testing.elementary(isa, which, x, y)
    exact = oracle(x.astype(np.float64))
    errors = np.abs(y - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    assert errors.max() <= ulps, f"{errors.max():.2f} ulp at {x[errors.argmax()]!r}"


def test_the_normal_cdf_keeps_its_tail(isa: str) -> None:
    x = -np.linspace(4, 12, 10_000).astype(np.float32)
    y = np.empty_like(x)
    testing.elementary(isa, 4, x, y)
    np.testing.assert_allclose(y, ndtr(x.astype(np.float64)), rtol=2e-5)


@pytest.mark.parametrize(
    ("name", "inputs", "wanted"),
    [
        ("exp", [-np.inf, -104.0, 0.0, 89.0, np.inf, np.nan], [0.0, 0.0, 1.0, np.inf, np.inf, np.nan]),
        ("log", [0.0, 1.0, np.inf, -1.0, np.nan], [-np.inf, 0.0, np.inf, np.nan, np.nan]),
        ("tanh", [-np.inf, -0.0, 0.0, np.inf, np.nan], [-1.0, -0.0, 0.0, 1.0, np.nan]),
        ("sigmoid", [-np.inf, 0.0, np.inf, np.nan], [0.0, 0.5, 1.0, np.nan]),
        ("softplus", [-np.inf, np.inf, np.nan], [0.0, np.inf, np.nan]),
        ("normal cdf", [-np.inf, 0.0, np.inf, np.nan], [0.0, 0.5, 1.0, np.nan]),
    ],
)
def test_elementary_functions_at_their_limits(isa: str, name: str, inputs: list[float], wanted: list[float]) -> None:
    x = np.array(inputs, np.float32)
    y = np.empty_like(x)
    testing.elementary(isa, ELEMENTARY[name][0], x, y)
    np.testing.assert_allclose(y, np.array(wanted, np.float32), rtol=1e-6)


def test_random_words_are_those_of_rng(isa: str) -> None:
    for stream in (derive(0, "a"), derive(3, "b", 7).at(2**32 - 1)):
        for start, count in ((0, 1), (3, 8), (5, 1000), (2**33 + 1, 77)):
            for naive in (False, True):
                words = np.empty(count, np.uint32)
                testing.philox_words(isa, (stream.key, stream.nonce, stream.lane), start, words, naive)
                np.testing.assert_array_equal(words, stream.words(count, start))
