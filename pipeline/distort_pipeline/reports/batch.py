"""The report of one batch: its divergences, the bounds they are held to, and what to compare them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.records import SampleRecord
from distort_pipeline.seeds import derive_seed, generator
from distort_pipeline.statistics.divergence import jsd_bits, jsd_nats
from distort_pipeline.statistics.floors import (
    LEAST_BOUND_BITS,
    QUANTILE,
    bootstrap_bound,
    bootstrap_bound_unpaired,
    content_floor,
    halves_floor,
)
from distort_pipeline.stores.models import ValidationHistograms

FORMAT = "distort-pipeline/report"
VERSION = 1

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TruthMeasures:
    """Measures of the true distortions (by name) of the same tiles as the samples at `places` of the batch, (m,)."""

    places: NDArray[np.int64]
    histograms: Mapping[str, Counts]  # (m, 103)
    psnr: Mapping[str, NDArray[np.float64]]
    ssim: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class BatchMeasures:
    """All that a report is made of; `generated` and `pristine` are (n, 103), row by row the records' samples."""

    records: Sequence[SampleRecord]
    generated: Counts
    pristine: Counts
    truth: TruthMeasures


def batch_report(
    measures: BatchMeasures, card: Mapping[str, Any], stored: ValidationHistograms, *, batch: int, seed: int
) -> dict[str, Any]:
    """Return the report of a batch by the model of `card`, whose validation tiles' histograms are `stored`.

    The judge is the divergence paired with the true distortion of the same tiles, where there is one; only where none
    of the batch's tiles has one (brought pairs) it is the one to the model's stored true histogram, which measures
    content too. Bounds are the 99 % quantile of bootstrapped batches of validation tiles of the same number of pixels.
    """
    records, truth = measures.records, measures.truth
    name = records[0].distortion  # of the model, which need not be called as the distortion that it learned
    own_true = truth.histograms.get(name)
    generated = measures.generated.sum(0)
    tile_pixels = float(np.mean([record.height * record.width for record in records]))
    bounds = _Bounds(stored, tile_pixels, seed)
    paired = None
    if own_true is not None:
        pooled = measures.generated[truth.places].sum(0)
        paired = {
            "jsd_bits": jsd_bits(own_true.sum(0), pooled),
            "jsd_nats": jsd_nats(own_true.sum(0), pooled),
            "samples": len(truth.places),
            "pictures": len({records[place].picture for place in truth.places}),
            "bound_bits": bounds.paired(len(truth.places)),
        }
    pool = stored.true.sum(0)
    unpaired = {
        "jsd_bits": jsd_bits(pool, generated),
        "jsd_nats": jsd_nats(pool, generated),
        "pristine_bits": jsd_bits(pool, measures.pristine.sum(0)),  # what doing nothing to these tiles scores
        "bound_bits": bounds.unpaired(len(records)),
    }
    judge = paired or unpaired
    within = judge["jsd_bits"] <= judge["bound_bits"]
    digests = [record.pixel_digest for record in records]
    return {
        "format": FORMAT,
        "version": VERSION,
        "distortion": name,
        "batch": batch,
        "samples": len(records),
        "tiles": len({record.tile for record in records}),
        "pictures": len({record.picture for record in records}),
        "tile_px": _common_side(records),
        "level": card["levels"][-1]["level"],
        "parameters": dict(card["levels"][-1]["parameters"]),
        "brought": card["brought"],
        "model": card["weights_digest"],
        "precision": records[0].precision,
        "paired": paired,
        "unpaired": unpaired,
        "judged_by": "paired" if paired else "unpaired",
        "quantile": QUANTILE,
        "within_bounds": within,
        "reasons": [] if within else [f"JSD_NSS {judge['jsd_bits']:.4f} bits is above {judge['bound_bits']:.4f}"],
        "floors": _floors(records, truth, own_true, stored, seed),
        "against": _against(measures),
        "psnr": _spread([record.psnr for record in records], truth.psnr.get(name)),
        "ssim": _spread([record.ssim for record in records], truth.ssim.get(name)),
        "clipped_fraction": float(np.mean([record.clipped for record in records])),
        "duplicates": len(digests) - len(set(digests)),
        "histograms": _histograms(measures, own_true, pool),
    }


