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
        testing.product(isa, a, b, fast, across, accumulate)
        testing.product(isa, a, b, naive, across, accumulate, "naive")
        np.testing.assert_array_equal(fast, naive)
        exact = (a.T if across else a).astype(np.float64) @ b + (normal(m, n, path="c") if accumulate else 0)
        np.testing.assert_allclose(fast, exact, atol=1e-5 * k)


def free(isa: str, a: np.ndarray, b: np.ndarray, across: bool = False, after: np.ndarray | None = None) -> np.ndarray:
    """a b with sums in the kernel's own order."""
    c = np.zeros((a.shape[across], b.shape[1]), np.float32) if after is None else after.copy()
    testing.product(isa, a, b, c, across, after is not None, "free")
    return c


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("m", [1, 16, 17, 47, 530])
@pytest.mark.parametrize(("k", "n"), [(1, 16), (31, 32), (33, 48), (160, 16), (161, 64), (700, 32)])
def test_a_free_product_is_as_near_as_one_in_order(isa: str, m: int, k: int, n: int, across: bool) -> None:
    a, b, before = normal(*((k, m) if across else (m, k)), path="a"), normal(k, n, path="b"), normal(m, n, path="c")
    rows = (a.T if across else a).astype(np.float64)
    size = np.abs(rows) @ np.abs(b)

    def error(c: np.ndarray) -> float:
        return float(np.sqrt((((c - rows @ b) / size) ** 2).mean()))

    in_order = np.zeros((m, n), np.float32)
    testing.product(isa, a, b, in_order, across, False)
    assert error(free(isa, a, b, across)) < max(1.1 * error(in_order), 9e-8)
    size, found = size + np.abs(before), free(isa, a, b, across, before)
    assert (np.abs(found - before - rows @ b) / size).max() < 5e-7


def test_a_free_product_keeps_every_bit_of_a_number(isa: str) -> None:
    """Three pieces are the whole number: times 1 it is itself down to 2^-110; what is not finite stays so."""
    sizes = np.exp2(derive(5, "sizes").uniform(48 * 64) * 180 - 80).astype(np.float32)
    a = np.concatenate([normal(48 * 64) * sizes, [np.finfo(np.float32).max, -1.0, 2.0**-110, 0.0] * 16])
    a = a.astype(np.float32).reshape(49, 64)
    one = np.eye(64, dtype=np.float32)
    np.testing.assert_array_equal(free(isa, a, one), a)
    np.testing.assert_array_equal(free(isa, np.ascontiguousarray(a.T), one, across=True), a)
    np.testing.assert_array_equal(free(isa, one, np.ascontiguousarray(a.T[:, :48])), a.T[:, :48])
    ones = np.ones((64, 16), np.float32)
    for bad in (np.inf, np.nan):
        a[3, 7] = bad
        assert np.flatnonzero(~np.isfinite(free(isa, a[:48], ones)).all(1)).tolist() == [3]


def test_a_free_product_does_not_depend_on_what_else_is_multiplied(isa: str) -> None:
    a, b = normal(75, 300, path="a"), normal(300, 96, path="b")
    whole = free(isa, a, b)
    for rows in (slice(0, 1), slice(5, 40), slice(31, 75)):
        np.testing.assert_array_equal(free(isa, a[rows], b), whole[rows])
    for columns in (slice(0, 16), slice(16, 96), slice(48, 64)):
        np.testing.assert_array_equal(free(isa, a, np.ascontiguousarray(b[:, columns])), whole[:, columns])


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
