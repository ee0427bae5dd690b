"""evaluate: compare every trained generator with the true distortions, on whole validation images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.config import EvaluateConfig
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.evaluations import (
    KIND,
    VERSION,
    EvaluatedModel,
    EvaluationMetadata,
    EvaluationMetrics,
    TrueDistortion,
    write_run,
)
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.metrics.c2st import C2ST, C2STReport, ImageTiles, tiles_of
from distort_pipeline.metrics.evaluation import SMALLEST_SIDE_PX, EvalImages, measure, summarise
from distort_pipeline.models.card import ModelCard, read_card
from distort_pipeline.models.store import model_folders
from distort_pipeline.process import Progress, track
from distort_pipeline.records import Image, ModelVerdict, Report, derive_seed, digest
from distort_pipeline.reports.evaluation import model_verdict, verdict, write_page, write_plots
from distort_pipeline.reports.evaluation_results import metrics, sweep_text, text_table, write_results
from distort_pipeline.reports.pages import compared_rows, write_side_by_side
from distort_pipeline.steps.evaluation_plan import Plan, images_of, load_generators, plan_of


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
        return _report(out, EvaluationMetrics.load(out), (f"{out} is already evaluated; nothing to do",))
    plan = plan_of(pairs, cards)
    with build.writing() as work:
        measured, tiles = [], []
        shown: dict[str, list[list[Image]]] = {}  # model → rows of images
        generators = load_generators(folders, threads=config.threads)
        images = images_of(plan, pairs, generators, draws=config.draws, seed=config.seed)
        for name, versions in track(images, total=len(plan.images), label="evaluate", unit="images"):
            measured.append(measure(name, versions, plan.learned))
            tiles.append(_tiles(name, versions, config, images=len(plan.images)))
            for model, row in compared_rows(versions, plan.learned).items():
                shown[model] = [*shown.get(model, ()), row][: config.side_by_side]
        evaluation = summarise(measured, [column.name for column in plan.columns], plan.learned, seed=config.seed)
        c2st = _classify(tiles, plan, config)
        metadata = _metadata(
            plan,
            pairs,
            cards,
            settings=settings,
            figures_digest=metrics(evaluation, c2st).save(work),
            verdicts={name: model_verdict(evaluation, c2st, name) for name in plan.learned},
        )
        write_results(work, evaluation, c2st)
        write_side_by_side(work, shown)
        write_plots(work, evaluation, c2st, models=folders)
        write_page(work, evaluation, c2st, metadata=metadata)
        write_run(work, time.monotonic() - started)
        build.publish(metadata.content())
    sweeps = [f"severity sweep of {name}: {sweep_text(sweep)}" for name, sweep in evaluation.sweeps.items()]
    return _report(out, EvaluationMetrics.load(out), (verdict(evaluation, c2st)[1], *sweeps, *_omissions(plan)))


def settings_of(config: EvaluateConfig, pairs: PairStore, cards: Mapping[str, ModelCard]) -> Mapping[str, Any]:
    """Return all settings and inputs with an effect on the figures, as plain values."""
    values = dataclasses.asdict(config)
    del values["threads"]  # without effect on the figures
    return {
        "format": KIND,
        "version": VERSION,
        "evaluate": values,
        "models": {name: card.weights_digest for name, card in cards.items()},
        "pairs_digest": pairs.metadata.digest,
    }


def _tiles(name: str, versions: EvalImages, config: EvaluateConfig, *, images: int) -> ImageTiles | None:
    """Return the tiles of an image for the two-sample tests: its share of all tiles, two or more."""
    if not config.c2st_steps:
        return None
    share = max(2, round(config.c2st_tiles / images))
    return tiles_of(versions, count=share, seed=derive_seed(config.seed, "sceptic", name))


def _classify(tiles: Sequence[ImageTiles | None], plan: Plan, config: EvaluateConfig) -> C2STReport | None:
    """Return the results of the two-sample tests and of TSTR; None without tiles."""
    images = [image for image in tiles if image is not None]
    if not images:
        return None
    c2st = C2ST(images, plan.learned, steps=config.c2st_steps, fold_count=config.c2st_folds, seed=config.seed)
    results = dict(track(c2st.results(), total=len(c2st.tested), label="C2ST", unit="generators"))
    with Progress(2, "TSTR", "of distortion and severity", 0) as progress:
        of_kind = c2st.tstr()
        progress.add(1)
        of_severity = c2st.severity_tstr()
        progress.add(1)
    return C2STReport(results, of_kind, of_severity)


def _metadata(
    plan: Plan,
    pairs: PairStore,
    cards: Mapping[str, ModelCard],
    *,
    settings: Mapping[str, Any],
    figures_digest: str,
    verdicts: Mapping[str, ModelVerdict],
) -> EvaluationMetadata:
    return EvaluationMetadata(
        digest=figures_digest,
        settings=settings,
        models={
            name: EvaluatedModel(cards[name].weights_digest, cards[name].origin, column, verdicts[name])
            for name, column in plan.learned.items()
        },
        distortions={
            column.name: TrueDistortion(column.distortion, column.level, column.parameters, column.external)
            for column in plan.columns
        },
        images=len(plan.images),
        too_small=plan.too_small,
        pairs_digest=pairs.metadata.digest,
        manifest_digest=pairs.metadata.manifest_digest,
    )


def _omissions(plan: Plan) -> Iterator[str]:
    """Yield a line for all levels of a model, and for all images, that were left out."""
    for name, sweep in plan.sweeps.items():
        if sweep.lacking:
            levels = "level" if sweep.lacking == 1 else "levels"
            yield f"{sweep.lacking} learned {levels} of {name} without pairs, not evaluated"
    if plan.too_small:
        yield f"{plan.too_small} images below {SMALLEST_SIDE_PX} px on a side were left out"


def _report(out: Path, figures: EvaluationMetrics, remarks: Sequence[str]) -> Report:
    models, dominant = len(figures.models), figures.diagonal_dominant
    jsd_nss = {f"jsd_nss_{name}": model.jsd_nss for name, model in figures.models.items()}
    return Report(
        "evaluate",
        {"models": models, "images": figures.images, "diagonal_dominant": dominant, **jsd_nss},
        (
            f"JSD_NSS in bits, mean over {figures.images} validation images:",
            *text_table(figures),
            f"diagonal-dominant: {dominant} of {models} generators",
            *remarks,
            f"page: {out / 'index.html'}; all figures: {out / 'results.csv'}; metrics: {out / 'metrics.json'}",
        ),
    )
