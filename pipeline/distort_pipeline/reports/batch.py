"""The report of one batch: its divergences, the bounds they are held to, and what to compare them with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.records import SampleRecord
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.statistics.divergence import jsd_bits, jsd_nats
from distort_pipeline.statistics.noise_floor import (
    MIN_THRESHOLD_BITS,
    QUANTILE,
    between_content_baseline,
    bootstrap_threshold,
    bootstrap_threshold_unpaired,
    split_half_floor,
)
from distort_pipeline.stores.models import ValidationHistograms

FORMAT = "distort-pipeline/report"
VERSION = 3

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TruthStats:
    """Measures of the true distortions (by name) of the same tiles as the samples at `places` of the batch, (m,)."""

    places: NDArray[np.int64]
    histograms: Mapping[str, Counts]  # (m, 103)
    psnr: Mapping[str, NDArray[np.float64]]
    ssim: Mapping[str, NDArray[np.float64]]
    levels: Mapping[int, Counts] = field(default_factory=dict)  # (m, 103): of the batch's own distortion, by level


@dataclass(frozen=True)
class BatchMeasures:
    """All that a report is made of; `generated` and `pristine` are (n, 103), row by row the records' samples."""

    records: Sequence[SampleRecord]
    generated: Counts
    pristine: Counts
    truth: TruthStats


def batch_report(
    measures: BatchMeasures, stored: Sequence[Sequence[ValidationHistograms]], *, external: bool, seed: int
) -> dict[str, Any]:
    """Return the report of a batch; `stored` are the validation tiles' histograms of each of its generators.

    `brought` says whether one of them learned from brought pairs.

    Of each generator, that is of the learned levels that the batch's severities are, or lie between. The judge is the
    divergence paired with the true distortion of the same tiles, where there is one; only where none of the batch's
    tiles has one (brought pairs) it is the one to the model's stored true histogram, which measures content too. Bounds
    are the 99 % quantile of bootstrapped batches of validation tiles of the same number of pixels: the largest of those
    of the levels, and for a mix the sum of those of its generators.
    """
    records, truth = measures.records, measures.truth
    name = records[0].distortion  # of the model, which need not be called as the distortion that it learned
    own_true = truth.histograms.get(name)
    tile_pixels = float(np.mean([record.height * record.width for record in records]))
    thresholds = _Thresholds(stored, tile_pixels, seed)
    paired = None
    if own_true is not None:
        pooled = measures.generated[truth.places].sum(0)
        shown = len({records[place].image for place in truth.places})
        paired = {
            "jsd_bits": jsd_bits(own_true.sum(0), pooled),
            "jsd_nats": jsd_nats(own_true.sum(0), pooled),
            "samples": len(truth.places),
            "images": shown,
            "threshold_bits": thresholds.paired(len(truth.places), shown),
        }
    unpaired = None
    if len(stored) == 1:  # nothing is stored of what two generators make together
        pool, generated = thresholds.pool, measures.generated.sum(0)
        unpaired = {
            "jsd_bits": jsd_bits(pool, generated),
            "jsd_nats": jsd_nats(pool, generated),
            "pristine_bits": jsd_bits(
                pool, measures.pristine.sum(0)
            ),  # what the identity baseline to these tiles scores
            "threshold_bits": thresholds.unpaired(len(records), len({record.image for record in records})),
        }
    judge = paired or unpaired
    if judge is None:
        raise ValueError("a batch of a mix needs the true distortion of some of its tiles")
    within = judge["jsd_bits"] <= judge["threshold_bits"]
    digests = [record.pixel_digest for record in records]
    return {
        "format": FORMAT,
        "version": VERSION,
        "distortion": name,
        "batch": records[0].batch,
        "samples": len(records),
        "tiles": len({record.tile for record in records}),
        "images": len({record.image for record in records}),
        "tile_px": _common_side(records),
        "level": records[0].level,
        "severity": _ends([record.severity for record in records]),
        "parameters": _parameters(records),
        "external": external,
        "model": records[0].model,
        "precision": records[0].precision,
        "paired": paired,
        "unpaired": unpaired,
        "judged_by": "paired" if paired else "unpaired",
        "quantile": QUANTILE,
        "accepted": within,
        "reasons": [] if within else [f"JSD_NSS {judge['jsd_bits']:.4f} bits is above {judge['threshold_bits']:.4f}"],
        "noise_floors": _noise_floor(records, truth, own_true, stored[0][-1], seed),
        "against": _against(measures),
        "against_levels": _against_levels(measures),
        "psnr": _spread([record.psnr for record in records], truth.places, truth.psnr.get(name)),
        "ssim": _spread([record.ssim for record in records], truth.places, truth.ssim.get(name)),
        "clipped_fraction": float(np.mean([record.clipped for record in records])),
        "duplicates": len(digests) - len(set(digests)),
        "histograms": _histograms(measures, own_true, thresholds.pool),
    }


