"""Random crops out of a pair store: the batch of any step, computed from the seed and the step alone."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.ranges import Pictures
from distort_pipeline.records import PairRecord
from distort_pipeline.seeds import derive_seed, generator
from distort_pipeline.stores.pairs import PairStore

WINDOW_CHUNKS = 16  # shuffled together; a store of fewer chunks is shuffled as a whole
BATCHES_AHEAD = 4


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
        self._pristine = pairs.array("train/pristine")
        self._distorted = pairs.array(f"train/{distortion}")
        self._chunk_slots = self._pristine.chunks[1]
        self._cache: OrderedDict[tuple[int, int], tuple[Pictures, Pictures]] = OrderedDict()
        self._epoch = -1
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)
        self._offsets: NDArray[np.int64] = np.zeros((0, 2), np.int64)

    def at(self, step: int) -> CropBatch:
        """Return the batch of `step`."""
        pristine = np.empty((self.batch, self.crop_px, self.crop_px, 3), np.uint8)
        distorted = np.empty_like(pristine)
        for place in range(self.batch):
            epoch, turn = divmod(step * self.batch + place, len(self.records))
            if epoch != self._epoch:
                self._start(epoch)
            record = self.records[self._order[turn]]
            y, x = self._offsets[turn]
            tiles, distorted_tiles = self._chunk(record)
            slot = record.slot % self._chunk_slots
            inside = (slot, slice(y, y + self.crop_px), slice(x, x + self.crop_px))
            pristine[place], distorted[place] = tiles[inside], distorted_tiles[inside]
        return CropBatch(step, pristine, distorted)

    def ahead(self, first: int, last: int) -> Generator[CropBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1, read by a thread while the network works."""
        ready: queue.Queue[CropBatch | BaseException] = queue.Queue(BATCHES_AHEAD)
        stopped = threading.Event()

        def hand_over(got: CropBatch | BaseException) -> None:
            while not stopped.is_set():
                with suppress(queue.Full):
                    ready.put(got, timeout=0.1)
                    return

        def read() -> None:
            try:
                for step in range(first, last):
                    if stopped.is_set():
                        return
                    hand_over(self.at(step))
            except BaseException as error:  # handed to the consumer, who raises it
                hand_over(error)

        reader = threading.Thread(target=read, daemon=True, name="crops")
        reader.start()
        try:
            for _ in range(first, last):
                got = ready.get()
                if isinstance(got, BaseException):
                    raise got
                yield got
        finally:
            stopped.set()
            reader.join()

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

    def _key(self, record: PairRecord) -> tuple[int, int]:
        return record.level_index, record.slot // self._chunk_slots

    def _chunk(self, record: PairRecord) -> tuple[Pictures, Pictures]:
        key = self._key(record)
        if key not in self._cache:
            while len(self._cache) >= 2 * WINDOW_CHUNKS:
                self._cache.popitem(last=False)
            slots = slice(key[1] * self._chunk_slots, (key[1] + 1) * self._chunk_slots)
            self._cache[key] = (_read(self._pristine, 0, slots), _read(self._distorted, key[0], slots))
        return self._cache[key]


def _read(array: Any, level_index: int, slots: slice) -> Pictures:
    return np.asarray(array[level_index, slots])
