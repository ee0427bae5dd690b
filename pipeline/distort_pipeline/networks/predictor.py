"""Inference of a generator on 8-bit images: padding, noise, a fixed batch shape, and rounding to 8 bits.

A generator without a network is fitted: the image plus the change of its coefficients, or plus coloured noise. It has
the same models as the layers of `networks/layers.py`, on arrays: neither Keras nor a backend is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.codec_prior import CODEC_PRIORS, ChangedCoefficients
from distort_pipeline.networks.inputs import MULTIPLE_PX, GeneratorInputs, noise_shapes
from distort_pipeline.networks.noise import ColouredNoise
from distort_pipeline.networks.wavelets import SIZES, Significances, significance_of
from distort_pipeline.records import Image, Images, NetworkPixels, denormalize, derive_seed, make_rng, normalize

if TYPE_CHECKING:
    import keras


class Predictor:
    """Distorts images with a trained generator in inference mode.

    The batch shape of a network is fixed and a last, smaller batch is filled up: an image's output depends on nothing
    but the image and its seed.
    """

    def __init__(
        self,
        model: keras.Model | FittedGenerator,
        *,
        noise_channels: int,
        batch_size: int,
        multi_level: bool = False,
        image_stats: bool = False,
        position_at: Callable[[float], float] = float,
    ) -> None:
        self.model = model
        self.multi_level = multi_level  # whether the model takes a severity
        self.position_at = position_at  # severity → position among the levels, k/n at level k of n
        self.image_stats = image_stats  # whether the model takes the significance of whole images
        self.noise_channels = noise_channels
        self.batch_size = batch_size
        self._fitted = isinstance(model, FittedGenerator)
        self._call = model if self._fitted else _compiled(model)

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with the noise of its own seed and at its own severity.

        Severities range from 0, the pristine image, to that of the last level; None is that for all. PipelineError for
        another severity of a single-level generator. `significances` (N, 18) are the statistics of the whole image
        of each tile, for a generator with `image_stats`; None computes them from `images`, taken as whole images.
        """
        batches = list(self.distort_batches(images, seeds, severities, significances))
        return np.concatenate(batches) if batches else np.empty_like(images)

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,
    ) -> Iterator[Images]:
        """Yield the images of `distort` batch by batch."""
        last = [1.0] * len(images)
        requested = np.array(last if severities is None else list(map(self.position_at, severities)), np.float32)
        if not self.multi_level and (requested != 1).any():
            raise PipelineError(
                f"this generator has learned one level only; got severity {min(severities or last):g}; train it at "
                "several levels (train.levels)"
            )
        for start in range(0, len(images), self.batch_size):
            rows = slice(start, min(start + self.batch_size, len(images)))
            # fitted models take images one by one: nothing depends on the others, and arrays stay in cache
            parts = [slice(row, row + 1) for row in range(start, rows.stop)] if self._fitted else [rows]
            distorted = [
                self._distorted(
                    images[part], seeds[part], requested[part], None if significances is None else significances[part]
                )
                for part in parts
            ]
            yield np.concatenate(distorted) if len(distorted) > 1 else distorted[0]

    def _distorted(
        self,
        images: Images,
        seeds: Sequence[int],
        positions: NDArray[np.float32],
        significances: Significances | None,
    ) -> Images:
        """Return the images of one call of the model."""
        count, height, width = images.shape[:3]
        size = count if self._fitted else self.batch_size
        padded = pad_to_multiple(images)
        filled = np.zeros((size, *padded.shape[1:]), np.uint8)
        filled[:count] = padded
        noises = noise_maps(list(seeds), filled.shape[1], filled.shape[2], self.noise_channels, size)
        severity = significance = None
        if self.multi_level:
            severity = np.ones((size, 1), np.float32)
            severity[:count, 0] = positions
        if self.image_stats:
            significance = np.ones((size, len(SIZES)), np.float32)
            known = [significance_of(image) for image in images] if significances is None else significances
            significance[:count] = known
        values = np.asarray(self._call(GeneratorInputs(normalize(filled), noises, severity, significance)))
        return denormalize(values[:count, :height, :width])

    def distort_image(self, image: Image, seed: int, severity: float | None = None) -> Image:
        """Return one whole `image` (H, W, 3) distorted."""
        return self.distort(image[None], [seed], None if severity is None else [severity])[0]


