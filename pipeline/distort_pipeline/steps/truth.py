"""The true distortions of batches: measured once for all samples of a tile, or for each sample of a varied batch.

Batches of one distortion at a fixed severity share the truth files of their reference tiles' shards. A batch of varied
severities, or of a composite, has a truth file of its own: the whole image is distorted at each severity and the tiles
are cut from it, for a few severities of a few images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.conditions import COMPOSITE_SEPARATOR
from distort_pipeline.data.plans import ReferenceTile
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.data.truths import Truth, middle
from distort_pipeline.distortions import apply
from distort_pipeline.metrics.full_reference import psnr, ssim
from distort_pipeline.metrics.nss_features import COUNTS, product_histogram
from distort_pipeline.models.card import ModelCard
from distort_pipeline.models.store import TrainedGenerator, load_generator
from distort_pipeline.networks.composed import ComposedPredictor, TileSource
from distort_pipeline.networks.wavelets import Significances
from distort_pipeline.records import Image, ImageRecord, Images, canonical, derive_seed, make_rng
from distort_pipeline.reports.batch import TruthStats

EXAMPLES = 2  # tiles of each shard with true distortions kept as pixels, for the side-by-sides of reports
SEVERITIES_PER_IMAGE = 4  # as many codec runs an image as in a corpus of four distortions


@dataclass(frozen=True)
class DistortionSpec:
    """A distortion of the registry with the parameters of a model, or of a condition."""

    name: str  # of the condition, in a composite of the model: two models may have learned one distortion
    distortion: str
    level: int  # of the condition; 0 in a batch of varied severities, or of a composite
    parameters: Mapping[str, float]


def truth_stats(
    truths: Mapping[int, Truth],
    numbers: Sequence[int],
    tiles_per_shard: int,
    *,
    same_level_conditions: Mapping[str, str],
    condition_levels: Mapping[str, int],
) -> TruthStats:
    """Return the measures of the true distortions, for the samples with true tiles; `numbers` are the samples' tiles.

    `truths` are by shard number. `same_level_conditions` (condition → distortion) are compared with the batch,
    `condition_levels` (condition → level) are the other levels of its distortion.
    """
    indices: list[int] = []
    rows: list[tuple[Truth, int]] = []
    for index, number in enumerate(numbers):
        truth = truths[number // tiles_per_shard]
        row = int(np.searchsorted(truth.rows, number % tiles_per_shard))
        if row < len(truth.rows) and truth.rows[row] == number % tiles_per_shard:
            indices.append(index)
            rows.append((truth, row))
    known = rows[0][0].histograms if rows else {}
    columns = {condition: name for condition, name in same_level_conditions.items() if condition in known}
    return TruthStats(
        np.array(indices, np.int64),
        histograms={
            name: np.stack([truth.histograms[condition][row] for truth, row in rows])
            for condition, name in columns.items()
        },
        psnr={
            name: np.array([truth.psnr[condition][row] for truth, row in rows]) for condition, name in columns.items()
        },
        ssim={
            name: np.array([truth.ssim[condition][row] for truth, row in rows]) for condition, name in columns.items()
        },
        levels={
            level: np.stack([truth.histograms[condition][row] for truth, row in rows])
            for condition, level in condition_levels.items()
            if condition in known
        },
    )


def true_examples(truths: Mapping[int, Truth], numbers: Sequence[int], condition: str) -> dict[int, Image]:
    """Return index in the batch → true image, for the samples with pixels in the truth files of their shards."""
    index_of = {number: index for index, number in reversed(list(enumerate(numbers)))}
    examples: dict[int, Image] = {}
    for truth in truths.values():
        images = truth.examples.get(condition)
        for position, row in enumerate(truth.example_rows):
            index = index_of.get(truth.first_tile + int(row))
            if images is not None and index is not None:
                examples[index] = images[position]
    return examples


def sample_truth(
    name: str,
    tiles: Sequence[ReferenceTile],
    specs: Sequence[Sequence[DistortionSpec]],
    *,
    root: Path,
    images: int,
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a truth file, by name; `specs` are each sample's true distortions, in order of application.

    Rows are indices of samples in the batch, of its first `images` images. A composite is accompanied by each of its
    distortions alone, for the comparison of the batch with its parts.
    """
    chosen = _chosen(tiles, specs, images)
    rows = sorted(row for image_rows in chosen.values() for row in image_rows)
    example_rows = rows_to_show(tiles, images)
    arrays: dict[str, dict[int, Any]] = {}
    for image_rows in chosen.values():
        first = image_rows[0]
        for kind, kind_specs in _with_parts(name, specs[first]).items():
            distorted = _truly_distorted(root, tiles[first].image, kind_specs, seed)
            for row in image_rows:
                clean, true = (
                    cut_tile(read_ingested(root, tiles[row].image), tiles[row]),
                    cut_tile(distorted, tiles[row]),
                )
                arrays.setdefault(f"histogram/{kind}", {})[row] = product_histogram(true)
                if kind == name:
                    arrays.setdefault(f"psnr/{kind}", {})[row] = nan_if_infinite(psnr(clean, true))
                    arrays.setdefault(f"ssim/{kind}", {})[row] = ssim(clean, true)
                    if row in example_rows:
                        arrays.setdefault(f"example/{kind}", {})[row] = middle(true)
    return {
        "first_tile": np.array(0),
        "pristine": np.zeros((0, COUNTS), np.int64),
        "rows": np.array(rows, np.int64),
        "example_rows": np.array(example_rows, np.int64),
        **{key: np.stack([values[row] for row in sorted(values)]) for key, values in arrays.items()},
    }


