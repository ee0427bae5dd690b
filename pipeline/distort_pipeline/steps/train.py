"""train: train one generator on one distortion of a pair store."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distort_pipeline.config import TrainConfig
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.files import write_json
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import KIND, VERSION, Figures, ModelCard, NetworkCard, TrainingSettings, read_card
from distort_pipeline.models.readme import GREY
from distort_pipeline.models.store import (
    WEIGHTS,
    ValidationHistograms,
    arrays_digest,
    assign_weights,
    publish_model,
    weights_of,
    write_arrays,
    write_histograms,
)
from distort_pipeline.networks.backend import backend_name, pin_backend_threads
from distort_pipeline.records import TILE_ALIGN_PX, Report, derive_seed, digest
from distort_pipeline.steps.train_composed import is_external, run_composed
from distort_pipeline.training.crops import Crops
from distort_pipeline.training.init import (
    learned_recipes,
    require_better_than_identity,
    require_same_networks,
    resolve_noise_channels,
    resolve_warmup_steps,
)
from distort_pipeline.training.loop import TIMED_STEPS, BestWeights, seconds_per_step, stored_steps
from distort_pipeline.training.validation import Validator, learned_levels, mean_figures, training_data
from distort_pipeline.versions import package_versions

if TYPE_CHECKING:
    from distort_pipeline.training.init import Initialization

FITTED_LAYERS = (
    "coefficient_curves",
    "noise_pyramid",
)  # their names in networks.generator, which would import Keras here


@dataclass(frozen=True)
class _Trained:
    """The result of a training: the first step of this run, the step of the selected weights, and their figures."""

    first: int
    selected: int
    figures: list[Figures]  # of each level, weakest first, as the histograms
    histograms: list[ValidationHistograms]
    calibration: dict[str, list[float]] | None  # of several levels


def run(config: TrainConfig, pairs_path: Path, out: Path, *, distortion: str, init_from: Path | None = None) -> Report:
    """Write the trained generator of `distortion` to the folder `out`; an interrupted training continues.

    `init_from` is a trained model of the same networks. Without a model, the initialization is fitted to the pairs and
    all other weights are random.
    """
    started = time.monotonic()
    require_destination(out)
    pairs = open_pairs(pairs_path)
    recipes = learned_recipes(pairs, distortion, config.levels)
    if init_from is None and is_external(recipes):
        return run_composed(config, pairs, recipes, out)
    levels = [int(recipe["level"]) for recipe in recipes]
    noise_channels = resolve_noise_channels(config.noise_channels, distortion, init_from)
    if init_from is not None:
        require_same_networks(
            init_from,
            base_filters=config.base_filters,
            noise_channels=noise_channels,
            codec_prior=config.codec_prior,
            crop_align=config.crop_align,
        )
    settings = {
        "format": KIND,
        "version": VERSION,
        "distortion": distortion,
        "train": {**_content_settings(config), "noise_channels": noise_channels, "levels": levels},
        "pairs_digest": pairs.metadata["digest"],
        "init_from": read_card(init_from).weights_digest if init_from else None,
    }
    # checkpoints hold the whole state of the optimisers: no part of the model
    build = StagedStore(out, digest(settings), staging_dir=("checkpoints",))
    if build.complete():
        return Report("train", {"steps": config.steps}, (f"{out} is already trained; nothing to do",))
    with build.writing() as work:
        pin_backend_threads(config.threads)
        init = _init(config, pairs, distortion, recipes, work, noise_channels, init_from)
        if config.minutes is not None:
            config = _within_minutes(config, pairs, distortion, levels, noise_channels, init, work)
        trainer, device = _trainer(config, distortion, noise_channels, len(levels), init)
        select_checkpoint = config.select_checkpoint or ("best" if init.fitted else "last")
        trained = _train(config, pairs, distortion, levels, trainer, work, noise_channels, select_checkpoint)
        figures = mean_figures(trained.figures)
        if config.steps == 0:
            require_better_than_identity(distortion, figures)
        has_unet = trained.selected > 0 or not init.unet_is_zero  # else a residual of 0 was the best
        weights = weights_of(trainer.ema_generator)
        if not has_unet:
            weights = {path: array for path, array in weights.items() if path.split("/")[0] in FITTED_LAYERS}
        write_arrays(work / WEIGHTS, weights)
        write_histograms(work, trained.histograms)
        seconds = time.monotonic() - started
        speed = {"seconds": round(seconds, 1), "steps_now": config.steps - trained.first, "device": device}
        write_json(work / "run.json", speed)
        card = ModelCard(
            distortion=distortion,
            external=recipes[0]["external"],
            data=training_data(pairs, distortion),
            levels=learned_levels(recipes, trained.figures, trained.histograms, seed=config.seed),
            network=NetworkCard(
                base_filters=config.base_filters if has_unet else 0,
                noise_channels=noise_channels,
                codec_prior=init.codec_prior,
                noise_pyramid=init.noise is not None,
                image_stats=init.image_stats,
            ),
            explained=dict(init.explained or {}),
            settings=TrainingSettings(**settings),
            steps=config.steps,
            kept_step=trained.selected,
            figures=figures,
            weights_digest=arrays_digest(weights),
            device=device,
            packages=package_versions([backend_name(), "keras", "numpy", "distort-pipeline"]),
            calibration=trained.calibration,
        )
        publish_model(build, card)
    return Report(
        "train",
        {"steps": config.steps, "seconds": round(seconds, 1), **dataclasses.asdict(figures)},
        (
            f"{distortion}: JSD_NSS {figures.jsd_nss:.4f} bits on validation images after {config.steps} steps "
            f"(the identity baseline scores {figures.jsd_nss_pristine:.4f})"
            + (f"; mean over {len(levels)} levels" if len(levels) > 1 else ""),
            f"model: {out}",
            *(
                [f"warning: {GREY} Train on colour photographs for use on colour photographs."]
                if card.data.grey
                else []
            ),
        ),
    )


def _content_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings with an effect on the weights: a training may continue with other threads."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "threads"}


def _init(
    config: TrainConfig,
    pairs: PairStore,
    distortion: str,
    recipes: Sequence[Mapping[str, Any]],
    work: Path,
    noise_channels: int,
    init_from: Path | None,
) -> Initialization:
    """Return the initialization of G; PipelineError without training steps and without a fit."""
    from distort_pipeline.training.init import fit_init, load_init

    if init_from is not None:
        return load_init(init_from, [recipe["parameters"] for recipe in recipes])
    codec_prior = config.codec_prior
    if config.crop_align != TILE_ALIGN_PX:
        codec_prior = "none"  # with other alignments the blocks of codecs shift from crop to crop
    init = fit_init(
        pairs,
        distortion,
        [int(recipe["level"]) for recipe in recipes],
        work / "checkpoints" / "start",
        codec_prior=codec_prior,
        noise_channels=noise_channels,
        least_px=config.crop_px,
    )
    if init.explained:
        shares = ", ".join(f"{share:.2f} by {name}" for name, share in init.explained.items())
        print(f"{distortion}: coefficient curves of {init.codec_prior}; explained {shares}", file=sys.stderr)
    if config.steps == 0 and not init.fitted:
        raise PipelineError(
            f"train.steps is 0, but least squares cannot fit {distortion}: adversarial steps are necessary"
        )
    return init


def _trainer(
    config: TrainConfig, distortion: str, noise_channels: int, levels: int, init: Initialization
) -> tuple[Any, str]:
    """Return the trainer with its initialization, and the description of its device."""
    from distort_pipeline.training.gan import GANConfig, make_trainer

    common = {field.name for field in dataclasses.fields(GANConfig)} & {
        field.name for field in dataclasses.fields(config)
    }
    values = {name: getattr(config, name) for name in common}
    resolved = {
        "levels": levels,
        "noise_channels": noise_channels,
        "codec_prior": init.codec_prior,
        "noise_pyramid": init.noise is not None,
        "discriminator_warmup_steps": resolve_warmup_steps(
            config.discriminator_warmup_steps,
            steps=config.steps,
            adversarial=config.adversarial_weight > 0,
            fitted=init.fitted,
        ),
        "seed": derive_seed(config.seed, distortion) % 2**31,
    }
    if config.steps == 0 and init.unet_is_zero:
        resolved["base_filters"] = 0  # a U-Net of zeros would take nine tenths of the validation's time
    trainer, device = make_trainer(GANConfig(**{**values, **resolved}))
    if init.model is not None:
        for network in (trainer.generator, trainer.ema_generator):
            assign_weights(network, init.model)
    if init.coefficient_curves:
        trainer.load_curves(init.coefficient_curves)
    if init.noise is not None:
        trainer.load_noise(init.noise)
    return trainer, device


def _within_minutes(
    config: TrainConfig,
    pairs: PairStore,
    distortion: str,
    levels: Sequence[int],
    noise_channels: int,
    init: Initialization,
    work: Path,
) -> TrainConfig:
    """Return `config` with as many steps as fit into its minutes; they are stored before the first."""

    def plan() -> dict[str, int]:
        trainer, device = _trainer(config, distortion, noise_channels, len(levels), init)
        with closing(_crops(config, pairs, distortion, levels).prefetch(0, TIMED_STEPS + 1)) as batches:
            seconds = seconds_per_step(
                lambda number: float(next(iter(trainer.step(*next(batches).inputs, number).values()))),
                gpu="GPU" in device,
            )
        assert config.minutes is not None
        return {"steps": max(int(60 * config.minutes / seconds), 1)}

    return dataclasses.replace(config, steps=stored_steps(work / "checkpoints", plan)["steps"])


def _crops(config: TrainConfig, pairs: PairStore, distortion: str, levels: Sequence[int]) -> Crops:
    return Crops(
        pairs,
        distortion,
        levels,
        crop_px=config.crop_px,
        crop_align=config.crop_align,
        batch_size=config.batch_size,
        seed=derive_seed(config.seed, distortion),
    )


def _train(
    config: TrainConfig,
    pairs: PairStore,
    distortion: str,
    levels: Sequence[int],
    trainer: Any,
    work: Path,
    noise_channels: int,
    select_checkpoint: str,
) -> _Trained:
    """Return the result of the training; the EMA generator has the selected weights."""
    from distort_pipeline.networks.codec_prior import is_scaled
    from distort_pipeline.networks.predictor import Predictor
    from distort_pipeline.training.loop import train

    crops = _crops(config, pairs, distortion, levels)
    best = BestWeights(work / "checkpoints" / "best")
    predictor = Predictor(
        trainer.ema_generator,
        noise_channels=noise_channels,
        batch_size=config.batch_size,
        multi_level=len(levels) > 1,
        image_stats=is_scaled(trainer.settings.codec_prior),
    )
    validator = Validator(pairs, distortion, levels, predictor, count=config.validation_tiles, seed=config.seed)

    def validate(step: int) -> Mapping[str, float]:
        figures = validator.along(step, work / "side_by_side")
        if select_checkpoint == "best":
            best.offer(step, figures.jsd_nss, lambda: weights_of(trainer.ema_generator))
        print(
            f"{distortion}, step {step}: JSD_NSS {figures.jsd_nss:.4f} bits (pristine {figures.jsd_nss_pristine:.4f})",
            file=sys.stderr,
        )
        return dataclasses.asdict(figures)

    first = train(
        trainer,
        crops,
        work,
        label=f"train {distortion}",
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
        validate_every=config.validate_every,
        validate=validate,
    )
    selected = config.steps
    if select_checkpoint == "best":
        selected = best.step()
        assign_weights(trainer.ema_generator, best.weights())
    return _Trained(first, selected, *validator.final(), validator.calibration())
