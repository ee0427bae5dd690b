"""The inputs and the plan of a corpus: models, images, conditions, and all samples, checked before any work.

And the estimate of `--dry-run`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distort_pipeline.config import RUNTIME_ONLY, GenerateConfig
from distort_pipeline.data.conditions import Condition, QualityTarget, build_conditions
from distort_pipeline.data.corpus_metadata import (
    EXTENDED_FROM,
    KIND,
    VERSION,
    CorpusSettings,
    ModelLevel,
    ModelMetadata,
)
from distort_pipeline.data.manifests import Manifest, read_manifest
from distort_pipeline.data.plans import CorpusPlan, PlannedSample, TileGrid, plan_corpus
from distort_pipeline.distortions import codec_versions, unsuitable
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.metrics.full_reference import WINDOW_PX
from distort_pipeline.models.card import DistortionSpec, ModelCard, read_card
from distort_pipeline.models.store import model_folders
from distort_pipeline.records import ImageRecord, ModelVerdict, Report, package_versions
from distort_pipeline.steps.batches import seconds_per_sample

Cards = Mapping[str, ModelCard]

MIN_WHOLE_PX = WINDOW_PX  # of SSIM, in every sample's record
RESERVED = ("pristine", "tiles")  # names of other parts of a corpus


@dataclass(frozen=True)
class PreparedCorpus:
    """The inputs and the plan of a corpus."""

    folders: Mapping[str, Path]  # of the models
    cards: Cards
    conditions: tuple[Condition, ...]
    images: Sequence[ImageRecord]  # with a tile in the plan
    left_out: Mapping[str, str]  # path of an unusable image → reason
    plan: CorpusPlan
    settings: CorpusSettings
    verdicts: Mapping[str, ModelVerdict]  # digest of the weights → verdict of the evaluation beside the models

    @property
    def models(self) -> dict[str, ModelMetadata]:
        """The metadata of the models."""
        return {name: _model_metadata(card, self.verdicts) for name, card in self.cards.items()}

    @property
    def needs_backend(self) -> bool:
        """Whether a generator has a network."""
        return any(card.network.needs_backend for card in self.cards.values())

    @property
    def packages(self) -> dict[str, str]:
        """The versions of the packages that decide the bytes of the corpus."""
        backend: list[str] = []
        if self.needs_backend:
            from distort_pipeline.networks.backend import backend_name

            backend = [backend_name(), "keras"]
        return package_versions([*backend, "numpy", "zarr", "distort-pipeline"])

    @property
    def needs_significances(self) -> bool:
        """Whether a generator needs the significance of the tiles' images."""
        return not self.settings.generate["whole_images"] and any(
            card.network.image_stats for card in self.cards.values()
        )

    @property
    def shared_truths(self) -> tuple[DistortionSpec, ...]:
        """The true distortions shared by all batches of a condition: of the conditions of fixed severity."""
        return tuple(
            DistortionSpec(
                condition.name, card.distortion, condition.level, card.true_parameters(condition.request.first)
            )
            for condition in self.conditions
            if condition.fixed_severity
            for card in [self.cards[condition.models[0]]]
            if card.has_truth_at(condition.request.first)
        )


