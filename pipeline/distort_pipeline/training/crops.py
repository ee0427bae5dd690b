"""Random crops out of a pair store: the batch of any step, computed from the seed and the step alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.arrays import TileArray
from distort_pipeline.data.pairs import PairStore
from distort_pipeline.errors import PipelineError
from distort_pipeline.process import prefetch
from distort_pipeline.records import Images, PairRecord, derive_seed, make_rng

WINDOW_CHUNKS = 16  # shuffled together; a store of fewer chunks is shuffled as a whole
CACHED_CHUNKS = 2 * WINDOW_CHUNKS  # of each column: 450 MB in all with tiles of 384² and 16 of them in a chunk
BATCHES_AHEAD = 4
CROPS_A_TILE = 3  # of each tile of a window: reading and decompressing a tile takes longer than cropping
READ_AHEAD = 128 * CROPS_A_TILE  # crops, half a window: the next chunks are read while crops of these are in use
EPOCHS_KNOWN = 3  # this, the next, and a third for batches larger than an epoch
READERS = 4  # reader threads: some wait for the disk while others decompress

Key = tuple[int, int]  # level index, number of the chunk
Columns = tuple[Future[Images], Future[Images]]  # pristine and distorted tiles of one chunk


@dataclass(frozen=True)
class CropBatch:
    """A batch of aligned crops (N, crop_px, crop_px, 3), their severities (N, 1), and its step."""

    step: int
    pristine: Images
    distorted: Images
    severities: NDArray[np.float32]  # k / n for level k of n

    @property
    def inputs(self) -> tuple[Images, Images, NDArray[np.float32]]:
        """What a training step takes, but for its number."""
        return self.pristine, self.distorted, self.severities


class Crops:
    """The training crops of a distortion at given `levels` of the store, weakest first.

    Every epoch cuts CROPS_A_TILE crops from each tile at each level, in an order and at offsets from (seed, epoch)
    only: a resumed run sees the same batches as an uninterrupted run. Crops are shuffled inside windows of chunks, and
    the chunks are in random order; a large store is read chunk by chunk.
    """

    def __init__(
        self,
        pairs: PairStore,
        distortion: str,
        levels: Sequence[int],
        *,
        crop_px: int,
        crop_align: int,
        batch_size: int,
        seed: int,
    ) -> None:
        indices = training_indices(pairs, distortion, levels, least_px=crop_px)
        self._severity = {level: rank / len(levels) for rank, level in enumerate(levels, start=1)}
        self.records = [pairs.records("train")[index] for index in indices]
        self.epoch_crops = CROPS_A_TILE * len(self.records)
        self.crop_px, self.crop_align, self.batch_size, self.seed = crop_px, crop_align, batch_size, seed
        self._pristine = pairs.tile_array("train/pristine")
        self._distorted = pairs.tile_array(f"train/{distortion}")
        self._cache: OrderedDict[Key, Columns] = OrderedDict()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="chunks")
        self._epochs: OrderedDict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = OrderedDict()

    def at(self, step: int) -> CropBatch:
        """Return the batch of `step`."""
        pristine = np.empty((self.batch_size, self.crop_px, self.crop_px, 3), np.uint8)
        distorted = np.empty_like(pristine)
        chosen = self._choices(step)
        soon = self._choices(step + max(1, READ_AHEAD // self.batch_size))
        cached = self._request(*({self._key(record) for record, _ in choices} for choices in (chosen, soon)))
        for row, (record, (y, x)) in enumerate(chosen):
            tiles, distorted_tiles = (column.result() for column in cached[self._key(record)])
            crop = (
                record.slot % self._pristine.slots_per_chunk,
                slice(y, y + self.crop_px),
                slice(x, x + self.crop_px),
            )
            pristine[row], distorted[row] = tiles[crop], distorted_tiles[crop]
        severities = np.array([[self._severity[record.level]] for record, _ in chosen], np.float32)
        return CropBatch(step, pristine, distorted, severities)

    def prefetch(self, first: int, last: int) -> Generator[CropBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1, read by a thread during training."""
        yield from prefetch((self.at(step) for step in range(first, last)), BATCHES_AHEAD, name="crops")

    def _choices(self, step: int) -> list[tuple[PairRecord, NDArray[np.int64]]]:
        """Return the tile and the offset (y, x) of each crop of `step`."""
        chosen = []
        for number in range(step * self.batch_size, (step + 1) * self.batch_size):
            epoch, position = divmod(number, self.epoch_crops)
            order, offsets = self._epoch(epoch)
            chosen.append((self.records[order[position]], offsets[position]))
        return chosen

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the tile of each crop of an epoch, in order, and the offset (y, x) of each crop."""
        if epoch not in self._epochs:
            rng = make_rng(derive_seed(self.seed, "crops", epoch))
            order = self._windowed_order(rng)
            room = np.array(
                [(self.records[i].height - self.crop_px, self.records[i].width - self.crop_px) for i in order]
            )
            self._epochs[epoch] = order, self.crop_align * rng.integers(0, room // self.crop_align + 1)
            if len(self._epochs) > EPOCHS_KNOWN:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]

    def _windowed_order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        numbers = {key: number for number, key in enumerate(sorted({self._key(record) for record in self.records}))}
        chunk_of = np.array([numbers[self._key(record)] for record in self.records])
        chunks = rng.permutation(len(numbers))
        order = []
        for start in range(0, len(chunks), WINDOW_CHUNKS):
            tiles = np.flatnonzero(np.isin(chunk_of, chunks[start : start + WINDOW_CHUNKS]))
            order.append(rng.permutation(np.repeat(tiles, CROPS_A_TILE)))
        return np.concatenate(order)

    def _key(self, record: PairRecord) -> Key:
        return record.level_index, record.slot // self._pristine.slots_per_chunk

    def _request(self, now: set[Key], soon: set[Key]) -> dict[Key, Columns]:
        """Return the chunks `now`, pristine and distorted, and start reading the missing chunks of `now` and `soon`.

        A new chunk takes the memory of the least recently used chunk outside both; chunks of an earlier epoch may be
        needed again.
        """
        for key in [*sorted(now - self._cache.keys()), *sorted(soon - now - self._cache.keys())]:
            full = len(self._cache) >= CACHED_CHUNKS
            evicted = next((cached for cached in self._cache if cached not in now | soon), None) if full else None
            old_pristine, old_distorted = (None, None) if evicted is None else self._cache.pop(evicted)
            self._cache[key] = (
                self._readers.submit(_read, self._pristine, (0, key[1]), old_pristine),
                self._readers.submit(_read, self._distorted, key, old_distorted),
            )
        for key in (*soon, *now):
            self._cache.move_to_end(key)
        return {key: self._cache[key] for key in now}


def training_indices(pairs: PairStore, distortion: str, levels: Sequence[int], *, least_px: int) -> list[int]:
    """Return the indices of the training pairs of `distortion` at `levels`, at least `least_px` wide and high.

    PipelineError if there is none.
    """
    pairs.levels(distortion)  # PipelineError for an unknown distortion
    indices = [
        index
        for index, record in enumerate(pairs.records("train"))
        if record.distortion == distortion and record.level in levels and min(record.height, record.width) >= least_px
    ]
    if not indices:
        raise PipelineError(f"{pairs.folder} holds no training tile of {distortion} that is {least_px} px wide")
    return indices


def _read(column: TileArray, key: Key, old: Future[Images] | None) -> Images:
    """Return a chunk, in the memory of the `old` chunk if given."""
    level_index, number = key
    return column.read_chunk(number, level_index=level_index, into=None if old is None else old.result())
