"""Batches: every learnt token of every document appears once, with the right target, padded or packed."""

import numpy as np
import pytest

from alexandra.errors import DataError
from alexandra.rng import derive
from alexandra.train.lm.batch import Row, TokenBatch, cut, packed, padded


def rows(seed: int, count: int = 20) -> list[Row]:
    found = []
    for i in range(count):
        stream = derive(seed, "row", i)
        length = 2 + int(stream.below(12, 1)[0])
        tokens = (100 * (i + 1) + np.arange(length)).tolist()
        found.append(Row(tokens, stream.at(1).below(2, length).tolist()))
    return found


def learnt_pairs(given: list[Row]) -> list[tuple[int, int]]:
    return [(r.tokens[t], r.tokens[t + 1]) for r in given for t in range(r.positions) if r.mask[t + 1]]


def batch_pairs(batch: TokenBatch) -> list[tuple[int, int]]:
    inside = batch.mask_BT > 0
    return list(zip(batch.tokens_BT[inside].tolist(), batch.targets_BT[inside].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_padding_and_packing_teach_exactly_the_same_pairs(seed: int) -> None:
    given = rows(seed)
    wanted = sorted(learnt_pairs(given))
    for batch in (padded(given, pad=0), padded(given, pad=0, left=True), padded(given, pad=0, length=40)):
        assert sorted(batch_pairs(batch)) == wanted
    assert sorted(batch_pairs(packed(given, pad=0, length=16))) == wanted


def test_documents_of_a_packed_row_have_their_own_segment_and_come_back_in_order() -> None:
    given = rows(3)
    batch = packed(given, pad=0, length=16)
    assert batch.tokens_BT.shape[0] < len(given)
    for row, tokens, segments in zip(
        given, batch.split(batch.tokens_BT.astype(float)), batch.split(batch.segments_BT.astype(float)), strict=True
    ):
        assert tokens.tolist() == list(row.tokens[:-1])
        assert len(set(segments.tolist())) == 1 and segments[0] > 0
    assert (batch.segments_BT == 0).sum() == batch.tokens_BT.size - sum(row.positions for row in given)


def test_best_fit_leaves_little_room() -> None:
    lengths = 2 + derive(0, "lengths").below(60, 400)
    given = [Row([1] * int(n), [1] * int(n)) for n in lengths]
    batch = packed(given, pad=0, length=256)
    assert (batch.segments_BT > 0).mean() >= 0.99


def test_rows_that_fill_a_packed_row_exactly_share_it() -> None:
    given = [Row(list(range(9)), [1] * 9), Row(list(range(9)), [1] * 9), Row(list(range(17)), [1] * 17)]
    batch = packed(given, pad=0, length=16)
    assert batch.tokens_BT.shape == (2, 16) and (batch.segments_BT > 0).all()
    assert Row([], []).positions == Row([5], [0]).positions == 0 and Row([5, 6], [0, 1]).positions == 1


def test_rows_that_do_not_fit_are_refused_or_cut() -> None:
    long = Row(list(range(10)), [0] * 9 + [1])
    with pytest.raises(DataError, match="cut the rows"):
        padded([long], pad=0, length=5)
    with pytest.raises(DataError, match="document 0 has 9 positions"):
        packed([long], pad=0, length=5)
    assert cut([long], 5) == []
    assert cut([Row(list(range(10)), [1] * 10)], 5)[0].positions == 5
    with pytest.raises(DataError, match="3 tokens and a mask of 2"):
        Row([1, 2, 3], [1, 1])