class _Bounds:
    """The bounds of batches, for tiles of any size: as many validation tiles as have the same number of pixels."""

    def __init__(self, stored: ValidationHistograms, tile_pixels: float, seed: int) -> None:
        self._stored, self._seed = stored, seed
        self._tiles_each = tile_pixels / stored.tile_px**2

    def paired(self, samples: int) -> float:
        size, rng = self._settled(samples)
        bound = bootstrap_bound(self._stored.generated, self._stored.true, self._stored.pictures, size, rng=rng)
        return max(bound, LEAST_BOUND_BITS)

    def unpaired(self, samples: int) -> float:
        size, rng = self._settled(samples)
        pool = self._stored.true.sum(0)
        bound = bootstrap_bound_unpaired(self._stored.generated, pool, self._stored.pictures, size, rng=rng)
        return max(bound, LEAST_BOUND_BITS)

    def _settled(self, samples: int) -> tuple[int, np.random.Generator]:
        size = max(1, round(samples * self._tiles_each))
        return size, generator(derive_seed(self._seed, "bound", size))


def _floors(
    records: Sequence[SampleRecord],
    truth: TruthMeasures,
    own_true: Counts | None,
    stored: ValidationHistograms,
    seed: int,
) -> dict[str, float | None]:
    """Return what a perfect generator would score: for the number of values alone, and for other photographs.

    Without a true distortion of the batch's own tiles they are those of the validation tiles that judge it.
    """
    rng = generator(derive_seed(seed, "floors"))
    if own_true is None:
        true, names = stored.true, stored.pictures.tolist()
    else:
        true, names = own_true, [records[place].picture for place in truth.places]
    by_picture = np.stack([true[[n == name for n in names]].sum(0) for name in dict.fromkeys(names)])
    content = content_floor(by_picture, rng.permutation(len(by_picture))) if len(by_picture) > 1 else None
    return {"sampling_bits": halves_floor(true.sum(0), rng), "content_bits": content}


def _against(measures: BatchMeasures) -> dict[str, float]:
    """Return the divergence of the generated samples from each true distortion of the same tiles, and from pristine."""
    truth = measures.truth
    if not truth.histograms:
        return {"pristine": jsd_bits(measures.pristine.sum(0), measures.generated.sum(0))}
    generated = measures.generated[truth.places].sum(0)
    others = {name: jsd_bits(counts.sum(0), generated) for name, counts in sorted(truth.histograms.items())}
    return {"pristine": jsd_bits(measures.pristine[truth.places].sum(0), generated), **others}


def _histograms(measures: BatchMeasures, own_true: Counts | None, pool: Counts) -> dict[str, list[int]]:
    """Return the pooled histograms: over the tiles that have a truth, or over all beside the model's stored one."""
    places: Any = slice(None) if own_true is None else measures.truth.places
    return {
        "pristine": measures.pristine[places].sum(0).tolist(),
        "true": (pool if own_true is None else own_true.sum(0)).tolist(),
        "generated": measures.generated[places].sum(0).tolist(),
    }


def _spread(values: Sequence[float | None], true: NDArray[np.float64] | None) -> dict[str, float | None] | None:
    """Return mean, deviation and range of a label, and its mean over the true distortions; None if nothing has it."""
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return None
    return {
        "mean": float(known.mean()),
        "std": float(known.std()),
        "min": float(known.min()),
        "max": float(known.max()),
        "true_mean": None if true is None or np.isnan(true).all() else float(np.nanmean(true)),
    }


def _common_side(records: Sequence[SampleRecord]) -> int | None:
    sides = {(record.height, record.width) for record in records}
    height, width = next(iter(sides))
    return height if len(sides) == 1 and height == width else None
