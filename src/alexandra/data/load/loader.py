"""Batches from shards: streaming, shuffled through a reservoir, prefetched, and resumed exactly at any world size.

The order of rows is one global sequence per epoch, a function of the seed alone: shards in a shuffled order, rows
through
a buffer of `buffer` rows. Global step s takes the next `batch` rows of that sequence; rank r of w takes its share of
them. So the state is two numbers, and a run may go on with another number of ranks without a row lost or seen twice.

    loader = Loader("corpus", LoaderSettings(batch=32), rank=0, world=2)
    for batch in loader: ...            # batch.tokens, .targets, .mask, .segments: NumPy, zero-copy to torch by DLPack
    state = loader.state()              # JSON; Loader(..., state=state) goes on
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.config import Config
from alexandra.data.tokens.shards import read_manifest, read_shard
from alexandra.errors import ConfigError, DataError
from alexandra.rng import derive

WORDS_AT_ONCE = 4096


class LoaderSettings(Config):
    """batch: rows of all ranks together in a step; epochs: passes over the corpus, 0 for ever."""

    batch: int = 32
    buffer: int = 4096
    seed: int = 0
    epochs: int = 1
    prefetch: int = 2


@dataclass(frozen=True)
class TokenRows:
    """[rows, length - 1] arrays: position t reads tokens[t] and predicts targets[t], which counts where mask is 1.

    segments number the documents of a row from 1; 0 is padding. Arrays are contiguous: np.asarray, memoryview and
    torch.from_dlpack share their memory.
    """

    tokens: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    segments: np.ndarray
    epoch: int
    step: int


class Loader:
    """Iterates over this rank's part of every global batch; an incomplete last batch of an epoch is filled from the
    next epoch, or in the last one given out short."""

    def __init__(
        self,
        folder: str | Path,
        settings: LoaderSettings | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        state: Mapping[str, int] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.settings = settings or LoaderSettings()
        manifest = read_manifest(self.folder)
        self._files = [(shard["file"], int(shard["rows"])) for shard in manifest["shards"]]
        self._corpus = str(manifest["hash"])
        self.rows = sum(rows for _, rows in self._files)
        if not self.rows:
            raise DataError(f"the corpus {str(folder)!r} has no rows")
        if not 0 <= rank < world:
            raise ConfigError(f"rank {rank} of {world} ranks: a rank is in 0 .. world - 1")
        if self.settings.batch % world:
            raise ConfigError(f"a batch of {self.settings.batch} rows does not split over {world} ranks")
        self.rank, self.world = rank, world
        self._taken = 0  # rows of the endless sequence that were given out, by all ranks together
        self._open: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if state is not None:
            self._resume(state)

    def _resume(self, state: Mapping[str, Any]) -> None:
        expected = {"corpus": self._corpus, "seed": self.settings.seed, "buffer": self.settings.buffer}
        for key, value in expected.items():
            if state.get(key) != value:
                raise ConfigError(f"this state was made with {key} = {state.get(key)!r}, not {value!r}")
        self._taken = int(state["taken"])

    def state(self) -> dict[str, Any]:
        """After the batches that were handed out, whatever was prefetched; equal on every rank."""
        settings = self.settings
        return {"corpus": self._corpus, "seed": settings.seed, "buffer": settings.buffer, "taken": self._taken}

    def __iter__(self) -> Iterator[TokenRows]:
        if self.settings.prefetch < 1:
            for batch, taken in self._batches():
                self._taken = taken
                yield batch
            return
        line: queue.Queue[Any] = queue.Queue(self.settings.prefetch)
        stop = threading.Event()
        thread = threading.Thread(target=self._fill, args=(line, stop), daemon=True)
        thread.start()
        try:
            while (item := line.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                batch, self._taken = item
                yield batch
        finally:
            stop.set()
            while thread.is_alive():  # unblock a full queue
                try:
                    line.get(timeout=0.05)
                except queue.Empty:
                    continue

    def _fill(self, line: queue.Queue[Any], stop: threading.Event) -> None:
        try:
            for item in self._batches():
                while not stop.is_set():
                    try:
                        line.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
            line.put(None)
        except BaseException as error:
            line.put(error)

    def _batches(self) -> Iterator[tuple[TokenRows, int]]:
        taken, epochs, size = self._taken, self.settings.epochs, self.settings.batch
        share = size // self.world
        mine: list[tuple[int, int]] = []
        first, count = taken, 0
        last = epochs * self.rows if epochs else None
        if last is not None and taken >= last:
            return
        for row in self._sequence(taken):
            if self.rank * share <= count < (self.rank + 1) * share:
                mine.append(row)
            count += 1
            ended = last is not None and first + count == last
            if count == size or ended:
                if mine:
                    yield self._batch(mine, first // self.rows, first // size), first + count
                mine, first, count = [], first + count, 0
            if ended:
                return

    def _sequence(self, start: int) -> Iterator[tuple[int, int]]:
        """(shard, row) of the endless sequence from its row `start` on."""
        epoch = start // self.rows
        skip = start - epoch * self.rows
        while True:
            for number, row in enumerate(self.order(epoch)):
                if number >= skip:
                    yield row
            epoch, skip = epoch + 1, 0

    def order(self, epoch: int) -> Iterator[tuple[int, int]]:
        """(shard, row) of one epoch: a reservoir that gives out a random one of its rows for each that comes in."""
        seed, size = self.settings.seed, max(1, self.settings.buffer)
        stream = derive(seed, "loader", "reservoir", epoch)
        reservoir: list[tuple[int, int]] = []
        used, words = 0, np.empty(0, np.uint64)

        def pick(bound: int) -> int:
            nonlocal used, words
            if used % WORDS_AT_ONCE == 0:
                words = stream.words(WORDS_AT_ONCE, start=used).astype(np.uint64)
            used += 1
            return int(words[(used - 1) % WORDS_AT_ONCE]) * bound >> 32

        for shard in derive(seed, "loader", "shards", epoch).permutation(len(self._files)).tolist():
            for row in range(self._files[shard][1]):
                if len(reservoir) < size:
                    reservoir.append((shard, row))
                else:
                    place = pick(size)
                    yield reservoir[place]
                    reservoir[place] = (shard, row)
        while reservoir:
            place = pick(len(reservoir))
            reservoir[place], reservoir[-1] = reservoir[-1], reservoir[place]
            yield reservoir.pop()

    def _batch(self, rows: list[tuple[int, int]], epoch: int, step: int) -> TokenRows:
        pairs = [self._row(shard, row) for shard, row in rows]
        return token_rows(np.stack([one for one, _ in pairs]), np.stack([two for _, two in pairs]), epoch, step)

    def _row(self, shard: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        name = self._files[shard][0]
        if name not in self._open:
            self._open[name] = read_shard(self.folder / name)
        tokens, segments = self._open[name]
        return tokens[row], segments[row]


def token_rows(tokens: np.ndarray, segments: np.ndarray, epoch: int = 0, step: int = 0) -> TokenRows:
    """Inputs and targets of packed rows [rows, length]; no target crosses a document's end."""
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    reads = np.ascontiguousarray(tokens[:, :-1], dtype=np.int32)
    targets = np.where(inside, tokens[:, 1:], 0).astype(np.int32)
    return TokenRows(
        reads, targets, inside.astype(np.float32), np.ascontiguousarray(segments[:, :-1], dtype=np.int32), epoch, step
    )
