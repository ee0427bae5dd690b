"""Learns a distortion from pairs alone: small models by fit, a network for the rest, the better of each by validation.

    codec     one that is installed and looks alike      `codec_bank`, on whole images
    regions   where the image is left alone but for some `regions`
    overlays  what lies over the image, recorded         `overlays`
    parts     tone, filters, shrinkage, before a JPEG    `compose_fit`         (seconds to a minute)
    codec     where the files carry none, behind the parts
    impulses  pixels that are struck, found first: the rest is fitted without them
    noise     signal-dependent, for what the parts leave `signal_noise`, calibrated to the true PSNR
    mean      the compact network towards the mean       `compact`
    noise     anew, for what the mean leaves
    adversary the network goes on against D              `compact`

After each stage the generator with it is scored on held-out training images beside the best so far, and only a better
one is kept. Which stage was kept, and every score, is in the `LearningReport`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.data.files import from_json, to_json
from distort_pipeline.models.card import LearningReport
from distort_pipeline.models.store import read_arrays, write_arrays
from distort_pipeline.networks.codec_bank import Pair, related_codecs, smaller_codecs
from distort_pipeline.networks.colour import Integers, fit_colour_matrix
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.diffusion import Diffusion
from distort_pipeline.networks.displacement import displacements
from distort_pipeline.networks.impulses import Impulses, find_impulses, without_impulses
from distort_pipeline.networks.jpeg_stage import JpegStage, estimate_jpeg_stage
from distort_pipeline.networks.patches import (
    FREE_CHANNELS,
    LATENTS,
    Levels,
    PairPatch,
    middle_of,
    one_of_each_image,
)
from distort_pipeline.networks.regions import find_regions
from distort_pipeline.networks.saved import composed_arrays, composed_generator
from distort_pipeline.records import to_uint8
from distort_pipeline.training.compose_fit import (
    EXACT_MSE,
    PartsFit,
    bases_of,
    ended,
    fit_composed,
    in_front_of,
)
from distort_pipeline.training.loop import BestWeights, cores, seconds_per_step, stored_steps
from distort_pipeline.training.stages import Stages, consider_noise, consider_overlays, say

STAGES = Path("checkpoints") / "stages"
NOISE_PX = 256  # of each patch that noise is fitted to
DONE_SCORE = 0.04  # nothing is left for a network; the identity scores 4
DONE_SHARE = 0.03  # of the squared error: parts with images' own parameters explain the distortion
DONE_MSE = 1.0  # levels², likewise
PARTS_SCORE = 0.1  # with parameters of images' own; parts without are not tried then
EXPLAINED_SCORE = 0.5  # where no noise is missing, the rest is a JPEG's rounding
MEAN_SHARE = 0.3  # of the time for the network
VALIDATION_COST = 1.15  # seconds of an adversarial step with its share of validations, per second of the step alone
BETTER = 0.98  # a network, or rounding, is kept if it brings the score below this share of what it was
SOFTWARE_SCORE = 0.5  # behind parts a codec, or a displacement, of this score is what was used: no more is tried
OVERLAID_SCORE = 0.25  # of what has been tried; above, overlays are tried
DISPLACED_EVERY = 3  # of the images, by which displacements are made as strong as they were
MOST_BEHIND = 3  # codecs behind parts that are tried


class NotBetterThanIdentity(Exception):  # noqa: N818 - says what happened
    """Nothing that was learned is better than the identity baseline."""


@dataclass(frozen=True)
class LearnSettings:
    """How long the two phases of the network are."""

    minutes: float | None = 20.0  # in which both phases fit, the fits included; None: the steps that are given
    mean_steps: int = 3000  # at most, if there are minutes and adversarial steps
    adversarial_steps: int = 3000  # at most, if there are minutes
    crop_px: int = 96
    batch: int = 8
    validate_every: int = 100
    checkpoint_every: int = 200
    seed: int = 0
    loggers: tuple[str, ...] = ("tsv",)


@dataclass(frozen=True)
class LearnData:
    """Patches to fit to, patches of other training images to choose stages by, and whole images for codecs.

    Patches are numbered by their images from 0, at most 384 px on a side, and begin at multiples of 16 px.
    """

    fitted: Sequence[PairPatch]
    held: Sequence[PairPatch]
    whole: Sequence[Pair]
    jpeg: JpegStage | None = None  # where the distorted files say it


def learn(
    data: LearnData, settings: LearnSettings, folder: Path, *, keep_anyway: bool = False
) -> tuple[ComposedGenerator, LearningReport]:
    """Return the generator that validates best on `data.held`, and how it was learned.

    In `folder` go checkpoints and training curves: an interrupted learning continues. Raises NotBetterThanIdentity if
    nothing is better than the pristine image itself, unless `keep_anyway`.
    """
    stages = Stages(data.held)
    identity = stages.consider("identity", ComposedGenerator(), better=0.0)  # scored, never kept
    parts, adversarial_steps = None, 0
    jpeg = data.jpeg or estimate_jpeg_stage([distorted for _, distorted in data.whole])
    if jpeg is None:
        for codec, error in related_codecs(data.whole):
            stages.consider(codec.described, ComposedGenerator(codec=codec))
            if error < EXACT_MSE:
                break
        if stages.score > DONE_SCORE:
            for codec in smaller_codecs(data.whole):
                stages.consider(codec.described, ComposedGenerator(codec=codec))
        if regions := find_regions(data.fitted):
            stages.consider(f"{regions.kind} regions", ComposedGenerator(regions=regions))
            consider_overlays("overlays", ComposedGenerator(), data.fitted, stages)
    # few pairs make a codec of a blur: parts are tried beside it
    if stages.score > DONE_SCORE and stages.best.regions is None and stages.best.overlays is None:
        parts, adversarial_steps = _learn_parts(data, settings, jpeg, stages, folder)
    if stages.score >= identity and not keep_anyway:
        tried = ", ".join(f"{row.stage} {row.scores.score:.2f}" for row in stages.rows)
        raise NotBetterThanIdentity(
            f"nothing learned is better than the identity baseline on held-out images (scores: {tried}); "
            "give more pairs, check that they are aligned, or keep the best with --keep-anyway"
        )
    report = LearningReport(
        stages=tuple(stages.rows),
        kept=stages.name,
        better_than_identity=stages.score < identity,
        parts=parts.parts if parts and stages.best.linear else (),
        noise=stages.best.noise is not None,
        mse=parts.mse if parts else None,
        identity_mse=parts.identity_mse if parts else None,
        adversarial_steps=adversarial_steps,
    )
    return stages.best, report


def _consider_codecs_behind(
    parts: ComposedGenerator, fit: PartsFit, bases: Sequence[Levels], data: LearnData, stages: Stages
) -> None:
    """Consider the installed codecs that do to the parts' images what is left to the distorted ones."""
    indices = one_of_each_image(data.fitted)
    fronts = [(to_uint8(bases[n]), data.fitted[n].distorted) for n in indices]
    few = [data.fitted[n] for n in indices]
    found = sorted(related_codecs(fronts), key=lambda row: row[1])
    for codec, _ in found[:MOST_BEHIND]:
        stages.consider(f"parts, {codec.described}", in_front_of(codec, parts, fit.parts, few))


