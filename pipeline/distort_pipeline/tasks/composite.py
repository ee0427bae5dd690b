"""The generators of one condition at work: one, or those of a mix, each on what the one before it made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distort_pipeline.pixels import Images
from distort_pipeline.planning.conditions import COMPOSITE_SEPARATOR
from distort_pipeline.seeds import derive_seed
from distort_pipeline.trained import TrainedGenerator, load_generator
from distort_pipeline.wavelets.significance import Significances


@dataclass(frozen=True)
class CompositeGenerator:
    """Generators by the names of their models, in the order of application."""

    generators: Mapping[str, TrainedGenerator]

    @property
    def cards(self) -> dict[str, dict[str, Any]]:
        """The model cards, by name."""
        return {name: generator.card for name, generator in self.generators.items()}

    @property
    def digest(self) -> str:
        """The digests of the weights."""
        return COMPOSITE_SEPARATOR.join(generator.digest for generator in self.generators.values())

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Iterator[Images]:
        """Yield `images` (N, H, W, 3) distorted, each with its own seed at its own severity, part by part.

        What the first generator made is 8-bit pixels before the second one gets it, as files between would have it.
        `wholes` (N, 18) is the significance of the images that these are tiles of; of what the first generator would
        have made of those nothing is known, and the others take each tile for a whole.
        """
        first, *others = (generator.predictor for generator in self.generators.values())
        start = 0
        for made in first.distort_batches(images, seeds, severities, significances):
            part, own = made, slice(start, start + len(made))
            for step, predictor in enumerate(others, start=1):
                part = predictor.distort(part, [derive_seed(seed, step) for seed in seeds[own]], severities[own])
            yield part
            start = own.stop


def load_composite(models: Mapping[str, Path], *, batch_size: int, precision: str) -> CompositeGenerator:
    """Return the generators of the model folders `models`, by name; each is loaded once in a process."""
    return CompositeGenerator(
        {name: load_generator(path, batch_size=batch_size, precision=precision) for name, path in models.items()}
    )
