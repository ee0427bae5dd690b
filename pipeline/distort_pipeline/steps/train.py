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

from distort_pipeline.config import RUNTIME_ONLY, TrainConfig
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.files import arrays_digest, write_json
from distort_pipeline.data.pairs import PairStore, Recipe, open_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import KIND, VERSION, Figures, ModelCard, NetworkCard, TrainingSettings, read_card
from distort_pipeline.models.readme import GREY
from distort_pipeline.models.store import (
    WEIGHTS,
    ValidationHistograms,
    assign_weights,
    publish_model,
    weights_of,
    write_arrays,
    write_histograms,
)
from distort_pipeline.networks.backend import backend_name, pin_backend_threads
from distort_pipeline.records import TILE_ALIGN_PX, Report, derive_seed, digest, package_versions
from distort_pipeline.training.crops import Crops
from distort_pipeline.training.init import (
    Initialization,
    fit_init,
    learned_recipes,
    load_init,
    require_better_than_identity,
    require_same_networks,
    resolve_noise_channels,
    resolve_warmup_steps,
)
from distort_pipeline.training.loop import TIMED_STEPS, BestWeights, Schedule, seconds_per_step, stored_steps, train
from distort_pipeline.training.validation import Validator, learned_levels, level_scale, mean_figures, training_data

if TYPE_CHECKING:
    from distort_pipeline.training.gan import GANTrainer

FITTED_LAYERS = ("coefficient_curves", "noise_pyramid")  # as in networks.generator


def run(config: TrainConfig, pairs_path: Path, out: Path, *, distortion: str, init_from: Path | None = None) -> Report:
    """Write the trained generator of `distortion` to the folder `out`; an interrupted training continues.

    `init_from` is a trained model of the same networks. Without a model, the initialization is fitted to the pairs and
    all other weights are random.
    """
    started = time.monotonic()
    require_destination(out)
    pairs = open_pairs(pairs_path)
    recipes = learned_recipes(pairs, distortion, config.levels)
    if init_from is None and any(recipe.external for recipe in recipes):  # no algorithm is known
        from distort_pipeline.steps.train_composed import run_composed

        return run_composed(config, pairs, recipes, out)
    if config.steps and config.adversarial_weight == config.pixel_weight == 0:
        raise PipelineError("train.adversarial_weight and train.pixel_weight are both 0: the generator needs a loss")
    noise_channels = resolve_noise_channels(config.noise_channels, distortion, init_from)
    training = _Training(config, pairs, distortion, recipes, noise_channels)
    settings = training.settings(init_from)
    # checkpoints hold the whole state of the optimisers: no part of the model
    build = StagedStore(out, digest(dataclasses.asdict(settings)), staging_dir=("checkpoints",))
    if build.complete():
        return Report("train", {"steps": config.steps}, (f"{out} is already trained; nothing to do",))
    with build.writing() as work:
        init = training.initialization(init_from, work / "checkpoints")
        pin_backend_threads(config.threads)  # which starts TensorFlow: the fits need none
        if config.minutes is not None:
            training = training.within_minutes(config.minutes, init, work / "checkpoints")
        trainer, device = training.trainer(init)
        trained = training.train(trainer, work, config.select_checkpoint or ("best" if init.fitted else "last"))
        card, weights = training.result(trainer, trained, init, settings=settings, device=device)
        write_arrays(work / WEIGHTS, weights)
        write_histograms(work, trained.histograms)
        seconds = round(time.monotonic() - started, 1)
        write_json(work / "run.json", {"seconds": seconds, "steps_now": card.steps - trained.first, "device": device})
        publish_model(build, card)
    figures = card.figures
    score = (
        f"{distortion}: JSD_NSS {figures.jsd_nss:.4f} bits on validation images after {card.steps} steps "
        f"(the identity baseline scores {figures.jsd_nss_pristine:.4f})"
    )
    several = f"; mean over {len(card.levels)} levels" if card.is_multi_level else ""
    grey = f"warning: {GREY} Train on colour photographs for use on colour photographs."
    counts = {"steps": card.steps, "seconds": seconds, **dataclasses.asdict(figures)}
    return Report("train", counts, (score + several, f"model: {out}", *([grey] if card.data.grey else [])))


