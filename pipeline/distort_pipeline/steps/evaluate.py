"""evaluate: compare every trained generator with the true distortions, on whole validation images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distort_pipeline.config import EvaluateConfig
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.files import read_json, write_bytes, write_json
from distort_pipeline.data.pairs import PairStore, distorted_column, open_pairs
from distort_pipeline.distortions import DISTORTIONS, apply, is_random
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import track
from distort_pipeline.metrics.c2st import C2STReport
from distort_pipeline.metrics.classifier import ImageTiles, LevelPair, tiles_of
from distort_pipeline.metrics.evaluation import SMALLEST_SIDE_PX, EvalImages, MeasuredImage, measure, summarise
from distort_pipeline.metrics.severity_sweep import SeveritySweep, SweepImage, summarise_sweep
from distort_pipeline.models.card import ModelCard, read_card
from distort_pipeline.models.store import model_folders
from distort_pipeline.networks.backend import backend_name, pin_backend_threads
from distort_pipeline.records import Image, PairRecord, Report, derive_seed, digest, make_rng, sample_seed
from distort_pipeline.reports.evaluation_files import write_files
from distort_pipeline.reports.evaluation_page import (
    SIDE_BY_SIDE_COLUMNS,
    side_by_side_row,
    write_evaluation_page,
    write_plots,
)
from distort_pipeline.reports.evaluation_tables import sweep_text, text_table
from distort_pipeline.reports.side_by_side import png_bytes, side_by_side
from distort_pipeline.steps.severity_sweep import (
    SharedLevel,
    SweepPlan,
    default_level,
    plan_sweep,
    run_sweep,
    shared_levels,
    sweep_image,
)
from distort_pipeline.versions import package_versions

if TYPE_CHECKING:
    from distort_pipeline.models.store import TrainedGenerator


@dataclass(frozen=True)
class Column:
    """One true distortion of the pair store."""

    name: str
    recipe: Mapping[str, Any]
    redrawn: bool  # whether another draw is available


@dataclass(frozen=True)
class Plan:
    """Generators, the true distortions of their training, and the images of the comparison."""

    pairs: PairStore
    columns: tuple[Column, ...]
    learned: Mapping[str, str]  # model → name of its learned column
    severities: Mapping[str, float]  # model → severity of its learned column; 1 for a model of one level
    images: Mapping[str, Mapping[str, PairRecord]]  # image id → column → record
    too_small: int
    sweeps: Mapping[str, SweepPlan]  # by multi-level model


def plan_of(pairs: PairStore, cards: Mapping[str, ModelCard]) -> Plan:
    """Return the plan: every distortion of the store at the levels of the models, else at its first level.

    A multi-level model is compared with all others at its default level.
    """
    model_levels = {name: _shared_levels(pairs, name, card) for name, card in cards.items()}
    default = {name: default_level(cards[name].distortion, levels) for name, levels in model_levels.items()}
    levels: dict[str, set[int]] = {}
    for name, card in cards.items():
        levels.setdefault(card.distortion, set()).add(default[name].level)
    columns = [
        Column(_column_name(recipe, levels), recipe, _can_redraw(recipe))
        for distortion in pairs.distortions
        for recipe in pairs.recipes(distortion)
        if recipe["level"] in levels.get(distortion, {pairs.levels(distortion)[0]})
    ]
    names = {(column.recipe["distortion"], column.recipe["level"]): column.name for column in columns}
    learned = {
        name: names[card.distortion, default[name].level]
        for name, card in sorted(cards.items(), key=lambda item: pairs.distortions.index(item[1].distortion))
    }
    images: dict[str, dict[str, PairRecord]] = {}
    condition_levels: dict[str, dict[str, dict[int, PairRecord]]] = {
        name: {} for name, card in cards.items() if card.is_multi_level
    }
    too_small: set[str] = set()
    for record in pairs.records("val"):
        if min(record.height, record.width) < SMALLEST_SIDE_PX:
            too_small.add(record.image)
            continue
        if (record.distortion, record.level) in names:
            images.setdefault(record.image, {})[names[record.distortion, record.level]] = record
        for name, by_image in condition_levels.items():
            if record.distortion == cards[name].distortion:
                by_image.setdefault(record.image, {})[record.level] = record
    available = {column for records in images.values() for column in records}
    for name, column in learned.items():
        if column not in available:
            raise PipelineError(
                f"{pairs.folder} has no validation image of {column}, the distortion of the model {name}"
            )
    return Plan(
        pairs,
        tuple(column for column in columns if column.name in available),
        learned,
        {name: level.point.severity for name, level in default.items()},
        images,
        len(too_small),
        {
            name: plan_sweep(cards[name], pairs.recipes(cards[name].distortion), by_image)
            for name, by_image in condition_levels.items()
        },
    )


def _shared_levels(pairs: PairStore, name: str, card: ModelCard) -> tuple[SharedLevel, ...]:
    """Return the levels of the model in the store; PipelineError if there are none."""
    recipes = pairs.recipes(card.distortion)
    common = shared_levels(card.levels, recipes)
    if common:
        return common
    learned, stored = (
        ", ".join(map(str, parameters))
        for parameters in ([level.parameters for level in card.levels], [recipe["parameters"] for recipe in recipes])
    )
    raise PipelineError(
        f"the model {name} learned {card.distortion} with {learned}, {pairs.folder} has {card.distortion} with "
        f"{stored}; evaluate with the pairs of its training, or train again"
    )


def _column_name(recipe: Mapping[str, Any], levels: Mapping[str, set[int]]) -> str:
    distortion = recipe["distortion"]
    several = len(levels.get(distortion, ())) > 1
    return distorted_column(distortion, recipe["level"]) if several else str(distortion)


def _can_redraw(recipe: Mapping[str, Any]) -> bool:
    name = recipe["distortion"]
    return not recipe["external"] and name in DISTORTIONS.names() and is_random(name)


KIND = "evaluation"
VERSION = 2


def run(config: EvaluateConfig, pairs_path: Path, models: Path, out: Path) -> Report:
    """Write the figures of every finished model in `models`, on the validation images of a pair store, to `out`."""
    started = time.monotonic()
    require_destination(out)
    pairs = open_pairs(pairs_path)
    folders = model_folders(models)
    cards = {name: read_card(folder) for name, folder in folders.items()}
    settings = settings_of(config, pairs, cards)
    build = StagedStore(out, digest(settings))
    if build.complete():
        return _report(out, read_json(out / "metrics.json"), (f"{out} is already evaluated; nothing to do",))
    plan = plan_of(pairs, cards)
    with build.writing() as work:
        generators = _load(folders, config.threads)
        shown: dict[str, list[list[Image]]] = {name: [] for name in plan.learned}
        evaluated = []
        tiles = []
        sweep_images: dict[str, list[SweepImage]] = {name: [] for name in plan.sweeps}
        for image, versions in track(
            _versions(plan, generators, config), total=len(plan.images), label="evaluate", unit="images"
        ):
            evaluated.append(_measured(plan, image, versions, shown, config.side_by_side))
            level_pairs = _run_sweeps(plan, image, generators, sweep_images, config)
            tiles.append(_tiles(plan, image, versions, level_pairs, config))
        evaluation = summarise(evaluated, [column.name for column in plan.columns], plan.learned, seed=config.seed)
        c2st = _c2st(tiles, plan, config)
        sweeps = {name: _sweep(plan.sweeps[name], sweep_images[name]) for name in plan.sweeps}
        figures = write_files(evaluation, c2st, work, sweeps)
        for name, rows in shown.items():
            if rows:
                write_bytes(work / "side_by_side" / f"{name}.png", png_bytes(side_by_side(rows, SIDE_BY_SIDE_COLUMNS)))
        write_plots(work, evaluation, c2st, folders)
        metadata = _metadata(plan, settings, cards, figures)
        write_evaluation_page(work, evaluation, c2st, metadata, sweeps)
        write_json(work / "run.json", {"seconds": round(time.monotonic() - started, 1)})
        build.publish(metadata)
    return _report(out, figures, tuple(_remarks(plan, sweeps)))


def settings_of(config: EvaluateConfig, pairs: PairStore, cards: Mapping[str, ModelCard]) -> dict[str, Any]:
    """Return all settings with an effect on the figures, as plain values."""
    values = dataclasses.asdict(config)
    del values["threads"]  # without effect on the figures
    return {
        "format": KIND,
        "version": VERSION,
        "evaluate": values,
        "models": {name: card.weights_digest for name, card in cards.items()},
        "pairs_digest": pairs.metadata["digest"],
    }


def _load(folders: Mapping[str, Path], threads: int) -> dict[str, TrainedGenerator]:
    from distort_pipeline.models.store import load_generator

    pin_backend_threads(threads)
    return {name: load_generator(folder, batch_size=1) for name, folder in folders.items()}


def _versions(
    plan: Plan, generators: Mapping[str, TrainedGenerator], config: EvaluateConfig
) -> Iterator[tuple[str, EvalImages]]:
    """Yield the id of each image with all its distorted versions."""
    column_of = {column.name: column for column in plan.columns}
    for image, records in plan.images.items():
        pristine = plan.pairs.val_image(image)
        identity = next(iter(records.values())).image_digest
        generated: dict[str, list[Image]] = {}
        generated_again: dict[str, Image] = {}
        for name in plan.learned:
            trained = generators[name]
            random = trained.card.is_stochastic
            draws = range(max(config.draws, 2) if random else 1)
            seeds = [_draw_seed(config, trained, identity, draw) for draw in draws]
            drawn = [trained.predictor.distort_image(pristine, seed, plan.severities[name]) for seed in seeds]
            generated[name] = drawn[: config.draws]
            if random:
                generated_again[name] = drawn[1]
            elif column_of[plan.learned[name]].redrawn:
                generated_again[name] = drawn[0]  # the paper's generator is deterministic
        true = {
            column: plan.pairs.val_image(image, record.distortion, record.level) for column, record in records.items()
        }
        yield image, EvalImages(pristine, true, _true_again(plan, pristine, records), generated, generated_again)


def _true_again(plan: Plan, pristine: Image, records: Mapping[str, PairRecord]) -> dict[str, Image]:
    """Return another draw of each random true distortion of an image."""
    seed = plan.pairs.metadata["settings"]["pairs"]["seed"]
    second_draws = {}
    for column in plan.columns:
        record = records.get(column.name)
        if column.redrawn and record is not None:
            draw = sample_seed(seed, record.image_digest, record.distortion, record.level, draw=1)
            second_draws[column.name] = apply(
                record.distortion, pristine, column.recipe["parameters"], make_rng(draw)
            ).image
    return second_draws


def _measured(
    plan: Plan, image: str, versions: EvalImages, shown: Mapping[str, list[list[Image]]], max_rows: int
) -> MeasuredImage:
    """Return the measurements of one image; its crops are added to `shown`, up to `max_rows` for a model."""
    for name, column in plan.learned.items():
        if column in versions.true and len(shown[name]) < max_rows:
            shown[name].append(side_by_side_row(versions.pristine, versions.true[column], versions.generated[name][0]))
    return measure(image, versions, plan.learned)


def _tiles(
    plan: Plan,
    image: str,
    versions: EvalImages,
    level_pairs: Mapping[str, Sequence[LevelPair]],
    config: EvaluateConfig,
) -> ImageTiles | None:
    """Return the tiles of an image for the two-sample tests: its share of all tiles, two or more."""
    if not config.c2st_steps:
        return None
    share = max(2, round(config.c2st_tiles / len(plan.images)))
    return tiles_of(versions, count=share, seed=derive_seed(config.seed, "sceptic", image), level_pairs=level_pairs)


def _run_sweeps(
    plan: Plan,
    image: str,
    generators: Mapping[str, TrainedGenerator],
    sweep_images: Mapping[str, list[SweepImage]],
    config: EvaluateConfig,
) -> dict[str, list[LevelPair]]:
    """Return one image at the levels of each multi-level model; its sweeps are added to `sweep_images`.

    Each generator draws as in its first draw of the table.
    """
    level_pairs = {}
    for name, sweep in plan.sweeps.items():
        records = sweep.images.get(image)
        if records:
            identity = next(iter(records.values())).image_digest
            draw = _draw_seed(config, generators[name], identity, 0)
            versions = sweep_image(sweep, plan.pairs, records, generators[name].predictor, draw=draw)
            sweep_images[name].append(run_sweep(sweep, plan.pairs, records, versions, seed=config.seed))
            level_pairs[name] = [
                LevelPair(level.point.severity, true, versions.generated(level.point.severity))
                for level, true in zip(sweep.shared_levels, versions.true, strict=True)
            ]
    return level_pairs


def _draw_seed(config: EvaluateConfig, trained: TrainedGenerator, identity: str, draw: int) -> int:
    return derive_seed(config.seed, trained.card.distortion, identity, draw)


def _sweep(plan: SweepPlan, images: Sequence[SweepImage]) -> SeveritySweep:
    return summarise_sweep(
        images, [level.point for level in plan.shared_levels], [midpoint.point for midpoint in plan.midpoints]
    )


def _c2st(tiles: Sequence[ImageTiles | None], plan: Plan, config: EvaluateConfig) -> C2STReport | None:
    """Return the results of the two-sample tests; None without tiles."""
    image_tiles = [image for image in tiles if image is not None]
    if not image_tiles:
        return None
    from distort_pipeline.steps.classifiers import run_c2st

    return run_c2st(image_tiles, plan.learned, steps=config.c2st_steps, fold_count=config.c2st_folds, seed=config.seed)


def _metadata(
    plan: Plan, settings: Mapping[str, Any], cards: Mapping[str, ModelCard], figures: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "format": f"distort-pipeline/{KIND}",
        "version": VERSION,
        "digest": digest(figures),
        "settings": settings,
        "models": {
            name: {"digest": cards[name].weights_digest, "steps": cards[name].steps, "learned": column}
            for name, column in plan.learned.items()
        },
        "distortions": {column.name: dict(column.recipe) for column in plan.columns},
        "counts": {"images": len(plan.images), "too_small": plan.too_small},
        "pairs_digest": plan.pairs.metadata["digest"],
        "manifest_digest": plan.pairs.metadata["manifest_digest"],
        "packages": package_versions([backend_name(), "keras", "numpy", "opencv-python-headless", "scipy"]),
    }


def _remarks(plan: Plan, sweeps: Mapping[str, SeveritySweep]) -> Iterator[str]:
    """Yield the lines below the table in the terminal."""
    for name, sweep in sweeps.items():
        yield f"severity sweep of {name}: {sweep_text(sweep)}"
        if lacking := plan.sweeps[name].lacking:
            yield f"{lacking} learned level{'s' if lacking > 1 else ''} of {name} without pairs, not evaluated"
    if plan.too_small:
        yield f"{plan.too_small} images below {SMALLEST_SIDE_PX} px on a side were left out"


def _report(out: Path, figures: Mapping[str, Any], remarks: tuple[str, ...]) -> Report:
    jsd_nss = {f"jsd_nss_{name}": model["jsd_nss"] for name, model in figures["models"].items()}
    models = len(figures["models"])
    return Report(
        "evaluate",
        {"models": models, "images": figures["images"], "diagonal_dominant": figures["diagonal_dominant"], **jsd_nss},
        (
            f"JSD_NSS in bits, mean over {figures['images']} validation images:",
            *text_table(figures),
            f"diagonal-dominant: {figures['diagonal_dominant']} of {models} generators",
            *remarks,
            f"page: {out / 'index.html'}; table: {out / 'table.md'}; figures: {out / 'metrics.json'}",
        ),
    )
