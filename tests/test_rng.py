"""Randomness is Philox4x32-10 at a path: known-answer vectors, a frozen golden, and the properties callers rely on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alexandra.rng import WORDS_PER_STREAM, Stream, derive

# Random123 (Salmon et al., 2011), tests/kat_vectors, "philox4x32 10": counter words, key words, output words.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# Frozen: a change here changes every split, initial weight and shuffle that was ever drawn.
GOLDEN = [
    ((0,), 0xB85734AD888CF476, 0x643E58A532F7FBD0, (0x77C7C9A4, 0xF6C15CB2, 0xFBCB3407, 0xC1628B33, 0x690A3A39)),
    (
        (7, "init", "y.weight"),
        0xACB94E0C279AC8FF,
        0x7831648A70021748,
        (0x0C88F34C, 0xB89D4186, 0x3623904C, 0xF521A7F1, 0xD92EC254),
    ),
    (
        (-1, 3, "a"),
        0x456D57484C5DE41C,
        0xE0391AD8CBAF90DD,
        (0x7EADA1B2, 0x186316FD, 0xBFB1A81D, 0x6FE3B637, 0xE17AEA43),
    ),
    (
        (2**64, "π", -5),
        0x9800E67543B8D66F,
        0xC1D1A719469918FB,
        (0x8B68579B, 0xCDBDD2F1, 0x482AC867, 0xF3116407, 0x16A671AD),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers_of_random123(counter, key, words):
    c0, c1, c2, c3 = counter
    stream = Stream(key=key[0] | key[1] << 32, nonce=c2 | c3 << 32, lane=c1)
    assert tuple(stream.words(4, start=4 * c0)) == words


@pytest.mark.parametrize(("path", "key", "nonce", "words"), GOLDEN)
def test_derive_is_frozen(path, key, nonce, words):
    stream = derive(*path)
    assert (stream.key, stream.nonce, stream.lane) == (key, nonce, 0)
    assert tuple(stream.words(5)) == words


def test_every_draw_is_frozen():
    stream = derive(7, "shuffle").at(3)
    assert stream.uniform(3).tolist() == [0.47026586532592773, 0.18192434310913086, 0.4307382106781006]
    np.testing.assert_allclose(stream.normal(3), [-0.07460155197799218, -0.9080558975898232, -0.17449500669464668])
    assert stream.below(10, 8).tolist() == [4, 1, 4, 1, 7, 3, 6, 0]
    assert stream.permutation(10).tolist() == [7, 5, 0, 2, 6, 9, 8, 3, 1, 4]
    assert stream.integer() == 1009888265


def test_any_part_of_a_stream_can_be_drawn_without_the_rest():
    stream = derive(3, "part").at(9)
    whole = stream.words(50)
    for start in range(20):
        for count in (0, 1, 3, 4, 5, 30):
            np.testing.assert_array_equal(stream.words(count, start), whole[start : start + count])
    np.testing.assert_array_equal(stream.uniform(7, start=5), stream.uniform(12)[5:])
    np.testing.assert_array_equal(stream.normal(7, start=5), stream.normal(12)[5:])
    np.testing.assert_array_equal(stream.below(77, 7, start=5), stream.below(77, 12)[5:])


def test_paths_that_look_alike_give_different_streams():
    paths = [
        (1, 2),
        (2, 1),
        (1, "2"),
        ("1", 2),
        (12,),
        ("12",),
        ("1", "2"),
        (1, 2, 0),
        (),
        ("",),
        (0,),
        ("a", "bc"),
        ("ab", "c"),
    ]
    streams = {derive(0, *path) for path in paths} | {derive(1, *path) for path in paths}
    assert len(streams) == 2 * len(paths)


def test_neighbouring_seeds_and_lanes_share_nothing():
    drawn = [derive(seed, "items").at(lane).words(500) for seed in range(5) for lane in range(4)]
    distinct = np.unique(np.concatenate(drawn)).size
    assert distinct >= 10_000 - 3  # 10,000 draws of 32 bits collide 0.01 times on average


def test_uniform_is_exact_in_float32_and_below_one():
    values = derive(1).uniform(100_000)
    np.testing.assert_array_equal(values.astype(np.float32).astype(np.float64), values)
    assert values.min() >= 0.0
    assert values.max() < 1.0
    assert stats.kstest(values, "uniform").pvalue > 1e-4


def test_normal_and_below_have_their_distributions():
    assert stats.kstest(derive(2).normal(100_000), "norm").pvalue > 1e-4
    counts = np.bincount(derive(3).below(7, 70_000), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert derive(3).below(1, 5).tolist() == [0] * 5


def test_permutation_is_fair_and_complete():
    assert derive(0).permutation(0).tolist() == []
    assert derive(0).permutation(1).tolist() == [0]
    assert sorted(derive(0).permutation(1000).tolist()) == list(range(1000))
    orders = ["".join(map(str, derive(5, i).permutation(4))) for i in range(4800)]
    counts = np.unique(orders, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


def test_what_is_no_whole_number_is_refused():
    assert derive(np.int64(4), np.uint8(3)) == derive(4, 3)
    with pytest.raises(TypeError):
        derive(0, 1.5)
    with pytest.raises(ValueError, match="must fit in 128 bits"):
        derive(2**127)


def test_a_stream_never_wraps_silently():
    stream = derive(0)
    assert stream.words(2, start=WORDS_PER_STREAM - 2).shape == (2,)
    with pytest.raises(ValueError, match="are not among them"):
        stream.words(2, start=WORDS_PER_STREAM - 1)
    with pytest.raises(ValueError, match="are not among them"):
        stream.words(1, start=-1)
    with pytest.raises(ValueError, match=r"a lane must be in 0 \.\. 2\^32-1, got -1"):
        stream.at(-1)
    with pytest.raises(ValueError, match=r"bound must be in 1 \.\. 2\^31, got 0"):
        stream.below(0, 1)
