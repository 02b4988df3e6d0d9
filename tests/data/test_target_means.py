"""Target encodings see the other folds only, in a table and in a task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alexandra.data.encoder import Encoder
from alexandra.data.target_means import FittedEncoding, encode_target
from alexandra.errors import DataError
from alexandra.lang.task_spec import DataSource, TargetEncoding, Task
from alexandra.rng import derive
from alexandra.tables import Table
from alexandra.train.crossfit import encode
from alexandra.train.prepare import prepare

N = 400
TARGET = derive(0, "y").below(2, N).astype(float)
TABLE = Table.from_any({"id": [f"c{i}" for i in range(N)], "big": ["even" if i % 2 else "odd" for i in range(N)]})


def test_a_category_with_a_row_each_tells_nothing() -> None:
    """Naive means would be the target itself."""
    encoded, fitted = encode_target(TABLE, TARGET, TargetEncoding(columns=("id", "big"), prior=1.0))
    assert abs(np.corrcoef(encoded["id"].numbers(), TARGET)[0, 1]) < 0.2
    naive = fitted.transform(TABLE)["id"].numbers()
    assert np.corrcoef(naive, TARGET)[0, 1] > 0.9
    new = Table.from_any({"id": ["unseen"], "big": ["odd"]})
    assert fitted.transform(new)["id"].numbers()[0] == pytest.approx(TARGET.mean())
    assert fitted.transform(new)["big"].numbers()[0] == pytest.approx(TARGET[::2].mean(), abs=0.01)


def test_copies_of_a_row_share_a_fold() -> None:
    table = Table.from_any({"id": ["a", "a", "b", "b", "c", "c", "d", "d"] * 10})
    target = np.array([1, 1, 0, 0, 1, 1, 0, 0] * 10, dtype=float)
    encoded, _ = encode_target(table, target, TargetEncoding(columns=("id",)))
    for level in "abcd":
        rows = [i for i, row in enumerate(table.rows()) if row["id"] == level]
        assert len({encoded["id"].numbers()[i] for i in rows}) == 1


def test_a_mean_is_the_one_that_the_definition_gives() -> None:
    """Against loops over the definition, for two targets and without a prior."""
    settings = TargetEncoding(columns=("big",), prior=3.0)
    both = np.stack([TARGET, np.arange(N) / N], axis=1)
    _, fitted = encode_target(TABLE, both, settings)
    rows = [i for i in range(N) if i % 2]
    for k in range(2):
        expected = (sum(both[i, k] for i in rows) + 3.0 * both[:, k].mean()) / (len(rows) + 3.0)
        assert fitted.means["big"]["even"][k] == pytest.approx(expected, abs=1e-12)
    table = fitted.transform(TABLE)
    assert table.names == ("id", "big 0", "big 1")
    assert FittedEncoding.from_dict(fitted.to_dict()) == fitted
    bare, _ = encode_target(TABLE, TARGET, replace(settings, columns=("id",), prior=0.0))
    assert np.isfinite(bare["id"].numbers()).all()
    with pytest.raises(DataError, match="3 targets for 400 rows"):
        encode_target(TABLE, np.zeros(3), settings)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_task_encodes_training_rows_out_of_fold_and_others_with_all(classes: int) -> None:
    """classes 0 is a regression. The city decides the target, the number of the row nothing."""
    cities = derive(1, "city").below(12, N)
    noise = derive(1, "noise").normal(N)
    values = cities * 0.5 + noise
    labels = ["low", "middle", "high"]
    cut = np.quantile(values, [1 / 3, 2 / 3] if classes == 3 else [0.5])
    y = values if not classes else np.array([labels[i] for i in np.searchsorted(cut, values)], dtype=object)
    table = Table.from_any({"city": [f"city {c}" for c in cities], "size": noise * 0 + np.arange(N) % 7, "y": y})
    task = Task(DataSource.frame(table), "y", encode=TargetEncoding(("city",)))
    data = prepare(task, table)
    train = data.parts[0].train
    encoder = encode(data, train)
    rows = data.table.take(train)
    training, all_of_it = encoder.transform_training(rows, data.encoding_target[train]), encoder.transform(rows)
    width = 3 if classes == 3 else 1
    assert sum(name.startswith("city") for name in encoder.feature_names() if ">" not in name) == width
    assert training.shape == all_of_it.shape == (len(train), encoder.width)
    assert np.abs(training - all_of_it).max() > 1e-4
    again = Encoder.from_dict(encoder.to_dict())
    np.testing.assert_array_equal(again.transform(rows), all_of_it)
    np.testing.assert_array_equal(again.transform(rows.take([5])), all_of_it[5:6])


def test_the_encoded_column_must_exist_and_be_a_feature() -> None:
    table = TABLE.replace("y", Table.from_any({"y": ["no", "yes"] * (N // 2)})["y"])
    with pytest.raises(DataError, match="has no column 'city'"):
        prepare(Task(DataSource.frame(table), "y", encode=TargetEncoding(("city",))), table)
