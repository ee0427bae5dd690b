"""Random aligned crops for the compact networks: the batch of a step, from the seed and the step alone.

Noise is Gaussian: of two draws n1 and n2 made once for each patch, cos(a) n1 + sin(a) n2 is another draw with the same
covariance for any angle, which costs a multiplication in place of a coloured filter bank a crop.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.components.composed import FREE_CHANNELS, GRID_PX, LATENTS, ComposedGenerator
from distort_pipeline.components.fields import white_field
from distort_pipeline.components.patches import Levels, PairPatch
from distort_pipeline.components.signal_noise import REACH_PX
from distort_pipeline.prefetch import prefetch

Inputs = dict[str, NDArray[np.generic]]
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class CompactBatch:
    """The crops of one training step, as the trainers take them."""

    step: int
    inputs: tuple[Inputs]


class CompactCrops:
    """Crops of `patches` with their `bases`; `give_noise` makes the draws that later crops carry."""

    def __init__(
        self, patches: Sequence[PairPatch], bases: Sequence[Levels], *, crop_px: int, batch: int, seed: int
    ) -> None:
        usable = [n for n, patch in enumerate(patches) if min(patch.pristine.shape[:2]) >= crop_px]
        self.patches = [patches[n] for n in usable]
        self.bases = [bases[n].astype(np.float16) if _is_8bit(bases[n]) else bases[n] for n in usable]
        self.crop_px, self.batch, self.seed = crop_px, batch, seed
        self._areas = np.array([patch.pristine.shape[0] * patch.pristine.shape[1] for patch in self.patches], float)
        self._draws: list[tuple[NDArray[np.float16], NDArray[np.float16]]] | None = None
        self._log_gains: NDArray[np.float32] | None = None

    def give_noise(self, generator: ComposedGenerator, *, seed: int) -> None:
        """Draw the noise of `generator` twice for every patch, with its image's gain; crops follow another seed."""
        self.seed = seed
        if generator.noise is None:
            return
        self._log_gains = generator.noise.log_gains
        self._draws = []
        for number, (patch, base) in enumerate(zip(self.patches, self.bases, strict=True)):
            gain = float(self._log_gains[patch.image % len(self._log_gains)])
            height, width = base.shape[:2]
            levels = base.astype(np.float32)
            one, other = (
                generator.noise_gain
                * generator.noise.colour(
                    levels, white_field(2 * number + n, 0, 0, height + 2 * REACH_PX, width + 2 * REACH_PX, 3), gain
                )
                for n in range(2)
            )
            self._draws.append((one.astype(np.float16), other.astype(np.float16)))

    def prefetch(self, first: int, last: int) -> Generator[CompactBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1, made by a thread during training."""
        batches = (CompactBatch(step, (self.at(step),)) for step in range(first, last))
        yield from prefetch(batches, BATCHES_AHEAD, name="crops")

    def at(self, step: int) -> Inputs:
        """Return the crops of `step`: pristine, base, distorted and noise (N, H, W, 3) in levels, and the rest."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, step])))
        side, count = self.crop_px, self.batch
        pixels = {
            name: np.zeros((count, side, side, 3), np.float32) for name in ("pristine", "base", "distorted", "noise")
        }
        offsets, sizes = np.zeros((count, 2), np.float32), np.zeros((count, 2), np.float32)
        latent = rng.standard_normal((count, LATENTS), dtype=np.float32)
        chosen = rng.choice(len(self.patches), count, p=self._areas / self._areas.sum())
        for row, number in enumerate(chosen):
            patch = self.patches[number]
            room = [(whole - side) // GRID_PX for whole in patch.pristine.shape[:2]]
            y, x = (GRID_PX * int(rng.integers(0, most + 1)) for most in room)
            inside = (slice(y, y + side), slice(x, x + side))
            pixels["pristine"][row], pixels["distorted"][row] = patch.pristine[inside], patch.distorted[inside]
            pixels["base"][row] = self.bases[number][inside]
            offsets[row], sizes[row] = (patch.y + y, patch.x + x), (patch.image_height, patch.image_width)
            if self._draws is not None and self._log_gains is not None:
                angle = np.float32(rng.uniform(0, 2 * np.pi))
                one, other = self._draws[number]
                pixels["noise"][row] = np.cos(angle) * one[inside] + np.sin(angle) * other[inside]
                latent[row, 0] = self._log_gains[patch.image % len(self._log_gains)]
        free = rng.standard_normal((count, side, side, FREE_CHANNELS), dtype=np.float32)
        return {**pixels, "free": free, "latent": latent, "offsets": offsets, "sizes": sizes}


def _is_8bit(base: Levels) -> bool:
    return bool((base == np.rint(base)).all())  # whole levels are exact in half precision
