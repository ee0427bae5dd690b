"""Inference of a generator on 8-bit images: padding, noise, a fixed batch shape, and rounding to 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.backend import keras
from distort_pipeline.networks.generator import MULTIPLE_PX, noise_shapes
from distort_pipeline.networks.layers import GeneratorInputs
from distort_pipeline.networks.wavelets import SIZES, Significances, significance_of
from distort_pipeline.records import Image, Images, NetworkPixels, denormalize, derive_seed, make_rng, normalize


class Predictor:
    """Distorts images with a trained generator in inference mode.

    The batch shape is fixed and a last, smaller batch is filled up: an image's output depends on nothing but the image
    and its seed.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        noise_channels: int,
        batch_size: int,
        multi_level: bool = False,
        image_stats: bool = False,
    ) -> None:
        self.model = model
        self.multi_level = multi_level  # whether the model takes a severity
        self.image_stats = image_stats  # whether the model takes the significance of whole images
        self.noise_channels = noise_channels
        self.batch_size = batch_size
        self._call = _compiled(model)

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with the noise of its own seed and at its own severity.

        Severities range from 0, the pristine image, to 1, the highest learned level; None is 1 for all. PipelineError
        for another severity of a single-level generator. `significances` (N, 18) are the statistics of the whole image
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
        requested = np.ones(len(images), np.float32) if severities is None else np.asarray(severities, np.float32)
        if not ((requested >= 0) & (requested <= 1)).all():
            raise PipelineError(f"a severity must be from 0 to 1, got {requested.min():g} to {requested.max():g}")
        if not self.multi_level and (requested != 1).any():
            raise PipelineError(
                f"this generator has learned one level only, severity 1; got severity {requested.min():g}; "
                "train it at several levels (train.levels)"
            )
        height, width = images.shape[1:3]
        for start in range(0, len(images), self.batch_size):
            batch = pad_to_multiple(images[start : start + self.batch_size])
            filled = np.zeros((self.batch_size, *batch.shape[1:]), np.uint8)
            filled[: len(batch)] = batch
            noises = noise_maps(
                list(seeds[start : start + len(batch)]),
                batch.shape[1],
                batch.shape[2],
                self.noise_channels,
                self.batch_size,
            )
            severity = None
            if self.multi_level:
                severity = np.ones((self.batch_size, 1), np.float32)
                severity[: len(batch), 0] = requested[start : start + len(batch)]
            significance = None
            if self.image_stats:
                rows = slice(start, start + len(batch))
                significance = np.ones((self.batch_size, len(SIZES)), np.float32)
                significance[: len(batch)] = (
                    [significance_of(image) for image in images[rows]] if significances is None else significances[rows]
                )
            inputs = GeneratorInputs(normalize(filled), noises, severity, significance)
            values = np.asarray(self._call(inputs.listed()))
            yield denormalize(values[: len(batch), :height, :width])

    def distort_image(self, image: Image, seed: int, severity: float = 1.0) -> Image:
        """Return one whole `image` (H, W, 3) distorted."""
        return self.distort(image[None], [seed], [severity])[0]


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


def _compiled(model: keras.Model) -> Callable[[Any], Any]:
    """Return the model in inference mode, compiled by the backend in use."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # autograph writes temporary files, left behind by a kill
        return tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=False, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        call = jax.jit(lambda weights, fixed, inputs: model.stateless_call(weights, fixed, inputs, training=False)[0])

        def with_present_weights(inputs: Any) -> Any:  # a model may be trained on between two calls
            kinds = (model.trainable_variables, model.non_trainable_variables)
            return call(*([variable.value for variable in kind] for kind in kinds), inputs)

        return with_present_weights
    return lambda inputs: model(inputs, training=False)
