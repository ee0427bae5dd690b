"""The matrices and kernel of a noise pyramid, fitted to the power spectrum and colour covariance of the residual.

The residual is the difference y - x, minus T(x) with coefficient curves. Its power spectrum is a sum of the spectra of
the pyramid's octaves, each times a non-negative power: non-negative least squares over radial frequencies, on
relative errors. The kernel fits the rest of the spectrum, by least squares over all frequencies.

Clipping takes power away. Tiles are chosen by the headroom of the pristine image, never by clipping in the distorted
image, as tiles with weak noise would be favoured; and the power lost by the pyramid itself to clipping is
compensated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtr

from distort_pipeline.networks.noise import SLOWER
from distort_pipeline.networks.predictor import NOISE_PYRAMID, FittedNoise
from distort_pipeline.process import track
from distort_pipeline.records import LEVELS_PER_UNIT, Images, make_rng

Floats = NDArray[np.floating]

MAPS = 7
OCTAVES = SLOWER + MAPS
STRIDE_PX = 128  # between overlapping fields
MOST_FIELD_PX = 256  # the side of a field, 128 for smaller tiles: the slowest octave is a single value per field
FIELDS = 64  # sampled for the spectrum of each octave
RINGS = 14  # radial bins, apart from the mean of a field
ROOMY = 0.02  # expected share of values beyond 0 or 255
LEAST_TILES, MOST_TILES = 8, 128
TURNS = 20  # alternating fits of powers and kernel; after 8 turns changes of a tenth remain
CLIPPED_TILES = 24  # enough: the same noise is compared with and without clipping
CLIPPED_TURNS = 2  # after two, the loss by clipping is known to a hundredth


def fit_noise(explained: Images, distorted: Images, *, channels: int) -> dict[str, Floats]:
    """Return the weights of a single-level noise pyramid; tiles are (N, H, W, 3), sides multiples of 128 px.

    The weights are "octaves" (9, channels, 3), slowest octave first, and "kernels" (2, 2). Noise is added to
    `explained`: x + T(x), or the pristine tiles alone. Without a residual all matrices are 0.
    """
    chosen = roomy_tiles(explained, distorted)
    explained, distorted = explained[chosen], distorted[chosen]
    side = min(MOST_FIELD_PX, *explained.shape[1:3])
    target, covariance = np.zeros((side, side)), np.zeros((3, 3))
    shift = float(distorted.mean(dtype=np.float64) - explained.mean(dtype=np.float64))  # caused by clipping, not noise
    for clean, noisy in zip(explained, distorted, strict=True):  # tile by tile: all tiles as floats take gigabytes
        difference = (noisy.astype(np.float32) - clean - np.float32(shift)) / LEVELS_PER_UNIT
        flat = difference.reshape(-1, 3).astype(np.float64)
        target += _power(_fields(difference, side)) / len(chosen)
        covariance += flat.T @ flat / len(flat) / len(chosen)
    if not covariance.any():
        return {"octaves": np.zeros((OCTAVES, channels, 3), np.float32), "kernels": _kernel(1, 0, 0, 0)}
    colours = _colours(covariance, channels)
    octaves = _octave_powers(side, channels)
    kept_power = np.ones((side, side))
    for iteration in track(range(CLIPPED_TURNS + 1), total=CLIPPED_TURNS + 1, label="noise by octave", unit="fits"):
        powers, kernel = _fit_spectrum(target / kept_power, octaves)
        matrices = (np.sqrt(powers)[:, None, None] * colours).astype(np.float32)
        if iteration < CLIPPED_TURNS:
            kept_power = _kept_by_clipping(explained, matrices, kernel, side)
    return {"octaves": matrices, "kernels": kernel}


def roomy_tiles(explained: Images, distorted: Images) -> NDArray[np.intp]:
    """Return the indices of tiles with little risk of clipping: at most 128, spread over all, and at least 8."""
    errors = [
        np.square(noisy.astype(np.float32) - clean).mean() for clean, noisy in zip(explained, distorted, strict=True)
    ]
    deviation = max(float(np.sqrt(np.median(errors))), 1e-6)
    levels_8bit = np.arange(256)
    beyond = ndtr((-0.5 - levels_8bit) / deviation) + ndtr((levels_8bit - 255.5) / deviation)
    risk = np.array([np.bincount(tile.ravel(), minlength=256) @ beyond / tile.size for tile in explained])
    roomy = np.flatnonzero(risk <= ROOMY)
    if len(roomy) < LEAST_TILES:
        return np.argsort(risk, kind="stable")[:LEAST_TILES]
    return roomy[np.unique(np.linspace(0, len(roomy) - 1, min(MOST_TILES, len(roomy))).astype(int))]


def _fit_spectrum(target: Floats, octaves: Floats) -> tuple[Floats, Floats]:
    """Return the power of each octave and the kernel, the best fit to the spectrum `target` (side, side).

    `octaves` (9, side, side) are the spectra of each at unit power.
    """
    side = len(target)
    cosine = np.cos(2 * np.pi * np.fft.fftfreq(side))
    down, across = np.broadcast_arrays(cosine[:, None], cosine[None, :])
    cosines = np.stack([np.ones((side, side)), 2 * across, 2 * down, 4 * across * down], axis=-1)
    mirrored = (target + np.roll(target[::-1], 1, axis=0)) / 2  # symmetric like the kernel's, and half as noisy
    radial = _radial(mirrored)
    kernel = np.array([1.0, 0.0, 0.0, 0.0])
    used = np.ones((side, side), bool)
    used[0, 0] = False  # the mean of a field belongs to the slowest octave alone
    powers = _octave_shares(radial, octaves)
    for _ in range(TURNS):
        gain = np.sqrt(mirrored / np.maximum(np.tensordot(powers, octaves, 1), 1e-12 * mirrored.max()))
        kernel, *_ = np.linalg.lstsq(cosines[used], gain[used], rcond=None)
        passed = octaves * np.square(cosines @ kernel)
        powers = _octave_shares(radial, passed)
    # relative errors fit no total power; the power of the means is biased by clipped pixels
    powers *= target[used].sum() / np.tensordot(powers, passed, 1)[used].sum()
    energy = float(np.square(kernel) @ (1, 2, 2, 4))  # normalised: the kernel keeps the power of white noise
    return powers * energy, _kernel(*kernel / np.sqrt(energy))


def _octave_shares(radial: Floats, octaves: Floats) -> Floats:
    """Return the best-fit powers of `octaves` (9, side, side) for a `radial` spectrum, in relative errors."""
    shapes = np.stack([_radial(octave) for octave in octaves], axis=1)
    powers: Floats = nnls(shapes / radial[:, None], np.ones(len(radial)))[0]
    return powers


def _kernel(centre: float, side: float, above: float, corner: float) -> Floats:
    return np.array([[centre, side], [above, corner]], np.float32)


def _kept_by_clipping(explained: Images, matrices: Floats, kernel: Floats, side: int) -> Floats:
    """Return the share (side, side) of the pyramid's power kept in 8-bit images: about 1, or less.

    Rounding adds a little.
    """
    pyramid = _pyramid(matrices[None], kernel[None])
    rng = make_rng(OCTAVES)
    before, after = np.zeros((side, side)), np.zeros((side, side))
    for tile in explained[:: -(-len(explained) // CLIPPED_TILES)]:
        noise = _noise(pyramid, 1, tile.shape[:2], rng)[0]
        pixels = np.clip(np.rint(tile + noise * LEVELS_PER_UNIT), 0, 255)
        before += _power(_fields(noise, side))
        after += _power(_fields(((pixels - tile) / LEVELS_PER_UNIT).astype(np.float32), side))
    return _rings_of(after) / _rings_of(before)


def _fields(difference: Floats, side: int) -> Floats:
    """Return the square fields (n, side, side, 3) of a difference (H, W, 3), at each stride."""
    windows = np.lib.stride_tricks.sliding_window_view(difference, (side, side), axis=(0, 1))[::STRIDE_PX, ::STRIDE_PX]
    return np.moveaxis(windows, 2, -1).reshape(-1, side, side, 3)


def _power(fields: Floats) -> Floats:
    """Return the power spectrum of fields (n, side, side, c), mean over fields and channels, (side, side)."""
    power: Floats = np.square(np.abs(np.fft.fft2(fields, axes=(1, 2), norm="ortho"))).mean((0, 3))
    return power


@lru_cache(maxsize=1)  # each fit asks some hundred times
def _rings(side: int) -> NDArray[np.intp]:
    """Return the radial bin of each frequency, (side, side): 0 for the mean of a field."""
    cycles = np.fft.fftfreq(side, 1 / side)
    rings = np.digitize(np.hypot(cycles[:, None], cycles[None, :]), np.geomspace(1.0, side / 2, RINGS))
    rings.setflags(write=False)
    return rings


def _radial(power: Floats) -> Floats:
    """Return the mean of a power spectrum (side, side) in each radial bin, the mean of a field first."""
    ring = _rings(len(power))
    sums, counts = (np.bincount(ring.ravel(), weights, RINGS + 1) for weights in (power.ravel(), None))
    return sums / counts


def _rings_of(power: Floats) -> Floats:
    """Return a power spectrum (side, side) with each frequency replaced by the mean of its radial bin."""
    return _radial(power)[_rings(len(power))]


@lru_cache(maxsize=1)  # shared by all levels
def _octave_powers(side: int, channels: int) -> Floats:
    """Return the spectrum (side, side) of each octave at unit power, (9, side, side), for `channels` channels."""
    powers = np.stack([_power(_drawn(octave, side, channels)) for octave in range(OCTAVES)])
    powers.setflags(write=False)
    return powers


def _drawn(octave: int, side: int, channels: int) -> Floats:
    """Return fields of the pyramid with unit power in a single octave, without a kernel, the first colour only.

    All channels take part: cells beside the image have the numbers of other channels.
    """
    matrices = np.zeros((1, OCTAVES, channels, 3), np.float32)
    matrices[0, octave, 0, 0] = 1
    pyramid = _pyramid(matrices, _kernel(1, 0, 0, 0)[None])
    return _noise(pyramid, FIELDS, (side, side), make_rng(octave))[..., :1]


def _pyramid(matrices: Floats, kernels: Floats) -> FittedNoise:
    return FittedNoise(1, {f"{NOISE_PYRAMID}/octaves": matrices, f"{NOISE_PYRAMID}/kernels": kernels})


def _noise(pyramid: FittedNoise, count: int, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return samples (count, H, W, 3) of a pyramid for images of `shape` (H, W, ...)."""
    channels = pyramid.octaves.shape[2]
    sides = [[px // 2**halvings for px in shape[:2]] for halvings in reversed(range(MAPS))]
    maps = [rng.standard_normal((count, *side, channels), dtype=np.float32) for side in sides]
    return np.asarray(pyramid.noise(maps), np.float32)


def _colours(covariance: Floats, channels: int) -> Floats:
    """Return a matrix (channels, 3) from independent unit noise to `covariance`, scaled to a mean power of 1.

    With three channels or more the matrix is the symmetric root, smooth from level to level; with fewer, the directions
    of most power are kept.
    """
    powers, directions = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(powers, 0))  # rounding can leave -1e-12
    matrix = np.zeros((channels, 3))
    if channels >= len(roots):
        matrix[: len(roots)] = directions * roots @ directions.T
    else:
        matrix[:] = (roots[:, None] * directions.T)[::-1][:channels]
    return matrix / np.sqrt(np.square(matrix).sum() / 3)
