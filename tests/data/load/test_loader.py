"""Every row once an epoch, in an order that the seed alone decides, exactly resumed at any world size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexandra.data.load.loader import Loader, LoaderSettings, token_rows
from alexandra.data.tokens.shards import publish_manifest, publish_shard
from alexandra.errors import ConfigError, DataError

ROWS, LENGTH = 90, 8


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    tokens = np.arange(ROWS * LENGTH, dtype="<u2").reshape(ROWS, LENGTH)
    segments = np.tile(np.array([1, 1, 1, 2, 2, 2, 2, 0], dtype=np.uint16), (ROWS, 1))
    shards = [
        publish_shard(tmp_path, n, tokens[a:b], segments[a:b], "mapped")
        for n, (a, b) in enumerate([(0, 40), (40, 41), (41, 90)])
    ]
    publish_manifest(tmp_path, shards, {"hash": "abc"})
    return tmp_path


def rows_of(loader: Loader, steps: int | None = None) -> list[list[int]]:
    out = []
    for number, batch in enumerate(loader, 1):
        out.append((batch.tokens[:, 0] // LENGTH).tolist())
        if number == steps:
            break
    return out


def settings(**given: int) -> LoaderSettings:
    return LoaderSettings(**{"batch": 12, "buffer": 16, "seed": 3, **given})


def test_each_epoch_has_every_row_once_in_its_own_order(corpus: Path) -> None:
    flat = sum(rows_of(Loader(corpus, settings(epochs=2))), [])
    assert sorted(flat[:ROWS]) == sorted(flat[ROWS:]) == list(range(ROWS))
    assert flat[:ROWS] != flat[ROWS:] and flat[:ROWS] != list(range(ROWS))
    assert flat == sum(rows_of(Loader(corpus, settings(epochs=2, prefetch=0))), [])
    assert flat != sum(rows_of(Loader(corpus, settings(epochs=2, seed=4))), [])


def test_a_large_buffer_mixes_shards_and_a_buffer_of_one_keeps_their_order(corpus: Path) -> None:
    narrow = sum(rows_of(Loader(corpus, settings(buffer=1))), [])
    wide = sum(rows_of(Loader(corpus, settings(buffer=1000))), [])
    assert sum(abs(a - b) == 1 for a, b in zip(narrow, narrow[1:], strict=False)) > 80
    assert sum(abs(a - b) == 1 for a, b in zip(wide, wide[1:], strict=False)) < 20


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_share_each_global_batch(corpus: Path, world: int) -> None:
    whole = rows_of(Loader(corpus, settings(epochs=2)))
    parts = [rows_of(Loader(corpus, settings(epochs=2), rank=rank, world=world)) for rank in range(world)]
    joined = [sum(step, []) for step in zip(*parts, strict=True)] if len({len(p) for p in parts}) == 1 else None
    if joined is not None:
        assert joined == whole
    else:  # only the short last batch may leave some ranks without rows
        assert [sum(step, []) for step in zip(*parts, strict=False)] == whole[: min(map(len, parts))]


@pytest.mark.parametrize(("stop", "before", "after"), [(0, 1, 2), (3, 1, 4), (8, 3, 2), (11, 2, 1)])
def test_state_resumes_exactly_at_another_world_size(corpus: Path, stop: int, before: int, after: int) -> None:
    whole = rows_of(Loader(corpus, settings(epochs=2)))
    states = []
    for rank in range(before):
        loader = Loader(corpus, settings(epochs=2), rank=rank, world=before)
        if stop:
            rows_of(loader, stop)
        states.append(loader.state())
    assert all(state == states[0] for state in states)
    parts = [
        rows_of(Loader(corpus, settings(epochs=2), rank=rank, world=after, state=states[0])) for rank in range(after)
    ]
    assert [sum(step, []) for step in zip(*parts, strict=False)] == whole[stop : stop + min(map(len, parts))]


def test_a_state_of_another_corpus_or_seed_is_refused(corpus: Path) -> None:
    state = Loader(corpus, settings()).state()
    with pytest.raises(ConfigError, match="made with seed = 3, not 4"):
        Loader(corpus, settings(seed=4), state=state)
    with pytest.raises(ConfigError, match="made with corpus"):
        Loader(corpus, settings(), state={**state, "corpus": "other"})
    with pytest.raises(ConfigError, match="12 rows does not split over 5 ranks"):
        Loader(corpus, settings(), world=5)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        Loader(corpus, settings(), rank=2, world=2)


def test_no_target_crosses_a_document(corpus: Path) -> None:
    batch = next(iter(Loader(corpus, settings(batch=6))))
    assert batch.mask.tolist() == [[1, 1, 0, 1, 1, 1, 0]] * 6
    assert (batch.targets[batch.mask == 1] == batch.tokens[batch.mask == 1] + 1).all()
    assert (batch.targets[batch.mask == 0] == 0).all()
    assert batch.segments.tolist() == [[1, 1, 1, 2, 2, 2, 2]] * 6


def test_arrays_are_shared_without_a_copy(corpus: Path) -> None:
    batch = token_rows(np.ones((2, 5), np.uint16), np.ones((2, 5), np.uint16))
    view = np.from_dlpack(batch.tokens)
    assert np.shares_memory(view, batch.tokens) and memoryview(batch.tokens).contiguous
    torch = pytest.importorskip("torch")
    assert torch.from_dlpack(batch.tokens).data_ptr() == batch.tokens.ctypes.data


def test_stopping_early_ends_the_reading_thread(corpus: Path) -> None:
    import threading

    before = threading.active_count()
    for _ in range(3):
        rows_of(Loader(corpus, settings(epochs=0)), 2)
    assert threading.active_count() == before


def test_an_error_while_reading_reaches_the_reader(corpus: Path) -> None:
    loader = Loader(corpus, settings())
    for path in corpus.glob("*.npy"):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        rows_of(loader)


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    publish_manifest(tmp_path, [], {"hash": "x"})
    with pytest.raises(DataError, match="has no rows"):
        Loader(tmp_path)
