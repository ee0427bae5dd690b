"""train, for distortions that are known from pairs alone: a composed generator, see `training/learn.py`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from distort_pipeline.config import RUNTIME_ONLY, TrainConfig
from distort_pipeline.data.builds import StagedStore
from distort_pipeline.data.files import arrays_digest, to_json, write_json
from distort_pipeline.data.pairs import PairStore, Recipe
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import (
    COMPOSED,
    KIND,
    VERSION,
    LearningReport,
    ModelCard,
    NetworkCard,
    TrainingSettings,
)
from distort_pipeline.models.store import WEIGHTS, publish_model, write_arrays, write_histograms
from distort_pipeline.networks.backend import backend_name, pin_backend_threads
from distort_pipeline.networks.composed import ComposedGenerator, ComposedPredictor
from distort_pipeline.networks.patches import GRID_PX, PairPatch, by_image, value_ranks
from distort_pipeline.networks.saved import composed_levels, levels_arrays
from distort_pipeline.records import Report, derive_seed, digest, package_versions
from distort_pipeline.training.learn import LearnData, LearnSettings, NotBetterThanIdentity, learn
from distort_pipeline.training.validation import Validator, learned_levels, mean_figures, training_data

HELD_EVERY, MOST_HELD = 6, 8  # of the training images, every sixth chooses stages and is not fitted to
WHOLE_IMAGES = 8  # of the validation split, for codecs: they alone are stored whole
LEAST_PAIRS = 4
CHECKPOINTS = "checkpoints"


def run_composed(config: TrainConfig, pairs: PairStore, recipes: Sequence[Recipe], out: Path) -> Report:
    """Learn a composed generator for each level of `recipes`, and leave them in the folder `out` as one model."""
    started = time.monotonic()
    distortion, levels = recipes[0].distortion, [recipe.level for recipe in recipes]
    _require_same_validation_images(pairs, distortion, levels)
    learning_settings = learn_settings(config, distortion, levels=len(levels))
    settings = TrainingSettings(
        format=KIND,
        version=VERSION,
        distortion=distortion,
        train={
            "kind": COMPOSED,
            "seed": config.seed,
            "levels": levels,
            "crop_align": GRID_PX,
            **{
                name: value for name, value in dataclasses.asdict(learning_settings).items() if name not in RUNTIME_ONLY
            },
        },
        pairs_digest=pairs.metadata.digest,
        init_from=None,
    )
    build = StagedStore(out, digest(to_json(settings)), staging_dir=(CHECKPOINTS,))
    if build.complete():
        return Report("train", {"steps": 0}, (f"{out} is already trained; nothing to do",))
    with build.writing() as work:
        pin_backend_threads(config.threads)
        folders = {level: work / CHECKPOINTS / f"level-{level}" if len(levels) > 1 else work for level in levels}
        learned = [
            learn_level(pairs, distortion, level, learning_settings, folder, keep_anyway=config.keep_anyway)
            for level, folder in folders.items()
        ]
        arrays, described = levels_arrays([generator for generator, _ in learned])
        predictor = ComposedPredictor(composed_levels(arrays, described), batch_size=1)
        validator = Validator(pairs, distortion, levels, predictor, count=config.validation_tiles, seed=config.seed)
        validator.along(0, work / "side_by_side")
        figures, histograms = validator.final()
        write_arrays(work / WEIGHTS, arrays)
        write_histograms(work, histograms)
        seconds = time.monotonic() - started
        write_json(work / "run.json", {"seconds": round(seconds, 1), "cpu_seconds": round(time.process_time(), 1)})
        steps = sum(learning.adversarial_steps for _, learning in learned)
        card = ModelCard(
            distortion=distortion,
            external=recipes[0].external,
            data=training_data(pairs, distortion),
            levels=learned_levels(recipes, figures),
            network=NetworkCard(
                0, int(any(generator.random for generator, _ in learned)), kind=COMPOSED, parts=tuple(described)
            ),
            explained={},
            settings=settings,
            steps=steps,
            kept_step=steps,
            figures=mean_figures(figures),
            calibration=validator.calibration(),
            weights_digest=arrays_digest(arrays),
            device="CPU",
            packages=package_versions([backend_name(), "keras", "numpy", "pillow", "distort-pipeline"]),
            learning=tuple(learning for _, learning in learned),
        )
        publish_model(build, card)
    scores = card.figures
    several = f"; mean over {len(levels)} levels" if card.is_multi_level else ""
    return Report(
        "train",
        {"steps": card.steps, "seconds": round(seconds, 1), **dataclasses.asdict(scores)},
        (
            f"{distortion}: JSD_NSS {scores.jsd_nss:.4f} bits on validation images "
            f"(the identity baseline scores {scores.jsd_nss_pristine:.4f}){several}",
            f"model: {out}",
        ),
    )


def learn_level(
    pairs: PairStore, distortion: str, level: int, settings: LearnSettings, folder: Path, *, keep_anyway: bool
) -> tuple[ComposedGenerator, LearningReport]:
    """Return the generator of a level and how it was learned; PipelineError if the identity baseline is better."""
    try:
        with threadpool_limits(1, user_api="blas"):  # its threads wait for each other, and for TensorFlow's
            return learn(learn_data(pairs, distortion, level), settings, folder, keep_anyway=keep_anyway)
    except NotBetterThanIdentity as error:
        name = distortion if len(pairs.levels(distortion)) == 1 else f"{distortion}, level {level}"
        raise PipelineError(f"{name}: {error}") from None


def _require_same_validation_images(pairs: PairStore, distortion: str, levels: Sequence[int]) -> None:
    """Raise PipelineError if a validation image lacks a level: the levels are compared on the same tiles."""
    images = {
        level: {r.image for r in pairs.records("val") if (r.distortion, r.level) == (distortion, level)}
        for level in levels
    }
    everywhere = set.intersection(*images.values())
    for level, names in images.items():
        if lacking := sorted(set().union(*images.values()) - names):
            raise PipelineError(
                f"the validation image {lacking[0]} has no partner at level {level} of {distortion}: give it one, or "
                f"leave the image out; {len(everywhere)} images have all levels"
            )


def learn_settings(config: TrainConfig, distortion: str, *, levels: int) -> LearnSettings:
    """Return how long to learn a level: a share of the minutes, or steps if these are set.

    Without adversarial weight, no adversarial steps.
    """
    settings = LearnSettings(seed=derive_seed(config.seed, distortion) % 2**31)
    settings = dataclasses.replace(settings, minutes=(config.minutes or LearnSettings.minutes or 0) / levels)
    if config.minutes is None and config.external_steps is not None:
        steps = config.external_steps
        mean_steps = min(settings.mean_steps, steps) if config.mean_steps is None else config.mean_steps
        settings = dataclasses.replace(settings, minutes=None, adversarial_steps=steps, mean_steps=mean_steps)
    return settings if config.adversarial_weight else dataclasses.replace(settings, adversarial_steps=0)


def training_patches(pairs: PairStore, distortion: str, level: int) -> list[PairPatch]:
    """Return the training tiles of `distortion` at `level` as patches, images numbered from 0."""
    records = pairs.records("train")
    indices = [i for i, record in enumerate(records) if (record.distortion, record.level) == (distortion, level)]
    numbers = {name: number for number, name in enumerate(sorted({records[index].image for index in indices}))}
    patches = []
    for index in indices:
        record, pair = records[index], pairs[index]
        facts = json.loads(record.facts)
        # stores of older versions do not say the image's sides: then the tile is taken for the image
        height, width = facts.get("image_height", record.height), facts.get("image_width", record.width)
        image = numbers[record.image]
        patches.append(PairPatch(pair.pristine, pair.distorted, image, record.y, record.x, height, width))
    ranks = {image: value_ranks([patch.pristine for patch in own]) for image, own in by_image(patches)}
    return [dataclasses.replace(patch, ranks=ranks[patch.image]) for patch in patches]


def learn_data(pairs: PairStore, distortion: str, level: int) -> LearnData:
    """Return the training tiles of `distortion` at `level`, to fit to and to choose by, and whole validation images."""
    patches = training_patches(pairs, distortion, level)
    images = 1 + max((patch.image for patch in patches), default=-1)
    if images < LEAST_PAIRS:
        raise PipelineError(f"{images} training pairs of {distortion}; learning needs {LEAST_PAIRS} or more")
    held = list(range(HELD_EVERY - 1, images, HELD_EVERY))[:MOST_HELD] or [images - 1]
    numbers = {image: number for number, image in enumerate(n for n in range(images) if n not in held)}
    fitted = [dataclasses.replace(p, image=numbers[p.image]) for p in patches if p.image in numbers]
    whole = [(pristine, distorted) for _, pristine, distorted in pairs.validation(distortion, level)]
    if not whole:
        raise PipelineError(f"{pairs.folder} holds no validation image of {distortion} at level {level}")
    chosen = np.unique(np.linspace(0, len(whole) - 1, min(WHOLE_IMAGES, len(whole))).astype(int))
    print(f"{distortion}: {len(numbers)} images to fit to, {len(held)} to choose stages by", file=sys.stderr)
    return LearnData(fitted, [p for p in patches if p.image in held], [whole[n] for n in chosen])
