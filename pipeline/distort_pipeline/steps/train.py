"""train: teach one generator one distortion from the shards of a pair store."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distort_pipeline.backend import backend_name, pin_backend_threads
from distort_pipeline.config import TrainConfig
from distort_pipeline.distortions import DISTORTIONS, is_random
from distort_pipeline.errors import PipelineError
from distort_pipeline.planning.tiles import TILE_ALIGN_PX
from distort_pipeline.records import Report, digest
from distort_pipeline.reports.model_card import card_text
from distort_pipeline.seeds import derive_seed
from distort_pipeline.stores.builds import Build
from distort_pipeline.stores.files import write_bytes, write_json
from distort_pipeline.stores.models import (
    KIND,
    VERSION,
    WEIGHTS,
    ValidationHistograms,
    arrays_digest,
    read_card,
    write_arrays,
    write_histograms,
)
from distort_pipeline.stores.pairs import PairStore, open_pairs
from distort_pipeline.stores.pictures import encode_png
from distort_pipeline.trained import assign_weights, weights_of
from distort_pipeline.training.best import BestWeights
from distort_pipeline.training.calibration import calibrate
from distort_pipeline.training.card import origin, told_levels
from distort_pipeline.training.crops import Crops
from distort_pipeline.training.validation import (
    ValidationTiles,
    strength_db,
    summary,
    validation_strip,
    validation_tiles,
)
from distort_pipeline.versions import package_versions

if TYPE_CHECKING:
    from distort_pipeline.training.start import Start

Figures = dict[str, float]
LONGEST_HEAD_START = 500
FITTED_LAYERS = ("responses", "noise_pyramid")  # their names in networks.generator, which would import Keras here
NOISE_CHANNELS = 3  # of a noise type: one for each colour, so that they can be independent
FINAL_TILES = 8  # times the tiles of a validation along the way


@dataclass(frozen=True)
class _Trained:
    """What a training came to: its first step of this run, the step whose weights are kept, and what these score."""

    first: int
    kept: int
    figures: list[Figures]  # of each level, weakest first, and so below
    histograms: list[ValidationHistograms]
    calibration: dict[str, list[float]] | None  # of several levels


def run(config: TrainConfig, pairs_path: Path, out: Path, *, distortion: str, base: Path | None = None) -> Report:
    """Train the generator of `distortion` and leave it in the folder `out`; an interrupted training goes on.

    `base` is a trained model of the same networks to start from: nothing is fitted then. Without it, the start is
    fitted to the pairs, and all other weights are random.
    """
    started = time.monotonic()
    pairs = open_pairs(pairs_path)
    recipes = learned_recipes(pairs, distortion, config.levels)
    levels = [int(recipe["level"]) for recipe in recipes]
    noise_channels = settled_noise_channels(config, distortion, base)
    if base is not None:
        _require_same_networks(config, noise_channels, base)
    settings = {
        "format": KIND,
        "version": VERSION,
        "distortion": distortion,
        "train": {**dataclasses.asdict(config), "noise_channels": noise_channels, "levels": levels},
        "pairs_digest": pairs.header["digest"],
        "base": read_card(base)["weights_digest"] if base else None,
    }
    # checkpoints are the whole state of the optimisers: of use only on the way here
    build = Build(out, digest(settings), on_the_way=("checkpoints",))
    if build.complete():
        return Report("train", {"steps": config.steps}, (f"{out} is already trained; nothing to do",))
    with build.writing() as work:
        pin_backend_threads(config.threads)
        start = _start(config, pairs, distortion, recipes, work, noise_channels, base)
        seed = derive_seed(config.seed, distortion)
        trainer, device = _trainer(config, noise_channels, len(levels), start, seed)
        keep = config.keep or ("best" if start.fitted else "last")
        trained = _train(config, pairs, distortion, levels, trainer, work, noise_channels, keep)
        figures = mean_figures(trained.figures)
        if config.steps == 0 and figures["jsd_nss"] >= figures["jsd_nss_pristine"]:
            raise PipelineError(
                f"what least squares say of {distortion} scores {figures['jsd_nss']:.4f} bits, doing nothing "
                f"{figures['jsd_nss_pristine']:.4f}: with train.steps 0 there is nothing to gain; it takes adversarial "
                "steps, or other train.noise_channels"
            )
        residual = trained.kept > 0 or not start.untaught  # else no step was better than a residual of 0
        weights = weights_of(trainer.averaged)
        if not residual:
            weights = {path: array for path, array in weights.items() if path.split("/")[0] in FITTED_LAYERS}
        write_arrays(work / WEIGHTS, weights)
        write_histograms(work, trained.histograms)
        seconds = time.monotonic() - started
        write_json(
            work / "run.json",
            {"seconds": round(seconds, 1), "steps_now": config.steps - trained.first, "device": device},
        )
        network = {
            "base_filters": config.base_filters if residual else 0,
            "noise_channels": noise_channels,
            "transform": start.transform,
            "noise_pyramid": start.noise is not None,
        }
        card = {
            **origin(pairs, recipes),
            "levels": told_levels(recipes, trained.figures, trained.histograms, seed=config.seed),
            "network": network,
            "explained": dict(start.explained or {}),
            "settings": settings,
            "steps": config.steps,
            "kept_step": trained.kept,
            "figures": figures,
            **({"calibration": trained.calibration} if trained.calibration else {}),
            "weights_digest": arrays_digest(weights),
            "device": device,
            "packages": package_versions([backend_name(), "keras", "numpy", "distort-pipeline"]),
        }
        write_bytes(work / "README.md", card_text(card).encode())
        build.publish(card)
    return Report(
        "train",
        {"steps": config.steps, "seconds": round(seconds, 1), **figures},
        (
            f"{distortion}: JSD_NSS {figures['jsd_nss']:.4f} bits on validation pictures after {config.steps} steps "
            f"(doing nothing scores {figures['jsd_nss_pristine']:.4f})"
            + (f"; mean over {len(levels)} levels" if len(levels) > 1 else ""),
            f"model: {out}",
        ),
    )


def learned_recipes(pairs: PairStore, distortion: str, levels: Sequence[int] | None) -> list[dict[str, Any]]:
    """Return the recipes of the `levels` of `distortion`, weakest first, of the store's first one if None.

    PipelineError if the store holds one of them not.
    """
    there = pairs.recipes(distortion)
    if levels is None:
        return there[:1]
    by_level = {int(recipe["level"]): recipe for recipe in there}
    for level in levels:
        if level not in by_level:
            held = ", ".join(map(str, sorted(by_level)))
            raise PipelineError(f"train.levels names level {level} of {distortion}; {pairs.folder} holds: {held}")
    return [by_level[level] for level in sorted(levels)]


def mean_figures(figures: Sequence[Figures]) -> Figures:
    """Return the mean over levels of each figure."""
    return {name: fmean(own[name] for own in figures) for name in figures[0]}


def settled_noise_channels(config: TrainConfig, distortion: str, base: Path | None = None) -> int:
    """Return how many noise channels each scale gets: as set, else as `base`, else some for a random distortion."""
    if config.noise_channels is not None:
        return config.noise_channels
    if base is not None:
        return int(read_card(base)["network"]["noise_channels"])
    return NOISE_CHANNELS if distortion in DISTORTIONS.names() and is_random(distortion) else 0


def settled_head_start(config: TrainConfig, start: Start) -> int:
    """Return how many steps D learns alone: an untrained D would lead a generator that starts well astray."""
    if config.head_start is not None:
        return config.head_start
    if not config.adversarial_weight:
        return 0  # there is no D to wait for
    return min(config.steps // 4, LONGEST_HEAD_START) if start.fitted else 0


def _require_same_networks(config: TrainConfig, noise_channels: int, base: Path) -> None:
    """PipelineError if a training of these settings cannot go on from the trained model `base`."""
    network = read_card(base)["network"]
    transform = network.get("transform", "none")
    for name, wanted, there in (
        # a base without a U-Net takes one of any width
        ("base_filters", config.base_filters, network["base_filters"] or config.base_filters),
        ("noise_channels", noise_channels, network["noise_channels"]),
        ("transform", config.transform or transform, transform),
    ):
        if wanted != there:
            raise PipelineError(f"train.{name} is {wanted}, but {base} has {there}: set it to that, or start elsewhere")
    if transform != "none" and config.crop_align != TILE_ALIGN_PX:
        raise PipelineError(
            f"train.crop_align has to be {TILE_ALIGN_PX}, got {config.crop_align}: {base} has blocks on that grid"
        )


def _start(
    config: TrainConfig,
    pairs: PairStore,
    distortion: str,
    recipes: Sequence[Mapping[str, Any]],
    work: Path,
    noise_channels: int,
    base: Path | None,
) -> Start:
    """Return where G starts; PipelineError if it is to make no step from there, and nothing is known."""
    from distort_pipeline.training.start import fitted_start, start_of

    if base is not None:
        return start_of(base, [recipe["parameters"] for recipe in recipes])
    wanted = config.transform
    if config.crop_align != TILE_ALIGN_PX:
        wanted = "none"  # codecs' blocks move under crops of any other alignment
    start = fitted_start(
        pairs,
        distortion,
        [int(recipe["level"]) for recipe in recipes],
        work / "checkpoints" / "start",
        wanted=wanted,
        noise_channels=noise_channels,
        least_px=config.crop_px,
    )
    if start.explained:
        said = ", ".join(f"{share:.2f} by {name}" for name, share in start.explained.items())
        print(f"{distortion}: response curves of {start.transform}; explained {said}", file=sys.stderr)
    if config.steps == 0 and not start.fitted:
        raise PipelineError(
            f"train.steps is 0, but least squares found nothing to say of {distortion}; it takes adversarial steps"
        )
    return start


def _trainer(config: TrainConfig, noise_channels: int, levels: int, start: Start, seed: int) -> tuple[Any, str]:
    """Return the trainer, where `start` says, and the words for its device."""
    from distort_pipeline.training.adversaries import Networks
    from distort_pipeline.training.backends import make_trainer

    shared = {part.name for part in dataclasses.fields(Networks)} & {part.name for part in dataclasses.fields(config)}
    values = {name: getattr(config, name) for name in shared}
    settled = {
        "levels": levels,
        "noise_channels": noise_channels,
        "transform": start.transform,
        "noise_pyramid": start.noise is not None,
        "head_start": settled_head_start(config, start),
        "seed": seed % 2**31,
    }
    trainer, device = make_trainer(Networks(**{**values, **settled}))
    if start.model is not None:
        for network in (trainer.generator, trainer.averaged):
            assign_weights(network, start.model)
    if start.responses:
        trainer.give_responses(start.responses)
    if start.noise is not None:
        trainer.give_noise(start.noise)
    return trainer, device


def _train(
    config: TrainConfig,
    pairs: PairStore,
    distortion: str,
    levels: Sequence[int],
    trainer: Any,
    work: Path,
    noise_channels: int,
    keep: str,
) -> _Trained:
    """Train, and leave in the averaged generator the weights that are kept."""
    from distort_pipeline.networks.forward import Forward
    from distort_pipeline.training.loop import train

    seed = derive_seed(config.seed, distortion)
    crops = Crops(
        pairs, distortion, levels, crop_px=config.crop_px, crop_align=config.crop_align, batch=config.batch, seed=seed
    )
    best = BestWeights(work / "checkpoints" / "best")
    forward = Forward(trainer.averaged, noise_channels=noise_channels, batch=config.batch, graded=len(levels) > 1)

    def validated(level: int, tiles: ValidationTiles, step: int | None = None) -> tuple[Figures, ValidationHistograms]:
        histograms, generated = tiles.histograms(forward, seed)
        if step is not None:
            own = f"-level-{level}" if len(levels) > 1 else ""
            write_bytes(work / "strips" / f"{step:08d}{own}.png", encode_png(validation_strip(tiles, generated)))
        return {**summary(histograms), "strength_db": strength_db(tiles, generated)}, histograms

    def tiles_of(count: int) -> Iterator[tuple[int, ValidationTiles]]:
        """Yield each level with about `count` tiles at it; only one level's at a time are kept."""
        for rank, level in enumerate(levels, start=1):
            severity = rank / len(levels)
            yield (
                level,
                validation_tiles(pairs, distortion, level, severity=severity, count=count, seed=config.seed),
            )

    along = list(tiles_of(-(-config.validation_tiles // len(levels))))

    def validate(step: int) -> Mapping[str, float]:
        figures = mean_figures([validated(level, tiles, step)[0] for level, tiles in along])
        if keep == "best":
            best.offer(step, figures["jsd_nss"], lambda: weights_of(trainer.averaged))
        print(
            f"{distortion}, step {step}: JSD_NSS {figures['jsd_nss']:.4f} bits "
            f"(pristine {figures['jsd_nss_pristine']:.4f})",
            file=sys.stderr,
        )
        return figures

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
    kept = config.steps
    if keep == "best":
        kept = best.step()
        assign_weights(trainer.averaged, best.weights())
    final = [validated(level, tiles) for level, tiles in tiles_of(FINAL_TILES * config.validation_tiles)]
    calibration = None
    if len(levels) > 1:
        some = validation_tiles(
            pairs, distortion, levels[-1], severity=1.0, count=config.validation_tiles, seed=config.seed
        ).pristine
        calibration = calibrate(forward, some, [derive_seed(seed, "calibration", place) for place in range(len(some))])
    return _Trained(
        first, kept, [figures for figures, _ in final], [histograms for _, histograms in final], calibration
    )
