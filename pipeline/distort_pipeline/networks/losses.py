"""The losses of the paper (section II-B), over patch logits of D, and the power mismatch of residuals.

The discriminator D is a PatchGAN that classifies 70 x 70 px patches of a (pristine, distorted) pair (section II-A).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.layers import BatchNorm, severity_map
from distort_pipeline.networks.patches import TO_YCC
from distort_pipeline.records import Json

RANGE_SPAN = 2.0  # white minus black on the networks' scale


def discriminator_hinge(real: Any, fake: Any) -> Any:
    """Return the hinge loss of D, equation 4, over the patch logits `real` = D(x, y) and `fake` = D(x, G(x)).

    The paper prints its signs the other way round, unbounded below and not adversarial. The hinge loss of its citation
    pushes D(x, y) above 1 and D(x, G(x)) below -1; so does this loss.
    """
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


def generator_adversarial(fake: Any) -> Any:
    """Return -E[D(x, G(x))], equation 2, over the patch logits `fake`."""
    return -ops.mean(fake)


def l1_loss(distorted: Any, pristine: Any, *, span: float, reduction: str) -> Any:
    """Return E‖G(x) - x‖₁, equation 3, with white - black = `span`: a mean over values, or a sum over each image.

    The paper states neither the scale nor the reduction; for a 256 x 256 crop sum and mean differ by 196,608 times.
    """
    absolute = ops.abs(distorted - pristine) * (span / RANGE_SPAN)
    if reduction == "mean":
        return ops.mean(absolute)
    return ops.mean(ops.sum(absolute, axis=(1, 2, 3)))


def pixel_distance(distorted: Any, true: Any, *, norm: str, span: float = 255.0) -> Any:
    """Return the mean of |G(x) - y| ("l1") or of its square ("l2"), with white - black = `span`.

    Not part of the paper's loss: alone it is the comparison of the paper's figure 4; beside the adversarial loss it
    helps.
    """
    difference = (distorted - true) * (span / RANGE_SPAN)
    return ops.mean(ops.abs(difference) if norm == "l1" else ops.square(difference))


OCTAVES = 4
LUMA_BINS = 4
LEAST_POWER = 0.02  # levels²: a quarter of rounding; below nothing is held to anything


def power_mismatch(true: Any, generated: Any, pristine: Any) -> Any:
    """Return the mean squared log ratio of the powers of residuals `generated` and `true` (N, H, W, 3), in levels.

    A batch's powers are compared as a whole, never image by image: draws differ, and a loss on single ones would take
    their variance away. `pristine` (N, H, W, 3), in levels, says the luminance.
    """
    to_ycc = TO_YCC.T.astype(np.float32)
    luma = ops.matmul(pristine, to_ycc[:, :1])
    centres = np.linspace(0, 255, LUMA_BINS, dtype=np.float32)
    shares = ops.maximum(1.0 - ops.abs(luma - centres) / (centres[1] - centres[0]), 0.0)  # (N, H, W, bins)
    pair = ops.matmul(ops.concatenate([true, generated], axis=0), to_ycc)
    total = 0.0
    for octave in range(OCTAVES):
        last = octave == OCTAVES - 1
        coarse = pair if last else ops.average_pool(pair, 2, 2, padding="valid")
        detail = pair if last else pair - ops.repeat(ops.repeat(coarse, 2, axis=1), 2, axis=2)
        square = ops.reshape(ops.square(detail), (2, -1, 3))
        weights = ops.reshape(shares, (-1, LUMA_BINS))
        seen = ops.sum(weights, axis=0)  # (bins,)
        power = ops.einsum("spc,pb->sbc", square, weights) / (seen[None, :, None] + 1.0) + LEAST_POWER
        ratio = ops.square(ops.log(power[1] / power[0]))  # (bins, 3)
        observed = ops.cast(seen > 100.0 / 4**octave, "float32")[:, None]
        total = total + ops.sum(observed * ratio) / (3.0 * ops.maximum(ops.sum(observed), 1.0))
        pair, shares = coarse, shares if last else ops.average_pool(shares, 2, 2, padding="valid")
    return total / OCTAVES


WIDTHS = (1, 2, 4, 8)  # in units of base_filters
LEAK = 0.2
AMPLIFICATION = 10.0  # of the residual: a visible distortion is a tenth of the pixels' range, see studies/
DISCRIMINATOR_INPUTS = ("plain", "scaled_residual")


def build_discriminator(
    *,
    base_filters: int = 64,
    discriminator_input: str = "plain",
    levels: int = 1,
    precision: str = "float32",
) -> keras.Model:
    """Return D: [x, y], both (N, H, W, 3) in [-1, 1] → patch logits (N, H/8 - 2, W/8 - 2, 1), float32, no sigmoid.

    `discriminator_input` "plain" gives D the pair, as the paper does; "scaled_residual" gives (x, 10 (y - x)), an
    invertible linear change of the same input, from which D learns small distortions much sooner. With several `levels`
    the inputs are [x, y, severity], severity (N, 1) in [0, 1], concatenated with the pair as maps.
    """
    pristine = keras.Input((None, None, 3), name="pristine")
    distorted = keras.Input((None, None, 3), name="distorted")
    features = DiscriminatorInput(discriminator_input, name="discriminator_input", dtype="float32")(
        [pristine, distorted]
    )
    inputs = [pristine, distorted]
    if levels > 1:
        severity = keras.Input((1,), name="severity")
        inputs.append(severity)
        maps = severity_map(severity, pristine)
        features = keras.layers.Concatenate(name="beside", dtype="float32")([features, maps])
    for block, width in enumerate(WIDTHS, start=1):
        name = f"block_{block}"
        strided = block < len(WIDTHS)
        if not strided:
            features = keras.layers.ZeroPadding2D(name=f"{name}_pad", dtype=precision)(features)
        features = keras.layers.Conv2D(
            width * base_filters,
            4,
            strides=2 if strided else 1,
            padding="same" if strided else "valid",
            name=f"{name}_conv",
            dtype=precision,
        )(features)
        if block > 1:
            features = BatchNorm(name=f"{name}_norm", dtype=precision)(features)
        features = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"{name}_act", dtype=precision)(features)
    features = keras.layers.ZeroPadding2D(name="logits_pad", dtype=precision)(features)
    logits = keras.layers.Conv2D(1, 4, padding="valid", name="logits_conv", dtype=precision)(features)
    logits = keras.layers.Activation("linear", name="logits", dtype="float32")(logits)
    return keras.Model(inputs, logits, name="discriminator")


@keras.saving.register_keras_serializable(package="distort_pipeline")
class DiscriminatorInput(keras.layers.Layer):  # type: ignore[misc]
    """Concatenates a pair of (N, H, W, 3) images to (N, H, W, 6), in one of the DISCRIMINATOR_INPUTS."""

    def __init__(self, mode: str, **options: Any) -> None:
        super().__init__(**options)
        if mode not in DISCRIMINATOR_INPUTS:
            raise ValueError(f"discriminator_input must be one of {DISCRIMINATOR_INPUTS}, got {mode!r}")
        self.mode = mode

    def call(self, pair: Any) -> Any:
        """Return the input of D for the pair."""
        pristine, distorted = pair
        if self.mode == "scaled_residual":
            distorted = AMPLIFICATION * (distorted - pristine)
        return ops.concatenate([pristine, distorted], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the concatenated pair."""
        return (*input_shape[0][:-1], 6)

    def get_config(self) -> dict[str, Json]:
        """Return the arguments of `from_config`."""
        return {**super().get_config(), "mode": self.mode}
