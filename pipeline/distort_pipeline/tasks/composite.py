"""The generators of one condition: a single model, or the models of a composite, each applied to the output before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distort_pipeline.components.predictor import ComposedPredictor, TileSource
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

    def set_sources(self, sources: Mapping[int, TileSource]) -> None:
        """Tell the first generator which image the tile of each sample is of, by the sample's seed."""
        first = next(iter(self.generators.values())).predictor
        if isinstance(first, ComposedPredictor):
            first.set_sources(sources)

    def distort_batches(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Iterator[Images]:
        """Yield `images` (N, H, W, 3) distorted, each with its seed and severity, batch by batch.

        The output of each generator is rounded to 8 bits, as in a file. `significances` (N, 18) belong to the whole
        images of these tiles and serve the first generator; the others compute the significance of each tile alone.
        """
        first, *others = (generator.predictor for generator in self.generators.values())
        start = 0
        for batch in first.distort_batches(images, seeds, severities, significances):
            rows, distorted = slice(start, start + len(batch)), batch
            for index, predictor in enumerate(others, start=1):
                draw_seeds = [derive_seed(seed, index) for seed in seeds[rows]]
                distorted = predictor.distort(distorted, draw_seeds, severities[rows])
            yield distorted
            start = rows.stop


def load_composite(models: Mapping[str, Path], *, batch_size: int, precision: str) -> CompositeGenerator:
    """Return the generators of the model folders `models`, by name; each is loaded once in a process."""
    return CompositeGenerator(
        {name: load_generator(path, batch_size=batch_size, precision=precision) for name, path in models.items()}
    )