def _learn_parts(
    data: LearnData, settings: LearnSettings, jpeg: JpegStage | None, stages: Stages, folder: Path
) -> tuple[PartsFit, int]:
    """Take fitted parts, noise, and the network into consideration; return the parts and the adversarial steps kept."""
    struck = data.fitted
    impulses = find_impulses(struck)
    if impulses is not None:  # everything else is fitted to what they leave
        say(f"  impulses on {100 * impulses.rate:.2f} % of the pixels")
        fitted, held = without_impulses(data.fitted), without_impulses(data.held)
        data = dataclasses.replace(data, fitted=fitted, held=held)
    parts, fit = _fitted_parts(data, jpeg, impulses, stages, folder)
    bases, samples = _sampled(parts, data)
    if jpeg is None and parts.linear:
        _consider_codecs_behind(parts, fit, bases, data, stages)
        if stages.score < SOFTWARE_SCORE and stages.best.codec is not None:
            return fit, 0
    few = [patch for patch, _ in samples[::DISPLACED_EVERY]]
    for displacement in displacements(few, partial(ended, jpeg=jpeg)):  # a filter is what they are on average
        displaced = ComposedGenerator(displacement=displacement, impulses=impulses, jpeg=jpeg)
        stages.consider(f"displaced {displacement.kind}", displaced)
    if stages.score < SOFTWARE_SCORE and stages.best.displacement is not None:
        return fit, 0
    noisy = consider_noise("noise", parts, samples, data.held, stages)
    if stages.score > DONE_SCORE and any(isinstance(part, Diffusion) for part in parts.linear):
        # it leaves less squared error, but takes grain as well, which noise does not always give back
        rough, rough_fit = _remembered_parts(folder, "rough", lambda: fit_composed(data.fitted, jpeg, smooth=False))
        rough = rough.with_parts(impulses=impulses)
        rough_bases, rough_samples = _sampled(rough, data)
        rough_noisy = consider_noise("noise without a diffusion", rough, rough_samples, data.held, stages)
        if stages.best is rough_noisy:
            parts, fit, bases, samples, noisy = rough, rough_fit, rough_bases, rough_samples, rough_noisy
    if stages.score > OVERLAID_SCORE:
        consider_overlays("parts, overlays", parts.with_parts(impulses=None), struck, stages)
        # a matrix is fitted to what is not clipped: parts take the mean of overlays cut off at white into their curves
        pristine = [patch.pristine.astype(np.float32) for patch in struck]
        matrix = fit_colour_matrix(struck, pristine, per_image=False, linear=False)
        if consider_overlays("matrix, overlays", ComposedGenerator(linear=(matrix,), jpeg=jpeg), struck, stages):
            fit = dataclasses.replace(fit, parts=("colour matrix, levels",))
        if stages.best.overlays is not None:
            return fit, 0
    explained = fit.mse < max(DONE_MSE, DONE_SHARE * fit.identity_mse)
    if noisy.noise is None:  # the strength is right without noise
        explained = explained or stages.score < EXPLAINED_SCORE
    no_steps = settings.minutes is None and settings.mean_steps == settings.adversarial_steps == 0
    if stages.score < DONE_SCORE or explained or no_steps or stages.best.codec is not None:
        return fit, 0

    from distort_pipeline.networks.compact import CompactBody
    from distort_pipeline.training.compact import CompactCrops, CompactNetwork, CompactSettings

    rms = float(np.sqrt(np.mean([np.square(p.distorted - b).mean() for p, b in zip(data.fitted, bases, strict=True)])))
    crops = CompactCrops(data.fitted, bases, crop_px=settings.crop_px, batch=settings.batch, seed=settings.seed)
    rates = CompactSettings(seed=settings.seed)
    settings = _within_minutes(crops, rates, rms, jpeg, settings, stages, folder)
    compact = CompactNetwork(rates, residual_scale=rms, jpeg=jpeg)
    start = noisy
    if settings.mean_steps:
        quiet = CompactBody(compact.averaged, noise_scale=rms, stochastic=False)
        mean = parts.with_parts(body=quiet)
        step = _learn_mean(crops, compact, rates, settings, mean, stages, folder)
        stages.consider(f"mean, kept {step}", mean, better=BETTER)
        residuals = [p.distorted - base - _steady(quiet, p, base) for p, base in samples]
        start = consider_noise("mean, noise", mean, samples, data.held, stages, residuals=residuals)
    if settings.adversarial_steps == 0:
        return fit, 0
    if stages.best.body is None:  # fits alone are better: the network begins at a residual of 0
        compact.restart()
        start = noisy
    crops.give_noise(start, seed=settings.seed + 1)
    adversarial = start.with_parts(body=CompactBody(compact.averaged, noise_scale=rms, stochastic=True))
    step = _learn_adversarially(crops, compact, rates, settings, adversarial, stages, folder)
    score = stages.consider(f"adversary, kept {step}", adversarial, better=BETTER)
    return fit, step if stages.score == score else 0


