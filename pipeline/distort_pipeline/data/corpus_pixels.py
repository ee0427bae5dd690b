"""The pixels of a corpus while it is made: arrays are created, reference tiles read, and samples written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distort_pipeline.data.arrays import PixelDigest, create_group, create_samples, open_group
from distort_pipeline.data.corpora import PRISTINE, files_of, image_array
from distort_pipeline.data.plans import PlannedSample
from distort_pipeline.data.requests import Tiles
from distort_pipeline.data.shards import TileArray, read_image, write_image, write_shard
from distort_pipeline.records import Image, Images

if TYPE_CHECKING:
    from distort_pipeline.networks.wavelets import Significances


def create_arrays(work: Path, slots: Mapping[str, int], *, tile_px: int, per_shard: int, per_chunk: int) -> None:
    """Create the arrays of tiles `slots`, column → number of tiles, unless present."""
    group = create_group(work)
    for name, count in slots.items():
        create_samples(group, name, slots=count, tile_px=tile_px, per_shard=per_shard, per_chunk=per_chunk)


class StoredTiles:
    """The pristine tiles of a batch, read from the corpus group by group; a whole image is a group of its own."""

    def __init__(
        self,
        work: Path,
        samples: Sequence[PlannedSample],
        *,
        group_size: int,
        significances: Significances | None,
        whole_images: bool,
    ) -> None:
        self._work, self._samples, self._group_size, self._significances = work, samples, group_size, significances
        self._tiles = None if whole_images else TileArray(work, open_group(work)[PRISTINE])

    def __iter__(self) -> Iterator[Tiles]:
        for first in range(0, len(self._samples), self._group_size):
            samples = self._samples[first : first + self._group_size]
            yield Tiles(
                self._read([sample.tile.number for sample in samples]),
                [sample.seed for sample in samples],
                [sample.requested for sample in samples],
                None if self._significances is None else self._significances[first : first + len(samples)],
            )

    def _read(self, numbers: Sequence[int]) -> Images:
        if self._tiles is None:
            return np.stack([read_image(self._work, image_array(PRISTINE, number)) for number in numbers])
        return self._tiles.read(numbers)


class PixelWriter:
    """Writes consecutive slots of a column: whole images one by one, tiles as one shard at the end."""

    def __init__(self, work: Path, column: str, slots: Sequence[int], *, whole_images: bool) -> None:
        self.work, self._column, self._slots, self._whole_images = work, column, slots, whole_images
        self._written, self._digest = 0, PixelDigest()
        self._tiles: list[Image] = []

    def add(self, image: Image) -> None:
        """Add the pixels of the next slot."""
        self._digest.add(image)
        if self._whole_images:
            write_image(self.work, image_array(self._column, self._slots[self._written]), image)
        else:
            self._tiles.append(image)
        self._written += 1

    def close(self) -> tuple[str, list[Path]]:
        """Write the rest; return the digest of all pixels and their files, or the folders of whole images."""
        if self._tiles:
            write_shard(self.work, open_group(self.work)[self._column], (self._slots[0],), np.stack(self._tiles))
        files = files_of(self.work, self._column, self._slots, whole_images=self._whole_images)
        return self._digest.hexdigest(), files