@dataclass(frozen=True)
class _Trained:
    """The result of a training: the first step of this run, the step of the selected weights, and their figures."""

    first: int
    selected: int
    figures: list[Figures]  # of each level, weakest first, as the histograms
    histograms: list[ValidationHistograms]
    calibration: dict[str, list[float]] | None  # of several levels


@dataclass(frozen=True)
class _Training:
    """A training of a generator on a distortion of a pair store."""

    config: TrainConfig
    pairs: PairStore
    distortion: str
    recipes: Sequence[Recipe]  # of the levels, weakest first
    noise_channels: int

    @property
    def levels(self) -> list[int]:
        """The numbers of the levels in the pair store."""
        return [recipe.level for recipe in self.recipes]

    def settings(self, init_from: Path | None) -> TrainingSettings:
        """Return all settings with an effect on the weights; PipelineError if `init_from` has other networks."""
        config = self.config
        if init_from is not None:
            require_same_networks(
                init_from,
                base_filters=config.base_filters,
                noise_channels=self.noise_channels,
                codec_prior=config.codec_prior,
                crop_align=config.crop_align,
            )
        decisive = {name: value for name, value in dataclasses.asdict(config).items() if name not in RUNTIME_ONLY}
        train = {**decisive, "noise_channels": self.noise_channels, "levels": self.levels}
        del train["threads"]  # a training may continue with other threads
        return TrainingSettings(
            format=KIND,
            version=VERSION,
            distortion=self.distortion,
            train=train,
            pairs_digest=self.pairs.metadata.digest,
            init_from=read_card(init_from).weights_digest if init_from else None,
        )

    def initialization(self, init_from: Path | None, folder: Path) -> Initialization:
        """Return the initialization of G; PipelineError without training steps and without a fit."""
        if init_from is not None:
            return load_init(init_from, [recipe.parameters for recipe in self.recipes])
        codec_prior = self.config.codec_prior
        if self.config.crop_align != TILE_ALIGN_PX:
            codec_prior = "none"  # with other alignments the blocks of codecs shift from crop to crop
        init = fit_init(
            self.pairs,
            self.distortion,
            self.levels,
            folder / "start",
            codec_prior=codec_prior,
            noise_channels=self.noise_channels,
            least_px=self.config.crop_px,
        )
        if init.explained:
            shares = ", ".join(f"{share:.2f} by {name}" for name, share in init.explained.items())
            print(f"{self.distortion}: coefficient curves of {init.codec_prior}; explained {shares}", file=sys.stderr)
        if self.config.steps == 0 and not init.fitted:
            raise PipelineError(
                f"train.steps is 0, but least squares cannot fit {self.distortion}: adversarial steps are necessary"
            )
        return init

    def within_minutes(self, minutes: float, init: Initialization, folder: Path) -> _Training:
        """Return this training with as many steps as fit into `minutes`; they are stored before the first."""

        def plan() -> dict[str, int]:
            trainer, device = self.trainer(init)
            with closing(self.crops().prefetch(0, TIMED_STEPS + 1)) as batches:
                seconds = seconds_per_step(
                    lambda number: float(next(iter(trainer.step(*next(batches).inputs, number).values()))),
                    gpu="GPU" in device,
                )
            return {"steps": max(int(60 * minutes / seconds), 1)}

        steps = stored_steps(folder, plan)["steps"]
        return dataclasses.replace(self, config=dataclasses.replace(self.config, steps=steps))

    def trainer(self, init: Initialization) -> tuple[Any, str]:
        """Return the trainer with its initialization, and the description of its device."""
        from distort_pipeline.training.gan import GANConfig, make_trainer

        config = self.config
        names = {field.name for field in dataclasses.fields(GANConfig)} & set(vars(config))
        resolved = {
            "levels": len(self.levels),
            "noise_channels": self.noise_channels,
            "codec_prior": init.codec_prior,
            "noise_pyramid": init.noise is not None,
            "discriminator_warmup_steps": resolve_warmup_steps(
                config.discriminator_warmup_steps,
                steps=config.steps,
                adversarial=config.adversarial_weight > 0,
                fitted=init.fitted,
            ),
            "seed": derive_seed(config.seed, self.distortion) % 2**31,
        }
        if config.steps == 0 and init.unet_is_zero:
            resolved["base_filters"] = 0  # a U-Net of zeros would take nine tenths of the validation's time
        trainer, device = make_trainer(GANConfig(**{**{name: getattr(config, name) for name in names}, **resolved}))
        if init.model is not None:
            for network in (trainer.generator, trainer.ema_generator):
                assign_weights(network, init.model)
        if init.coefficient_curves:
            trainer.load_curves(init.coefficient_curves)
        if init.noise is not None:
            trainer.load_noise(init.noise)
        return trainer, device

    def crops(self) -> Crops:
        """Return the training crops."""
        config, seed = self.config, derive_seed(self.config.seed, self.distortion)
        sizes = {"crop_px": config.crop_px, "crop_align": config.crop_align, "batch_size": config.batch_size}
        return Crops(self.pairs, self.distortion, self.levels, **sizes, seed=seed)

    def train(self, trainer: Any, work: Path, select_checkpoint: str) -> _Trained:
        """Return the result of the training; the EMA generator has the selected weights."""
        from distort_pipeline.networks.codec_prior import is_scaled
        from distort_pipeline.networks.predictor import Predictor

        config, distortion, crops = self.config, self.distortion, self.crops()
        best = BestWeights(work / "checkpoints" / "best")
        predictor = Predictor(
            trainer.ema_generator,
            noise_channels=self.noise_channels,
            batch_size=config.batch_size,
            multi_level=len(self.levels) > 1,
            image_stats=is_scaled(trainer.settings.codec_prior),
            position_at=level_scale(self.recipes).position_at,
        )
        validator = Validator(
            self.pairs, distortion, self.levels, predictor, count=config.validation_tiles, seed=config.seed
        )

        def validate(step: int) -> Mapping[str, float]:
            figures = validator.along(step, work / "side_by_side")
            if select_checkpoint == "best":
                best.offer(step, figures.jsd_nss, lambda: weights_of(trainer.ema_generator))
            print(
                f"{distortion}, step {step}: JSD_NSS {figures.jsd_nss:.4f} bits "
                f"(pristine {figures.jsd_nss_pristine:.4f})",
                file=sys.stderr,
            )
            return dataclasses.asdict(figures)

        schedule = Schedule(
            f"train {distortion}", config.steps, config.checkpoint_every, config.validate_every, config.loggers
        )
        first = train(trainer, crops, work, schedule, validate=validate)
        selected = config.steps
        if select_checkpoint == "best":
            selected = best.step()
            assign_weights(trainer.ema_generator, best.weights())
        return _Trained(first, selected, *validator.final(), validator.calibration())

    def result(
        self, trainer: GANTrainer, trained: _Trained, init: Initialization, *, settings: TrainingSettings, device: str
    ) -> tuple[ModelCard, dict[str, Any]]:
        """Return the card and the weights; PipelineError if a fit without steps is no better than the identity."""
        figures, weights = mean_figures(trained.figures), weights_of(trainer.ema_generator)
        if self.config.steps == 0:
            require_better_than_identity(self.distortion, figures)
        has_unet = trained.selected > 0 or not init.unet_is_zero  # else a residual of 0 was the best
        if not has_unet:
            weights = {path: array for path, array in weights.items() if path.split("/")[0] in FITTED_LAYERS}
        card = ModelCard(
            distortion=self.distortion,
            external=self.recipes[0].external,
            data=training_data(self.pairs, self.distortion),
            levels=learned_levels(self.recipes, trained.figures),
            network=NetworkCard(
                base_filters=self.config.base_filters if has_unet else 0,
                noise_channels=self.noise_channels,
                codec_prior=init.codec_prior,
                noise_pyramid=init.noise is not None,
                image_stats=init.image_stats,
            ),
            explained=dict(init.explained or {}),
            settings=settings,
            steps=self.config.steps,
            kept_step=trained.selected,
            figures=figures,
            weights_digest=arrays_digest(weights),
            device=device,
            packages=package_versions([backend_name(), "keras", "numpy", "distort-pipeline"]),
            calibration=trained.calibration,
        )
        return card, weights
