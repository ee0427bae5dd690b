"""Generators applied one after the other, and the true distortions that they learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from distort_pipeline.data.conditions import COMPOSITE_SEPARATOR
from distort_pipeline.data.plans import PlannedSample
from distort_pipeline.data.severity_search import Calibration
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.models.card import COMPOSED, ModelCard, composite_parameters
from distort_pipeline.models.store import TrainedGenerator, ValidationHistograms, load_generator, read_histograms
from distort_pipeline.networks.wavelets import Significances
from distort_pipeline.records import Images, derive_seed


@dataclass(frozen=True)
class DistortionSpec:
    """A distortion of the registry with the parameters of a model, or of a condition."""

    name: str  # of the condition, in a composite of the model: two models may have learned one distortion
    distortion: str
    level: int  # of the condition; 0 in a batch of varied severities, or of a composite
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class CompositeGenerator:
    """Generators by the names of their models, in the order of application; usually a single one."""

    generators: Mapping[str, TrainedGenerator]

    @property
    def cards(self) -> dict[str, ModelCard]:
        """The model cards, by name."""
        return {name: generator.card for name, generator in self.generators.items()}

    @property
    def digest(self) -> str:
        """The digests of the weights."""
        return COMPOSITE_SEPARATOR.join(generator.digest for generator in self.generators.values())

    @property
    def external(self) -> bool:
        """Whether a generator was trained on external pairs."""
        return any(card.external for card in self.cards.values())

    @property
    def highest_severity(self) -> float:
        """The highest severity that all generators have learned."""
        several = [card.highest_severity for card in self.cards.values() if card.is_multi_level]
        return min(several or [card.highest_severity for card in self.cards.values()])

    @property
    def calibration(self) -> Calibration:
        """The calibration of a single generator."""
        (card,) = self.cards.values()
        assert card.calibration is not None  # required of --target before
        return card.calibration

    def true_distortions(self, severity: float) -> list[DistortionSpec]:
        """Return the true distortions at a severity, in the order of application; none if one has no truth there."""
        own = {name: self._severity(card, severity) for name, card in self.cards.items()}
        if not all(card.has_truth_at(own[name]) for name, card in self.cards.items()):
            return []
        return [
            DistortionSpec(name, card.distortion, 0, card.true_parameters(own[name]))
            for name, card in self.cards.items()
        ]

    def _severity(self, card: ModelCard, severity: float) -> float:
        """Return the severity of one of the models: in a composite, a model of one level keeps it."""
        return card.severity_in_composite(severity) if len(self.generators) > 1 else severity

    def true_parameters(self, severity: float) -> dict[str, float]:
        """Return the parameters of the true distortions at a severity, with model names for a composite."""
        return composite_parameters(self.cards, severity)

    def set_sources(self, samples: Sequence[PlannedSample], root: Path, *, seed: int) -> None:
        """Tell the first generator which image in the folder `root` the tile of each sample is of."""
        first = next(iter(self.generators.values()))
        if first.card.network.kind != COMPOSED:
            return

        from distort_pipeline.networks.composed import TileSource

        sources = {}
        for sample in samples:
            image, tile = sample.tile.image, sample.tile.tile
            image_seed = derive_seed(seed, "photograph", image.image_digest, sample.draw)
            read = partial(read_ingested, root, image)
            sources[sample.seed] = TileSource(image.image_digest, read, tile.y, tile.x, image_seed)
        first.predictor.set_sources(sources)  # type: ignore[union-attr]  # of its kind

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
        first, *others = self.generators.values()
        at_first = [self._severity(first.card, severity) for severity in severities]
        start = 0
        for batch in first.predictor.distort_batches(images, seeds, at_first, significances):
            rows, distorted = slice(start, start + len(batch)), batch
            for index, generator in enumerate(others, start=1):
                draw_seeds = [derive_seed(seed, index) for seed in seeds[rows]]
                at_this = [self._severity(generator.card, severity) for severity in severities[rows]]
                distorted = generator.predictor.distort(distorted, draw_seeds, at_this)
            yield distorted
            start = rows.stop


def load_composite(models: Mapping[str, Path], *, batch_size: int, precision: str) -> CompositeGenerator:
    """Return the generators of the model folders `models`, by name; each is loaded once in a process."""
    return CompositeGenerator(
        {name: load_generator(path, batch_size=batch_size, precision=precision) for name, path in models.items()}
    )


def validation_histograms(
    models: Mapping[str, Path], generator: CompositeGenerator, severities: Sequence[float]
) -> ValidationHistograms | None:
    """Return the validation histograms of a single generator at the level of all `severities`; None if there is none.

    A severity between two levels has no validation pairs, and neither has a composite.
    """
    (name, trained), *others = generator.generators.items()
    level = trained.card.level_at(severities)
    return None if others or level is None else _stored_histograms(models[name], trained.digest)[level]


@lru_cache(maxsize=8)  # by digest too: a later training may overwrite the folder
def _stored_histograms(model: Path, weights_digest: str) -> tuple[ValidationHistograms, ...]:  # noqa: ARG001
    return read_histograms(model)
