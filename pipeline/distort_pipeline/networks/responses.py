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

from distort_pipeline.networks.transforms import TO_PLANES, TO_RGB, TRANSFORMS
from distort_pipeline.ranges import GREYS_PER_UNIT

LOWEST_SCALE, HIGHEST_SCALE = 1.0, 256.0  # greys: rounding of 8-bit pixels, and all that there is
FLOOR = 0.1  # greys; keeps the logarithm of an empty band finite


@keras.saving.register_keras_serializable(package="distort_pipeline")
class Responses(keras.layers.Layer):  # type: ignore[misc]
    """T: pictures (N, H, W, 3) in [-1, 1] → what their coefficients gain or lose, same shape, float32.

    The curves are fitted beforehand and not trained; at the start they are flat, and T is 0. Where the transform is
    `scaled`, coefficients are measured in units of a coarseness that is read off the picture itself, as the rate
    control of a codec would.
    """

    def __init__(self, transform: str, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self.transform_name = transform
        self.transform = TRANSFORMS[transform]

    def build(self, input_shape: tuple[int | None, ...]) -> None:  # noqa: ARG002 - Keras's signature
        """Make the curves, and the weights of the scale if there is one."""
        self.curves = [
            self.add_weight(
                name=f"curves_{band:02d}", shape=(curves.count, curves.knots), initializer="zeros", trainable=False
            )
            for band, curves in enumerate(self.transform.curves)
        ]
        if self.transform.scaled:
            features = 2 * len(self.transform.curves)
            self.scale_kernel = self.add_weight(
                name="scale_kernel", shape=(features, 1), initializer="zeros", trainable=False
            )
            self.scale_bias = self.add_weight(name="scale_bias", shape=(1,), initializer="zeros", trainable=False)

    def call(self, pictures: Any) -> Any:
        """Return T(x)."""
        bands = self.analyse(pictures)
        scale = self.scale(bands)
        gains = [self.gain(number, band, scale) for number, band in enumerate(bands)]
        planes = self.transform.synthesise(gains)
        return ops.matmul(planes, TO_RGB.T) / GREYS_PER_UNIT

    def analyse(self, pictures: Any) -> list[Any]:
        """Return the bands of `pictures` (N, H, W, 3) in [-1, 1]."""
        return self.transform.analyse(ops.matmul(pictures * GREYS_PER_UNIT, TO_PLANES.T))

    def scale(self, bands: Sequence[Any]) -> Any:
        """Return the coarseness of each picture in greys, (N, 1, 1, 1), or 1 if the transform has none."""
        if not self.transform.scaled:
            return 1.0
        log_scale = ops.matmul(scale_features(bands), self.scale_kernel) + self.scale_bias
        log_scale = ops.clip(log_scale, np.log(LOWEST_SCALE), np.log(HIGHEST_SCALE))
        return ops.reshape(ops.exp(log_scale), (-1, 1, 1, 1))

    def gain(self, number: int, band: Any, scale: Any) -> Any:
        """Return what the coefficients of band `number`, (N, h, w, k), gain: their curves, read between the knots."""
        curves = self.curves[number]
        count, knots = curves.shape
        index, rest = curve_places(band / scale, self.transform.curves[number].spacing, knots)
        index = index + knots * np.arange(count, dtype=np.int32)
        flat = ops.reshape(curves, (-1,))
        left, right = ops.take(flat, index), ops.take(flat, index + 1)
        return (left + rest * (right - left)) * scale

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the pictures."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        config = super().get_config()
        return {"name": config["name"], "transform": self.transform_name}


def curve_places(values: Any, spacing: float, knots: int) -> tuple[Any, Any]:
    """Return the knot to the left of each value, int32, and how far behind it the value lies, in [0, 1).

    The middle knot is 0; a value beyond the outermost knots is treated as one of those.
    """
    place = ops.clip(values / spacing + (knots - 1) / 2, 0.0, knots - 1.001)
    left = ops.floor(place)
    return ops.cast(left, "int32"), place - left


def scale_features(bands: Sequence[Any]) -> Any:
    """Return what the coarseness is read off, (N, F): the logarithms of mean and root mean square of each luma band."""
    features = []
    for band in bands:
        luma = band[..., 0]
        features.append(ops.log(ops.mean(ops.abs(luma), axis=(1, 2)) + FLOOR))
        features.append(0.5 * ops.log(ops.mean(ops.square(luma), axis=(1, 2)) + FLOOR**2))
    return ops.stack(features, axis=-1)
