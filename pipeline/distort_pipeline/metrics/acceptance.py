"""Acceptance of a batch or a model: statistics of distorted tiles, with thresholds from the truth against itself.

Each tile has a vector of statistics, OF_TILES, and NSS histograms. Generated and true tiles are compared tile by tile;
the mean differences, the spread of the differences in strength, and the divergences of the pooled histograms are held
against thresholds. A threshold is the larger of a tolerance and of a quantile of redraws: of the difference between two
true draws on as many tiles of as many photographs. docs/trust.md gives the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, stdtrit

from distort_pipeline.metrics.full_reference import psnr, ssim
from distort_pipeline.metrics.jsd_nss import JSD_NSS, JSD_NSS_ROW, NSS_FEATURES, jsd_bits_rows, luma, nss_histograms
from distort_pipeline.metrics.residuals import CORRELATION_GOAL, VARIANCE_GOAL, steps_by_phase
from distort_pipeline.records import Image, Judgement

Floats: TypeAlias = NDArray[np.float64]
Plane: TypeAlias = NDArray[np.float64]  # (H, W), 8-bit levels

FALSE_ALARMS = 0.01  # of all statistics together, among true batches
FULL_BATCH = 8  # photographs that the tolerances are for: a mean over fewer varies more, by the root of their share
HIGHEST_PSNR_DB = 60.0  # of identical tiles
OCTAVES = 5  # of 2 to 32 px, and the rest
POWER_FLOOR = 0.1  # squared 8-bit levels: weaker residuals, a third of a level, do not count
DETAIL_PX = 9  # of the local mean in half-size luma
BLOCK_PX = 8  # of the dependence on luminance and contrast
VARIANCE_GOAL_DB = 10 * math.log10(1 + VARIANCE_GOAL)
BOOTSTRAPS = 300
DECIMALS = 6  # of a tile's statistics: last bits differ from processor to processor


@dataclass(frozen=True)
class Statistic:
    """A statistic of a batch; with several components, that nearest to or farthest beyond its threshold counts."""

    name: str
    group: str
    unit: str
    components: int
    tolerance: float


# The tolerances were fixed before a substitution was tried: half an 8-bit level of brightness and colour, 0.15 dB of
# strength, a tenth of power, a twentieth of a correlation, of a pixel and of a step across the block grid.
OF_TILES = (
    Statistic("PSNR", "strength", "dB", 1, 0.15),
    Statistic("SSIM", "strength", "", 1, 0.005),
    Statistic("channel means", "colour", "levels", 3, 0.5),
    Statistic("channel spread", "colour", "levels", 3, 0.5),
    Statistic("saturation", "colour", "levels", 1, 0.5),
    Statistic("residual variance by channel", "colour", "dB", 3, VARIANCE_GOAL_DB),
    Statistic("residual correlation of channels", "colour", "", 3, CORRELATION_GOAL),
    Statistic("content", "alignment", "", 1, 0.01),
    Statistic("orientation", "alignment", "", 3, 0.01),
    Statistic("shift", "alignment", "px", 2, 0.05),
    Statistic("block grid", "alignment", "", 16, 0.05),
    Statistic("luma power by octave", "residual", "dB", OCTAVES + 1, VARIANCE_GOAL_DB),
    Statistic("chroma power by octave", "residual", "dB", OCTAVES + 1, VARIANCE_GOAL_DB),
    Statistic("dependence on luminance", "residual", "dB per 64 levels", 1, 0.5),
    Statistic("dependence on contrast", "residual", "dB per 10 dB", 1, 0.5),
    Statistic("tails", "residual", "", 1, 0.02),
)
SPREADS = (
    Statistic("spread of PSNR", "strength", "dB", 1, 0.5),
    Statistic("spread of SSIM", "strength", "", 1, 0.015),
)
# half the divergence between ten photographs and ten others under one true distortion, about 0.002 bits
DISTRIBUTION = (
    Statistic("JSD_NSS", "distribution", "bits", 1, 0.001),
    Statistic("NSS features of luma", "distribution", "bits", 9, 0.001),
    Statistic("NSS features of chroma", "distribution", "bits", 2, 0.001),
)
STATISTICS = (*DISTRIBUTION, *OF_TILES[:2], *SPREADS, *OF_TILES[2:])

WIDTH = sum(statistic.components for statistic in OF_TILES)
COMPONENTS = sum(statistic.components for statistic in STATISTICS)
_FEATURE_ROWS = [
    [JSD_NSS_ROW],
    [row for row, name in enumerate(NSS_FEATURES) if name not in (JSD_NSS, "cb", "cr")],
    [NSS_FEATURES.index("cb"), NSS_FEATURES.index("cr")],
]


@dataclass(frozen=True)
class TileStatistics:
    """Statistics of n tiles: `values` (n, WIDTH) in the order of OF_TILES, and NSS `histograms` (n, 12, 103)."""

    values: Floats
    histograms: NDArray[np.integer[Any]]

    @classmethod
    def of(cls, pristine: Iterable[Image], distorted: Iterable[Image]) -> TileStatistics:
        """Return the statistics of `distorted` tiles, each with its pristine tile."""
        pairs = list(zip(pristine, distorted, strict=True))
        return cls(
            np.stack([tile_statistics(*pair) for pair in pairs]), np.stack([nss_histograms(tile) for _, tile in pairs])
        )

    @classmethod
    def stacked(cls, parts: Sequence[TileStatistics]) -> TileStatistics:
        """Return the statistics of the tiles of all `parts`."""
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([part.histograms for part in parts]))

    @property
    def jsd_nss(self) -> NDArray[np.integer[Any]]:
        """The histograms of JSD_NSS, (n, 103)."""
        return self.histograms[:, JSD_NSS_ROW]


def tile_statistics(pristine: Image, distorted: Image, *, ssim_value: float | None = None) -> Floats:
    """Return the statistics of a distorted tile, (WIDTH,), in the order of OF_TILES; `ssim_value` if it is known."""
    # float64 planes of whole numbers: their sums are exact in any order, so the same on every machine
    added = [cv2.subtract(y, x, dtype=cv2.CV_64F) for x, y in zip(*map(cv2.split, (pristine, distorted)), strict=True)]
    x, y = (luma(image).astype(np.float64) for image in (pristine, distorted))
    red, green, blue = added
    difference = y - x
    values = np.concatenate(
        [
            [min(psnr(pristine, distorted), HIGHEST_PSNR_DB)],
            [ssim(pristine, distorted) if ssim_value is None else ssim_value],
            _colour(distorted, added),
            _alignment(_halved(x), _halved(y)),
            _grid(distorted),
            _decibels(_octaves(difference)),
            _decibels(_octaves(red - green) + _octaves(blue - green)),
            _dependence(x, difference),
            [cv2.norm(difference, cv2.NORM_L1) / math.sqrt(x.size * (_dot(difference, difference) + x.size))],
        ]
    )
    return np.round(values, DECIMALS)


def _dot(a: Plane, b: Plane) -> float:
    return float(np.einsum("ij,ij->", a, b))  # np.vdot starts threads


def _decibels(power: Floats) -> Floats:
    return np.asarray(10 * np.log10(power + POWER_FLOOR))


def _halved(plane: Plane) -> Plane:
    """Return the means of 2 x 2 px."""
    height, width = (side // 2 * 2 for side in plane.shape)
    rows = plane[:height:2] + plane[1:height:2]
    return (rows[:, :width:2] + rows[:, 1:width:2]) / 4


def _colour(distorted: Image, added: Sequence[Plane]) -> Floats:
    """Return means, spread and saturation of the channels; variances and correlations of the residual's."""
    means, deviations = cv2.meanStdDev(distorted)
    shift = [plane.mean() for plane in added]
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    covariance = np.array([_dot(added[a], added[b]) / added[a].size - shift[a] * shift[b] for a, b in pairs])
    deviation = np.sqrt(covariance[:3] + POWER_FLOOR)
    correlations = covariance[3:] / (deviation[[0, 0, 1]] * deviation[[1, 2, 2]])
    return np.array(
        [*means[:, 0], *deviations[:, 0], _saturation(distorted), *(20 * np.log10(deviation)), *correlations]
    )


