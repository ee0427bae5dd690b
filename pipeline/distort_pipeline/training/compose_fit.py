"""Which small models make up a distortion: fitted to training images.

Deterministic parts one after another as long as one explains clearly more, in front of the JPEG stage that the files
carry or betray; then noise for what is left, calibrated to the true PSNR.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.codec_bank import Codec
from distort_pipeline.networks.colour import RANK_TONES, fit_colour_matrix, fit_phase_tone, fit_rank_tone, fit_tone
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.diffusion import fit_diffusion
from distort_pipeline.networks.earlier_jpeg import fit_earlier_jpeg
from distort_pipeline.networks.filters import Filters, PhaseFilters, fit_field_filters, fit_filters, fit_phase_filters
from distort_pipeline.networks.jpeg_stage import JpegStage
from distort_pipeline.networks.lookup import fit_colour_table
from distort_pipeline.networks.patches import TO_RGB, TO_YCC, Levels, PairPatch, recut
from distort_pipeline.networks.shrinkage import Median, fit_shrinkage
from distort_pipeline.networks.signal_noise import SignalNoise, Surroundings
from distort_pipeline.networks.wide import fit_blurs, fit_local_tone
from distort_pipeline.process import track
from distort_pipeline.records import make_rng, to_uint8
from distort_pipeline.training.fit_signal_noise import fit_signal_noise, whiten

CHOICE_IMAGES = 8  # that decide which deterministic parts there are
PATCH_PX, CHOICE_PATCHES = 128, 4  # of each, anywhere in it, to fit to and to try on
EXACT_MSE = 0.75  # levels²: rounding alone leaves up to two roundings' 1/6
WORTH = 0.95  # a part has to bring the squared error down to this share of what it was: most may be noise
FEWER = 0.96  # of two parts the one with more parameters has to leave less than this share
OWN = 0.93  # the same, where every image would have parameters of its own and the other part's are shared
ROUNDS = 3
DETAILED = 0.5  # of the training images lend their kernels
SMALL_PX, LARGE_PX = 3, 12  # radii of kernels that are tried
FIELD_RADII_PX = (3, 5)  # of kernels that vary with the position
MEDIAN_SIDES_PX = (3, 5)  # OpenCV has larger ones for 8 bits alone
LOCAL_TONE_SIGMAS_PX = (6.0, 12.0, 24.0, 40.0)  # of windows whose mean and deviation a curve depends on
TONE_PERIODS_PX = (2, 3, 4, 8)  # of curves by phase
BEHIND_ROUNDS = 2  # of fitting parts anew to what a codec behind them leaves
CALIBRATION_PX, CALIBRATION_DRAWS = 256, 6  # of a patch; gains of images differ, and their mean has to be right
MOST_IMAGES = 1_000_000
LOG_GAINS = (-2.5, 1.5)  # of an image, at least and at most
GAINS_DIFFER = 0.3  # deviation of the images' log gains: from one ISO to the next it is 0.35
LEAST_NOISE = 0.6  # levels, rms: less is rounding
LEAST_GAIN, MOST_GAIN = 0.1, 2.0  # of fitted noise; below, none is missing


@dataclass(frozen=True)
class _Candidate:
    name: str
    fit: Callable[[Sequence[PairPatch], Sequence[Levels]], Any]
    per_image: bool
    smooths: bool = False  # takes grain as well, which noise then has to give back


def _candidates() -> list[_Candidate]:
    candidates = [_Candidate("tone", partial(fit_tone, per_image=False), False)]
    for form, of in RANK_TONES:
        candidates.append(_Candidate(f"tone by {form}, {of}", partial(fit_rank_tone, form=form, of=of), False))
    candidates.append(_Candidate("tone per image", partial(fit_tone, per_image=True), True))
    candidates.append(_Candidate("tone of Y, Cb, Cr", partial(fit_tone, per_image=False, ycc=True), False))
    for radius in (SMALL_PX, LARGE_PX):
        for per_image in (False, True):
            name = f"filter {2 * radius + 1} px{' per image' if per_image else ''}, Y, Cb, Cr"
            fit = partial(fit_filters, radius_px=radius, per_image=per_image, ycc=True)
            candidates.append(_Candidate(name, fit, per_image))
    for period in TONE_PERIODS_PX:
        name = f"tone by phase of {period} px"
        candidates.append(_Candidate(name, partial(fit_phase_tone, period=period), False))
    for linear, light in ((False, "levels"), (True, "light")):
        for per_image in (False, True):
            name = f"colour matrix{' per image' if per_image else ''}, {light}"
            by_matrix = partial(fit_colour_matrix, per_image=per_image, linear=linear)
            candidates.append(_Candidate(name, by_matrix, per_image))
        for radius in FIELD_RADII_PX:
            name = f"filters of {2 * radius + 1} px by position, {light}"
            candidates.append(_Candidate(name, partial(fit_field_filters, radius_px=radius, linear=linear), False))
        for radius in (SMALL_PX, LARGE_PX):
            for per_image in (False, True):
                name = f"filter {2 * radius + 1} px{' per image' if per_image else ''}, {light}"
                fit = partial(fit_filters, radius_px=radius, per_image=per_image, linear=linear)
                candidates.append(_Candidate(name, fit, per_image))
        for period, per_image in ((2, False), (2, True), (3, False), (4, False)):
            name = f"filter by phase of {period} px{' per image' if per_image else ''}, {light}"
            by_phase = partial(fit_phase_filters, period=period, per_image=per_image, linear=linear)
            candidates.append(_Candidate(name, by_phase, per_image))
    candidates.append(_Candidate("colour table", fit_colour_table, False))
    for linear, light in ((False, "levels"), (True, "light")):
        name = f"blurs of all channels, {light}"
        candidates.append(_Candidate(name, partial(fit_blurs, linear=linear), False))
    for side in MEDIAN_SIDES_PX:
        candidates.append(_Candidate(f"median of {side} px", partial(_median, side_px=side), False))
    candidates.append(_Candidate("shrinkage of detail", fit_shrinkage, False))
    for coupled, of in ((True, "colours"), (False, "each channel")):
        smooth = partial(fit_diffusion, coupled=coupled)
        candidates.append(_Candidate(f"diffusion of {of}", smooth, False, smooths=True))
    for sigma in LOCAL_TONE_SIGMAS_PX:
        name = f"tone by surroundings of {sigma:g} px"
        candidates.append(_Candidate(name, partial(fit_local_tone, sigma_px=sigma), False))
    for per_image in (False, True):
        name = f"an earlier JPEG, {'a grid per image' if per_image else 'one grid'}"
        candidates.append(_Candidate(name, partial(fit_earlier_jpeg, per_image=per_image), per_image))
    return candidates


def _median(_: Sequence[PairPatch], __: Sequence[Levels], *, side_px: int) -> Median:
    return Median(side_px)


@dataclass(frozen=True)
class PartsFit:
    """Which parts were chosen, and the squared error that they and the last stage alone leave, in levels²."""

    parts: tuple[str, ...]
    mse: float
    identity_mse: float


def fit_composed(
    patches: Sequence[PairPatch], jpeg: JpegStage | None, *, per_image: bool = True, smooth: bool = True
) -> tuple[ComposedGenerator, PartsFit]:
    """Return the deterministic parts of a composed generator in front of its last stage `jpeg`, if it has one.

    `patches` are of training images, numbered from 0. Without `per_image`, no image has parameters of its own;
    without `smooth`, there is no diffusion.
    """
    images = sorted({patch.image for patch in patches})
    candidates = [
        candidate
        for candidate in _candidates()
        if (per_image or not candidate.per_image) and (smooth or not candidate.smooths)
    ]
    chosen, identity, error = _choose(patches, images, jpeg, candidates)
    linear = _fitted(chosen, patches)
    filters = any(isinstance(part, Filters | PhaseFilters) and part.sets > 1 for part in linear)
    choices = _detailed(patches, images) if filters else tuple(range(len(images)))
    fit = PartsFit(tuple(candidate.name for candidate in chosen), error, identity)
    return ComposedGenerator(choices=choices, linear=linear, jpeg=jpeg), fit


def in_front_of(
    codec: Codec, generator: ComposedGenerator, parts: Sequence[str], patches: Sequence[PairPatch]
) -> ComposedGenerator:
    """Return `generator` in front of `codec`, its `parts` fitted anew.

    A fit to the distorted patches takes what the codec does for its own. Fitted anew to the distorted patches less
    the change that the codec makes to the present parts, a fixed point, they leave it to the codec.
    """
    candidates = {candidate.name: candidate for candidate in _candidates()}
    chosen = [candidates[name] for name in parts]
    for _ in range(BEHIND_ROUNDS):
        fronts = [to_uint8(base) for base in bases_of(generator, patches)]
        changes = [
            codec.encode(front, make_rng(p.image)).astype(np.float32) - front
            for front, p in zip(fronts, patches, strict=True)
        ]
        targets = [
            dataclasses.replace(p, distorted=to_uint8(p.distorted - change))
            for p, change in zip(patches, changes, strict=True)
        ]
        generator = generator.with_parts(linear=_fitted(chosen, targets))
    return generator.with_parts(codec=codec)


def _fitted(chosen: Sequence[_Candidate], patches: Sequence[PairPatch]) -> tuple[Any, ...]:
    """Return the parts that are `chosen`, each fitted to what those before it leave."""
    images = sorted({patch.image for patch in patches})
    linear: list[Any] = []
    values = [patch.pristine.astype(np.float32) for patch in patches] if chosen else []
    for candidate in chosen:
        part = candidate.fit(patches, values)
        linear.append(part)
        values = [
            _apply(part, value, images.index(p.image) if candidate.per_image else 0, p)
            for p, value in zip(patches, values, strict=True)
        ]
    return tuple(linear)


def _detailed(patches: Sequence[PairPatch], images: Sequence[int]) -> tuple[int, ...]:
    """Return which images have the most detail: a kernel is well determined only where there is something to filter."""
    detail = []
    for image in images:
        greys = [p.pristine[..., 1].astype(np.float32) for p in patches if p.image == image]
        detail.append(np.mean([np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey)).mean() for grey in greys]))
    least = np.quantile(detail, 1 - DETAILED)
    return tuple(int(n) for n in np.flatnonzero(np.array(detail) >= least))


def _choose(
    patches: Sequence[PairPatch], images: Sequence[int], jpeg: JpegStage | None, candidates: Sequence[_Candidate]
) -> tuple[list[_Candidate], float, float]:
    """Return which `candidates` explain enough, in order, the squared error of the last stage alone, and theirs.

    Parameters of an image are fitted to some of its patches and tried on the others.
    """
    few = {images[n] for n in np.unique(np.linspace(0, len(images) - 1, CHOICE_IMAGES).astype(int))}
    fitted, tried = [], []
    for image in sorted(few):
        whole = [patch for patch in patches if patch.image == image]
        side = min(PATCH_PX, min(min(patch.pristine.shape[:2]) for patch in whole) // 2)
        pieces = recut(whole, side, least_px=side)
        order = make_rng(image).permutation(len(pieces))[: 2 * CHOICE_PATCHES]
        pieces = [pieces[n] for n in order]
        if len(pieces) > 1:
            fitted += pieces[::2]
            tried += pieces[1::2]
    numbers = sorted({patch.image for patch in fitted})
    bases = {id(p): p.pristine.astype(np.float32) for p in (*fitted, *tried)}

    def error_of(values: dict[int, Levels]) -> float:
        """Return the squared error away from the borders, where the image goes on and a piece does not."""
        inside = slice(LARGE_PX, -LARGE_PX) if min(tried[0].distorted.shape[:2]) > 4 * LARGE_PX else slice(None)
        squares = [np.square(ended(values[id(p)], jpeg) - p.distorted)[inside, inside] for p in tried]
        return float(np.mean([square.mean() for square in squares]))

    chosen: list[_Candidate] = []
    identity = present = error_of(bases)
    _say(f"identity: {present:.2f} levels²" + (f", ends in JPEG {jpeg.subsampling}" if jpeg else ""))
    for _ in range(ROUNDS):
        if present < EXACT_MSE:
            break
        best: tuple[float, _Candidate, dict[int, Levels]] | None = None
        for candidate in track(candidates, total=len(candidates), label=f"part {len(chosen) + 1}", unit="candidates"):
            part = candidate.fit(fitted, [bases[id(p)] for p in fitted])
            moved = {
                id(p): _apply(part, bases[id(p)], numbers.index(p.image) if candidate.per_image else 0, p)
                for p in (*fitted, *tried)
            }
            error = error_of(moved)
            # a part with more parameters has to be clearly better than one with fewer, which comes first
            clearly = OWN if best and candidate.per_image and not best[1].per_image else FEWER
            if best is None or error < clearly * best[0]:
                best = (error, candidate, moved)
        assert best is not None
        _say(f"  {best[1].name}: {best[0]:.2f} levels²")
        if best[0] > WORTH * present:
            break
        present, bases = best[0], best[2]
        chosen.append(best[1])
    return chosen, identity, present


def bases_of(generator: ComposedGenerator, patches: Sequence[PairPatch]) -> list[Levels]:
    """Return the bases of training patches, with each image's own parameters."""
    images = sorted({patch.image for patch in patches})
    return [generator.base(p.pristine, images.index(p.image), p.position) for p in patches]