def rows_to_show(tiles: Sequence[ReferenceTile], images: int) -> list[int]:
    """Return the indices of samples with true pixels kept: the first sample of some of the first `images` images."""
    first = {tile.image.id: index for index, tile in reversed(list(enumerate(tiles)))}
    return sorted(first.values())[: min(EXAMPLES, images)]


def cut_tile(image: Image, reference: ReferenceTile) -> Image:
    """Return the tile of its whole image."""
    tile = reference.tile
    return image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


def nan_if_infinite(value: float) -> float:
    """Return `value`, or NaN for an infinite value."""
    return value if math.isfinite(value) else math.nan


def _chosen(
    tiles: Sequence[ReferenceTile], specs: Sequence[Sequence[DistortionSpec]], images: int
) -> dict[tuple[str, str], list[int]]:
    """Return (image, parameters) → indices of samples, up to SEVERITIES_PER_IMAGE of each of the first `images`."""
    by_image: dict[str, dict[str, list[int]]] = {}
    for row, (tile, sample_specs) in enumerate(zip(tiles, specs, strict=True)):
        parameters = canonical([spec.parameters for spec in sample_specs])
        by_image.setdefault(tile.image.id, {}).setdefault(parameters, []).append(row)
    return {
        (image, parameters): rows
        for image, severities in list(by_image.items())[:images]
        for parameters, rows in list(severities.items())[:SEVERITIES_PER_IMAGE]
    }


def _with_parts(name: str, specs: Sequence[DistortionSpec]) -> dict[str, Sequence[DistortionSpec]]:
    """Return the distortions to apply, by name: all specs in order, and for a composite each spec alone."""
    parts: dict[str, Sequence[DistortionSpec]] = {spec.name: [spec] for spec in specs} if len(specs) > 1 else {}
    return {name: specs, **parts}


def _truly_distorted(root: Path, record: ImageRecord, specs: Sequence[DistortionSpec], seed: int) -> Image:
    """Return the whole image under all `specs`; its seeds occur in no sample of a corpus."""
    image = read_ingested(root, record)
    for index, spec in enumerate(specs):
        draw = derive_seed(seed, "truth", record.image_digest, spec.name, index, canonical(spec.parameters))
        image = apply(spec.distortion, image, spec.parameters, make_rng(draw)).image
    return image


@dataclass(frozen=True)
class CompositeGenerator:
    """Generators by the names of their models, in the order of application."""

    generators: Mapping[str, TrainedGenerator]

    @property
    def cards(self) -> dict[str, ModelCard]:
        """The model cards, by name."""
        return {name: generator.card for name, generator in self.generators.items()}

    @property
    def digest(self) -> str:
        """The digests of the weights."""
        return COMPOSITE_SEPARATOR.join(generator.digest for generator in self.generators.values())

    def set_sources(self, sources: Mapping[int, TileSource]) -> None:
        """Tell the first generator which image the tile of each sample is of, by the sample's seed."""
        first = next(iter(self.generators.values())).predictor
        if isinstance(first, ComposedPredictor):
            first.set_sources(sources)

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Iterator[Images]:
        """Yield `images` (N, H, W, 3) distorted, each with its seed and severity, batch by batch.

        The output of each generator is rounded to 8 bits, as in a file. `significances` (N, 18) belong to the whole
        images of these tiles and serve the first generator; the others compute the significance of each tile alone.
        """
        first, *others = (generator.predictor for generator in self.generators.values())
        start = 0
        for batch in first.distort_batches(images, seeds, severities, significances):
            rows, distorted = slice(start, start + len(batch)), batch
            for index, predictor in enumerate(others, start=1):
                draw_seeds = [derive_seed(seed, index) for seed in seeds[rows]]
                distorted = predictor.distort(distorted, draw_seeds, severities[rows])
            yield distorted
            start = rows.stop


def load_composite(models: Mapping[str, Path], *, batch_size: int, precision: str) -> CompositeGenerator:
    """Return the generators of the model folders `models`, by name; each is loaded once in a process."""
    return CompositeGenerator(
        {name: load_generator(path, batch_size=batch_size, precision=precision) for name, path in models.items()}
    )