def prepare_corpus(
    config: GenerateConfig,
    manifest: Manifest,
    models: Path | Mapping[str, Path],
    *,
    listed_in: Path,
    earlier: CorpusSettings | None = None,
) -> PreparedCorpus:
    """Return the inputs and the plan of a corpus; PipelineError for an impossible request.

    `earlier` are the settings of a finished corpus: with more samples and otherwise the same settings, it is extended.
    """
    known = model_folders(models) if isinstance(models, Path) else models
    folders = {name: folder.resolve() for name, folder in chosen_models(known, config.model_names).items()}
    cards = {name: read_card(folder) for name, folder in folders.items()}
    in_splits = [image for image in manifest.records if image.split in config.splits]
    if not in_splits:
        raise PipelineError(f"{listed_in} has no image in --splits {', '.join(config.splits)}")
    left_out = unusable_images(in_splits, cards, whole_images=config.whole_images)
    images = [image for image in in_splits if image.path not in left_out]
    if not images:
        path, reason = next(iter(left_out.items()))
        raise PipelineError(f"no image of {listed_in} can be used; the first is {path}: {reason}")
    conditions = plan_conditions(cards, config)
    tile_px, align_px = None if config.whole_images else config.tile_px, config.crop_align or trained_align(cards)
    grid = TileGrid(tile_px, align_px, config.max_overlap)
    settings = corpus_settings(dataclasses.replace(config, crop_align=grid.align_px), cards, manifest.digest)
    if earlier is not None:
        settings = extended(settings, earlier)
        if earlier.counts[0] < len(conditions):
            raise PipelineError(
                f"the finished corpus began with {earlier.counts[0]} samples, at one level of each model, and cannot "
                f"grow to {len(conditions)} conditions: choose another folder with --out"
            )
    plan = plan_corpus(
        images,
        conditions,
        grid,
        counts=settings.counts,
        samples_per_shard=config.samples_per_shard,
        seed=config.seed,
        allow_repeats=config.allow_repeats,
    )
    require_fit_names(folders)
    if grid.tile_px is not None:
        left_out |= {
            image.path: f"too small: {image.width} x {image.height} px, a tile needs {grid.tile_px} px"
            for image in images
            if not grid.available(image)
        }
    used = {tile.image.image_digest for tile in plan.tiles}
    return PreparedCorpus(
        folders=folders,
        cards=cards,
        conditions=conditions,
        images=[image for image in images if image.image_digest in used],
        left_out=left_out,
        plan=plan,
        settings=settings,
        verdicts=_verdicts_beside(folders.values()),
    )


def extended(settings: CorpusSettings, earlier: CorpusSettings) -> CorpusSettings:
    """Return `settings` of a corpus that continues the one of `earlier` settings, if it can; else unchanged.

    PipelineError for fewer samples.
    """
    if not settings.is_extension_of(earlier):
        return settings
    count, counts = settings.counts[-1], earlier.counts
    if count < counts[-1]:
        raise PipelineError(
            f"--count {count} is less than the {counts[-1]} samples of the finished corpus, which can only grow: "
            "choose another folder with --out"
        )
    before = counts if count > counts[-1] else counts[:-1]
    return dataclasses.replace(settings, generate={**settings.generate, **({EXTENDED_FROM: before} if before else {})})


def _verdicts_beside(folders: Iterable[Path]) -> dict[str, ModelVerdict]:
    """Return digest of the weights → verdict, from the evaluations beside the parents of these model folders."""
    verdicts: dict[str, ModelVerdict] = {}
    for evaluation in {folder.parent.parent / "evaluation" for folder in folders}:
        if (evaluation / "store.json").is_file():
            from distort_pipeline.data.evaluations import verdicts_in

            verdicts |= verdicts_in(evaluation)
    return verdicts


def chosen_models(folders: Mapping[str, Path], requested: Sequence[str]) -> dict[str, Path]:
    """Return the `requested` models, else all of `folders`; PipelineError for an unknown name.

    >>> list(chosen_models({name: Path(name) for name in ("jp2k", "jpeg", "white_noise")}, ["jpeg", "jp2k"]))
    ['jp2k', 'jpeg']
    """
    for name in requested:
        if name not in folders:
            raise PipelineError(f"no model of {name!r} is trained{did_you_mean(name, folders)}")
    chosen = set(requested) or set(folders)
    return {name: folder for name, folder in folders.items() if name in chosen}


def require_fit_names(names: Iterable[str]) -> None:
    """Raise PipelineError for a model with a name unfit for batches, arrays and reports."""
    for name in names:
        if name in RESERVED or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise PipelineError(
                f"{name!r} cannot be the name of a model: arrays and files take the name of its folder, so only "
                f"letters, digits, _, - and . are allowed, and not {' or '.join(RESERVED)}; rename the folder"
            )


def unusable_images(images: Sequence[ImageRecord], cards: Cards, *, whole_images: bool) -> dict[str, str]:
    """Return path → reason for the `images` that a distortion or a metric of the corpus cannot take."""
    names = sorted({card.distortion for card in cards.values() if not card.external})
    reasons = {}
    for image in images:
        if whole_images and min(image.height, image.width) < MIN_WHOLE_PX:
            reasons[image.path] = f"too small: {image.width} x {image.height} px, SSIM needs {MIN_WHOLE_PX} px"
        for name in names:
            if reason := unsuitable(name, image.height, image.width):
                reasons[image.path] = reason
    return reasons


