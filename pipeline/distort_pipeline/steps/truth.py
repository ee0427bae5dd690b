"""Reference tiles, and the true distortions that generated tiles are compared with.

Tiles are cut and stored once for all conditions, shard by shard. The truth of conditions of fixed severity is measured
with them, since all batches share it. A batch of varied severities, or of a composite, has a truth file of its own: for
a few severities of a few images, the whole image is distorted and the tiles are cut from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.conditions import Condition, levels_of, same_level
from distort_pipeline.data.corpora import PRISTINE
from distort_pipeline.data.corpus_pixels import ShardWriter, Truth, middle, read_truth, truth_of, write_truth_arrays
from distort_pipeline.data.leases import LedgerEntry
from distort_pipeline.data.plans import Batch, PlannedSample, ReferenceTile, tile_shard
from distort_pipeline.data.sources import IMAGES_IN_MEMORY, read_ingested
from distort_pipeline.distortions import apply, is_random
from distort_pipeline.metrics.acceptance import TileStatistics, tile_statistics
from distort_pipeline.metrics.jsd_nss import COUNTS, nss_histograms, product_histogram
from distort_pipeline.models.card import DistortionSpec
from distort_pipeline.networks.wavelets import significance_of
from distort_pipeline.records import (
    Image,
    ImageRecord,
    TileRecord,
    canonical,
    derive_seed,
    make_rng,
    sample_seed,
)
from distort_pipeline.reports.batch import TruthStats

EXAMPLES = 2  # tiles of each shard with true distortions kept as pixels, for the side-by-sides of reports
TILES_PER_IMAGE = 2  # compared with the truth: with four, `generate` took a sixth more time
TRUTH_DRAW = 1_000_000  # no sample of a corpus has the noise of its truth

Item = TypeVar("Item")


@dataclass(frozen=True)
class TrueStep:
    """One distortion of an image, with its seed."""

    distortion: str
    parameters: Mapping[str, float]
    seed: int

    @property
    def redrawn(self) -> TrueStep:
        """The same distortion, drawn anew."""
        return TrueStep(self.distortion, self.parameters, derive_seed(self.seed, "redrawn"))


@dataclass(frozen=True)
class TrueImage:
    """The true distortions to measure on the tiles `rows` of one image."""

    rows: Sequence[int]
    steps: Mapping[str, Sequence[TrueStep]]  # name → distortions in the order of application
    scored: Collection[str]  # names with statistics, redraws and examples too; the others have histograms only


def measure_truth(
    tiles: Sequence[ReferenceTile], images: Sequence[TrueImage], example_rows: Sequence[int], *, root: Path
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a truth file that are of true distortions: each whole image is distorted, then cut."""
    measured: dict[str, dict[int, Any]] = {}
    for image in images:
        pristine = read_ingested(root, tiles[image.rows[0]].image)
        for name, steps in image.steps.items():
            draws = {"": steps}
            if name in image.scored and any(is_random(step.distortion) for step in steps):
                draws["redrawn_"] = [step.redrawn for step in steps]
            for prefix, draw in draws.items():
                distorted = _truly_distorted(pristine, draw)
                for row in image.rows:
                    clean, true = cut_tile(pristine, tiles[row]), cut_tile(distorted, tiles[row])
                    histograms = nss_histograms(true).astype(np.int32)
                    measured.setdefault(f"{prefix}histogram/{name}", {})[row] = histograms
                    if name in image.scored:
                        measured.setdefault(f"{prefix}statistics/{name}", {})[row] = tile_statistics(clean, true)
                        if row in example_rows and not prefix:
                            measured.setdefault(f"example/{name}", {})[row] = middle(true)
    return {
        "rows": np.array(sorted(row for image in images for row in image.rows), np.int64),
        "example_rows": np.array(example_rows, np.int64),
        **{name: np.stack([values[row] for row in sorted(values)]) for name, values in measured.items()},
    }


def _truly_distorted(image: Image, steps: Iterable[TrueStep]) -> Image:
    for step in steps:
        image = apply(step.distortion, image, step.parameters, make_rng(step.seed)).image
    return image


def cut_tile(image: Image, reference: ReferenceTile) -> Image:
    """Return the tile of its whole image."""
    tile = reference.tile
    return image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


@dataclass(frozen=True)
class TileTask:
    """The task of one shard of reference tiles."""

    work: Path
    root: Path
    number: int
    tiles: tuple[ReferenceTile, ...]
    truths: tuple[DistortionSpec, ...]  # of the conditions of fixed severity
    truth_images: int
    seed: int
    whole_images: bool
    significances: bool  # whether a generator needs the significance of the tiles' images

    @property
    def name(self) -> str:
        """The name in the ledger and of the record file."""
        return tile_shard(self.number)