def _sampled(parts: ComposedGenerator, data: LearnData) -> tuple[list[Levels], list[tuple[PairPatch, Levels]]]:
    """Return the bases of the training patches, and the middle of a patch of every image with its own."""
    bases = bases_of(parts, data.fitted)
    return bases, [middle_of(data.fitted[n], bases[n], NOISE_PX) for n in one_of_each_image(data.fitted)]


def _fitted_parts(
    data: LearnData, jpeg: JpegStage | None, impulses: Impulses | None, stages: Stages, folder: Path
) -> tuple[ComposedGenerator, PartsFit]:
    """Return the parts that score best: with parameters of images' own or without, of any RGB or of whole Y, Cb, Cr."""
    parts, fit = _remembered_parts(folder, "parts", lambda: fit_composed(data.fitted, jpeg))
    parts = parts.with_parts(impulses=impulses)
    score = stages.consider("parts", parts)
    # what seems drawn per image may follow from the image
    if score > PARTS_SCORE and any(part.sets > 1 for part in parts.linear):
        shared, shared_fit = _remembered_parts(
            folder, "shared", lambda: fit_composed(data.fitted, jpeg, per_image=False)
        )
        shared = shared.with_parts(impulses=impulses)
        shared_score = stages.consider("parts of all images", shared)
        if shared_score < score:
            parts, fit, score = shared, shared_fit, shared_score
    if jpeg is None and parts.linear and score > DONE_SCORE:
        whole = parts.with_parts(linear=(*parts.linear, Integers()))
        if stages.consider("parts, whole Y, Cb, Cr", whole, better=BETTER) < BETTER * score:
            parts = whole
    return parts, fit


