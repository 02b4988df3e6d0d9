"""All randomness is a pure function of a path: derive(seed, *path) -> Stream; nothing is seeded globally.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) keyed by BLAKE2b of the
seed and the path. The native engine implements the same words bit for bit (`csrc/philox.h`): a Stream is
three integers (key, nonce, lane) and crosses to C++ as such.

Counter layout (four 32-bit words): c0 = block index, c1 = lane (an epoch, a step), c2 c3 = nonce.
Block b yields words 4b .. 4b+3. Key words: k0 = low half of `key`, k1 = high half.
"""

from __future__ import annotations

import hashlib
import operator
import struct
from dataclasses import dataclass, replace

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
WORDS_PER_STREAM = 2**34  # four words for each of the 2^32 block indices


def _encode(part: int | str) -> bytes:
    if isinstance(part, str):
        raw = part.encode()
        return b"s" + struct.pack("<Q", len(raw)) + raw
    number = operator.index(part)
    if not -(2**127) <= number < 2**127:
        raise ValueError(f"a seed or path number must fit in 128 bits, got {number}")
    return b"i" + number.to_bytes(16, "little", signed=True)


def derive(seed: int, *path: int | str) -> Stream:
    """The stream of random numbers at `path` under `seed`; equal arguments give equal numbers, for ever.

    Path parts are text or whole numbers (1 and "1" differ; 1.0 is a TypeError).
    """
    digest = hashlib.blake2b(_encode(seed) + b"".join(_encode(part) for part in path), digest_size=16).digest()
    key, nonce = struct.unpack("<QQ", digest)
    return Stream(key, nonce)


@dataclass(frozen=True)
class Stream:
    """A counter-based stream. Methods take `start` (a word index), so any part can be drawn without the rest."""

    key: int
    nonce: int
    lane: int = 0

    def at(self, lane: int) -> Stream:
        """The sub-stream number `lane` (0 .. 2^32-1), for instance one per epoch or step."""
        if not 0 <= lane < 2**32:
            raise ValueError(f"a lane must be in 0 .. 2^32-1, got {lane}")
        return replace(self, lane=lane)

    def words(self, count: int, start: int = 0) -> np.ndarray:
        """`count` uniform 32-bit words, uint32, from word index `start`; a stream has 2^34 of them."""
        if count < 0 or start < 0 or start + count > WORDS_PER_STREAM:
            raise ValueError(f"a stream has the words 0 .. 2^34-1; {count} from {start} are not among them")
        first = start // 4
        blocks = (start + count + 3) // 4 - first
        out = _philox(np.arange(first, first + blocks, dtype=np.uint64), self)
        offset = start - 4 * first
        return out.reshape(-1)[offset : offset + count]

    def uniform(self, count: int, start: int = 0) -> np.ndarray:
        """float64 in [0, 1) with 24 random bits (one word each: (word >> 8) * 2^-24), exact in float32."""
        return uniform_of(self.words(count, start))

    def normal(self, count: int, start: int = 0) -> np.ndarray:
        """float64 standard normal by inverting the distribution function at (word + 0.5) * 2^-32."""
        return normal_of(self.words(count, start))

    def below(self, bound: int, count: int, start: int = 0) -> np.ndarray:
        """`count` integers in 0 .. bound-1 (int64): (word * bound) >> 32 of one word each; bound <= 2^31."""
        if not 0 < bound <= 2**31:
            raise ValueError(f"bound must be in 1 .. 2^31, got {bound}")
        return ((self.words(count, start).astype(np.uint64) * np.uint64(bound)) >> _SHIFT).astype(np.int64)

    def permutation(self, n: int) -> np.ndarray:
        """A Fisher-Yates shuffle of 0 .. n-1 (int64): for i = n-1 .. 1 swap i with (word[n-1-i] * (i+1)) >> 32."""
        order = list(range(n))
        if n > 1:
            bounds = np.arange(n, 1, -1, dtype=np.uint64)
            picks = ((self.words(n - 1).astype(np.uint64) * bounds) >> _SHIFT).tolist()
            for i, j in zip(range(n - 1, 0, -1), picks, strict=True):
                order[i], order[j] = order[j], order[i]
        return np.array(order, dtype=np.int64)

    def integer(self) -> int:
        """One 31-bit integer, for libraries that want a `random_state`."""
        return int(self.words(1)[0] >> np.uint32(1))


def uniform_of(words: np.ndarray) -> np.ndarray:
    """`Stream.uniform` of these words, of any shape."""
    return (words >> np.uint32(8)).astype(np.float64) * 2.0**-24


def normal_of(words: np.ndarray) -> np.ndarray:
    """`Stream.normal` of these words, of any shape."""
    from scipy.special import ndtri

    return np.asarray(ndtri((words.astype(np.float64) + 0.5) * 2.0**-32))


def _philox(block: np.ndarray, stream: Stream) -> np.ndarray:
    """Ten rounds for each block index; returns uint32 [blocks, 4]."""
    c0 = block & _LOW
    c1 = np.full_like(c0, stream.lane & 0xFFFFFFFF)
    c2 = np.full_like(c0, stream.nonce & 0xFFFFFFFF)
    c3 = np.full_like(c0, stream.nonce >> 32)
    k0, k1 = stream.key & 0xFFFFFFFF, stream.key >> 32
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)
