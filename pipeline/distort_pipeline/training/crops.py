"""Random crops out of a pair store: the batch of any step, computed from the seed and the step alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.ahead import ahead
from distort_pipeline.errors import PipelineError
from distort_pipeline.ranges import Pictures
from distort_pipeline.records import PairRecord
from distort_pipeline.seeds import derive_seed, generator
from distort_pipeline.stores.inner_chunks import InnerChunks
from distort_pipeline.stores.pairs import PairStore

WINDOW_CHUNKS = 16  # shuffled together; a store of fewer chunks is shuffled as a whole
CACHED_CHUNKS = 2 * WINDOW_CHUNKS  # of each column: 450 MB in all with tiles of 384² and 16 of them in a chunk
BATCHES_AHEAD = 4
READERS = 4  # threads that read and decompress chunks: some wait for the disk while others use the cores

Key = tuple[int, int]  # level index, number of the chunk


@dataclass(frozen=True)
class CropBatch:
    """A batch of aligned crops (N, crop_px, crop_px, 3) and the step it belongs to."""

    step: int
    pristine: Pictures
    distorted: Pictures


class Crops:
    """The training crops of one distortion at the first of its levels in the store: a model learns one.

    Every epoch visits each tile once, in an order and at offsets that depend on (seed, epoch) only: a run that is
    resumed at a step sees what the undisturbed run would have seen. Tiles are shuffled inside windows of chunks that
    are themselves in random order, so that a large store is read chunk by chunk.
    """

    def __init__(
        self, pairs: PairStore, distortion: str, *, crop_px: int, crop_align: int, batch: int, seed: int
    ) -> None:
        level = pairs.levels(distortion)[0]
        self.records = [
            record
            for record in pairs.records("train")
            if (record.distortion, record.level) == (distortion, level) and min(record.height, record.width) >= crop_px
        ]
        if not self.records:
            raise PipelineError(f"{pairs.folder} holds no training tile of {distortion} that is {crop_px} px wide")
        self.crop_px, self.crop_align, self.batch, self.seed = crop_px, crop_align, batch, seed
        self._pristine = InnerChunks(pairs.folder, pairs.array("train/pristine"))
        self._distorted = InnerChunks(pairs.folder, pairs.array(f"train/{distortion}"))
        self._cache: OrderedDict[Key, tuple[Pictures, Pictures]] = OrderedDict()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="chunks")
        self._epoch = -1
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)
        self._offsets: NDArray[np.int64] = np.zeros((0, 2), np.int64)

    def at(self, step: int) -> CropBatch:
        """Return the batch of `step`."""
        pristine = np.empty((self.batch, self.crop_px, self.crop_px, 3), np.uint8)
        distorted = np.empty_like(pristine)
        chosen = [self._choice(step * self.batch + place) for place in range(self.batch)]
        self._load({self._key(record) for record, _ in chosen})
        for place, (record, (y, x)) in enumerate(chosen):
            tiles, distorted_tiles = self._cache[self._key(record)]
            inside = (record.slot % self._pristine.slots, slice(y, y + self.crop_px), slice(x, x + self.crop_px))
            pristine[place], distorted[place] = tiles[inside], distorted_tiles[inside]
        return CropBatch(step, pristine, distorted)

    def ahead(self, first: int, last: int) -> Generator[CropBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1, read by a thread while the network works."""
        yield from ahead((self.at(step) for step in range(first, last)), BATCHES_AHEAD, name="crops")

    def _choice(self, number: int) -> tuple[PairRecord, NDArray[np.int64]]:
        """Return which tile the crop `number`, counted from the first step on, is cut from, and where (y, x)."""
        epoch, turn = divmod(number, len(self.records))
        if epoch != self._epoch:
            self._start(epoch)
        return self.records[self._order[turn]], self._offsets[turn]

    def _start(self, epoch: int) -> None:
        rng = generator(derive_seed(self.seed, "crops", epoch))
        self._epoch = epoch
        self._order = self._windowed_order(rng)
        room = np.array(
            [(self.records[i].height - self.crop_px, self.records[i].width - self.crop_px) for i in self._order]
        )
        self._offsets = self.crop_align * rng.integers(0, room // self.crop_align + 1)

    def _windowed_order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        chunk_of = np.array([self._key(record)[1] for record in self.records])
        chunks = rng.permutation(np.unique(chunk_of))
        order = []
        for start in range(0, len(chunks), WINDOW_CHUNKS):
            order.append(rng.permutation(np.flatnonzero(np.isin(chunk_of, chunks[start : start + WINDOW_CHUNKS]))))
        return np.concatenate(order)

    def _key(self, record: PairRecord) -> Key:
        return record.level_index, record.slot // self._pristine.slots

    def _load(self, keys: Iterable[Key]) -> None:
        """Bring the chunks `keys` into the cache, in the memory of those that have been there longest."""
        wanted = set(keys)
        new = sorted(wanted - self._cache.keys())
        old = [key for key in self._cache if key not in wanted][: max(0, len(self._cache) + len(new) - CACHED_CHUNKS)]
        freed = [self._cache.pop(key) for key in old]
        room = [*freed, *([(None, None)] * (len(new) - len(freed)))]
        reading = [
            (
                key,
                self._readers.submit(self._pristine.read, 0, key[1], clean),
                self._readers.submit(self._distorted.read, *key, bad),
            )
            for key, (clean, bad) in zip(new, room, strict=False)
        ]
        for key, clean, bad in reading:
            self._cache[key] = (clean.result(), bad.result())
