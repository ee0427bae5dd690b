"""A generator composed of small models: codec → tone, filters → network → noise → JPEG; any of them may be absent.

    base  = filters(tone(codec(x)))                 fitted, for all images or with the parameters of a training image
    y     = jpeg(base + body(base, x, n, z) + n)    n: signal-dependent noise, z: white noise and latents

Every part has its own file and its own fit. What varies per image (curve, kernel, gain) is resampled: an image's seed
chooses one training image, and all parts take that one's parameters, so that what belongs together stays together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.components.codec_bank import Codec
from distort_pipeline.components.field_filters import FieldFilters
from distort_pipeline.components.fields import white_field
from distort_pipeline.components.filters import Filters
from distort_pipeline.components.jpeg_stage import JpegStage
from distort_pipeline.components.patches import Levels
from distort_pipeline.components.signal_noise import REACH_PX, SignalNoise
from distort_pipeline.components.tone import Tone

FREE_CHANNELS = 2  # white noise at full resolution that the network may use as it likes
CHANNELS = 3 + FREE_CHANNELS  # of white noise in all: three become the signal-dependent noise
LATENTS = 4  # per image: log gain, and free ones
Body = Callable[..., Levels]


@dataclass(frozen=True)
class TilePosition:
    """Where a tile lies: its first row and column, and the sides of its image.

    `seed` is the image's, the same for all its tiles.
    """

    y: int = 0
    x: int = 0
    height: int = 0
    width: int = 0
    seed: int | None = None  # None: the tile's own


@dataclass(frozen=True)
class ComposedGenerator:
    """The parts in the order in which they act, see above."""

    choices: tuple[int, ...] = (0,)  # training images whose parameters are resampled
    codec: Codec | None = None
    linear: tuple[Any, ...] = ()  # of Tone, Filters, FieldFilters
    body: Body | None = None
    noise: SignalNoise | None = None
    noise_gain: float = 1.0
    jpeg: JpegStage | None = None
    fit_report: dict[str, Any] = field(default_factory=dict)

    @property
    def random(self) -> bool:
        """Whether two seeds give two images."""
        per_image = any(not isinstance(part, FieldFilters) and len(_own(part)) > 1 for part in self.linear)
        return self.noise is not None or self.body is not None or per_image

    def with_parts(self, **parts: Any) -> ComposedGenerator:
        """Return this generator with other parts."""
        return dataclasses.replace(self, **parts)

    def base(self, image: NDArray[np.uint8], choice: int, position: TilePosition) -> Levels:
        """Return what codec, tone and filters make of `image` (H, W, 3), with training image `choice`'s parameters."""
        values = (self.codec.encode(image) if self.codec else image).astype(np.float32)
        for part in self.linear:
            if isinstance(part, FieldFilters):
                values = part.distort(values, position.y, position.x, position.height, position.width)
            else:
                values = part.distort(values, choice)
        return values

    def inputs(self, image: NDArray[np.uint8], seed: int, position: TilePosition) -> dict[str, Any]:
        """Return base, noise in levels, free white noise and latents of one tile."""
        seed = seed if position.seed is None else position.seed
        rng = np.random.Generator(np.random.PCG64(seed))
        choice = self.choices[int(rng.integers(len(self.choices)))]
        base = self.base(image, choice, position)
        return {"base": base, **self.draws(base, seed, rng, choice, position)}

    def draws(
        self, base: Levels, seed: int, rng: np.random.Generator, choice: int, position: TilePosition
    ) -> dict[str, Any]:
        """Return what is drawn for a tile: noise (H, W, 3) in levels, free (H, W, 2), latent (4,)."""
        height, width = base.shape[:2]
        latent = rng.standard_normal(LATENTS, dtype=np.float32)
        reach = REACH_PX
        white = white_field(
            seed, position.y - reach, position.x - reach, height + 2 * reach, width + 2 * reach, CHANNELS
        )
        noise = np.zeros_like(base)
        if self.noise is not None:
            log_gain = float(self.noise.log_gains[choice % len(self.noise.log_gains)])
            noise = self.noise.colour(base, white[..., :3], log_gain) * np.float32(self.noise_gain)
            latent[0] = log_gain
        return {"noise": noise, "free": white[reach:-reach, reach:-reach, 3:], "latent": latent}

    def distort(
        self, image: NDArray[np.uint8], severity: float, seed: int, position: TilePosition | None = None
    ) -> NDArray[np.uint8]:
        """Return `image` (H, W, 3) distorted; a `severity` below 1 gives that share of the change, then the codec."""
        position = position or TilePosition(0, 0, *image.shape[:2])
        given = self.inputs(image, seed, position)
        values = given["base"] + given["noise"]
        if self.body is not None:
            values = values + self.body(image=image, position=position, **given)
        if severity < 1:
            values = image + severity * (values - image)
        pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        return self.jpeg.encode(pixels) if self.jpeg is not None else pixels


def _own(part: Tone | Filters) -> NDArray[np.float32]:
    return part.curves if isinstance(part, Tone) else part.kernels
