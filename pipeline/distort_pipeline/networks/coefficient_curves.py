"""Coefficient curves: the change of each transform coefficient of an image, learned from pairs.

A codec rounds the coefficients of a transform. A network of convolutions and leaky ReLUs has to build each of these
staircases out of kinks, and does not learn to in tens of thousands of adversarial steps. A curve per coefficient is
fitted to pairs by least squares instead (`training/fit_codec.py`). Not in the paper: there G(x) = x + U(x); with
coefficient curves G(x) = x + T(x) + U(x), and U learns the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from distort_pipeline.networks.codec_priors import CODEC_PRIORS, LEAST_STEP, TO_RGB
from distort_pipeline.networks.severity import fade, interpolate, interpolation_weights
from distort_pipeline.pixels import LEVELS_PER_UNIT
from distort_pipeline.wavelets.planes import PHASES, plane_shares
from distort_pipeline.wavelets.significance import SIZES, TO_PLANES, log_sizes

HALF_LEVEL = 0.5  # codecs subtract 128, not the 127.5 that is 0 here: multiples of a step have to match
UPWARDS = 1 / 32  # 8-bit levels; decoders round 0.5 up, and without this the last bits of a pixel decide
ALL_LEVELS = "phases"  # name prefix of the weights shared by all levels


@keras.saving.register_keras_serializable(package="distort_pipeline")
class CoefficientCurves(keras.layers.Layer):  # type: ignore[misc]
    """T: images (N, H, W, 3) in [-1, 1] → the change of their coefficients, same shape, float32.

    Coefficients are measured in quantisation steps: the curves of a coarser level are the same with larger steps, and
    both are interpolated between two levels. Where the codec prior is `scaled`, all coefficients of an image have the
    same step: the magnitude reached by a share of the coefficients; the share belongs to the level, see
    `wavelets/significance.py`. The levels then share their curves, in units of the power of two below the step, with a
    set of curves for each phase of an octave, see `wavelets/planes.py`. Otherwise each coefficient has its own step for
    all images, and each level its own curves.

    Called with [images, severity] with several `levels`, see `severity.py`. With `image_stats` the significance (N, 18)
    of the whole image of each tile is the last input; without, each input image is taken as a whole image. Curves and
    steps are fitted beforehand and not trained; initially the curves are flat, and T is 0.
    """

    def __init__(self, codec_prior: str, levels: int = 1, image_stats: bool = False, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.prior_name = codec_prior
        self.codec_prior = CODEC_PRIORS[codec_prior]
        self.levels = levels
        self.image_stats = image_stats

    def build(self, input_shape: Any) -> None:  # noqa: ARG002 - Keras's signature
        """Make the curves and the logarithms of the steps, or of the shares."""
        bands = list(enumerate(self.codec_prior.curves))
        name, sets = (ALL_LEVELS, PHASES + 1) if self.codec_prior.scaled else ("curves", self.levels)
        self.curves = [self._zeros(f"{name}_{n:02d}", sets, band.count, band.knots) for n, band in bands]
        if self.codec_prior.scaled:
            self.log_shares = self._zeros("log_shares", self.levels, 1)
        else:
            self.log_steps = [self._zeros(f"log_steps_{n:02d}", self.levels, band.count) for n, band in bands]

    def call(self, inputs: Any) -> Any:
        """Return T(x), T(x, severity), T(x, significance) or T(x, severity, significance)."""
        images, *extra = inputs if self.levels > 1 or self.image_stats else [inputs]
        severity = extra[0] if self.levels > 1 else None
        planes = self._planes(images)
        bands = self.codec_prior.analyse(planes)
        shares = np.ones((1, 1), np.float32) if severity is None else interpolation_weights(severity, self.levels)
        fading = np.ones((1, 1), np.float32) if severity is None else fade(severity, self.levels)
        if self.codec_prior.scaled:
            scale = self.scale(extra[-1] if self.image_stats else significance_in(bands), shares)
            plane, shares = plane_shares(ops.maximum(fading * scale, LEAST_STEP), ops)
            steps = [plane] * len(bands)
        else:
            steps = [ops.maximum(fading * self.steps(number, shares), LEAST_STEP) for number in range(len(bands))]
        gains = [self.gain(number, band, steps[number], shares) for number, band in enumerate(bands)]
        levels_8bit = ops.matmul(self.codec_prior.gained(planes, bands, gains), TO_RGB.T)
        upwards = 0.0 if self.codec_prior.integer else UPWARDS
        return ops.where(levels_8bit == 0, 0.0, levels_8bit + upwards) / LEVELS_PER_UNIT

    def analyse(self, images: Any) -> list[Any]:
        """Return the bands of `images` (N, H, W, 3) in [-1, 1]."""
        return self.codec_prior.analyse(self._planes(images))

    def recover(self, images: Any) -> list[Any]:
        """Return the bands from which a decoder synthesised `images`."""
        return self.codec_prior.recover(self._planes(images))

    def scale(self, significance: Any, shares: Any) -> Any:
        """Return the quantisation step of each image in 8-bit levels, (N, 1), at `shares` (N or 1, levels)."""
        return ops.exp(log_sizes(significance, interpolate(shares, self.log_shares)[:, 0], ops))[:, None]

    def steps(self, number: int, shares: Any) -> Any:
        """Return the quantisation step of each coefficient of band `number` in 8-bit levels, (N or 1, k)."""
        return ops.exp(interpolate(shares, self.log_steps[number]))

    def gain(self, number: int, band: Any, step: Any, shares: Any) -> Any:
        """Return the change of the coefficients of band `number`, (N, h, w, k): curves interpolated between knots.

        `step` is (N or 1, k or 1), in 8-bit levels; `shares` (N or 1, sets) weight the sets of curves.
        """
        step = step[:, None, None, :]
        curves = interpolate(shares, self.curves[number])  # (N or 1, k, knots)
        _, count, knots = self.curves[number].shape
        index, fraction = knot_indices(band / step, self.codec_prior.curves[number].spacing, knots)
        rows = count * ops.arange(ops.shape(curves)[0], dtype="int32")[:, None, None, None]
        index = index + knots * (rows + np.arange(count, dtype=np.int32))
        flat = ops.reshape(curves, (-1,))
        left, right = ops.take(flat, index), ops.take(flat, index + 1)
        return (left + fraction * (right - left)) * step

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the images."""
        return tuple(input_shape[0] if self.levels > 1 or self.image_stats else input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`."""
        config = super().get_config()
        return {
            "name": config["name"],
            "codec_prior": self.prior_name,
            "levels": self.levels,
            "image_stats": self.image_stats,
        }

    def _planes(self, images: Any) -> Any:
        return ops.matmul(images * LEVELS_PER_UNIT - HALF_LEVEL, TO_PLANES.T)

    def _zeros(self, name: str, *shape: int) -> Any:
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)


def knot_indices(values: Any, spacing: float, knots: int) -> tuple[Any, Any]:
    """Return the knot to the left of each value, int32, and the fraction in [0, 1) of the way to the next knot.

    `values` and the `spacing` of the knots are in quantisation steps; the middle knot is 0 and the outermost knots are
    whole steps away. A codec's effect repeats with every step: a value beyond the outermost knots is read in the last
    step before the outermost knot, at the same phase.
    """
    reach = spacing * (knots - 1) / 2
    size = ops.abs(values)
    repeated = ops.where(size > reach, reach - 1 + (size - ops.floor(size)), size)
    position = ops.clip(ops.sign(values) * repeated / spacing + (knots - 1) / 2, 0.0, knots - 1.001)
    left = ops.floor(position)
    return ops.cast(left, "int32"), position - left


def significance_in(bands: Sequence[Any]) -> Any:
    """Return the share (N, 18) of all coefficients of `bands`, (N, h, w, 3) each, not below each of the SIZES."""
    flat = ops.concatenate([ops.reshape(band, (ops.shape(band)[0], -1)) for band in bands], axis=1)
    return ops.stack([ops.mean(ops.cast(ops.abs(flat) >= size, "float32"), axis=1) for size in SIZES], axis=1)
