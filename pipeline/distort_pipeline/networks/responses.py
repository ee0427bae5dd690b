"""Response curves: what each transform coefficient of a picture becomes, learned from pairs.

A codec rounds the coefficients of a transform. A network of convolutions and leaky kinks has to build each of those
staircases out of kinks, which tens of thousands of adversarial steps do not teach it; one curve for each coefficient
says the same in numbers that can be read off pairs by least squares (`training/response_fit.py`). Not in the paper:
there G(x) = x + U(x); with responses it is G(x) = x + T(x) + U(x), and U learns what T leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from distort_pipeline.networks.severity import fade, level_shares, shared
from distort_pipeline.networks.transforms import TO_PLANES, TO_RGB, TRANSFORMS
from distort_pipeline.ranges import GREYS_PER_UNIT

LOWEST_SCALE, HIGHEST_SCALE = 1.0, 256.0  # greys: rounding of 8-bit pixels, and all that there is
FLOOR = 0.1  # greys; keeps the logarithm of an empty band finite
HALF_GREY = 0.5  # codecs take 128 off, not the 127.5 that is 0 here: multiples of a step have to be where theirs are
UPWARDS = 1 / 32  # greys; decoders round halves up, and without this each pixel's last bits decide
LEAST_STEP = 1e-3  # greys; at severity 0 there is no step to divide by


@keras.saving.register_keras_serializable(package="distort_pipeline")
class Responses(keras.layers.Layer):  # type: ignore[misc]
    """T: pictures (N, H, W, 3) in [-1, 1] → what their coefficients gain or lose, same shape, float32.

    Coefficients are measured in steps, as a codec counts them: the curves of a coarser level are those of a finer one
    with larger steps, so that between two levels both can be interpolated. Where the transform is `scaled` a level has
    one step for all coefficients of a picture, which is read off the picture itself as the rate control of a codec
    would; otherwise each coefficient has its own step, for all pictures.

    With several `levels` the layer is called with [pictures, severity], see `severity.py`. Curves and steps are fitted
    beforehand and not trained; at the start the curves are flat, and T is 0.
    """

    def __init__(self, transform: str, levels: int = 1, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.transform_name = transform
        self.transform = TRANSFORMS[transform]
        self.levels = levels

    def build(self, input_shape: Any) -> None:  # noqa: ARG002 - Keras's signature
        """Make the curves and the logarithms of the steps, or the weights that those are read with."""
        bands = self.transform.curves
        self.curves = [self._zeros(f"curves_{n:02d}", bands[n].count, bands[n].knots) for n in range(len(bands))]
        if self.transform.scaled:
            self.scale_kernel = self._zeros("scale_kernel", 2 * len(bands))
            self.scale_bias = self._zeros("scale_bias", 1)
        else:
            self.log_steps = [self._zeros(f"log_steps_{n:02d}", bands[n].count) for n in range(len(bands))]

    def call(self, inputs: Any) -> Any:
        """Return T(x), or T(x, severity)."""
        pictures, severity = inputs if self.levels > 1 else (inputs, None)
        bands = self.analyse(pictures)
        shares = np.ones((1, 1), np.float32) if severity is None else level_shares(severity, self.levels)
        left = 1.0 if severity is None else ops.reshape(fade(severity, self.levels), (-1, 1, 1, 1))
        scale = self.scale(bands, shares) if self.transform.scaled else None
        gains = []
        for number, band in enumerate(bands):
            step = self.steps(number, shares) if scale is None else scale
            gains.append(self.gain(number, band, ops.maximum(left * step, LEAST_STEP), shares))
        greys = ops.matmul(self.transform.synthesise(gains), TO_RGB.T)
        return ops.where(greys == 0, 0.0, greys + UPWARDS) / GREYS_PER_UNIT

    def analyse(self, pictures: Any) -> list[Any]:
        """Return the bands of `pictures` (N, H, W, 3) in [-1, 1]."""
        return self.transform.analyse(self._planes(pictures))

    def recover(self, pictures: Any) -> list[Any]:
        """Return the bands that a decoder made `pictures` of, the same way."""
        return self.transform.recover(self._planes(pictures))

    def scale(self, bands: Sequence[Any], shares: Any) -> Any:
        """Return the step of each picture in greys, (N, 1, 1, 1), at `shares` (N or 1, levels) of the levels."""
        log_scales = ops.matmul(scale_features(bands), ops.transpose(self.scale_kernel)) + ops.transpose(
            self.scale_bias
        )
        log_scale = ops.sum(shares * rising(log_scales), axis=-1)
        log_scale = ops.clip(log_scale, np.log(LOWEST_SCALE), np.log(HIGHEST_SCALE))
        return ops.reshape(ops.exp(log_scale), (-1, 1, 1, 1))

    def steps(self, number: int, shares: Any) -> Any:
        """Return the step of each coefficient of band `number` in greys, (N or 1, 1, 1, k)."""
        return ops.exp(shared(shares, self.log_steps[number]))[:, None, None, :]

    def gain(self, number: int, band: Any, step: Any, shares: Any) -> Any:
        """Return what the coefficients of band `number`, (N, h, w, k), gain: their curves, read between the knots."""
        curves = shared(shares, self.curves[number])  # (N or 1, k, knots)
        _, count, knots = self.curves[number].shape
        index, rest = curve_places(band / step, self.transform.curves[number].spacing, knots)
        rows = count * ops.arange(ops.shape(curves)[0], dtype="int32")[:, None, None, None]
        index = index + knots * (rows + np.arange(count, dtype=np.int32))
        flat = ops.reshape(curves, (-1,))
        left, right = ops.take(flat, index), ops.take(flat, index + 1)
        return (left + rest * (right - left)) * step

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the pictures."""
        return tuple(input_shape[0] if self.levels > 1 else input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        config = super().get_config()
        return {"name": config["name"], "transform": self.transform_name, "levels": self.levels}

    def _planes(self, pictures: Any) -> Any:
        return ops.matmul(pictures * GREYS_PER_UNIT - HALF_GREY, TO_PLANES.T)

    def _zeros(self, name: str, *shape: int) -> Any:
        return self.add_weight(name=name, shape=(self.levels, *shape), initializer="zeros", trainable=False)


def curve_places(values: Any, spacing: float, knots: int) -> tuple[Any, Any]:
    """Return the knot to the left of each value, int32, and how far behind it the value lies, in [0, 1).

    `values` are in steps, and so is the `spacing` of the knots, of which the middle one is 0 and the outermost are
    whole steps away. What a codec does repeats with every step: a value beyond the outermost knots is read a whole
    number of steps nearer to 0, in the last step before them.
    """
    reach = spacing * (knots - 1) / 2
    size = ops.abs(values)
    repeated = ops.where(size > reach, reach - 1 + (size - ops.floor(size)), size)
    place = ops.clip(ops.sign(values) * repeated / spacing + (knots - 1) / 2, 0.0, knots - 1.001)
    left = ops.floor(place)
    return ops.cast(left, "int32"), place - left


def rising(values: Any) -> Any:
    """Return values (N, levels) none of which is smaller than the one before it: as they are, if they are so already.

    Half-way between the least such values that are above and the greatest that are below. Each level's coarseness is
    read off a picture by weights of its own, and for an unusual picture they can fall.

    >>> np.asarray(rising(np.array([[1.0, 4.0, 2.0, 5.0]]))).tolist()
    [[1.0, 3.0, 3.0, 5.0]]
    """
    levels = range(values.shape[-1])
    above = [ops.max(values[:, : level + 1], axis=-1) for level in levels]
    below = [ops.min(values[:, level:], axis=-1) for level in levels]
    return (ops.stack(above, axis=-1) + ops.stack(below, axis=-1)) / 2


def scale_features(bands: Sequence[Any]) -> Any:
    """Return what the coarseness is read off, (N, F): the logarithms of mean and root mean square of each luma band."""
    features = []
    for band in bands:
        luma = band[..., 0]
        features.append(ops.log(ops.mean(ops.abs(luma), axis=(1, 2)) + FLOOR))
        features.append(0.5 * ops.log(ops.mean(ops.square(luma), axis=(1, 2)) + FLOOR**2))
    return ops.stack(features, axis=-1)