def with_noise(
    generator: ComposedGenerator,
    patches: Sequence[PairPatch],
    bases: Sequence[Levels],
    held: Sequence[PairPatch],
    *,
    residuals: Sequence[Levels] | None = None,
) -> ComposedGenerator:
    """Return `generator` with the noise that is left, calibrated to the true mean PSNR of `held`."""
    if residuals is None:
        residuals = [p.distorted - b for p, b in zip(patches, bases, strict=True)]
    rms = float(np.sqrt(np.mean([np.square(r).mean() for r in residuals])))
    if rms < LEAST_NOISE:
        return generator
    last_stage = partial(ended, jpeg=generator.jpeg)
    noise = fit_signal_noise(patches, bases, residuals, last_stage=last_stage)
    log_gains = _log_gains(noise, patches, bases, residuals, last_stage)
    if np.std(log_gains) < GAINS_DIFFER:
        log_gains = np.zeros(1, np.float32)
    return calibrated(generator.with_parts(noise=dataclasses.replace(noise, log_gains=log_gains)), held)


def _log_gains(
    noise: SignalNoise,
    patches: Sequence[PairPatch],
    bases: Sequence[Levels],
    residuals: Sequence[Levels],
    last_stage: Callable[[Levels], Levels],
) -> NDArray[np.float32]:
    """Return the log of each training image's gain: true residuals against drawn ones behind the last stage, whitened.

    What the last stage does to the image without noise is in both, and is taken off.
    """
    powers = np.zeros((1 + max(patch.image for patch in patches), 3))  # true, drawn, without noise
    for patch, base, residual in zip(patches, bases, residuals, strict=True):
        surroundings = Surroundings.of(base, noise.contrasts)
        drawn = noise.draw(base, np.random.Generator(np.random.PCG64(patch.image)), 0.0)
        steady = patch.distorted - residual
        kinds = (residual, last_stage(steady + drawn) - steady, last_stage(steady) - steady)
        powers[patch.image] += [np.square(whiten(noise, base, kind, surroundings)).mean() for kind in kinds]
    true, drawn_power, floor = powers.T
    ratio = np.maximum(true - floor, 1e-3 * true + 1e-9) / np.maximum(drawn_power - floor, 1e-3 * true + 1e-9)
    return np.clip(0.5 * np.log(ratio), *LOG_GAINS).astype(np.float32)


