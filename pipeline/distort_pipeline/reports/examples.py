"""Examples of a corpus, for its page and for contact sheets: samples with their pristine, true and residual images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distort_pipeline.data.corpora import PRISTINE, CorpusStore, distorted_array
from distort_pipeline.data.corpus_pixels import EXAMPLE_PX, middle, read_truth
from distort_pipeline.data.plans import tile_shard
from distort_pipeline.records import Image, SampleRecord
from distort_pipeline.reports.pages import amplified_residual

GAIN = 4  # of a residual
COLUMNS = ("pristine", "generated", "true", "generated residual", "true residual")


@dataclass(frozen=True)
class Example:
    """A sample of a corpus, large images cropped to the centre; `true` is None if no true image is stored."""

    record: SampleRecord
    pristine: Image
    generated: Image
    true: Image | None

    def cells(self) -> dict[str, Image]:
        """Return the available images by COLUMNS, of equal size, residuals amplified by GAIN."""
        cells = {"pristine": self.pristine, "generated": self.generated}
        if self.true is not None:
            cells["true"] = self.true
        cells["generated residual"] = amplified_residual(self.pristine, self.generated, GAIN)
        if self.true is not None:
            cells["true residual"] = amplified_residual(self.pristine, self.true, GAIN)
        return cells


def batch_examples(corpus: CorpusStore, batch: str, count: int, *, fill: bool = False) -> list[Example]:
    """Return at most `count` examples of a batch: samples with stored true images, or else the first samples.

    With `fill`, other samples make up the count.
    """
    records = corpus.batch_records(batch)
    true = _kept_true(corpus, records)
    first = [record for record in records if record.sample in true]
    chosen = [*first, *(record for record in records if record.sample not in true)] if fill or not first else first
    return [_example(corpus, record, true) for record in chosen[:count]]


def image_examples(corpus: CorpusStore, distortion: str, image: str, count: int) -> list[Example]:
    """Return at most `count` examples of an image and a distortion, samples with stored true images first."""
    images = corpus.table()["image"].to_numpy()
    indices = corpus.select([distortion])
    records = [corpus.record(int(index)) for index in indices[images[indices] == image]]
    true = _kept_true(corpus, records)
    chosen = sorted(records, key=lambda record: record.sample not in true)
    return [_example(corpus, record, true) for record in chosen[:count]]


def _kept_true(corpus: CorpusStore, records: Sequence[SampleRecord]) -> dict[int, Image]:
    """Return the stored true images of `records`, by sample."""
    by_sample = [record for record in records if corpus.metadata.conditions[corpus.condition_of(record)].sample_truths]
    if by_sample:
        return _kept_by_batches(corpus, by_sample)
    per_shard = corpus.metadata.settings.samples_per_shard
    true: dict[tuple[str, int], Image] = {}  # by condition and tile
    for shard in dict.fromkeys(record.tile // per_shard for record in records):
        truth = read_truth(corpus.folder, tile_shard(shard))
        numbers = [truth.first_tile + int(row) for row in truth.example_rows]
        for condition in dict.fromkeys(map(corpus.condition_of, records)):
            true |= zip([(condition, tile) for tile in numbers], truth.examples.get(condition, ()), strict=False)
    first = {(corpus.condition_of(record), record.tile): record.sample for record in reversed(records)}  # a tile once
    return {first[key]: image for key, image in true.items() if key in first}


def _kept_by_batches(corpus: CorpusStore, records: Sequence[SampleRecord]) -> dict[int, Image]:
    """Return the stored true images of `records` from truth files of batches, by sample."""
    size = corpus.metadata.settings.samples_per_shard
    kept: dict[tuple[str, int], Image] = {}  # by condition and slot
    for condition, batch in dict.fromkeys((corpus.condition_of(record), record.batch) for record in records):
        truth = read_truth(corpus.folder, f"{condition}-{batch:05d}")
        slots = [(condition, batch * size + int(row)) for row in truth.example_rows]
        kept |= zip(slots, next(iter(truth.examples.values()), ()), strict=False)
    samples = {(corpus.condition_of(record), record.slot): record.sample for record in records}
    return {samples[key]: image for key, image in kept.items() if key in samples}


def _example(corpus: CorpusStore, record: SampleRecord, true: Mapping[int, Image]) -> Example:
    (pristine,) = corpus.images(PRISTINE, [record.tile])
    (generated,) = corpus.images(distorted_array(corpus.condition_of(record)), [record.slot])
    filled = (slice(min(record.height, EXAMPLE_PX)), slice(min(record.width, EXAMPLE_PX)))  # the rest is padding
    kept = true.get(record.sample)
    return Example(record, middle(pristine)[filled], middle(generated)[filled], None if kept is None else kept[filled])