def plan_conditions(cards: Cards, config: GenerateConfig) -> tuple[Condition, ...]:
    """Return the conditions of a corpus; PipelineError for a request beyond a model's capabilities.

    Without distortions and composites, each model of `cards` has its conditions; where there are fewer samples than
    levels, at its default level alone.
    """
    for every_level in (True, False):
        conditions = build_conditions(
            {name: card.capabilities for name, card in cards.items()},
            config.distortions or ([] if config.composite else sorted(cards)),
            levels=config.num_levels,
            severity=config.severity,
            composites=config.composite,
            target=config.target,
            every_level=every_level,
        )
        if config.num_levels is not None or config.count >= len(conditions):
            break
    else:
        raise PipelineError(
            f"--count {config.count} is less than the {len(conditions)} conditions, each a distortion at one level: "
            "raise --count, or choose with --distortions, --num-levels or --severity"
        )
    for condition in conditions:
        if isinstance(condition.request, QualityTarget):
            _require_calibration(cards[condition.models[0]], condition.distortion)
    return conditions


def _require_calibration(card: ModelCard, name: str) -> None:
    if not card.calibration:
        raise PipelineError(f"--target needs a calibration, and the model of {name} has none; train it again")


def trained_align(cards: Cards) -> int:
    """Return the crop alignment in px for all models: the coarsest alignment in their training."""
    return max(card.crop_align for card in cards.values())


def corpus_settings(config: GenerateConfig, cards: Cards, manifest_digest: str) -> CorpusSettings:
    """Return all settings with an effect on the bytes of the corpus."""
    values = dataclasses.asdict(config)
    return CorpusSettings(
        format=KIND,
        version=VERSION,
        generate={name: value for name, value in values.items() if name not in RUNTIME_ONLY},
        models={name: card.weights_digest for name, card in cards.items()},
        manifest_digest=manifest_digest,
        codecs=codec_versions([card.distortion for card in cards.values() if not card.external]),
    )


def _model_metadata(card: ModelCard, verdicts: Mapping[str, ModelVerdict]) -> ModelMetadata:
    levels = [ModelLevel(level.level, level.parameters, level.severity) for level in card.levels]
    return ModelMetadata(
        card.weights_digest,
        card.distortion,
        card.external,
        card.origin,
        tuple(levels),
        random=card.is_stochastic,
        grey=card.data.grey,
        evaluation=verdicts.get(card.weights_digest),
    )


BYTES_PER_PIXEL = 178_000 / 256**2  # of a sample and its share of a reference tile, measured; see README
BATCH_BYTES, BATCH_SECONDS, START_SECONDS = 1e6, 0.3, 4.0  # reports, side-by-sides; imports: measured


def estimate(
    config: GenerateConfig,
    manifest_path: Path,
    models: Path | Mapping[str, Path],
    out: Path,
    *,
    root: Path | None = None,
) -> Report:
    """Return the samples, bytes and seconds of a corpus, measured on a tile of each generator; nothing is written.

    Of an extended corpus, the new ones.
    """
    manifest = read_manifest(manifest_path)
    root = (root or manifest.root).resolve()
    corpus = prepare_corpus(config, manifest, models, listed_in=manifest_path, earlier=CorpusSettings.of_finished(out))
    before = (0, *corpus.settings.counts)[-2]
    planned_batches = [batch for batch in corpus.plan.batches if batch.samples[0].sample >= before]
    samples: dict[tuple[str, ...], list[PlannedSample]] = {}
    for batch in planned_batches:
        samples.setdefault(batch.condition.models, []).extend(batch.samples)
    seconds = sum(
        len(planned) * seconds_per_sample({name: corpus.folders[name] for name in names}, planned[0], root, config)
        for names, planned in samples.items()
    )
    batches = len(planned_batches)
    total = START_SECONDS + (seconds + batches * BATCH_SECONDS) / max(config.workers, 1)
    every = [sample for planned in samples.values() for sample in planned]
    pixels = sum(sample.tile.tile.height * sample.tile.tile.width for sample in every)
    size = batches * BATCH_BYTES + pixels * BYTES_PER_PIXEL
    counts = {"samples": len(every), "tiles": len(corpus.plan.tiles), "bytes": round(size), "seconds": round(total)}
    return Report(
        "generate",
        counts,
        (
            f"{len(every)} samples in {batches} batches, of {len(corpus.plan.tiles)} tiles; "
            f"{corpus.plan.available_tiles} are available",
            f"about {size / 1e6:.0f} MB and {total:.0f} s; nothing was written",
        ),
    )
