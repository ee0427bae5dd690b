"""Reference tiles: cut and stored once; the true distortions of some tiles are measured once for all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.arrays import PixelDigest, create_group, write_image, write_samples
from distort_pipeline.data.corpora import PRISTINE, files_of, image_array
from distort_pipeline.data.files import Ledger
from distort_pipeline.data.plans import ReferenceTile, tile_shard
from distort_pipeline.data.sources import IMAGES_IN_MEMORY, read_ingested
from distort_pipeline.data.tables import write_table
from distort_pipeline.data.truths import middle, write_truth_arrays
from distort_pipeline.distortions import apply
from distort_pipeline.metrics.full_reference import psnr, ssim
from distort_pipeline.metrics.nss_features import product_histogram
from distort_pipeline.models.store import arrays_digest
from distort_pipeline.networks.wavelets import Significance, significance_of
from distort_pipeline.records import Image, ImageRecord, TileRecord, digest, digest_rows, make_rng, sample_seed
from distort_pipeline.steps.truth import EXAMPLES, DistortionSpec, cut_tile, nan_if_infinite

Item = TypeVar("Item")

TRUTH_DRAW = 1_000_000  # no sample of a corpus has the noise of its truth


@dataclass(frozen=True)
class TileTask:
    """The task of one shard of reference tiles."""

    work: Path
    root: Path
    number: int
    tiles: tuple[ReferenceTile, ...]
    truths: tuple[DistortionSpec, ...]
    truth_images: int
    seed: int
    whole_images: bool
    significances: bool  # whether a generator needs the significance of the tiles' images

    @property
    def name(self) -> str:
        """The name in the ledger and of the record file."""
        return tile_shard(self.number)


def make_tile_shard(task: TileTask) -> str:
    """Write one shard of reference tiles: pixels, records, truth, then the entry of the ledger. Return its name."""
    pixels, histograms = _write_tiles(task)
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
    table = task.work / "records" / f"{task.name}.parquet"
    write_table(table, records, TileRecord)
    truth = _truth(task, histograms)
    truth_file = write_truth_arrays(task.work, task.name, truth)
    entry = {
        "shard": task.name,
        "tiles": len(records),
        "pixels": pixels,
        "records": digest_rows(records),
        "truth": arrays_digest(truth),
    }
    pixel_files = files_of(task.work, PRISTINE, [tile.number for tile in task.tiles], whole_images=task.whole_images)
    Ledger(task.work).note(task.name, {**entry, "digest": digest(entry)}, [*pixel_files, table, truth_file])
    return task.name


def _write_tiles(task: TileTask) -> tuple[str, NDArray[np.int64]]:
    """Write the pixels of the shard; return their digest and the tiles' histograms."""
    group, pixels = create_group(task.work), PixelDigest()
    histograms, tiles = [], []
    for reference in task.tiles:
        tile = _pristine(task, reference)
        pixels.add(tile)
        histograms.append(product_histogram(tile))
        if task.whole_images:
            write_image(task.work, image_array(PRISTINE, reference.number), tile)
        else:
            tiles.append(tile.copy())  # a view would keep the whole image in memory
    if tiles:
        write_samples(task.work, group[PRISTINE], task.tiles[0].number, np.stack(tiles))
    return pixels.hexdigest(), np.stack(histograms)


def _truth(task: TileTask, histograms: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a truth file: statistics of the true distortions, on the tiles of some images."""
    by_image: dict[str, list[int]] = {}
    for row, reference in enumerate(task.tiles):
        by_image.setdefault(reference.image.id, []).append(row)
    chosen = _evenly(list(by_image.values()), task.truth_images) if task.truths else []
    rows = [row for image_rows in chosen for row in image_rows]
    example_rows = [image_rows[0] for image_rows in chosen[:EXAMPLES]]
    measures: dict[str, list[Any]] = {
        f"{kind}/{truth.name}": [] for truth in task.truths for kind in ("histogram", "psnr", "ssim", "example")
    }
    for image_rows in chosen:
        for truth in task.truths:
            distorted = _truly_distorted(task, truth, task.tiles[image_rows[0]])
            for row in image_rows:
                clean, true = _pristine(task, task.tiles[row]), cut_tile(distorted, task.tiles[row])
                measures[f"histogram/{truth.name}"].append(product_histogram(true))
                measures[f"psnr/{truth.name}"].append(nan_if_infinite(psnr(clean, true)))
                measures[f"ssim/{truth.name}"].append(ssim(clean, true))
                if row in example_rows:
                    measures[f"example/{truth.name}"].append(middle(true))
    arrays = {
        "first_tile": np.array(task.tiles[0].number),
        "pristine": histograms,
        "rows": np.array(rows, np.int64),
        "example_rows": np.array(example_rows, np.int64),
        **{name: np.stack(values) for name, values in measures.items()},
    }
    if task.significances:
        arrays["significances"] = np.stack([_significance(task.root, tile.image) for tile in task.tiles])
    return arrays


def _evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` of `items`, or all, evenly spaced from the first to the last.

    >>> _evenly("abcdefg", 3), _evenly("ab", 3), _evenly("abc", 0)
    (['a', 'd', 'g'], ['a', 'b'], [])
    """
    indices = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[index] for index in indices]


def _truly_distorted(task: TileTask, truth: DistortionSpec, reference: ReferenceTile) -> Image:
    """Return the whole image of `reference`, truly distorted."""
    seed = sample_seed(task.seed, reference.image.image_digest, truth.distortion, truth.level, TRUTH_DRAW)
    pristine = read_ingested(task.root, reference.image)
    return apply(truth.distortion, pristine, truth.parameters, make_rng(seed)).image


@lru_cache(maxsize=IMAGES_IN_MEMORY)
def _significance(root: Path, image: ImageRecord) -> Significance:
    return significance_of(read_ingested(root, image))


def _pristine(task: TileTask, reference: ReferenceTile) -> Image:
    return cut_tile(read_ingested(task.root, reference.image), reference)
