"""Compares multi-level with single-level generators and the truth on the validation images of a pair store.

    python -m studies.severity PAIRS MULTI_LEVEL [SINGLES]

PAIRS has five levels (`pairs --preset five_levels --levels 1,2,3,4,5`); MULTI_LEVEL is a folder of models of all five
levels (`train --levels 1,2,3,4,5`), SINGLES a folder of models of one level each (`train --levels K`), under any names.
Prints a table for each distortion, means over images: JSD_NSS in bits and delta PSNR in dB (PSNR against pristine,
generated minus true) at every level; the same at midpoints, with the neighbouring levels; the share of tiles with
falling PSNR over the severity sweep; PSNR at severity 0; and requested against reached quality, by the calibration
alone and by `generate --target`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np
import scipy.stats
from numpy.typing import NDArray

from distort_pipeline.config import CALIBRATED
from distort_pipeline.data.conditions import QualityTarget, Tiles
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.data.severity_search import expected, quality_of, reach, severity_for
from distort_pipeline.metrics.full_reference import quality
from distort_pipeline.metrics.jsd_nss import jsd_nss
from distort_pipeline.metrics.severity_sweep import SeverityPoint, SeveritySweep, capped, measure_sweep, summarise_sweep
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import CompositeGenerator, TrainedGenerator, load_generator, model_folders
from distort_pipeline.records import Images, derive_seed, make_rng
from distort_pipeline.steps.evaluation_plan import SharedLevel, plan_of, shared_levels, sweep_versions
from distort_pipeline.training.validation import ValidationTiles, validation_tiles

TARGET_BATCH = 64  # tiles of a severity search
LOWEST_SEVERITY = 0.05  # its quality is the best requested quality
RANGE = (0.1, 0.9)  # of the quality from there to the highest severity
TARGET_TILES = 256
SEED = 0


def sweeps(
    pairs: PairStore, multi_level: Mapping[str, Path]
) -> Iterator[tuple[TrainedGenerator, SeveritySweep, tuple[SharedLevel, ...]]]:
    """Yield each multi-level generator with its severity sweep, and its levels in the pairs."""
    plans = plan_of(pairs, {name: read_card(folder) for name, folder in multi_level.items()}).sweeps
    for name, plan in plans.items():
        trained = load_generator(multi_level[name], batch_size=1)
        images = [
            measure_sweep(sweep_versions(plan, pairs, records, trained=trained, seed=SEED))
            for records in plan.images.values()
        ]
        yield trained, summarise_sweep(images), plan.shared_levels


def single(
    pairs: PairStore, singles: Mapping[str, Path], distortion: str, level: SharedLevel
) -> tuple[float, float] | None:
    """Return JSD_NSS and delta PSNR of the generator of a single level, or None."""
    for folder in singles.values():
        card = read_card(folder)
        recipes = [recipe for recipe in pairs.recipes(distortion) if recipe.level == level.level]
        if card.distortion == distortion and not card.is_multi_level and shared_levels(card.levels, recipes):
            predictor = load_generator(folder, batch_size=1).predictor
            bits, delta_psnr = [], []
            for record, pristine, true in pairs.validation(distortion, level.level):
                generated = predictor.distort_image(pristine, derive_seed(SEED, distortion, record.image_digest, 0))
                bits.append(jsd_nss(true, generated))
                delta_psnr.append(capped(quality(pristine, generated).psnr) - capped(quality(pristine, true).psnr))
            return fmean(bits), fmean(delta_psnr)
    return None


def target_agreement(trained: TrainedGenerator, validation: ValidationTiles, measure: str) -> Iterator[str]:
    """Yield the agreement of requested and reached quality: by the calibration alone, then by `generate`.

    Smooth tiles cannot reach a low quality, so `generate` assigns targets within reach; the agreement of tiles not
    clipped at severity 0 or the highest is stated as well.
    """
    tiles, significances = validation.pristine, validation.significances
    calibration: Mapping[str, Sequence[float]] = trained.card.calibration or {}
    _, last = reach(calibration, measure)
    best = expected(calibration, measure, LOWEST_SEVERITY)
    rng = make_rng(derive_seed(SEED, "asked", measure, len(tiles)))
    requested = best + (last - best) * rng.uniform(*RANGE, len(tiles))
    seeds = [derive_seed(SEED, "asked", index) for index in range(len(tiles))]
    severities = [severity_for(calibration, measure, float(value)) for value in requested]
    generated = trained.predictor.distort(tiles, seeds, severities, significances)
    highest = trained.card.highest_severity
    clipped = [severity in (0, highest) for severity in severities]
    yield f"by the calibration {_agreement(requested, tiles, generated, clipped, measure)}"
    composite = CompositeGenerator({trained.card.distortion: trained})
    groups = [
        Tiles(
            tiles[rows],
            seeds[rows],
            requested[rows].tolist(),
            None if significances is None else significances[rows],
        )
        for rows in (slice(first, first + TARGET_BATCH) for first in range(0, len(tiles), TARGET_BATCH))
    ]
    request = QualityTarget(measure, best + RANGE[0] * (last - best), best + RANGE[1] * (last - best))
    parts = list(request.distort(composite, groups, seed=SEED))
    generated = np.concatenate([part.distorted for part in parts])
    targets = np.array([target for part in parts for target in part.targets])
    clipped = [severity in (0, highest) for part in parts for severity in part.severities]
    agreement = _agreement(targets, tiles, generated, clipped, measure)
    yield f"by generate {agreement}, {sum(sum(part.resampled) for part in parts) / len(tiles):.1%} resampled"


def _agreement(
    requested: NDArray[np.float64], tiles: Images, generated: Images, clipped: Sequence[bool], measure: str
) -> str:
    reached = np.array(
        [quality_of(measure, clean, distorted) for clean, distorted in zip(tiles, generated, strict=True)]
    )
    unclipped = ~np.array(clipped)
    unclipped_srcc = _spearman(requested[unclipped], reached[unclipped])
    return (
        f"SRCC {_spearman(requested, reached):.4f}, mean absolute error {np.abs(requested - reached).mean():.4f} "
        f"({1 - unclipped.mean():.1%} clipped, the rest {unclipped_srcc:.4f})"
    )


def _spearman(requested: NDArray[np.float64], achieved: NDArray[np.float64]) -> float:
    return float(scipy.stats.spearmanr(requested, achieved).statistic) if len(requested) > 1 else float("nan")


def table(
    pairs: PairStore,
    trained: TrainedGenerator,
    sweep: SeveritySweep,
    common_levels: Sequence[SharedLevel],
    singles: Any,
) -> list[str]:
    """Return the table of one distortion."""
    distortion = trained.card.distortion
    lines = [
        "",
        f"## {distortion}: {sweep.images} images, {sweep.tiles} tiles",
        "",
        "| severity | parameter | multi-level, bits | single, bits | ratio | multi-level, dB | single, dB | identity "
        "| noise floor |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result, level in zip(sweep.levels, common_levels, strict=True):
        figures = single(pairs, singles, distortion, level)
        bits, ratio, delta_psnr = ("–",) * 3 if figures is None else _cells(figures, result.bits)
        lines.append(
            f"| {_point(result.point, 2)} | {result.bits:.5f} | {bits} | {ratio} | "
            f"{_delta_psnr(result):+.2f} | {delta_psnr} | {result.identity_bits:.4f} | {result.floor_bits:.5f} |"
        )
    lines += ["", "| midpoint | parameter | bits | level below | level above | nearest | dB |"]
    lines += ["|---:|---|---:|---:|---:|---|---:|"]
    lines += [
        f"| {_point(result.point, 3)} | {result.bits:.5f} | {result.below_bits:.5f} | "
        f"{result.above_bits:.5f} | {'midpoint' if result.nearest else 'a level'} | {_delta_psnr(result):+.2f} |"
        for result in sweep.midpoints
    ]
    kept = float("nan") if sweep.kept_falling_share is None else sweep.kept_falling_share
    lines += [
        "",
        f"- PSNR falls from level to level in {sweep.falling_levels_share:.2%} of tiles "
        f"(true: {sweep.true_falling_levels_share:.2%}; of tiles with falling true PSNR {kept:.2%}), "
        f"at every small step in {sweep.falling_share:.2%}",
        f"- PSNR at severity 0: {sweep.untouched_db:.1f} dB, {sweep.untouched_least_db:.1f} minimum (capped at 60)",
    ]
    tiles = validation_tiles(pairs, distortion, common_levels[0].level, severity=1.0, count=TARGET_TILES, seed=SEED)
    for measure in CALIBRATED:
        agreement = "; then ".join(target_agreement(trained, tiles, measure))
        lines.append(f"- {measure} requested for {len(tiles.pristine)} tiles: {agreement}")
    return lines


def _cells(figures: tuple[float, float], multi_level_bits: float) -> tuple[str, str, str]:
    bits, delta_psnr = figures
    return f"{bits:.5f}", f"{multi_level_bits / bits:.2f}" if bits else "–", f"{delta_psnr:+.2f}"


def _delta_psnr(result: Any) -> float:
    return capped(result.generated.psnr) - capped(result.true.psnr)


def _point(point: SeverityPoint, digits: int) -> str:
    parameters = ", ".join(f"{name} {value:.4g}" for name, value in point.parameters.items())
    return f"{point.severity:.{digits}f} | {parameters}"


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True))
@click.argument("multi_level", type=click.Path(path_type=Path, exists=True))
@click.argument("singles", type=click.Path(path_type=Path, exists=True), required=False)
def main(pairs: Path, multi_level: Path, singles: Path | None) -> None:
    """Print a table for each multi-level generator."""
    store = open_pairs(pairs)
    single_folders = model_folders(singles) if singles else {}
    multi_level_folders = {
        name: folder for name, folder in model_folders(multi_level).items() if read_card(folder).is_multi_level
    }
    for trained, sweep, common_levels in sweeps(store, multi_level_folders):
        click.echo("\n".join(table(store, trained, sweep, common_levels, single_folders)))


if __name__ == "__main__":
    main()
