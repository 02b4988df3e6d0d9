"""Exact and near duplicates: native and NumPy agree bit for bit, recall and precision hold, memory is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexandra.data.dedup import index
from alexandra.data.dedup.exact import digests, repeats
from alexandra.data.dedup.near import clusters, duplicates
from alexandra.data.dedup.paragraphs import Paragraphs, paragraph_hashes, surplus, without
from alexandra.data.dedup.shingles import UNITS, MinHash, Signatures, sign, similarities
from alexandra.errors import DataError
from alexandra.rng import derive

ODD = [
    "",
    "a b",
    "漢字かな交じり文 hello ก ข",
    "ß é Ü İ",
    "abc\u00a0def\u2003x",
    "𝒳 yy \ud800 z",
    "\x00 \x1f a",
    "one two three four five six",
]


def planted(count: int, words: int, low: float, high: float, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Pairs of texts whose five-word shingles have Jaccard similarities spread over [low, high], known exactly."""
    texts, truth = [], []
    for number in range(count):
        stream = derive(seed, "planted", number)
        wanted = low + (high - low) * float(stream.uniform(1)[0])
        vocabulary = stream.below(50_000, words, start=8)
        one = [f"w{word}" for word in vocabulary.tolist()]
        # Replacing a tail of k words leaves n - k shared shingles of n + k: J = (n - k) / (n + k).
        shingle_count = words - 4
        k = round(shingle_count * (1 - wanted) / (1 + wanted))
        other = one[: words - k] + [f"x{number}y{i}" for i in range(k)]
        texts += [" ".join(one), " ".join(other)]
        truth.append((shingle_count - k) / (shingle_count + k))
    return texts, np.array(truth)


@pytest.mark.parametrize("unit", UNITS)
@given(texts=st.lists(st.text(max_size=80), max_size=4))
def test_native_and_numpy_signatures_are_bit_equal(unit: str, texts: list[str]) -> None:
    settings = MinHash(unit=unit, bands=2, rows=4)
    one, two = sign(ODD + texts, settings), sign(ODD + texts, settings, native=False)
    for a, b in zip(
        (one.signatures, one.offsets, one.shingles), (two.signatures, two.offsets, two.shingles), strict=True
    ):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    left, right = np.triu_indices(len(ODD), 1)
    assert np.array_equal(similarities(one, left, right), similarities(one, left, right, native=False))


def test_signatures_estimate_the_similarity() -> None:
    texts, truth = planted(40, 200, 0.2, 1.0)
    signed = sign(texts, MinHash())
    left = np.arange(0, len(texts), 2)
    assert np.allclose(similarities(signed, left, left + 1), truth, atol=0.01)
    estimate = (signed.signatures[::2] == signed.signatures[1::2]).mean(axis=1)
    assert np.abs(estimate - truth).mean() < 0.05 and np.abs(estimate - truth).max() < 0.2
    assert len(np.unique(signed.signatures[::2], axis=0)) == 40  # different texts, different signatures


def test_recall_and_precision_on_planted_pairs() -> None:
    texts, truth = planted(600, 120, 0.75, 1.0)
    found = clusters(sign(texts, MinHash()), MinHash())
    same = found.roots[::2] == found.roots[1::2]
    assert same[truth >= 0.85].mean() >= 0.985
    assert same[truth < 0.79].mean() == 0.0  # every candidate is verified
    assert (found.roots[::2] == np.arange(0, len(texts), 2)).all()  # no two planted pairs are joined


def test_memory_partitions_do_not_change_the_answer() -> None:
    texts, _ = planted(200, 60, 0.7, 1.0)
    signed = sign(texts, MinHash())
    whole, parts = clusters(signed, MinHash()), clusters(signed, MinHash(), memory_bytes=1)
    assert np.array_equal(whole.roots, parts.roots)


