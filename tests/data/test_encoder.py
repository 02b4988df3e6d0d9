"""Features are fitted on training rows only, exact per row, within their width, and survive JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder

from alexandra.data.encoder import WIDTH, Encoder
from alexandra.data.readers import bundled
from alexandra.errors import DataError, StorageError
from alexandra.tables import Table

rng = np.random.default_rng(3)
N = 4000


def mixed(n: int = N) -> Table:
    """One column of every sort."""
    income = np.where(rng.random(n) < 0.9, 0.0, rng.integers(1, 40, n) * 500.0)
    age = rng.normal(40, 12, n)
    age[::17] = np.nan
    start = np.datetime64("2020-01-01")
    return Table.from_any(
        {
            "age": age,
            "income": income,
            "hour": rng.integers(0, 24, n),
            "flag": rng.integers(0, 2, n),
            "city": rng.choice(np.array(["Rome", "Oslo", "Lima", ""], dtype=object), n),
            "member": rng.random(n) < 0.5,
            "day": start + rng.integers(0, 700, n).astype("timedelta64[D]"),
            "note": np.array([f"some words {i % 50} and number {i}" for i in range(n)], dtype=object),
        }
    )


@pytest.fixture(scope="module")
def table() -> Table:
    return mixed()


@pytest.fixture(scope="module")
def encoder(table: Table) -> Encoder:
    return Encoder.fit(table, table.names)


def features(encoder: Encoder, table: Table, prefix: str) -> np.ndarray:
    """The features whose name starts with `prefix`."""
    chosen = [i for i, name in enumerate(encoder.feature_names()) if name.startswith(prefix)]
    assert chosen, prefix
    return encoder.transform(table)[:, chosen]


def test_every_feature_is_finite_named_and_within_the_width(table: Table, encoder: Encoder) -> None:
    x = encoder.transform(table)
    assert x.dtype == np.float32 and x.shape == (N, encoder.width)
    assert np.isfinite(x).all() and np.abs(x).max() < 50
    assert len(set(encoder.feature_names())) == encoder.width <= WIDTH


def test_a_row_alone_gives_the_bytes_that_it_gives_among_others(table: Table, encoder: Encoder) -> None:
    x = encoder.transform(table)
    for row in (0, 17, N - 1):
        assert encoder.transform(table.take(np.array([row]))).tobytes() == x[row].tobytes()
        as_dict = Table.from_any(table.rows()[row], encoder.kinds)
        assert encoder.transform(as_dict).tobytes() == x[row].tobytes()


def test_json_gives_the_same_encoder_and_bytes(table: Table, encoder: Encoder) -> None:
    text = json.dumps(encoder.to_dict(), allow_nan=False)
    again = Encoder.from_dict(json.loads(text))
    assert again == encoder
    assert json.dumps(again.to_dict()) == text
    assert again.transform(table).tobytes() == encoder.transform(table).tobytes()


def test_fitting_twice_gives_the_same_encoder_and_row_order_does_not_matter(table: Table, encoder: Encoder) -> None:
    assert Encoder.fit(table, table.names) == encoder
    shuffled = Encoder.fit(table.take(rng.permutation(N)), table.names)
    np.testing.assert_allclose(shuffled.transform(table), encoder.transform(table), atol=1e-5)


def test_scores_are_the_clipped_standard_scores(table: Table, encoder: Encoder) -> None:
    values = table["age"].values
    present = values[~np.isnan(values)]
    clipped = np.clip(values, *np.quantile(present, [0.005, 0.995]))
    expected = (clipped - np.nanmean(clipped)) / np.nanstd(clipped)
    scores = features(encoder, table, "age")[:, 0]
    kept = ~np.isnan(values)
    np.testing.assert_allclose(scores[kept], expected[kept], atol=1e-5)
    np.testing.assert_array_equal(features(encoder, table, "age missing")[:, 0], np.isnan(values))


def test_the_piecewise_linear_code_is_the_papers() -> None:
    """Gorishniy et al. 2022, equation 1: below its bin 0, above it 1, inside linear; the sum locates the value."""
    values = rng.exponential(size=N)
    table = Table.from_any({"v": values, "w": values})
    encoder = Encoder.fit(table, ["v"])
    code = features(encoder, table, "v >")
    edges = KBinsDiscretizer(16, encode="ordinal", strategy="quantile", quantile_method="linear").fit(values[:, None])
    knots = edges.bin_edges_[0]
    expected = np.clip((values[:, None] - knots[:-1]) / np.diff(knots), 0, 1)
    np.testing.assert_allclose(code, expected, atol=1e-6)
    np.testing.assert_allclose(np.interp(code.sum(axis=1), np.arange(17), knots), values, rtol=1e-3)


def test_few_distinct_values_get_a_knot_each_and_a_dominated_column_its_exact_values(
    table: Table, encoder: Encoder
) -> None:
    assert features(encoder, table, "hour >").shape[1] == 23
    assert not any(name.startswith("flag >") for name in encoder.feature_names())
    zero = features(encoder, table, "income = 0")[:, 0]
    np.testing.assert_array_equal(zero, table["income"].values == 0)
    assert features(encoder, table, "income =").shape[1] >= 30


def test_categories_are_one_hot_as_scikit_learns(table: Table, encoder: Encoder) -> None:
    expected = OneHotEncoder(sparse_output=False).fit_transform(table["city"].values.astype(str)[:, None])
    names = ["city = Lima", "city = Oslo", "city = Rome", "city missing"]
    ours = np.concatenate([features(encoder, table, name) for name in names], axis=1)
    np.testing.assert_array_equal(ours, expected[:, [1, 2, 3, 0]])


def test_unseen_and_missing_values_fall_back_without_error(table: Table, encoder: Encoder) -> None:
    row = {
        "age": None,
        "income": 1e300,
        "hour": -5,
        "flag": None,
        "city": "Paris",
        "member": None,
        "day": None,
        "note": None,
    }
    x = encoder.transform(Table.from_any(row))
    assert np.isfinite(x).all()
    unseen = features(encoder, Table.from_any(row), "city")[0]
    np.testing.assert_allclose(unseen, features(encoder, table, "city").mean(axis=0), atol=1e-5)


def test_rare_levels_share_other_and_many_levels_keep_a_frequency() -> None:
    values = np.array([f"v{int(i)}" for i in rng.zipf(1.3, N) % 2000], dtype=object)
    table = Table.from_any({"shop": values})
    encoder = Encoder.fit(table, ["shop"], width=64)
    names = encoder.feature_names()
    assert names[-2:] == ["shop other", "shop frequency"] and len(names) <= 66
    x = encoder.transform(table)
    np.testing.assert_array_equal(x[:, :-1].sum(axis=1), 1.0)
    most, rare = values == names[0].removeprefix("shop = "), x[:, -2] == 1.0
    assert x[most, -1].min() == 1.0 and x[rare, -1].max() < 1.0
    new = encoder.transform(Table.from_any({"shop": ["never seen"]}))[0]
    assert new[-2] == 1.0 and new[-1] == 0.0


def test_words_share_features_by_seed_and_equal_texts_are_equal(table: Table) -> None:
    texts = Table.from_any({"note": ["alpha beta", "Beta, ALPHA!", "gamma"] * 20}, {"note": "text"})
    encoder = Encoder.fit(texts, ["note"])
    x = encoder.transform(texts)
    np.testing.assert_array_equal(x[0], x[1])
    assert (x[0] != x[2]).any()
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 0.5 * encoder.width**0.5, rtol=1e-5)
    assert (Encoder.fit(texts, ["note"], seed=1).transform(texts) != x).any()


def test_images_keep_one_feature_a_pixel_on_one_scale() -> None:
    digits = bundled("digits").drop(["target"])
    encoder = Encoder.fit(digits, digits.names)
    x = encoder.transform(digits)
    assert encoder.width == 64
    raw = np.stack([digits[name].values for name in digits.names], axis=1)
    np.testing.assert_allclose(x, (raw - raw.mean()) / raw.std(), atol=1e-6)


@pytest.mark.parametrize(
    ("columns", "rows", "width"), [(200, 3000, 512), (40, 3000, 512), (30, 569, 512), (5, 100, 512)]
)
def test_codes_give_way_to_the_width_and_to_few_rows(columns: int, rows: int, width: int) -> None:
    table = Table.from_any(rng.normal(size=(rows, columns)))
    encoder = Encoder.fit(table, table.names)
    assert encoder.width <= max(width, columns)
    if rows < 512 or columns > 100:
        assert encoder.width == columns


def test_standard_mode_has_scores_only(table: Table) -> None:
    encoder = Encoder.fit(table, ["age", "income", "city"], mode="standard")
    assert encoder.feature_names()[:3] == ["age", "income", "age missing"]
    assert set(encoder.feature_names()[3:]) == {"city = Rome", "city = Oslo", "city = Lima", "city missing"}
    assert encoder.width == 7


@pytest.mark.parametrize("values", [[5.0] * 300, [None] * 300, [1e300, -1e300] * 150, [1e-300, 2e-300] * 150])
def test_degenerate_numbers_stay_finite(values: list[Any]) -> None:
    table = Table.from_any({"v": values, "w": list(range(300))}, {"v": "number"})
    with np.errstate(all="raise", under="ignore"):
        x = Encoder.fit(table, ["v", "w"]).transform(table)
    assert np.isfinite(x).all() and np.abs(x).max() < 1e3


def test_only_training_rows_decide() -> None:
    values = np.concatenate([rng.normal(size=500), [1e6]])
    table = Table.from_any({"v": values})
    trained = Encoder.fit(table.take(np.arange(500)), ["v"])
    assert trained == Encoder.fit(Table.from_any({"v": values[:500]}), ["v"])
    assert trained.transform(table)[500, 0] < 4


def test_columns_that_are_absent_are_named(encoder: Encoder) -> None:
    with pytest.raises(
        DataError,
        match=r"has no column 'age' and 6 more that the model was trained on\ncolumns: Age, hour. Did you mean 'Age'",
    ):
        encoder.transform(Table.from_any({"Age": [1], "hour": [2]}))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: Encoder.fit(t, []), "at least one feature"),
        (lambda t: Encoder.fit(t, ["hours"]), "no column 'hours'"),
        (
            lambda t: Encoder.fit(t, ["hour"], mode="standart"),
            "unknown encoder mode 'standart'\nknown: piecewise, standard. Did you mean 'standard'",
        ),
    ],
)
def test_wrong_calls_are_refused(table: Table, call: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call(table)


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"numbers": [{"type": "spline"}]}, {"others": [{"type": "text"}]}, {"features": 3}]
)
def test_a_damaged_encoder_is_refused(encoder: Encoder, change: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="encoder"):
        Encoder.from_dict({**encoder.to_dict(), **change})


@given(
    st.lists(st.one_of(st.none(), st.floats(width=64, allow_nan=False, allow_infinity=False)), min_size=1, max_size=30)
)
def test_any_numbers_give_finite_features_that_grow_with_the_value(values: list[float | None]) -> None:
    table = Table.from_any({"v": values * 20}, {"v": "number"})
    x = Encoder.fit(table, ["v"]).transform(table)
    assert np.isfinite(x).all()
    order = np.argsort([v for v in values if v is not None], kind="stable")
    scores = x[[i for i, v in enumerate(values) if v is not None], 0][order]
    assert (np.diff(scores) >= 0).all()


def test_fifty_thousand_rows_are_encoded_by_columns_not_by_rows() -> None:
    """A quarter of a second of processor time; a loop over rows takes minutes."""
    table = mixed(48_000).drop(["note"])
    wide = Table({f"{name}{i}": col for i in range(2) for name, col in table.columns.items()}, "wide")
    began = time.process_time()
    Encoder.fit(wide, wide.names).transform(wide)
    assert time.process_time() - began < 15.0