def _saturation(image: Image) -> float:
    """Return the mean of the largest minus the smallest channel, in 8-bit levels."""
    red, green, blue = cv2.split(image)
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return cv2.mean(cv2.subtract(brightest, darkest))[0]


def _alignment(x: Plane, y: Plane) -> Floats:
    """Return the correlation of half-size detail with the pristine tile, also mirrored and turned; the shift in px.

    Detail is without its local mean: coarse noise in flat tiles correlates with anything, and moves anything.
    """
    x, y = (plane - cv2.blur(plane, (DETAIL_PX, DETAIL_PX)) for plane in (x, y))
    scale = math.sqrt(_dot(x, x) * _dot(y, y)) + x.size  # one squared level a pixel: flat tiles have no content
    correlations = [_dot(x, turned) / scale for turned in (y, y[:, ::-1], y[::-1], y[::-1, ::-1])]
    gradient = [x[2:, 1:-1] - x[:-2, 1:-1], x[1:-1, 2:] - x[1:-1, :-2]]  # times two, per two pixels
    change = (y - x)[1:-1, 1:-1]
    # shrunk towards 0 where the residual hides the gradient
    normal = np.array([[_dot(a, b) for b in gradient] for a in gradient]) + (x.size + _dot(change, change)) * np.eye(2)
    shift = -4 * np.linalg.solve(normal, [_dot(slope, change) for slope in gradient])
    return np.array([*correlations, *shift])