def _within_minutes(
    crops: Any, rates: Any, rms: float, jpeg: Any, settings: LearnSettings, stages: Stages, folder: Path
) -> LearnSettings:
    """Return `settings` with as many steps as fit into its minutes behind the fits; steps as they are without."""
    from distort_pipeline.training.compact import AdversarialTrainer, CompactNetwork, MeanTrainer

    if settings.minutes is None:
        return settings
    left_s = 60 * settings.minutes - (time.process_time() - stages.started) / cores()

    def plan() -> dict[str, int]:
        compact = CompactNetwork(rates, residual_scale=rms, jpeg=jpeg)
        mean_trainer = MeanTrainer(compact, rates, steps=settings.mean_steps)
        mean_s = seconds_per_step(lambda number: mean_trainer.step(crops.at(number), number))
        if settings.adversarial_steps == 0:
            return {"mean": max(int(left_s / mean_s), 1), "adversarial": 0}
        trainer = AdversarialTrainer(compact, rates, steps=settings.adversarial_steps)
        adversarial_s = seconds_per_step(lambda number: trainer.step(crops.at(number), number))
        mean = int(min(settings.mean_steps, MEAN_SHARE * left_s / mean_s))
        adversarial = (left_s - mean * mean_s) / (adversarial_s * VALIDATION_COST)
        return {"mean": max(mean, 1), "adversarial": int(max(min(settings.adversarial_steps, adversarial), 0))}

    steps = stored_steps(folder / STAGES, plan)
    say(f"{steps['mean']} steps towards the mean and up to {steps['adversarial']} adversarial ones")
    return dataclasses.replace(settings, mean_steps=steps["mean"], adversarial_steps=steps["adversarial"])


