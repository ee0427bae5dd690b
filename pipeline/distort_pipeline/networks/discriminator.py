"""The discriminator D: a PatchGAN that classifies 70 x 70 px patches of a (pristine, distorted) pair (section II-A)."""

from __future__ import annotations

from typing import Any

from distort_pipeline.networks.backend import keras, ops
from distort_pipeline.networks.layers import BatchNorm, severity_map
from distort_pipeline.records import Json

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