def make_tile_shard(task: TileTask) -> LedgerEntry:
    """Write one shard of reference tiles: pixels, records, truth, then the entry of the ledger. Return the entry."""
    slots = [reference.number for reference in task.tiles]
    shard = ShardWriter(task.work, task.name, PRISTINE, slots, whole_images=task.whole_images)
    histograms = []
    for reference in task.tiles:
        tile = cut_tile(read_ingested(task.root, reference.image), reference).copy()  # a view would keep the image
        shard.add(tile)
        histograms.append(product_histogram(tile))
    records = [
        TileRecord(
            tile=reference.number,
            image=reference.image.id,
            image_digest=reference.image.image_digest,
            split=reference.image.split,
            y=reference.tile.y,
            x=reference.tile.x,
            height=reference.tile.height,
            width=reference.tile.width,
        )
        for reference in task.tiles
    ]
    images = _shared_images(task.tiles, task.truths, images=task.truth_images, seed=task.seed)
    truth = {
        "first_tile": np.array(task.tiles[0].number),
        "pristine": np.stack(histograms),
        **measure_truth(task.tiles, images, [image.rows[0] for image in images[:EXAMPLES]], root=task.root),
    }
    if task.significances:
        truth["significances"] = np.stack([_significance(task.root, tile.image) for tile in task.tiles])
    file, truth_digest = write_truth_arrays(task.work, task.name, truth)
    return shard.finish(records, [file], tiles=len(records), truth=truth_digest)


def _shared_images(
    tiles: Sequence[ReferenceTile], specs: Sequence[DistortionSpec], *, images: int, seed: int
) -> list[TrueImage]:
    """Return the true distortions of a shard: all `specs`, on the tiles of some `images`, evenly chosen."""
    by_image: dict[str, list[int]] = {}
    for row, reference in enumerate(tiles):
        by_image.setdefault(reference.image.id, []).append(row)
    names = [spec.name for spec in specs]
    chosen = []
    for image_rows in _evenly(list(by_image.values()), images if specs else 0):
        rows = _evenly(image_rows, TILES_PER_IMAGE)
        sha = tiles[rows[0]].image.image_digest
        steps = {
            spec.name: [
                TrueStep(
                    spec.distortion,
                    spec.parameters,
                    sample_seed(seed, sha, spec.distortion, spec.level, TRUTH_DRAW),
                )
            ]
            for spec in specs
        }
        chosen.append(TrueImage(rows, steps, names))
    return chosen


