"""Learns a distortion from pairs alone: small models by fit, a network for the rest, the better of each by validation.

    parts    codec, tone, filters, last stage           `compose_fit`     (seconds to a minute)
    mean     the compact network towards the mean       `compact_training`
    noise    signal-dependent, for what the mean leaves `signal_noise`, gain calibrated to the true PSNR
    adversary from the best of these on                 `compact_training`

After each stage the generator with it is scored on held-out training images beside the generator without it, and only
a better one is kept. Which stages were kept, and every score, is in the generator's `told`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.components.composed import ComposedGenerator, TilePosition
from distort_pipeline.components.jpeg_stage import JpegStage
from distort_pipeline.components.patches import Levels, PairPatch
from distort_pipeline.stores.models import read_arrays, write_arrays
from distort_pipeline.training.compose_fit import Pair, bases_of, calibrated, fit_composed, with_noise
from distort_pipeline.training.compose_score import Scorer

NOISE_PX, GRID_PX = 256, 16  # of each patch that noise is fitted to
DONE_SCORE = 0.08  # nothing is left for a network; the identity scores 3
DONE_SHARE, DONE_MSE = 0.02, 1.0  # of the squared error, or levels²: parts with images' own parameters say it all
BETTER = 0.98  # a stage is kept if it brings the score below this share of what it was


class Never(Exception):  # noqa: N818 - says what happened
    """Nothing that was learned is better than the identity baseline."""


@dataclass(frozen=True)
class LearnSettings:
    """How long the two phases are."""

    mean_steps: int = 900
    adversarial_steps: int = 1500
    crop_px: int = 128
    batch: int = 8
    validate_every: int = 150
    seed: int = 0


def learn(
    patches: Sequence[PairPatch],
    held: Sequence[Pair],
    settings: LearnSettings,
    *,
    jpeg: JpegStage | None = None,
    folder: Path | None = None,
) -> ComposedGenerator:
    """Return the generator that validates best on the whole images `held`; `jpeg` where the files say their codec.

    `patches` are of the training images, numbered from 0, at most 384 px on a side.
    In `folder` each finished stage is kept, so that an interrupted learning goes on behind it.
    """
    started = time.process_time()
    scorer = Scorer(held)
    fit_report: dict[str, Any] = {"stages": []}

    def consider(name: str, made: ComposedGenerator) -> float:
        figures = scorer.score(lambda x, seed, sides: made.distort(x, 1.0, seed, TilePosition(0, 0, *sides)))
        fit_report["stages"].append({"stage": name, "cpu_s": round(time.process_time() - started), **figures})
        _say(
            f"{name}: score {figures['score']:.4f}, JSD_NSS {figures['jsd_nss']:.4f} ({figures['jsd_identity']:.4f}), "
            f"features {figures['features']:.4f} ({figures['features_identity']:.4f}), "
            f"{figures['delta_psnr_db']:+.2f} dB, median {figures['median_abs_delta_db']:.2f} dB, "
            f"{time.process_time() - started:.0f} CPU-s"
        )
        return figures["score"]

    identity = consider("identity", ComposedGenerator())
    best = _remembered(folder, "parts", lambda: fit_composed(patches, held, jpeg))
    fit_report["parts"] = best.fit_report
    score = consider("parts", best)
    if best.fit_report.get("exact"):
        return _kept(best, score, identity, fit_report)
    bases = bases_of(best, patches)
    few = _one_of_each_image(patches)
    small = [_middle(patches[n], bases[n]) for n in few]
    noisy = with_noise(best, [patch for patch, _ in small], [base for _, base in small], held)
    parts = best
    for name, candidate in _noisy(noisy, held):
        noisy_score = consider(name, candidate)
        if noisy_score < score:
            best, score = candidate, noisy_score
    left = best.fit_report["levels²"]
    done = left < max(DONE_MSE, DONE_SHARE * best.fit_report["identity_levels²"])
    if score < DONE_SCORE or done or settings.mean_steps == 0:
        return _kept(best, score, identity, fit_report)

    from distort_pipeline.networks.compact_body import CompactBody
    from distort_pipeline.training.compact_crops import CompactCrops
    from distort_pipeline.training.compact_training import CompactSettings, CompactTrainer

    rms = float(np.sqrt(np.mean([np.square(p.distorted - b).mean() for p, b in zip(patches, bases, strict=True)])))
    crops = CompactCrops(patches, bases, crop_px=settings.crop_px, batch=settings.batch, seed=settings.seed)
    trainer = CompactTrainer(CompactSettings(seed=settings.seed), residual_scale=rms, noise_scale=rms, jpeg=parts.jpeg)
    clock = time.process_time()
    body = CompactBody(trainer.averaged, noise_scale=rms, stochastic=False)

    def learn_mean() -> ComposedGenerator:
        trainer.train_mean(
            crops,
            settings.mean_steps,
            lambda step, loss: _say(f"  mean, step {step}: {loss:.4f} ({time.process_time() - clock:.0f} CPU-s)"),
        )
        return parts.with_parts(body=body)

    mean = _remembered(folder, "mean", learn_mean)
    if isinstance(mean.body, CompactBody) and mean.body is not body:
        trainer.start_from(mean.body.network)
        mean = parts.with_parts(body=body)
    mean_score = consider("mean", mean)
    residuals = [
        patch.distorted - base - body(image=patch.pristine, position=_position(patch), base=base, **_silence(base))
        for patch, base in small
    ]
    noisy_mean = with_noise(mean, [patch for patch, _ in small], [base for _, base in small], held, residuals=residuals)
    start, start_score = mean, mean_score
    for name, candidate in _noisy(noisy_mean, held):
        noisy_score = consider(f"mean, {name}", candidate)
        if noisy_score < start_score:
            start, start_score = candidate, noisy_score
    if start_score < BETTER * score:
        best, score = start, start_score
    if settings.adversarial_steps == 0:
        return _kept(best, score, identity, fit_report)

    crops.give_noise(start)
    body = CompactBody(trainer.averaged, noise_scale=rms, stochastic=True)
    adversarial = start.with_parts(body=body)
    clock = time.process_time()
    step = trainer.train_adversary(
        crops,
        settings.adversarial_steps,
        lambda step: consider(f"adversary {step}", adversarial),
        every=settings.validate_every,
        say=lambda text: _say(f"  {text} ({time.process_time() - clock:.0f} CPU-s)"),
    )
    fit_report["adversarial_step"] = step
    final_score = consider(f"adversary kept {step}", adversarial)
    if final_score < BETTER * score:
        best, score = adversarial, final_score
    return _kept(best, score, identity, fit_report)


def _kept(best: ComposedGenerator, score: float, identity: float, fit_report: dict[str, Any]) -> ComposedGenerator:
    if score >= identity:
        tried = ", ".join(f"{stage['stage']} {stage['score']:.2f}" for stage in fit_report["stages"])
        raise Never(
            f"nothing learned is better than the identity baseline on validation images (scores: {tried}); "
            "give more pairs, and check that they are aligned"
        )
    return best.with_parts(fit_report={**fit_report, "noise": best.noise is not None, "score": score})


def _one_of_each_image(patches: Sequence[PairPatch]) -> list[int]:
    """Return the index of the middle patch of every image."""
    indices: dict[int, list[int]] = {}
    for index, patch in enumerate(patches):
        indices.setdefault(patch.image, []).append(index)
    return [own[len(own) // 2] for own in indices.values()]


def _noisy(generator: ComposedGenerator, held: Sequence[Pair]) -> list[tuple[str, ComposedGenerator]]:
    """Return the names and generators to try: gains of the training images, and one gain for all, if there is noise."""
    if generator.noise is None:
        return []
    one = dataclasses.replace(generator.noise, log_gains=np.zeros(1, np.float32))
    steady = calibrated(generator.with_parts(noise=one), held)
    return [
        (f"noise, gain per image (times {generator.noise_gain:.2f})", generator),
        (f"noise, one gain (times {steady.noise_gain:.2f})", steady),
    ]


def _remembered(folder: Path | None, name: str, make: Callable[[], ComposedGenerator]) -> ComposedGenerator:
    """Return the generator that a stage of this `name` left in `folder`, or make it and leave it there."""
    from distort_pipeline.components.saved import composed_arrays, composed_generator

    if folder is None:
        return make()
    file = folder / f"{name}.safetensors"
    if file.is_file():
        arrays, noted = read_arrays(file)
        return composed_generator(arrays, json.loads(noted["described"])).with_parts(
            fit_report=json.loads(noted["fit_report"])
        )
    made = make()
    arrays, described = composed_arrays(made)
    write_arrays(file, arrays, {"described": json.dumps(described), "fit_report": json.dumps(made.fit_report)})
    return made


def _middle(patch: PairPatch, base: Levels) -> tuple[PairPatch, Levels]:
    """Return the middle 256 px of a patch and its base, or all of a smaller one."""
    y, x = (max(side - NOISE_PX, 0) // 2 // GRID_PX * GRID_PX for side in base.shape[:2])
    inside = (slice(y, y + NOISE_PX), slice(x, x + NOISE_PX))
    middle = dataclasses.replace(
        patch, pristine=patch.pristine[inside], distorted=patch.distorted[inside], y=patch.y + y, x=patch.x + x
    )
    return middle, base[inside]


def _position(patch: Any) -> TilePosition:
    return TilePosition(patch.y, patch.x, patch.image_height, patch.image_width)


def _silence(base: Any) -> dict[str, Any]:
    """Return the drawn inputs of a network that sees none."""
    from distort_pipeline.components.composed import FREE_CHANNELS, LATENTS

    return {
        "noise": np.zeros_like(base),
        "free": np.zeros((*base.shape[:2], FREE_CHANNELS), np.float32),
        "latent": np.zeros(LATENTS, np.float32),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