def _grid(distorted: Image) -> Floats:
    """Return the steps by phase in the block grid, of both directions, over their mean: (16,)."""
    steps = steps_by_phase(distorted)
    return (steps / (steps.mean(1, keepdims=True) + math.sqrt(POWER_FLOOR))).ravel()


def _octaves(plane: Plane) -> Floats:
    """Return the power of `plane` by octave of Haar's wavelets, finest first, the rest last: (OCTAVES + 1,)."""
    height, width = plane.shape
    unit = 2**OCTAVES
    plane = cv2.copyMakeBorder(plane, 0, -height % unit, 0, -width % unit, cv2.BORDER_REFLECT)
    powers = [np.square(plane).mean()]
    for _ in range(OCTAVES):
        rows = plane[::2] + plane[1::2]
        plane = (rows[:, ::2] + rows[:, 1::2]) / 4
        powers.append(np.square(plane).mean())
    return np.maximum([*-np.diff(powers), powers[-1]], 0)


def _dependence(x: Plane, added: Plane) -> Floats:
    """Return the slopes of the residual's power in blocks over their luminance and over their contrast, (2,)."""
    power, mean, square = (_block_means(plane) for plane in (np.square(added), x, np.square(x)))
    response = _decibels(power)
    columns = np.stack([mean / 64, np.log10(np.maximum(square - np.square(mean), 0) + 1)])
    columns -= columns.mean(1, keepdims=True)
    normal = columns @ columns.T / columns.shape[1] + 0.01 * np.eye(2)  # tiles without contrasts have no slope
    return np.asarray(np.linalg.solve(normal, columns @ (response - response.mean()) / columns.shape[1]))