def _evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` of `items`, or all, evenly spaced from the first to the last.

    >>> _evenly("abcdefg", 3), _evenly("ab", 3), _evenly("abc", 0)
    (['a', 'd', 'g'], ['a', 'b'], [])
    """
    indices = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[index] for index in indices]


@lru_cache(maxsize=IMAGES_IN_MEMORY)
def _significance(root: Path, image: ImageRecord) -> NDArray[np.float32]:
    return significance_of(read_ingested(root, image))


@dataclass(frozen=True)
class BatchTruth:
    """The truth of a batch."""

    stats: TruthStats
    examples: Mapping[int, Image]  # row of a sample → its true image
    file: Path | None = None  # of a batch with a truth file of its own
    digest: str = ""  # of the arrays in that file


class SharedTruth:
    """The truth files of the shards with the reference tiles of a batch's samples."""

    def __init__(self, work: Path, samples: Sequence[PlannedSample], tiles_per_shard: int) -> None:
        self._places = [divmod(sample.tile.number, tiles_per_shard) for sample in samples]
        self._truths = {shard: read_truth(work, tile_shard(shard)) for shard in sorted({at for at, _ in self._places})}

    @property
    def rows(self) -> list[int]:
        """The rows of the samples with true distortions."""
        return [index for index, (shard, row) in enumerate(self._places) if row in self._truths[shard].rows]

    @property
    def pristine(self) -> NDArray[np.int64]:
        """The histograms (n, 103) of the samples' reference tiles."""
        return np.stack([self._truths[shard].pristine[row] for shard, row in self._places])

    @property
    def significances(self) -> NDArray[np.float32] | None:
        """The significance (n, 18) of the images of the samples' tiles; None if not stored."""
        rows = [(self._truths[shard].significances, row) for shard, row in self._places]
        known = [significances[row] for significances, row in rows if significances is not None]
        return np.stack(known) if len(known) == len(rows) else None

    def truth(self, condition: Condition, conditions: Sequence[Condition]) -> BatchTruth:
        """Return the truth of a batch of `condition`, with the `conditions` of the corpus compared with it."""
        found = []
        for index in self.rows:
            shard, row = self._places[index]
            found.append((index, self._truths[shard], int(np.searchsorted(self._truths[shard].rows, row))))
        stats = _stats(found, condition.name, same_level(condition, conditions), levels_of(condition, conditions))
        return BatchTruth(stats, {row: image for row, image in self.examples(condition).items() if image is not None})

    def examples(self, condition: Condition) -> dict[int, Image | None]:
        """Return the rows of the samples to show, each with its true image: those with stored pixels.

        Without any, the first samples are shown, their true images unknown.
        """
        row_of = {place: row for row, place in reversed(list(enumerate(self._places)))}
        stored: dict[int, Image | None] = {
            row_of[shard, int(row)]: image
            for shard, truth in self._truths.items()
            for row, image in zip(truth.example_rows, truth.examples.get(condition.name, ()), strict=False)
            if (shard, int(row)) in row_of
        }
        return stored or dict.fromkeys(range(min(EXAMPLES, len(self._places))))


def own_truth(
    batch: Batch,
    rows: Sequence[int],
    specs: Sequence[Sequence[DistortionSpec]],
    *,
    work: Path,
    root: Path,
    seed: int,
) -> BatchTruth:
    """Write the truth file of a batch and return the truth of the samples `rows`.

    `specs` are each sample's distortions, applied in order; none without a truth. A composite is accompanied by each
    of its distortions alone, for the comparison of the batch with its parts.
    """
    name, tiles = batch.condition.distortion, [sample.tile for sample in batch.samples]
    by_distortion: dict[tuple[str, str], list[int]] = {}  # samples of one image with equal parameters
    for row in rows if all(specs) else ():
        parameters = canonical([spec.parameters for spec in specs[row]])
        by_distortion.setdefault((tiles[row].image.id, parameters), []).append(row)
    chosen = [
        TrueImage(equal, _steps(name, specs[equal[0]], tiles[equal[0]].image.image_digest, seed), [name])
        for equal in by_distortion.values()
    ]
    arrays = {
        "first_tile": np.array(0),
        "pristine": np.zeros((0, COUNTS), np.int64),
        **measure_truth(tiles, chosen, rows_to_show(batch, rows) if chosen else [], root=root),
    }
    file, truth_digest = write_truth_arrays(work, batch.name, arrays)
    truth = truth_of(arrays)
    names = {kind: kind for kind in truth.histograms}
    stats = _stats([(int(row), truth, index) for index, row in enumerate(truth.rows)], name, names, {})
    examples = dict(zip(truth.example_rows.tolist(), truth.examples.get(name, ()), strict=True))
    return BatchTruth(stats, examples, file, truth_digest)


def _stats(
    found: Sequence[tuple[int, Truth, int]], own: str, names: Mapping[str, str], levels: Mapping[str, int]
) -> TruthStats:
    """Return the measures of the samples with true tiles; `found` has (row in the batch, truth, row in its arrays).

    `own` is the distortion, or the condition, of the batch.
    """
    known = found[0][1] if found else None

    def histograms(condition: str) -> NDArray[np.int64]:
        return np.stack([truth.jsd_nss(condition)[row] for _, truth, row in found])

    def statistics(kind: str) -> TileStatistics | None:
        if known is None or own not in getattr(known, kind):
            return None
        rows = [(getattr(truth, kind)[own], row) for _, truth, row in found]
        values, features = ([getattr(tiles, part)[row] for tiles, row in rows] for part in ("values", "histograms"))
        return TileStatistics(np.stack(values), np.stack(features))

    stored = known.histograms if known else {}
    return TruthStats(
        np.array([index for index, _, _ in found], np.int64),
        histograms={name: histograms(condition) for condition, name in names.items() if condition in stored},
        levels={level: histograms(condition) for condition, level in levels.items() if condition in stored},
        true=statistics("statistics"),
        redrawn=statistics("redrawn"),
    )


def judged_rows(batch: Batch, images: int) -> list[int]:
    """Return the rows of the samples with statistics: TILES_PER_IMAGE of each of `images` images, evenly chosen."""
    by_image: dict[str, list[int]] = {}
    for row, sample in enumerate(batch.samples):
        by_image.setdefault(sample.tile.image.id, []).append(row)
    return sorted(row for rows in _evenly(list(by_image.values()), images) for row in _evenly(rows, TILES_PER_IMAGE))


def rows_to_show(batch: Batch, rows: Sequence[int]) -> list[int]:
    """Return those of `rows` with true pixels kept: the first sample of each of EXAMPLES images."""
    first = {batch.samples[row].tile.image.id: row for row in reversed(rows)}
    return sorted(first.values())[:EXAMPLES]


def _steps(name: str, specs: Sequence[DistortionSpec], image_digest: str, seed: int) -> dict[str, Sequence[TrueStep]]:
    """Return the distortions to apply by name: all `specs` in order, and for a composite each alone."""

    def step(index: int, spec: DistortionSpec) -> TrueStep:
        draw = derive_seed(seed, "truth", image_digest, spec.name, index, canonical(spec.parameters))
        return TrueStep(spec.distortion, spec.parameters, draw)

    parts = {spec.name: [step(0, spec)] for spec in specs} if len(specs) > 1 else {}
    return {name: [step(index, spec) for index, spec in enumerate(specs)], **parts}