def pad_to_multiple(images: Images) -> Images:
    """Return `images` (N, H, W, 3) reflected at the bottom and right to multiples of 128.

    Padding at the top or left would shift the 8 x 8 grid of JPEG's distortions.
    """
    height, width = images.shape[1:3]
    down, right = -height % MULTIPLE_PX, -width % MULTIPLE_PX
    # an image smaller than its padding cannot be reflected once; "symmetric" repeats the reflection
    mode: Any = "reflect" if down < height and right < width else "symmetric"
    return np.pad(images, ((0, 0), (0, down), (0, right), (0, 0)), mode=mode)


def noise_maps(seeds: list[int], height: int, width: int, channels: int, batch: int) -> list[NetworkPixels]:
    """Return the noise maps of a batch, coarsest first, each image's from its own seed; zeros fill the rest."""
    maps = [np.zeros((batch, *shape), np.float32) for shape in noise_shapes(height, width, channels)]
    for index, seed in enumerate(seeds):
        rng = make_rng(derive_seed(seed, "z"))
        for scale in maps:
            rng.standard_normal(dtype=np.float32, out=scale[index])
    return maps


def _compiled(model: keras.Model) -> Callable[[GeneratorInputs], Any]:
    """Return the model in inference mode, compiled by the backend in use."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # autograph writes temporary files, left behind by a kill
        graph = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=False, autograph=False)
        return lambda inputs: graph(inputs.listed())
    import jax

    call = jax.jit(lambda weights, fixed, inputs: model.stateless_call(weights, fixed, inputs, training=False)[0])

    def with_present_weights(inputs: GeneratorInputs) -> Any:  # a model may be trained on between two calls
        kinds = (model.trainable_variables, model.non_trainable_variables)
        return call(*([variable.value for variable in kind] for kind in kinds), inputs.listed())

    return with_present_weights


COEFFICIENT_CURVES, NOISE_PYRAMID = "coefficient_curves", "noise_pyramid"  # prefixes of weights, names of layers
Weights = Mapping[str, NDArray[Any]]


class FittedCurves(ChangedCoefficients):
    """Coefficient curves with these `weights`, flat ones without: T is 0."""

    def __init__(self, codec_prior: str, levels: int, weights: Weights | None = None) -> None:
        self.codec_prior, self.levels = CODEC_PRIORS[codec_prior], levels
        shapes = self.weight_shapes()
        if weights is None:
            self.set_arrays({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
        else:
            self.set_arrays({name: weights[f"{COEFFICIENT_CURVES}/{name}"] for name in shapes})

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return the curves and steps, or shares, under their names."""
        steps = [self.log_shares, *self.log_offsets] if self.codec_prior.scaled else self.log_steps
        return dict(zip(self.weight_shapes(), (*self.curves, *steps), strict=True))

    def residual(self, inputs: GeneratorInputs) -> NetworkPixels:
        """Return the change of the coefficients."""
        return self.change(inputs.image, inputs.severity, inputs.significance)


class FittedNoise(ColouredNoise):
    """A noise pyramid with fixed weights."""

    def __init__(self, levels: int, weights: Weights) -> None:
        self.levels = levels
        self.octaves, self.kernels = (weights[f"{NOISE_PYRAMID}/{name}"] for name in ("octaves", "kernels"))

    def residual(self, inputs: GeneratorInputs) -> NetworkPixels:
        """Return the noise."""
        return self.noise(inputs.noises, inputs.severity)


class FittedGenerator:
    """x (N, H, W, 3) in [-1, 1] → x + residuals, same shape, float32, not clipped; H, W multiples of 128."""

    def __init__(self, models: Sequence[FittedCurves | FittedNoise]) -> None:
        self.models = models

    def __call__(self, inputs: GeneratorInputs) -> NetworkPixels:
        """Return the images of `inputs` distorted."""
        distorted = inputs.image
        for model in self.models:
            distorted = distorted + model.residual(inputs)
        return np.asarray(distorted, np.float32)