def _learn_mean(
    crops: Any, compact: Any, rates: Any, settings: LearnSettings, mean: ComposedGenerator, stages: Stages, folder: Path
) -> int:
    """Train the network of `mean` towards the mean, leave it at its best on held-out patches, and return its step.

    Where nothing is gained that is the beginning, a residual of 0. Checkpoints and curves go below `folder`.
    """
    from distort_pipeline.training.compact import MeanTrainer
    from distort_pipeline.training.loop import Schedule, train

    steps, folder = settings.mean_steps, folder / STAGES / "mean"
    best = BestWeights(folder)

    def validate(step: int) -> dict[str, float]:
        distance = stages.l1(mean)
        best.offer(step, distance, lambda: {v.path: np.array(v) for v in compact.averaged.variables})
        return {"held_out_l1": distance}

    validate_every = max(settings.validate_every, steps // 10)
    schedule = Schedule("mean", steps, settings.checkpoint_every, validate_every, settings.loggers)
    train(MeanTrainer(compact, rates, steps=steps), crops, folder, schedule, validate=validate)
    weights = best.weights()
    compact.restart([weights[variable.path] for variable in compact.averaged.variables])
    return best.step()


def _learn_adversarially(
    crops: Any,
    compact: Any,
    rates: Any,
    settings: LearnSettings,
    adversarial: ComposedGenerator,
    stages: Stages,
    folder: Path,
) -> int:
    """Train the network against a discriminator, leave it at its best, and return the step of that."""
    from distort_pipeline.training.compact import AdversarialTrainer, assign
    from distort_pipeline.training.loop import Schedule, train

    trainer = AdversarialTrainer(compact, rates, steps=settings.adversarial_steps)
    best = BestWeights(folder / STAGES)

    def best_weights() -> list[Any]:
        weights = best.weights()
        return [weights[variable.path] for variable in compact.averaged.variables]

    def validate(step: int) -> dict[str, float]:
        scores = stages.scores(adversarial)
        best.offer(step, scores.score, lambda: {v.path: np.array(v) for v in compact.averaged.variables})
        trainer.validated(scores.score, best_weights)
        return dataclasses.asdict(scores)

    schedule = Schedule(
        "adversary",
        settings.adversarial_steps,
        settings.checkpoint_every,
        settings.validate_every,
        settings.loggers,
    )
    train(trainer, crops, folder, schedule, validate=validate, goes_on=lambda: trainer.goes_on)
    assign(compact.averaged, best_weights())
    return best.step()


def _remembered_parts(
    folder: Path, name: str, make: Callable[[], tuple[ComposedGenerator, PartsFit]]
) -> tuple[ComposedGenerator, PartsFit]:
    """Return the fitted parts that an interrupted run left in `folder`, or make them and leave them there."""
    file = folder / STAGES / f"{name}.safetensors"
    if file.is_file():
        arrays, notes = read_arrays(file)
        fit = from_json(PartsFit, json.loads(notes["fit"]), file)
        return composed_generator(arrays, json.loads(notes["described"])), fit
    generator, fit = make()
    arrays, described = composed_arrays(generator)
    write_arrays(file, arrays, {"described": json.dumps(described), "fit": json.dumps(to_json(fit))})
    return generator, fit


def _steady(body: Any, patch: PairPatch, base: Levels) -> Levels:
    """Return what a network that sees neither noise nor latents adds to `base`."""
    free = np.zeros((*base.shape[:2], FREE_CHANNELS), np.float32)
    levels: Levels = body(
        image=patch.pristine,
        position=patch.position,
        base=base,
        noise=np.zeros_like(base),
        free=free,
        latent=np.zeros(LATENTS, np.float32),
    )
    return levels