def calibrated(generator: ComposedGenerator, held: Sequence[PairPatch]) -> ComposedGenerator:
    """Return `generator` with its noise in luma times the gain at which the mean PSNR to pristine is the true one.

    By bisection. Chroma stays as fitted: errors of other parts at edges are of luma, and one gain for all would make
    the chroma of a camera too weak. Without noise where the gain is below LEAST_GAIN.
    """
    assert generator.noise is not None
    draws = CALIBRATION_DRAWS if len(generator.noise.log_gains) > 1 else 1
    luma_of = TO_RGB[:, :1].astype(np.float32) @ TO_YCC[:1].astype(np.float32)
    drawn = []
    for patch in held:
        x, y = (pixels[:CALIBRATION_PX, :CALIBRATION_PX] for pixels in (patch.pristine, patch.distorted))
        for draw in range(draws):
            inputs = generator.inputs(x, patch.image + draw * MOST_IMAGES, patch.position)
            body = 0 if generator.body is None else generator.body(image=x, position=patch.position, **inputs)
            luma = inputs["noise"] @ luma_of.T
            drawn.append((x, y, inputs["base"] + body + inputs["noise"] - luma, luma))
    low, high = 0.0, MOST_GAIN
    for _ in range(7):
        gain = (low + high) / 2
        deltas = []
        for x, y, steady, luma in drawn:
            generated = ended(steady + np.float32(gain) * luma, generator.jpeg)
            deltas.append(10 * np.log10(max(_mse(x, y), 1e-2) / max(_mse(x, generated), 1e-2)))
        low, high = (gain, high) if np.mean(deltas) > 0 else (low, gain)
    gain = (low + high) / 2
    _say(f"  noise in luma times {gain:.2f}")
    return generator.with_parts(noise=generator.noise.times(np.array([gain, 1, 1])) if gain >= LEAST_GAIN else None)


def _mse(x: NDArray[Any], y: NDArray[Any]) -> float:
    return float(np.square(x.astype(np.float32) - y).mean())


def ended(values: Levels, jpeg: JpegStage | None) -> NDArray[np.float32]:
    """Return `values` (H, W, 3) as 8-bit levels, behind the last stage if there is one."""
    pixels = to_uint8(values)
    return (jpeg.encode(pixels) if jpeg else pixels).astype(np.float32)


def _apply(model: Any, values: Levels, choice: int, patch: PairPatch) -> Levels:
    distorted: Levels = model.distort(values, choice, patch.position)
    return distorted


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
