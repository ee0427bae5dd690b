"""Settings: a frozen dataclass for each section of params.yaml, with defaults and allowed values.

Config objects stop at `steps/`: the functions below take plain values.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass, field

from distort_pipeline.errors import PipelineError

NETWORK_MULTIPLE_PX = 128  # seven downsamplings by 2: sides of the generator's images are multiples of 2 ** 7
CROP_ALIGNS = (1, 8, 16)  # JPEG's grid is 8 px, 16 px for its chroma
CODEC_PRIORS = ("none", "dct", "dct_integer", "dwt97")  # codecs whose coefficient curves can be fitted
HIGHEST_TARGETS = {"psnr": 60, "ssim": 1, "gmsd": 1}  # 60 dB stands for identical images
CALIBRATED = tuple(HIGHEST_TARGETS)  # metrics in which multi-level generators are calibrated
PRECISIONS = ("float32", "mixed_bfloat16")
RUNTIME_ONLY = ("workers", "threads_per_worker", "on_fail")  # settings without influence on any byte of a store


class ConfigSection:
    """Base of all sections; `require` reports an invalid setting with its value and the allowed values."""

    section: typing.ClassVar[str] = ""

    def require(self, valid: bool, name: str, allowed: str) -> None:
        """Raise PipelineError unless `valid`: setting `name` must be `allowed`."""
        if not valid:
            raise PipelineError(f"{self.section}.{name} must be {allowed}, got {getattr(self, name)!r}")

    def require_positive(self, *names: str) -> None:
        """Raise PipelineError unless each of the settings `names` is positive."""
        for name in names:
            self.require(getattr(self, name) > 0, name, "positive")


@dataclass(frozen=True)
class IngestConfig(ConfigSection):
    """The pristine images and their splits."""

    section: typing.ClassVar[str] = "ingest"

    source: str = "data/sample"  # folder, archive, CSV or JSONL list, or a manifest
    min_side_px: int = 256
    max_megapixels: float = 200.0  # a larger image is rejected before it is decoded
    val_fraction: float = 0.1
    val_count: int | None = None  # an exact count instead, 44 in the paper
    split_salt: str = ""  # another salt gives other splits
    licence: str = "unknown"  # of images without a licence in their list
    workers: int = 2

    def __post_init__(self) -> None:
        self.require_positive("min_side_px", "max_megapixels")
        self.require(0 < self.val_fraction < 1, "val_fraction", "between 0 and 1, both excluded")
        self.require(self.val_count is None or self.val_count > 0, "val_count", "positive, or null")
        self.require(self.workers >= 0, "workers", "0 or more")


@dataclass(frozen=True)
class PairsConfig(ConfigSection):
    """The distortions, levels and tiles of a pair store."""

    section: typing.ClassVar[str] = "pairs"

    distortions: tuple[str, ...] = ("jpeg", "jp2k", "white_noise", "pink_noise")
    preset: str = "paper_like"
    levels: tuple[int, ...] = (1,)
    external: dict[str, str] = field(default_factory=dict)  # name → folder or archive of distorted images, or CSV
    align: bool = False  # move pristine images by the shift of their external pairs
    tile_px: int = 384
    tiles_per_image: int = 4
    tiles_per_shard: int = 32
    tiles_per_chunk: int = 16
    min_tile_px: int = 256  # smaller images give no training tile
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        self.require_positive("tile_px", "tiles_per_image", "tiles_per_shard", "tiles_per_chunk", "min_tile_px")
        self.require(self.tile_px % NETWORK_MULTIPLE_PX == 0, "tile_px", f"a multiple of {NETWORK_MULTIPLE_PX}")
        self.require(self.min_tile_px <= self.tile_px, "min_tile_px", f"at most tile_px ({self.tile_px})")
        self.require(
            self.tiles_per_shard % self.tiles_per_chunk == 0,
            "tiles_per_shard",
            f"a multiple of tiles_per_chunk ({self.tiles_per_chunk})",
        )
        self.require(
            self.tiles_per_image <= self.tiles_per_shard,
            "tiles_per_image",
            f"at most tiles_per_shard ({self.tiles_per_shard}): an image's tiles share a shard",
        )
        self.require(
            bool(self.distortions or self.external), "distortions", "at least one name, unless pairs.external has names"
        )
        self.require(len(set(self.distortions)) == len(self.distortions), "distortions", "without repeats")
        self.require(
            all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name) and name != "pristine" for name in self.external),
            "external",
            "named with letters, digits, - and _ only, and not 'pristine': these names become arrays and folders",
        )
        self.require(
            not self.align or (len(self.external) == 1 and set(self.distortions) <= set(self.external)),
            "align",
            "false unless the store has one name of external pairs and no other distortion: pristine images are moved",
        )
        self.require(
            bool(self.levels) and min(self.levels) >= 1 and len(set(self.levels)) == len(self.levels),
            "levels",
            "a list of different levels from 1",
        )
        self.require(self.workers >= 0, "workers", "0 or more")


@dataclass(frozen=True)
class TrainConfig(ConfigSection):
    """Networks, losses and training loop; defaults are the paper's where stated there."""

    section: typing.ClassVar[str] = "train"

    base_filters: int = 64
    discriminator_filters: int = 64
    crop_px: int = 256
    crop_align: int = 16
    batch_size: int = 16
    steps: int = 20_000  # 0: only the least-squares fit to the pairs
    external_steps: int | None = None  # adversarial steps of external pairs; null: as many as fit into the minutes
    mean_steps: int | None = None  # of external pairs, before them, towards the mean; null: as many, 900 at most
    minutes: float | None = None  # as many steps as fit, in place of steps; null: external pairs 20, others by steps
    keep_anyway: bool = False  # external pairs: keep the best model even if the identity baseline is better
    generator_lr: float = 3e-4
    discriminator_lr: float = 1e-4
    beta_1: float = 0.5  # not stated in the paper; pix2pix's, Isola et al. 2017
    beta_2: float = 0.999
    lambda_l1: float = 0.1  # the paper's lambda
    l1_reduction: str = "mean"  # not stated in the paper; see studies/
    l1_scale: float = 2.0  # white minus black on the scale of the L1 term; see studies/
    adversarial_weight: float = 1.0  # 0 for the paper's figure 4: pixel losses instead of the adversarial loss
    pixel_weight: float = 0.0  # of the distance to the true image; not in the paper's loss
    pixel_norm: str = "l1"
    noise_channels: int | None = None  # z channels at each decoder scale; null: 3 for noise types, else 0 (the paper's)
    levels: tuple[int, ...] | None = None  # of the pair store; null: its first level only, as in the paper
    codec_prior: str | None = (
        None  # of the coefficient curves: one of CODEC_PRIORS; none as in the paper; null: the best
    )
    discriminator_input: str = "scaled_residual"  # or 'plain', as in the paper
    # steps of D alone; null: a quarter of all steps, at most 500, after a fit; otherwise none
    discriminator_warmup_steps: int | None = None
    select_checkpoint: str | None = None  # 'best' or 'last' validation; null: best after a fit, otherwise last
    ema_decay: float = 0.999  # decay of the exponential moving average of the generator's weights; 0: none
    precision: str = "float32"
    checkpoint_every: int = 500
    validate_every: int = 500
    validation_tiles: int = 64
    seed: int = 0
    threads: int = 0  # of TensorFlow; 0: one per core

    def __post_init__(self) -> None:
        self.require_positive(
            "base_filters", "discriminator_filters", "batch_size", "generator_lr", "discriminator_lr",
            "l1_scale", "checkpoint_every", "validate_every", "validation_tiles",
        )  # fmt: skip
        self.require(
            self.crop_px > 0 and self.crop_px % NETWORK_MULTIPLE_PX == 0,
            "crop_px",
            f"a positive multiple of {NETWORK_MULTIPLE_PX}",
        )
        self.require(self.crop_align in CROP_ALIGNS, "crop_align", f"one of {CROP_ALIGNS}")
        self.require(self.steps >= 0, "steps", "0 or more")
        self.require(self.external_steps is None or self.external_steps >= 0, "external_steps", "0 or more, or null")
        self.require(self.mean_steps is None or self.mean_steps >= 0, "mean_steps", "0 or more, or null")
        self.require(self.minutes is None or self.minutes > 0, "minutes", "positive, or null")
        for name in ("lambda_l1", "adversarial_weight", "pixel_weight"):
            self.require(getattr(self, name) >= 0, name, "0 or more")
        self.require(
            self.adversarial_weight + self.pixel_weight > 0,
            "adversarial_weight",
            "positive, unless train.pixel_weight is: the generator needs a loss",
        )
        self.require(self.pixel_norm in ("l1", "l2"), "pixel_norm", "'l1' or 'l2'")
        self.require(self.l1_reduction in ("mean", "sum"), "l1_reduction", "'mean' or 'sum'")
        self.require(self.noise_channels is None or self.noise_channels >= 0, "noise_channels", "0 or more, or null")
        self.require(
            self.discriminator_input in ("plain", "scaled_residual"),
            "discriminator_input",
            "'plain' or 'scaled_residual'",
        )
        self.require(
            self.levels is None or (len(self.levels) > 0 and len(set(self.levels)) == len(self.levels)),
            "levels",
            "a list of different levels of the pair store, or null",
        )
        self.require(self.codec_prior in (None, *CODEC_PRIORS), "codec_prior", f"one of {CODEC_PRIORS}, or null")
        self.require(
            self.codec_prior in (None, "none") or self.crop_align == CROP_ALIGNS[-1],
            "codec_prior",
            f"'none' unless train.crop_align is {CROP_ALIGNS[-1]}: its block grid has to stay aligned",
        )
        self.require(
            self.discriminator_warmup_steps is None or self.discriminator_warmup_steps >= 0,
            "discriminator_warmup_steps",
            "0 or more, or null",
        )
        self.require(
            self.discriminator_warmup_steps is None or self.steps == 0 or self.discriminator_warmup_steps < self.steps,
            "discriminator_warmup_steps",
            f"below train.steps ({self.steps}), otherwise the generator is never trained",
        )
        self.require(self.select_checkpoint in (None, "best", "last"), "select_checkpoint", "'best' or 'last', or null")
        for name in ("ema_decay", "beta_1", "beta_2"):
            self.require(0 <= getattr(self, name) < 1, name, "from 0, below 1")
        self.require(self.precision in PRECISIONS, "precision", f"one of {PRECISIONS}")
        self.require(self.threads >= 0, "threads", "0 or more")


