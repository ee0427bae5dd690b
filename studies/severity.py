"""Holds multi-level generators against single-level ones and against the truth, on the validation images of a pair store.

    python -m studies.severity PAIRS GRADED [SINGLES]

PAIRS was made with the ladder's five levels (`pairs --preset ladder --levels 1,2,3,4,5`); GRADED is a folder of models
that learned them all (`train --levels 1,2,3,4,5`), SINGLES one of models that each learned one of them
(`train --levels K`), under any names. Prints one table for each distortion, means over images: JSD_NSS in bits and
strength in dB (PSNR against pristine, generated minus true) at every level of both; the same between levels, beside
what the neighbouring levels score there; the share of tiles whose PSNR falls all along the dial; PSNR at severity 0;
and how well a quality that is asked for is met, by the calibration alone and as `generate --target` meets it.
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

from distort_pipeline.evaluation.plan import plan_of
from distort_pipeline.evaluation.severity_sweep import SharedLevel, run_sweep, shared_levels, sweep_image
from distort_pipeline.pixels import Images
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.statistics.calibration import CALIBRATED, expected, reach, severity_for
from distort_pipeline.statistics.divergence import jsd_nss
from distort_pipeline.statistics.eval_images import quality
from distort_pipeline.statistics.severity_sweep import SeveritySweep, capped, summarise_sweep
from distort_pipeline.stores.models import model_folders, read_card
from distort_pipeline.stores.pairs import PairStore, open_pairs
from distort_pipeline.tasks.composite import CompositeGenerator
from distort_pipeline.tasks.targets import assign_targets, distort_to_targets, lowest_quality, measured
from distort_pipeline.trained import TrainedGenerator, is_multi_level, load_generator
from distort_pipeline.training.validation import ValidationTiles, validation_tiles

TARGET_BATCH = 64  # tiles whose severities are found together
LEAST_ASKED = 0.05  # the severity whose quality is the best that is asked for
RANGE = (0.1, 0.9)  # of the way from there to severity 1
ASKED_TILES = 256
SEED = 0


def sweeps(
    pairs: PairStore, multi_level: Mapping[str, Path]
) -> Iterator[tuple[TrainedGenerator, SeveritySweep, tuple[SharedLevel, ...]]]:
    """Yield each multi-level generator with the figures of its dial, and its levels in the pairs."""
    plans = plan_of(pairs, {name: read_card(folder) for name, folder in multi_level.items()}).sweeps
    for name, plan in plans.items():
        trained = load_generator(multi_level[name], batch_size=1)
        tried = [
            run_sweep(
                plan,
                pairs,
                records,
                sweep_image(plan, pairs, records, trained.predictor, draw=derive_seed(SEED, plan.distortion, image)),
                seed=SEED,
            )
            for image, records in plan.images.items()
        ]
        yield (
            trained,
            summarise_sweep(tried, [h.step for h in plan.shared_levels], [b.step for b in plan.midpoints]),
            plan.shared_levels,
        )


def single(
    pairs: PairStore, singles: Mapping[str, Path], distortion: str, held: SharedLevel
) -> tuple[float, float] | None:
    """Return JSD_NSS and strength of the generator that learned one level alone; None if there is none."""
    for folder in singles.values():
        card = read_card(folder)
        recipes = [recipe for recipe in pairs.recipes(distortion) if recipe["level"] == held.stored]
        if card["distortion"] == distortion and not is_multi_level(card) and shared_levels(card, recipes):
            predictor = load_generator(folder, batch_size=1).predictor
            bits, strength = [], []
            for record, pristine, true in pairs.validation(distortion, held.stored):
                made = predictor.distort_image(pristine, derive_seed(SEED, distortion, record.image))
                bits.append(jsd_nss(true, made))
                strength.append(capped(quality(pristine, made).psnr) - capped(quality(pristine, true).psnr))
            return fmean(bits), fmean(strength)
    return None


def asked(trained: TrainedGenerator, given: ValidationTiles, measure: str) -> Iterator[str]:
    """Yield how well a quality that is asked of each tile is met: by the calibration alone, then as generate meets it.

    A smooth tile cannot be made bad, so `generate` gives targets to tiles that can have them; those that ended at
    an end of the dial are told beside all.
    """
    tiles, significances = given.pristine, given.significances
    calibration: Mapping[str, Sequence[float]] = trained.card["calibration"]
    _, last = reach(calibration, measure)
    best = expected(calibration, measure, LEAST_ASKED)  # the untouched image's 60 dB are no quality to ask for
    rng = make_rng(derive_seed(SEED, "asked", measure, len(tiles)))
    wanted = best + (last - best) * rng.uniform(*RANGE, len(tiles))
    seeds = [derive_seed(SEED, "asked", place) for place in range(len(tiles))]
    severities = [severity_for(calibration, measure, float(one)) for one in wanted]
    made = trained.predictor.distort(tiles, seeds, severities, significances)
    yield f"by the calibration {_met(wanted, tiles, made, severities, measure)}"
    chain = CompositeGenerator({trained.card["distortion"]: trained})
    worst = lowest_quality(chain, tiles, seeds, significances, measure=measure)
    mildest = best + RANGE[0] * (last - best)
    targets, moved = assign_targets(wanted.tolist(), worst, measure=measure, mildest=mildest, seed=SEED)
    settings: dict[str, Any] = {"measure": measure, "batch": TARGET_BATCH, "worst": worst}
    parts = list(distort_to_targets(chain, tiles, seeds, targets, significances, **settings))
    made = np.concatenate([images for images, _ in parts])
    found = [severity for _, severities in parts for severity in severities]
    yield f"by generate {_met(np.array(targets), tiles, made, found, measure)}, {moved / len(tiles):.1%} drawn anew"


def _met(wanted: NDArray[np.float64], tiles: Images, made: Images, severities: Sequence[float], measure: str) -> str:
    reached = np.array([measured(measure, clean, bad) for clean, bad in zip(tiles, made, strict=True)])
    within = (np.array(severities) > 0) & (np.array(severities) < 1)
    rest = _spearman(wanted[within], reached[within])
    return (
        f"Spearman {_spearman(wanted, reached):.4f}, off by {np.abs(wanted - reached).mean():.4f} "
        f"({1 - within.mean():.1%} at an end of the dial, the rest {rest:.4f})"
    )


def _spearman(wanted: NDArray[np.float64], achieved: NDArray[np.float64]) -> float:
    return float(scipy.stats.spearmanr(wanted, achieved).statistic) if len(wanted) > 1 else float("nan")


def table(
    pairs: PairStore, trained: TrainedGenerator, dial: SeveritySweep, held: Sequence[SharedLevel], singles: Any
) -> list[str]:
    """Return the lines of one distortion."""
    distortion = trained.card["distortion"]
    lines = [
        "",
        f"## {distortion}: {dial.images} images, {dial.tiles} tiles",
        "",
        "| severity | parameter | multi-level, bits | single, bits | ratio | multi-level, dB | single, dB | nothing | floor |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (step, one), level in zip(dial.levels, held, strict=True):
        alone = single(pairs, singles, distortion, level)
        bits, ratio, strength = ("–",) * 3 if alone is None else _words(alone, one.bits)
        lines.append(
            f"| {step.severity:.2f} | {_parameters(step.parameters)} | {one.bits:.5f} | {bits} | {ratio} | "
            f"{_strength(one):+.2f} | {strength} | {one.pristine_bits:.4f} | {one.floor_bits:.5f} |"
        )
    lines += ["", "| between | parameter | there, bits | level below | level above | nearest | dB |"]
    lines += ["|---:|---|---:|---:|---:|---|---:|"]
    lines += [
        f"| {step.severity:.3f} | {_parameters(step.parameters)} | {one.bits:.5f} | {one.below_bits:.5f} | "
        f"{one.above_bits:.5f} | {'there' if one.nearest else 'a level'} | {_strength(one):+.2f} |"
        for step, one in dial.midpoints
    ]
    kept = float("nan") if dial.kept_falling_share is None else dial.kept_falling_share
    lines += [
        "",
        f"- PSNR falls from level to level in {dial.falling_levels_share:.2%} of tiles "
        f"(truly {dial.true_falling_levels_share:.2%}; of those that truly do {kept:.2%}), "
        f"all along the dial in {dial.falling_share:.2%}",
        f"- PSNR at severity 0: {dial.untouched_db:.1f} dB, {dial.untouched_least_db:.1f} at the least (60 at most)",
    ]
    tiles = validation_tiles(pairs, distortion, held[0].stored, severity=1.0, count=ASKED_TILES, seed=SEED)
    for measure in CALIBRATED:
        lines.append(
            f"- {measure} asked of {len(tiles.pristine)} tiles: {'; then '.join(asked(trained, tiles, measure))}"
        )
    return lines


def _words(alone: tuple[float, float], multi_level_bits: float) -> tuple[str, str, str]:
    bits, strength = alone
    return f"{bits:.5f}", f"{multi_level_bits / bits:.2f}" if bits else "–", f"{strength:+.2f}"


def _strength(one: Any) -> float:
    return capped(one.generated.psnr) - capped(one.true.psnr)


def _parameters(parameters: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in parameters.items())


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True))
@click.argument("multi_level", type=click.Path(path_type=Path, exists=True))
@click.argument("singles", type=click.Path(path_type=Path, exists=True), required=False)
def main(pairs: Path, multi_level: Path, singles: Path | None) -> None:
    """Print a table for each multi-level generator."""
    store = open_pairs(pairs)
    alone = model_folders(singles) if singles else {}
    there = {name: folder for name, folder in model_folders(multi_level).items() if is_multi_level(read_card(folder))}
    for trained, dial, held in sweeps(store, there):
        click.echo("\n".join(table(store, trained, dial, held, alone)))


if __name__ == "__main__":
    main()
