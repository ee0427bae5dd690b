"""The contents of an export, counted while its table is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from distort_pipeline.exports.source import Exported


@dataclass
class Contents:
    """Counts of an export's samples, and the location columns of its table."""

    samples: Counter[str] = field(default_factory=Counter)  # by distortion
    splits: Counter[str] = field(default_factory=Counter)
    location_columns: tuple[str, ...] = ()  # columns of paths
    images: set[str] = field(default_factory=set)  # photographs
    tiles: set[int] = field(default_factory=set)
    sizes: set[tuple[int, int]] = field(default_factory=set)  # (height, width) px
    flagged: int = 0  # samples of rejected batches

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.samples.total()

    def add(self, sample: Exported) -> None:
        """Count a sample."""
        record = sample.record
        self.samples[record.distortion] += 1
        self.splits[record.split] += 1
        self.images.add(record.image)
        self.tiles.add(record.tile)
        self.sizes.add((record.height, record.width))
        self.flagged += not sample.accepted