def _block_means(plane: Plane) -> Floats:
    rows, columns = (side // BLOCK_PX for side in plane.shape)
    blocks = plane[: rows * BLOCK_PX, : columns * BLOCK_PX].reshape(rows, BLOCK_PX, columns, BLOCK_PX)
    return np.asarray(blocks.mean((1, 3)).ravel())


def judge(
    generated: TileStatistics,
    true: TileStatistics,
    photographs: Sequence[str] | Sequence[int] | NDArray[Any],
    redrawn: tuple[TileStatistics, TileStatistics] | None = None,
    *,
    rng: np.random.Generator,
) -> tuple[Judgement, ...]:
    """Return the judgement of each of STATISTICS of `generated` against `true` tiles, row by row the same tile.

    `photographs` (n,) names the photograph of each tile. `redrawn` are two draws on these tiles: of the truth or, where
    that cannot be drawn again, of the generator. None is for deterministic distortions, whose redraws are identical:
    their thresholds are the tolerances.
    """
    groups = np.unique(np.asarray(photographs), return_inverse=True)[1]
    added = generated.values - true.values
    divergences = jsd_bits_rows(generated.histograms.sum(0), true.histograms.sum(0))
    spread = added[:, :2].std(0)
    count = groups.max() + 1
    tolerance = math.sqrt(max(FULL_BATCH / count, 1))
    if redrawn is None:
        zeros = np.zeros(len(NSS_FEATURES)), np.zeros(2), np.zeros(WIDTH)
        return _judged(divergences, spread, added.mean(0), *zeros, tolerance=tolerance)
    first, again = redrawn
    chance = again.values - first.values
    spread_quantile = np.sqrt(np.square(chance[:, :2]).mean(0) * critical_ratio(count, count))
    quantile = critical_factor(count) * standard_error(chance, groups)
    bits = 2 * _bootstrapped_bits(again.histograms, first.histograms, groups, rng)  # the redraw is a single one
    return _judged(divergences, spread, added.mean(0), bits, spread_quantile, quantile, tolerance=tolerance)


@dataclass(frozen=True)
class ValidationStatistics:
    """True validation tiles at one level: `tiles` of n, their `content` (n, CONTENT), and `photographs` (n,)."""

    tiles: TileStatistics
    content: Floats
    photographs: NDArray[np.int64]


CONTENT = 7  # statistics of a pristine tile that predict those of its distorted version
RIDGE = 1.0  # of standardised content: a validation tile's weight


def content_statistics(pristine: Image) -> Floats:
    """Return the content of a pristine tile, (CONTENT,): brightness, contrast, saturation, detail of four octaves."""
    plane = luma(pristine).astype(np.float64)
    saturation = _saturation(pristine)
    contrast = math.log10(float(plane.var()) + 1)
    return np.array([plane.mean() / 64, contrast, saturation / 64, *_decibels(_octaves(plane))[:4] / 10])


def judge_by_content(
    generated: TileStatistics,
    content: Floats,
    photographs: Sequence[str],
    validation: ValidationStatistics,
    *,
    rng: np.random.Generator,
) -> tuple[Judgement, ...]:
    """Return the judgement of each of STATISTICS of tiles without a truth: weaker than `judge`.

    The truth of a tile is predicted from its content (n, CONTENT), by ridge regression over the validation tiles. The
    thresholds come from the prediction's errors on validation photographs left out, at the batch's number of
    photographs; the divergences' from other validation photographs.
    """
    values, groups = validation.tiles.values, np.unique(validation.photographs, return_inverse=True)[1]
    known, batch = groups.max() + 1, len(set(photographs))
    added = generated.values - _predicted(validation.content, values, content)
    errors = np.empty_like(values)
    for photograph in range(known):
        inside = groups == photograph
        others = validation.content[~inside], values[~inside]
        errors[inside] = values[inside] - _predicted(*others, validation.content[inside])
    factor = critical_factor(known)
    by_photograph = np.stack([errors[groups == photograph].mean(0) for photograph in range(known)])
    quantile = factor * np.sqrt(np.square(by_photograph).mean(0) * (1 / batch + 1 / known))
    spread_quantile = np.sqrt(np.square(errors[:, :2]).mean(0) * critical_ratio(batch, known))
    pooled = np.stack([validation.tiles.histograms[groups == photograph].sum(0) for photograph in range(known)])
    divergences = jsd_bits_rows(generated.histograms.sum(0), pooled.sum(0))
    bits = 2 * _content_bits(pooled, batch, rng)
    tolerance = math.sqrt(max(FULL_BATCH / batch, 1))
    means = added.mean(0)
    return _judged(divergences, added[:, :2].std(0), means, bits, spread_quantile, quantile, tolerance=tolerance)


def _predicted(content: Floats, values: Floats, others: Floats) -> Floats:
    """Return the `values` expected for the `others` of content, from tiles with both."""
    centre, scale = content.mean(0), content.std(0) + 1e-3
    design = (content - centre) / scale
    normal = design.T @ design + RIDGE * np.eye(CONTENT)
    slopes = np.linalg.solve(normal, design.T @ (values - values.mean(0)))
    return np.asarray(values.mean(0) + (others - centre) / scale @ slopes)


def _content_bits(pooled: NDArray[np.integer[Any]], batch: int, rng: np.random.Generator) -> Floats:
    """Return the largest divergence of each feature between some photographs and the others, (12,)."""
    known, largest = len(pooled), np.zeros(len(NSS_FEATURES))
    for _ in range(BOOTSTRAPS):
        some = rng.permutation(known)[: min(batch, known // 2)]
        inside = np.isin(np.arange(known), some)
        largest = np.maximum(largest, jsd_bits_rows(pooled[inside].sum(0), pooled[~inside].sum(0)))
    return largest


def critical_factor(photographs: int) -> float:
    """Return the quantile of Student's t, two-sided, at FALSE_ALARMS shared by all COMPONENTS (Bonferroni)."""
    return float(stdtrit(photographs, 1 - FALSE_ALARMS / COMPONENTS / 2))


def critical_ratio(photographs: int, known: int) -> float:
    """Return the quantile of the ratio of two variances, of so many photographs each, at the same level."""
    return float(fdtri(photographs, known, 1 - FALSE_ALARMS / COMPONENTS))


def standard_error(values: Floats, groups: NDArray[np.integer[Any]]) -> Floats:
    """Return the standard error of the mean of `values` (n, k) of mean 0, independent between `groups` only."""
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return np.sqrt(np.square(sums).sum(0)) / len(values)


def _bootstrapped_bits(
    one: NDArray[np.integer[Any]], other: NDArray[np.integer[Any]], groups: NDArray[Any], rng: np.random.Generator
) -> Floats:
    """Return the largest divergence of each feature between two draws of the truth, photographs resampled."""
    count = groups.max() + 1
    times = rng.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAPS)[:, groups].astype(np.float64)
    pooled = (np.tensordot(times, histograms.astype(np.float64), 1) for histograms in (one, other))
    return np.asarray(jsd_bits_rows(*pooled).max(0))


def _judged(
    divergences: Floats,
    spread: Floats,
    means: Floats,
    bits: Floats,
    spread_quantile: Floats,
    quantile: Floats,
    *,
    tolerance: float,
) -> tuple[Judgement, ...]:
    """Return the judgements from the differences of all statistics and the quantiles of their redraws.

    The tolerances are multiplied by `tolerance`, 1 for a batch of FULL_BATCH photographs or more.
    """
    judged = {
        statistic.name: _worst(statistic, divergences[rows], bits[rows], tolerance)
        for statistic, rows in zip(DISTRIBUTION, _FEATURE_ROWS, strict=True)
    }
    for statistic, difference, chance in zip(SPREADS, spread, spread_quantile, strict=True):
        judged[statistic.name] = _worst(statistic, np.array([difference]), np.array([chance]), tolerance)
    start = 0
    for statistic in OF_TILES:
        rows = slice(start, start := start + statistic.components)
        judged[statistic.name] = _worst(statistic, means[rows], quantile[rows], tolerance)
    return tuple(judged[statistic.name] for statistic in STATISTICS)


def _worst(statistic: Statistic, differences: Floats, quantiles: Floats, tolerance: float) -> Judgement:
    thresholds = np.maximum(quantiles, tolerance * statistic.tolerance)
    index = int(np.argmax(np.abs(differences) / thresholds))
    return Judgement(
        statistic.name,
        statistic.group,
        statistic.unit,
        float(differences[index]),
        float(thresholds[index]),
        tolerance * statistic.tolerance,
    )
