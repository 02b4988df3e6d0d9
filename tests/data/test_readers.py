"""Rows come from bundled sets, files relative to the task, and frames in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from alexandra.data import readers
from alexandra.errors import DataError
from alexandra.lang.task_parts import BUNDLED, DataSource


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_set_is_scikit_learns(name: str) -> None:
    table = readers.bundled(name)
    bunch = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    assert table.names == (*map(str, bunch.feature_names), "target")
    np.testing.assert_array_equal(np.stack([table[n].values for n in table.names[:-1]], axis=1), bunch.data)
    target = table["target"]
    if target.kind == "category":
        assert target.values.tolist() == bunch.target_names[bunch.target].tolist()
    else:
        np.testing.assert_array_equal(target.values, bunch.target)


def test_the_language_and_the_reader_know_the_same_sets() -> None:
    assert sorted(readers.BUNDLED) == sorted(BUNDLED)
    with pytest.raises(DataError, match="no bundled data set 'irish'\nknown: .*Did you mean 'iris'"):
        readers.bundled("irish")


def test_files_are_relative_to_the_task_and_frames_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/t.csv").write_text("a,b\n1,x\n2,y\n")
    from_file = readers.read(DataSource.csv("data/t.csv"), tmp_path)
    from_frame = readers.read(DataSource.frame({"a": [1, 2], "b": ["x", "y"]}), tmp_path)
    assert from_file.rows() == from_frame.rows()
    from_file.to_parquet(tmp_path / "t.parquet")
    assert readers.read(DataSource.parquet(tmp_path / "t.parquet"), Path()).rows() == from_file.rows()
    with pytest.raises(DataError, match="no file '.*/data/tt.csv'"):
        readers.read(DataSource.csv("data/tt.csv"), tmp_path)
    with pytest.raises(DataError, match="a curriculum source has no table"):
        readers.read(DataSource.curriculum((1, 2), 10), tmp_path)