def test_which_copy_is_kept_is_a_rule() -> None:
    base = " ".join(f"word{i}" for i in range(100))
    signed = sign([base, base + " more", "something else entirely", base], MinHash())
    found = clusters(signed, MinHash())
    assert duplicates(found, signed.sizes).tolist() == [False, True, False, True]
    assert duplicates(found, signed.sizes, "longest").tolist() == [True, False, False, True]
    assert duplicates(found, signed.sizes, "longest", known=1).tolist() == [False, True, False, True]
    with pytest.raises(DataError, match="unknown rule 'lngest'.*\n.*Did you mean 'longest'"):
        duplicates(found, signed.sizes, "lngest")


def test_a_large_group_of_equal_bands_stays_cheap() -> None:
    texts = [" ".join(f"same{i}" for i in range(60)) + f" tail{n}" for n in range(400)]
    found = clusters(sign(texts, MinHash()), MinHash())
    assert (found.roots == 0).all() and found.candidates < 400 * 40


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 5))
def test_exact_repeats_equal_a_dictionarys(values: list[int], parts: int) -> None:
    texts = [f"text {value}" for value in values]
    seen: set[str] = set()
    expected = [text in seen or seen.add(text) is not None for text in texts]
    cut = [digests(part) for part in (texts[i::parts] for i in range(parts))]
    assert sum(int(one.sum()) for one in repeats(cut)) == sum(expected)
    (one,) = repeats([digests(texts)])
    assert one.tolist() == expected
    (two,) = repeats([digests(texts)], memory_bytes=1)
    assert two.tolist() == expected


def test_exact_partitions_agree_on_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexandra.data.dedup.exact.LEAST_MEMORY", 1 << 12)
    records = [f"record {i % 3000}" for i in range(5000)]
    parts = [digests(records[:2000]), digests(records[2000:])]
    whole, small = repeats(parts), repeats(parts, memory_bytes=1 << 12)
    assert [one.tolist() for one in whole] == [one.tolist() for one in small]
    assert sum(one.sum() for one in whole) == 2000


def test_normalised_digests_ignore_case_and_blanks() -> None:
    one, two = digests(["A  b\n", "a b"], normalise=True)
    assert (one == two).all() and (digests(["A  b\n"]) != digests(["a b"])).any()


def test_paragraphs_that_repeat_keep_their_first_copy() -> None:
    settings = Paragraphs(min_characters=10)
    notice = "This notice stands on every page."
    texts = [f"First story here.\n{notice}\nok", f"Second story here.\n{notice}\nok", notice]
    marks = surplus([paragraph_hashes(text, settings) for text in texts], settings)
    assert [without(text, gone, settings) for text, gone in zip(texts, marks, strict=True)] == [
        texts[0],
        "Second story here.\nok",
        "",
    ]


def test_the_index_of_earlier_corpora_persists(tmp_path: Path) -> None:
    settings = MinHash()
    old, new = (
        [" ".join(f"a{i}" for i in range(80)), "first corpus only"],
        [" ".join(f"a{i}" for i in range(80)) + " b"],
    )
    index.add(tmp_path, "one", digests(old), sign(old, settings), settings)
    index.add(tmp_path, "two", digests(["x"]), sign(["x"], settings), settings)
    known_digests, known = index.load(tmp_path, settings)
    assert index.generations(tmp_path) == ["one", "two"] and len(known_digests) == 3
    both = index.joined(known, sign(new, settings))
    found = clusters(both, settings, known=3)
    assert duplicates(found, both.sizes, known=3).tolist() == [False, False, False, True]
    with pytest.raises(DataError, match="already holds 'one'"):
        index.add(tmp_path, "one", digests(old), sign(old, settings), settings)
    with pytest.raises(DataError, match="other MinHash settings"):
        index.load(tmp_path, MinHash(size=3))
    _, empty = index.load(tmp_path / "none", settings)
    assert isinstance(empty, Signatures) and not len(empty.signatures)