class _Thresholds:
    """The bounds of batches, for tiles of any size: as many validation tiles as have the same number of pixels."""

    def __init__(self, stored: Sequence[Sequence[ValidationHistograms]], tile_pixels: float, seed: int) -> None:
        self._stored, self._tile_pixels, self._seed = stored, tile_pixels, seed
        self.pool: Counts = np.sum([level.true.sum(0) for levels in stored for level in levels], axis=0)

    def paired(self, samples: int, images: int) -> float:
        return sum(max(self._paired(level, samples, images) for level in levels) for levels in self._stored)

    def unpaired(self, samples: int, images: int) -> float:
        return sum(max(self._unpaired(level, samples, images) for level in levels) for levels in self._stored)

    def _paired(self, level: ValidationHistograms, samples: int, images: int) -> float:
        size, rng = self._settled(level, samples)
        threshold = bootstrap_threshold(level.generated, level.true, level.images, size, images, rng=rng)
        return max(threshold, MIN_THRESHOLD_BITS)

    def _unpaired(self, level: ValidationHistograms, samples: int, images: int) -> float:
        size, rng = self._settled(level, samples)
        threshold = bootstrap_threshold_unpaired(
            level.generated, level.true.sum(0), level.images, size, images, rng=rng
        )
        return max(threshold, MIN_THRESHOLD_BITS)

    def _settled(self, level: ValidationHistograms, samples: int) -> tuple[int, np.random.Generator]:
        size = max(1, round(samples * self._tile_pixels / level.tile_px**2))
        return size, make_rng(derive_seed(self._seed, "bound", size))


def _ends(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)}


def _parameters(records: Sequence[SampleRecord]) -> dict[str, Any]:
    """Return the parameters that all samples have, or of each its least and its most."""
    each = [json.loads(text) for text in dict.fromkeys(record.parameters for record in records)]
    if len(each) == 1:
        return dict(each[0])
    return {name: list(_ends([one[name] for one in each]).values()) for name in each[0]}


def _noise_floor(
    records: Sequence[SampleRecord],
    truth: TruthStats,
    own_true: Counts | None,
    stored: ValidationHistograms,
    seed: int,
) -> dict[str, float | None]:
    """Return what a perfect generator would score: for the number of values alone, and for other photographs.

    Without a true distortion of the batch's own tiles they are those of the validation tiles that judge it.
    """
    rng = make_rng(derive_seed(seed, "noise_floors"))
    if own_true is None:
        true, names = stored.true, stored.images.tolist()
    else:
        true, names = own_true, [records[place].image for place in truth.places]
    by_image = np.stack([true[[n == name for n in names]].sum(0) for name in dict.fromkeys(names)])
    content = between_content_baseline(by_image, rng.permutation(len(by_image))) if len(by_image) > 1 else None
    return {"sampling_bits": split_half_floor(true.sum(0), rng), "content_bits": content}


def _against(measures: BatchMeasures) -> dict[str, float]:
    """Return the divergence of the generated samples from each true distortion of the same tiles, and from pristine."""
    truth = measures.truth
    if not truth.histograms:
        return {"pristine": jsd_bits(measures.pristine.sum(0), measures.generated.sum(0))}
    generated = measures.generated[truth.places].sum(0)
    others = {name: jsd_bits(counts.sum(0), generated) for name, counts in sorted(truth.histograms.items())}
    return {"pristine": jsd_bits(measures.pristine[truth.places].sum(0), generated), **others}


def _against_levels(measures: BatchMeasures) -> dict[str, float]:
    """Return the divergence of the generated samples from each level of their own true distortion, by its number."""
    if not measures.truth.levels:
        return {}
    generated = measures.generated[measures.truth.places].sum(0)
    return {str(level): jsd_bits(counts.sum(0), generated) for level, counts in sorted(measures.truth.levels.items())}


def _histograms(measures: BatchMeasures, own_true: Counts | None, pool: Counts) -> dict[str, list[int]]:
    """Return the pooled histograms: over the tiles that have a truth, or over all beside the model's stored one."""
    places: Any = slice(None) if own_true is None else measures.truth.places
    return {
        "pristine": measures.pristine[places].sum(0).tolist(),
        "true": (pool if own_true is None else own_true.sum(0)).tolist(),
        "generated": measures.generated[places].sum(0).tolist(),
    }


def _spread(
    values: Sequence[float | None], places: NDArray[np.int64], true: NDArray[np.float64] | None
) -> dict[str, float | None] | None:
    """Return mean, deviation and range of a label; None if nothing has it.

    Beside these the mean over the true distortions, and that of the very samples (those at `places`) that have one:
    the mean of all would differ from it by what the severities and the content of the others are.
    """
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return None
    both: dict[str, float | None] = {"beside_true_mean": None, "true_mean": None}
    if true is not None:
        beside = np.array([values[place] for place in places], np.float64)  # None becomes NaN
        told = ~(np.isnan(true) | np.isnan(beside))
        if told.any():
            both = {"beside_true_mean": float(beside[told].mean()), "true_mean": float(true[told].mean())}
    return {
        "mean": float(known.mean()),
        "std": float(known.std()),
        "min": float(known.min()),
        "max": float(known.max()),
        **both,
    }


def _common_side(records: Sequence[SampleRecord]) -> int | None:
    sides = {(record.height, record.width) for record in records}
    height, width = next(iter(sides))
    return height if len(sides) == 1 and height == width else None
