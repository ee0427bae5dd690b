"""The discriminator D: a PatchGAN that judges 70 x 70 px patches of a (pristine, distorted) pair (section II-A)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from distort_pipeline.networks.normalisation import BatchNorm
from distort_pipeline.networks.severity import severity_map

WIDTHS = (1, 2, 4, 8)  # in units of base_filters
LEAK = 0.2
AMPLIFICATION = 10.0  # of the difference: a visible distortion is a tenth of the pixels' range, see studies/
DISCRIMINATOR_INPUTS = ("plain", "scaled_residual")


def build_discriminator(
    *,
    base_filters: int = 64,
    discriminator_input: str = "plain",
    levels: int = 1,
    kinds: int = 1,
    precision: str = "float32",
    side_px: int | None = None,
) -> keras.Model:
    """Return D: [x, y], both (N, H, W, 3) in [-1, 1] → patch logits (N, H/8 - 2, W/8 - 2, 1), float32, no sigmoid.

    `pair_view` "plain" shows D the pair as it is, as the paper does; "amplified_difference" shows (x, 10 (y - x)), an
    invertible linear change of the same input, from which D learns small distortions much sooner. With several
    `levels` the inputs are [x, y, severity], severity (N, kinds) in [0, 1], which D sees as maps beside the pair.
    """
    pristine = keras.Input((side_px, side_px, 3), name="pristine")
    distorted = keras.Input((side_px, side_px, 3), name="distorted")
    features = PairView(discriminator_input, name="discriminator_input", dtype="float32")([pristine, distorted])
    inputs = [pristine, distorted]
    if levels > 1:
        severity = keras.Input((kinds,), name="severity")
        inputs.append(severity)
        beside = severity_map(severity, pristine)
        features = keras.layers.Concatenate(name="beside", dtype="float32")([features, beside])
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
class PairView(keras.layers.Layer):  # type: ignore[misc]
    """Concatenates a pair of (N, H, W, 3) images to (N, H, W, 6), in one of `PAIR_VIEWS`."""

    def __init__(self, view: str, **options: Any) -> None:
        super().__init__(**options)
        if view not in DISCRIMINATOR_INPUTS:
            raise ValueError(f"pair view must be one of {DISCRIMINATOR_INPUTS}, got {view!r}")
        self.view = view

    def call(self, pair: Any) -> Any:
        """Return the pair as D sees it."""
        pristine, distorted = pair
        if self.view == "scaled_residual":
            distorted = AMPLIFICATION * (distorted - pristine)
        return ops.concatenate([pristine, distorted], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the concatenated pair."""
        return (*input_shape[0][:-1], 6)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {**super().get_config(), "view": self.view}