@dataclass(frozen=True)
class EvaluateConfig(ConfigSection):
    """The table of divergences and the classifier two-sample tests."""

    section: typing.ClassVar[str] = "evaluate"

    side_by_side: int = 3  # images shown side by side
    draws: int = 1  # draws of a stochastic generator for each image
    c2st_steps: int = 400  # training steps of each classifier two-sample test; 0: no tests
    c2st_tiles: int = 1536  # tiles of 64 px per class, over all photographs
    c2st_folds: int = 4  # cross-validation: each photograph is tested by a classifier trained on other folds
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        self.require_positive("draws", "c2st_tiles")
        self.require(self.c2st_steps >= 0, "c2st_steps", "0 or more")
        self.require(self.c2st_folds >= 2, "c2st_folds", "2 or more")
        self.require(self.side_by_side >= 0, "side_by_side", "0 or more")


@dataclass(frozen=True)
class GenerateConfig(ConfigSection):
    """Size, distortions and severities of a corpus, and its acceptance."""

    section: typing.ClassVar[str] = "generate"

    count: int = 2000  # distorted tiles in all, split evenly over the models
    distortions: tuple[str, ...] = ()  # empty: all models
    num_levels: int | None = None  # of each distortion, evenly over its severity scale; null: the model's default level
    severity: tuple[float, ...] = ()  # from 0 to 1: one value, or the ends of a range
    target: dict[str, tuple[float, ...]] = field(
        default_factory=dict
    )  # a quality instead of a severity, such as ssim: [0.5, 0.9]
    composite: tuple[str, ...] = ()  # such as jpeg+white_noise: apply jpeg, then white noise
    tile_px: int = 256
    whole_images: bool = False
    splits: tuple[str, ...] = ("train", "val")  # splits of the distorted photographs
    samples_per_shard: int = 256  # one batch = one shard = one task = one report
    tiles_per_chunk: int = 16
    crop_align: int | None = None  # null: as in training
    allow_repeats: bool = False
    truth_images: int = 8  # photographs per batch that are truly distorted for its report
    metrics: tuple[str, ...] = ("psnr", "ssim", "ms_ssim", "gmsd")
    precision: str = "float32"
    inference_batch_size: int = 16
    on_fail: str = "flag"
    seed: int = 0
    workers: int = 2
    threads_per_worker: int = 1

    def __post_init__(self) -> None:
        self.require_positive(
            "count",
            "samples_per_shard",
            "tiles_per_chunk",
            "inference_batch_size",
            "threads_per_worker",
            "truth_images",
        )
        self.require(
            self.tile_px > 0 and self.tile_px % NETWORK_MULTIPLE_PX == 0,
            "tile_px",
            f"a positive multiple of {NETWORK_MULTIPLE_PX}",
        )
        self.require(
            self.samples_per_shard % self.tiles_per_chunk == 0,
            "samples_per_shard",
            f"a multiple of tiles_per_chunk ({self.tiles_per_chunk})",
        )
        self.require(
            self.crop_align is None or self.crop_align in CROP_ALIGNS, "crop_align", f"one of {CROP_ALIGNS}, or null"
        )
        self.require(self.num_levels is None or self.num_levels > 0, "num_levels", "positive, or null")
        self.require(
            len(self.severity) <= 2
            and list(self.severity) == sorted(self.severity)
            and all(0 <= value <= 1 for value in self.severity),
            "severity",
            "a number from 0 to 1, or two in ascending order",
        )
        self.require(
            self.num_levels in (None, 1) or len(set(self.severity)) != 1,
            "severity",
            "a range if generate.num_levels is above 1",
        )
        self.require(
            len(self.target) <= 1
            and set(self.target) <= set(CALIBRATED)
            and all(len(ends) in (1, 2) and list(ends) == sorted(ends) for ends in self.target.values()),
            "target",
            f"one of {', '.join(CALIBRATED)} with a number, or with two in ascending order",
        )
        self.require(
            all(0 <= end <= HIGHEST_TARGETS[name] for name, ends in self.target.items() for end in ends),
            "target",
            f"within {', '.join(f'0 to {highest} for {name}' for name, highest in HIGHEST_TARGETS.items())}",
        )
        self.require(not (self.target and self.severity), "target", "left out if generate.severity is given")
        self.require(not (self.target and self.composite), "target", "left out if generate.composite is given")
        self.require(set(self.target) <= set(self.metrics), "target", f"among generate.metrics {self.metrics}")
        self.require(
            self.num_levels in (None, 1) or all(len(set(ends)) != 1 for ends in self.target.values()),
            "target",
            "a range if generate.num_levels is above 1",
        )
        self.require(
            all(len(set(names)) == len(names) > 1 for names in (composite.split("+") for composite in self.composite)),
            "composite",
            "names of different models joined by +, such as jpeg+white_noise",
        )
        self.require(self.precision in PRECISIONS, "precision", f"one of {PRECISIONS}")
        self.require(self.on_fail in ("flag", "stop"), "on_fail", "'flag' or 'stop'")
        self.require(
            bool(self.splits) and set(self.splits) <= {"train", "val", "test"}, "splits", "among train, val and test"
        )
        self.require(set(self.metrics) <= set(GenerateConfig.metrics), "metrics", f"among {GenerateConfig.metrics}")
        self.require(self.workers >= 0, "workers", "0 or more")


@dataclass(frozen=True)
class ExportConfig(ConfigSection):
    """Format and selection of exported files."""

    section: typing.ClassVar[str] = "export"

    format: str = "png_folder"
    limit: int | None = None  # total number of samples, evenly over the distortions
    distortions: tuple[str, ...] = ()  # empty: all; likewise levels and splits
    levels: tuple[int, ...] = ()
    splits: tuple[str, ...] = ()
    label: str = "ssim"  # the score in formats with one score per sample
    allow_flagged: bool = False  # also rejected batches
    seed: int = 0  # of the trials of a subjective study
    study_sessions: int = 20
    study_trials: int = 60  # per session, repeats and anchors included
    workers: int = 2

    def __post_init__(self) -> None:
        self.require(self.limit is None or self.limit > 0, "limit", "positive, or null")
        self.require(set(self.splits) <= {"train", "val", "test"}, "splits", "among train, val and test")
        self.require_positive("study_sessions")
        self.require(self.study_trials >= 10, "study_trials", "10 or more")
        self.require(self.workers >= 0, "workers", "0 or more")
