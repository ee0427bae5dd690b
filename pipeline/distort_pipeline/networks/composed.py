"""A generator composed of small models: tone, filters → displacement → network → noise → impulses, regions → codec.

Any of them may be absent:

    base  = displaced(filters(tone(x)))    fitted, for all images or with the parameters of a training image
    y     = codec(regions(impulses(base + body(base, x, n, z) + n)))

with signal-dependent noise or a recorded overlay n, white noise and latents z.

The codec is libjpeg with the distorted files' tables, or an installed one that predicts across blocks and is given the
whole image (`codec_bank`).

Every part has its own file and its own fit. What varies per image (curve, kernel, gain) is resampled: an image's seed
chooses one training image, and all parts take that one's parameters, so that what belongs together stays together.

A distortion of several levels has a generator for each: between two levels, both changes of the image are weighted.

An image is distorted in blocks of BLOCK_PX, each with as much context as the parts reach. A tile is put together from
the same blocks as the whole image: it is equal to its place there, bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.networks.codec_bank import Codec
from distort_pipeline.networks.colour import RankTone
from distort_pipeline.networks.displacement import Displacement
from distort_pipeline.networks.impulses import Impulses
from distort_pipeline.networks.jpeg_stage import JpegStage
from distort_pipeline.networks.overlays import Overlays
from distort_pipeline.networks.patches import (
    FREE_CHANNELS,
    GRID_PX,
    LATENTS,
    Levels,
    TilePosition,
    value_ranks,
    white_field,
)
from distort_pipeline.networks.regions import Regions
from distort_pipeline.networks.signal_noise import REACH_PX, Fields, SignalNoise
from distort_pipeline.networks.wavelets import Significances
from distort_pipeline.records import Image, Images

CHANNELS = 3 + FREE_CHANNELS  # of white noise in all: three become the signal-dependent noise
BLOCK_PX = 256  # sides of what is distorted at a time
IMPULSES = 2**40  # added to a seed: where pixels are struck is independent of the noise
EXACTLY = 1e-9  # positions nearer than this to a level's count as the level's
Pixels = NDArray[np.uint8]  # (H, W, 3), sRGB
Body = Callable[..., Levels]


@dataclass(frozen=True)
class ComposedGenerator:
    """The parts in the order in which they act, see above."""

    choices: tuple[int, ...] = (0,)  # training images whose parameters are resampled
    linear: tuple[Any, ...] = ()  # of `colour` and `filters`
    displacement: Displacement | None = None
    body: Body | None = None
    noise: SignalNoise | None = None
    overlays: Overlays | None = None  # in place of noise
    impulses: Impulses | None = None
    regions: Regions | None = None
    jpeg: JpegStage | None = None
    codec: Codec | None = None  # of whole images, in place of `jpeg`

    @property
    def random(self) -> bool:
        """Whether two seeds give two images."""
        per_image = any(model.sets > 1 for model in self.linear)
        coded = self.codec is not None and self.codec.random
        drawn = (self.displacement, self.noise, self.overlays, self.body, self.impulses, self.regions)
        return any(part is not None for part in drawn) or per_image or coded

    @property
    def reach_px(self) -> int:
        """Pixels on each side that decide a pixel, in whole GRID_PX; `codec` reaches over the whole image."""
        parts = (*self.linear, self.displacement, self.noise, self.body, self.regions, self.jpeg)
        reach = sum(getattr(part, "reach_px", 0) for part in parts)
        return -(-reach // GRID_PX) * GRID_PX

    def with_parts(self, **parts: Any) -> ComposedGenerator:
        """Return this generator with other parts."""
        return dataclasses.replace(self, **parts)

    def base(self, image: NDArray[Any], choice: int, position: TilePosition) -> Levels:
        """Return what tone and filters make of `image` (H, W, 3), with training image `choice`'s parameters."""
        values = image.astype(np.float32)
        for model in self.linear:
            values = model.distort(values, choice, position)
        return values

    def inputs(self, image: Pixels, seed: int, position: TilePosition) -> dict[str, Levels]:
        """Return base, noise or overlay (H, W, 3) in levels, free white noise (H, W, 2), latents (4,) of a part.

        Without noise and network the white noise is zeros: nothing uses it.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        choice = self.choices[int(rng.integers(len(self.choices)))]
        latent = rng.standard_normal(LATENTS, dtype=np.float32)
        base = self.base(image, choice, position)
        if self.displacement is not None:
            base = self.displacement.move(base, seed, position)
        height, width = base.shape[:2]
        noise, free = np.zeros_like(base), np.zeros((height, width, FREE_CHANNELS), np.float32)
        if self.noise is not None or self.body is not None:
            y, x = position.y - REACH_PX, position.x - REACH_PX
            white = white_field(seed, y, x, height + 2 * REACH_PX, width + 2 * REACH_PX, CHANNELS)
            free = white[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX, 3:]
        if self.noise is not None:
            log_gain = float(self.noise.log_gains[choice % len(self.noise.log_gains)])
            fields = Fields.of(seed, position.y, position.x, height, width)
            noise = self.noise.colour(base, white[..., :3], log_gain, fields)
            latent[0] = log_gain
        if self.overlays is not None:
            noise = self.overlays.draw(seed, choice, position, height, width)
        return {"base": base, "noise": noise, "free": free, "latent": latent}

    def distort(self, image: Pixels, severity: float, seed: int) -> Pixels:
        """Return `image` (H, W, 3) distorted; a `severity` below 1 gives that share of the change, then the codec."""
        return DistortedImage(self, image, severity, seed).tile(0, 0, *image.shape[:2])

    def distort_part(self, image: Pixels, severity: float, seed: int, position: TilePosition) -> Pixels:
        """Return a part of an image distorted, without its surroundings, before the codec of whole images."""
        drawn = self.inputs(image, seed, position)
        values = drawn["base"] + drawn["noise"]
        if self.body is not None:
            values = values + self.body(image=image, position=position, **drawn)
        pixels = _scaled(image, values, severity)
        if self.impulses is not None:
            pixels = self.impulses.strike(pixels, IMPULSES + seed, position, share=severity)
        if self.regions is not None:
            pixels = self.regions.lay(pixels, IMPULSES + seed, position, share=severity)
        return self.jpeg.encode(pixels) if self.jpeg is not None else pixels

    def encode(self, image: Pixels, severity: float, seed: int) -> Pixels:
        """Return `image` (H, W, 3), all of it or a part that stands for it, behind the codec of whole images."""
        if self.codec is None:
            return image
        return _scaled(image, self.codec.encode(image, np.random.Generator(np.random.PCG64(seed))), severity)


class DistortedImage:
    """One image under one seed: its blocks are distorted when a tile first needs them, and kept."""

    def __init__(self, generator: ComposedGenerator, image: Pixels, severity: float, seed: int) -> None:
        self.generator, self.image, self.severity, self.seed = generator, image, severity, seed
        self._distorted = np.empty_like(image)
        self._ready: set[tuple[int, int]] = set()
        self._ranks = value_ranks([image]) if any(isinstance(part, RankTone) for part in generator.linear) else None
        if generator.codec is not None:
            whole = self.tile(0, 0, *image.shape[:2])
            self._distorted = generator.encode(whole, severity, seed)

    def tile(self, y: int, x: int, height: int, width: int) -> Pixels:
        """Return the tile (height, width, 3) that begins at row `y`, column `x`."""
        for first_row in _blocks(y, height):
            for first_column in _blocks(x, width):
                if (first_row, first_column) not in self._ready:
                    self._ready.add((first_row, first_column))
                    self._distort_block(first_row, first_column)
        return self._distorted[y : y + height, x : x + width].copy()

    def _distort_block(self, first_row: int, first_column: int) -> None:
        height, width = self.image.shape[:2]
        reach = self.generator.reach_px
        rows, columns = (
            slice(max(first - reach, 0), min(first + BLOCK_PX + reach, side))
            for first, side in ((first_row, height), (first_column, width))
        )
        position = TilePosition(rows.start, columns.start, height, width, self._ranks)
        pixels = self.generator.distort_part(self.image[rows, columns], self.severity, self.seed, position)
        y, x = first_row - rows.start, first_column - columns.start
        block = pixels[y : y + BLOCK_PX, x : x + BLOCK_PX]
        self._distorted[first_row : first_row + BLOCK_PX, first_column : first_column + BLOCK_PX] = block


@dataclass(frozen=True)
class BetweenLevels:
    """One image under the generators of two neighbouring levels, with one seed: their changes, weighted."""

    weaker: DistortedImage
    stronger: DistortedImage
    share: float  # of the stronger

    def tile(self, y: int, x: int, height: int, width: int) -> Pixels:
        """Return the tile (height, width, 3) that begins at row `y`, column `x`."""
        weaker, stronger = (each.tile(y, x, height, width) for each in (self.weaker, self.stronger))
        return _scaled(weaker, stronger, self.share)


def distorted_image(
    levels: Sequence[ComposedGenerator], image: Pixels, position: float, seed: int
) -> DistortedImage | BetweenLevels:
    """Return `image` at a position among the generators of n `levels`, weakest first: k/n at level k, 0 for pristine.

    Below the first level its change is scaled. Between two, the changes of both are weighted; they have one seed, so
    that white noise and latents are the same.
    """
    rank = position * len(levels)
    above = max(math.ceil(rank - EXACTLY), 1)
    share = 1.0 if abs(above - rank) < EXACTLY else rank - above + 1
    if above == 1 or share == 1:
        return DistortedImage(levels[above - 1], image, share, seed)
    weaker, stronger = (DistortedImage(levels[index], image, 1.0, seed) for index in (above - 2, above - 1))
    return BetweenLevels(weaker, stronger, share)


def _scaled(image: Pixels, distorted: NDArray[Any], severity: float) -> Pixels:
    """Return `image` with the share `severity` of the change towards `distorted` (levels), rounded and clipped."""
    if severity < 1:
        distorted = image + np.float32(severity) * (distorted - image.astype(np.float32))
    return np.clip(np.rint(distorted), 0, 255).astype(np.uint8)


def _blocks(first: int, length: int) -> Iterator[int]:
    """Yield where the blocks begin that hold pixels `first` to `first + length`."""
    yield from range(first // BLOCK_PX * BLOCK_PX, first + length, BLOCK_PX)


@dataclass(frozen=True)
class TileSource:
    """Which image a tile is of, and where in it; tiles of one image share its seed: kernel, tone, gain, noise."""

    digest: str  # of the image
    read: Callable[[], Image]  # the whole image
    y: int
    x: int
    seed: int


class ComposedPredictor:
    """Distorts images with the composed generators of its levels, one by one: nothing depends on others in a batch."""

    image_stats = False

    def __init__(self, levels: Sequence[ComposedGenerator], *, batch_size: int) -> None:
        self.levels, self.batch_size = tuple(levels), batch_size
        self.sources: Mapping[int, TileSource] = {}
        self._last: tuple[Hashable, DistortedImage | BetweenLevels] | None = None

    def set_sources(self, sources: Mapping[int, TileSource]) -> None:
        """Take in which image the tile of each seed is of; tiles of other seeds are taken for whole images."""
        self.sources = sources

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with its own seed and severity, see `distorted_image`."""
        parts = list(self.distort_batches(images, seeds, severities, significances))
        return np.concatenate(parts) if parts else np.empty_like(images)

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float] | None = None,
        significances: Significances | None = None,  # noqa: ARG002 - of other generators
    ) -> Iterator[Images]:
        """Yield what `distort` returns, `batch_size` images at a time."""
        severities = [1.0] * len(images) if severities is None else severities
        for first in range(0, len(images), self.batch_size):
            rows = range(first, min(first + self.batch_size, len(images)))
            yield np.stack([self._distorted(images[row], int(seeds[row]), float(severities[row])) for row in rows])

    def distort_image(self, image: Image, seed: int, severity: float = 1.0) -> Image:
        """Return one whole `image` (H, W, 3) distorted."""
        return self.distort(image[None], [seed], [severity])[0]

    def _distorted(self, image: Image, seed: int, severity: float) -> Image:
        source = self.sources.get(seed)
        if source is None:
            return distorted_image(self.levels, image, severity, seed).tile(0, 0, *image.shape[:2])
        key = (source.digest, source.seed, severity)
        if self._last is None or self._last[0] != key:
            self._last = key, distorted_image(self.levels, source.read(), severity, source.seed)
        return self._last[1].tile(source.y, source.x, *image.shape[:2])
