"""What is true of a batch whose samples differ in strength, or are mixes: some of them, truly distorted as they were.

The whole photograph is distorted for each strength, and the tile cut out of it: a few strengths of a few photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.distortions import apply
from distort_pipeline.pixels import Image
from distort_pipeline.planning.corpora import ReferenceTile
from distort_pipeline.records import ImageRecord, canonical
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.histograms import COUNTS, product_histogram
from distort_pipeline.statistics.ssim import ssim
from distort_pipeline.stores.ingested import read_ingested
from distort_pipeline.stores.truths import middle
from distort_pipeline.tasks.reference_tiles import EXAMPLES, cut, finite

STRENGTHS = 4  # of each photograph: as many codec runs a photograph as a corpus of four distortions has


@dataclass(frozen=True)
class DistortionSpec:
    """One distortion of the registry, with its parameters."""

    model: str  # that learned it
    distortion: str
    parameters: Mapping[str, float]


def sample_truth(
    name: str,
    tiles: Sequence[ReferenceTile],
    steps: Sequence[Sequence[DistortionSpec]],
    *,
    root: Path,
    images: int,
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a truth file, by name; `steps` are each sample's true distortions, in order of application.

    Rows are places of samples in the batch, of its first `images` photographs. Beside the whole mix stands what each
    of its distortions makes alone, so that one sees whether a mix is nearer to one of its parts.
    """
    chosen = _chosen(tiles, steps, images)
    rows = sorted(row for own in chosen.values() for row in own)
    examples = rows_to_show(tiles, images)
    found: dict[str, dict[int, Any]] = {}
    for own in chosen.values():
        for kind, parts in _wanted(name, steps[own[0]]).items():
            whole = _truly_distorted(root, tiles[own[0]].image, parts, seed)
            for row in own:
                clean, true = cut(read_ingested(root, tiles[row].image), tiles[row]), cut(whole, tiles[row])
                found.setdefault(f"histogram/{kind}", {})[row] = product_histogram(true)
                if kind == name:
                    found.setdefault(f"psnr/{kind}", {})[row] = finite(psnr(clean, true))
                    found.setdefault(f"ssim/{kind}", {})[row] = ssim(clean, true)
                    if row in examples:
                        found.setdefault(f"example/{kind}", {})[row] = middle(true)
    return {
        "first_tile": np.array(0),
        "pristine": np.zeros((0, COUNTS), np.int64),
        "rows": np.array(rows, np.int64),
        "example_rows": np.array(examples, np.int64),
        **{key: np.stack([values[row] for row in sorted(values)]) for key, values in found.items()},
    }


def rows_to_show(tiles: Sequence[ReferenceTile], images: int) -> list[int]:
    """Return the places whose true images are kept as pixels: the first sample of some of the first `images`."""
    first = {tile.image.id: place for place, tile in reversed(list(enumerate(tiles)))}
    return sorted(first.values())[: min(EXAMPLES, images)]


def _chosen(
    tiles: Sequence[ReferenceTile], steps: Sequence[Sequence[DistortionSpec]], images: int
) -> dict[tuple[str, str], list[int]]:
    """Return (photograph, strength) → places of its samples: STRENGTHS of each of the first photographs, or fewer."""
    by_image: dict[str, dict[str, list[int]]] = {}
    for row, (tile, own) in enumerate(zip(tiles, steps, strict=True)):
        strength = canonical([step.parameters for step in own])
        by_image.setdefault(tile.image.id, {}).setdefault(strength, []).append(row)
    return {
        (image, strength): rows
        for image, strengths in list(by_image.items())[:images]
        for strength, rows in list(strengths.items())[:STRENGTHS]
    }


def _wanted(name: str, steps: Sequence[DistortionSpec]) -> dict[str, Sequence[DistortionSpec]]:
    """Return what is made of a photograph, by name: all steps in order, and of several each alone."""
    alone: dict[str, Sequence[DistortionSpec]] = {step.model: [step] for step in steps} if len(steps) > 1 else {}
    return {name: steps, **alone}


def _truly_distorted(root: Path, record: ImageRecord, steps: Sequence[DistortionSpec], seed: int) -> Image:
    """Return the whole photograph under all `steps`; no sample of a corpus has the seeds of this."""
    image = read_ingested(root, record)
    for place, step in enumerate(steps):
        own = derive_seed(seed, "truth", record.image_digest, step.model, place, canonical(step.parameters))
        image = apply(step.distortion, image, step.parameters, make_rng(own)).image
    return image
