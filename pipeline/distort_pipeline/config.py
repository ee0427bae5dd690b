"""Settings: a frozen dataclass for each section of params.yaml. A field states default, help, range and option once.

Command-line options (`commands/options.py`) and params.schema.json (`commands/params.py`) are made of these fields.
Config objects stop at `steps/`: the functions below take plain values.
"""

from __future__ import annotations

import dataclasses
import operator
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distort_pipeline.errors import PipelineError

NETWORK_MULTIPLE_PX = 128  # seven downsamplings by 2: sides of the generator's images are multiples of 2 ** 7
CROP_ALIGNS = (1, 8, 16)  # JPEG's grid is 8 px, 16 px for its chroma
CODEC_PRIORS = ("none", "dct", "dct_integer", "dwt97")  # codecs whose coefficient curves can be fitted
HIGHEST_TARGETS = {"psnr": 60, "ssim": 1, "gmsd": 1}  # 60 dB stands for identical images
CALIBRATED = tuple(HIGHEST_TARGETS)  # metrics in which multi-level generators are calibrated
METRICS = ("psnr", "ssim", "ms_ssim", "gmsd")
# settings without influence on any byte of a store
RUNTIME_ONLY = ("workers", "threads_per_worker", "on_fail", "loggers")
Value = TypeVar("Value")


class Range:
    """The values allowed for a setting: in words, and as keywords of JSON Schema."""

    CHECKS: typing.ClassVar[dict[str, Callable[[Any, Any], bool]]] = {  # of a value, by keyword
        "minimum": operator.ge,
        "maximum": operator.le,
        "exclusiveMinimum": operator.gt,
        "exclusiveMaximum": operator.lt,
        "multipleOf": lambda value, unit: value % unit == 0,
        "pattern": lambda text, pattern: re.fullmatch(pattern, text) is not None,
        "enum": lambda value, names: value in names,
        "minItems": lambda values, count: len(values) >= count,
        "maxItems": lambda values, count: len(values) <= count,
        "uniqueItems": lambda values, _: len(set(values)) == len(values),
        "items": lambda values, each: all(Range("", **each).holds(value) for value in values),
    }

    def __init__(self, words: str, **keywords: Any) -> None:
        self.words, self.keywords = words, keywords

    def holds(self, value: Any) -> bool:
        """Return whether `value` is allowed."""
        return all(self.CHECKS[keyword](value, limit) for keyword, limit in self.keywords.items())


def either(first: str, second: str) -> Range:
    """Return the range of two names."""
    return Range(f"'{first}' or '{second}'", enum=(first, second))


def one_of(values: tuple[Any, ...]) -> Range:
    """Return the range of the `values`."""
    return Range(f"one of {values}", enum=values)


POSITIVE = Range("positive", exclusiveMinimum=0)
FROM_0 = Range("0 or more", minimum=0)
SHARE = Range("between 0 and 1", minimum=0, maximum=1)
FRACTION = Range("between 0 and 1, both excluded", exclusiveMinimum=0, exclusiveMaximum=1)
BELOW_1 = Range("from 0, below 1", minimum=0, exclusiveMaximum=1)
SIDE_PX = Range(f"a positive multiple of {NETWORK_MULTIPLE_PX}", exclusiveMinimum=0, multipleOf=NETWORK_MULTIPLE_PX)
SPLITS = Range("among train, val and test", items={"enum": ("train", "val", "test")})
COMPUTED = Range(f"among {METRICS}", items={"enum": METRICS})
PRECISION = one_of(("float32", "mixed_bfloat16"))
SEVERITIES = Range("a number from 0 to 1, or two in ascending order", maxItems=2, items={"minimum": 0, "maximum": 1})
TARGET_ENDS = f"one of {', '.join(CALIBRATED)} with a number, or with two in ascending order"
TARGET_LIMITS = f"within {', '.join(f'0 to {highest} for {name}' for name, highest in HIGHEST_TARGETS.items())}"
WORKERS_HELP = "Local worker processes; 0: run in this process."
SEED_HELP = "Seed of all random draws."


def setting(
    default: Value,
    help: str,
    allowed: Range | None = None,
    *,
    option: bool | str = False,
    metavar: str | None = None,
    repeatable: bool = False,
) -> Value:
    """Return a field of a section: its default, its help in a line, its range, and its command-line option if any.

    `option` is True, or a name other than the field's.
    """
    metadata = {"help": help, "allowed": allowed, "option": option, "metavar": metavar, "repeatable": repeatable}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)  # type: ignore[return-value]
    return field(default=default, metadata=metadata)


def kinds(section: type) -> dict[str, Any]:
    """Return setting → declared type of a section."""
    return {name: hint for name, hint in typing.get_type_hints(section).items() if name != "section"}


def required_kind(hint: Any) -> tuple[Any, bool]:
    """Return a declared type without None, and whether None is allowed.

    >>> required_kind(int | None), required_kind(str)
    ((<class 'int'>, True), (<class 'str'>, False))
    """
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return (kinds[0], True) if type(None) in typing.get_args(hint) else (hint, False)


class ConfigSection:
    """Base of all sections; an invalid setting is reported with its value and the allowed values."""

    section: typing.ClassVar[str]  # the class's name without "Config"

    def __init_subclass__(cls) -> None:
        cls.section = cls.__name__.removesuffix("Config").lower()

    def __post_init__(self) -> None:
        hints = kinds(type(self))
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            allowed, value = item.metadata["allowed"], getattr(self, item.name)
            nullable = required_kind(hints[item.name])[1]
            if allowed is not None and not (nullable and value is None):
                self.require(allowed.holds(value), item.name, allowed.words + ", or null" * nullable)
        self.check()

    def check(self) -> None:
        """Raise PipelineError if two settings contradict each other."""

    def require(self, valid: bool, name: str, allowed: str) -> None:
        """Raise PipelineError unless `valid`: setting `name` must be `allowed`."""
        if not valid:
            raise PipelineError(f"{self.section}.{name} must be {allowed}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class IngestConfig(ConfigSection):
    """The pristine images and their splits."""

    source: str = setting("data/sample", "A folder, an archive, a CSV or JSONL list, or an earlier manifest.")
    min_side_px: int = setting(256, "Smaller images are rejected.", POSITIVE, option=True)
    max_megapixels: float = setting(200.0, "Larger images are rejected before they are decoded.", POSITIVE)
    val_fraction: float = setting(0.1, "Approximate fraction of validation images.", FRACTION, option=True)
    val_count: int | None = setting(None, "Exact number of validation images.", POSITIVE, option=True)
    split_salt: str = setting("", "Another salt gives other splits.")
    licence: str = setting("unknown", "Licence of images without one.", option=True)
    workers: int = setting(2, "Decoding threads.", FROM_0, option=True)


@dataclass(frozen=True)
class PairsConfig(ConfigSection):
    """The distortions, levels and tiles of a pair store."""

    distortions: tuple[str, ...] = setting(
        ("jpeg", "jp2k", "white_noise", "pink_noise"),
        "Comma-separated.  [default: the four, or none with external pairs]",
        Range("without repeats", uniqueItems=True),
        option=True,
    )
    preset: str = setting("paper_like", "Preset of the levels.", option=True)
    levels: tuple[int, ...] = setting(
        (1,),
        "Comma-separated levels of the preset.",
        Range("a list of different levels from 1", minItems=1, uniqueItems=True, items={"minimum": 1}),
        option=True,
    )
    external: dict[str, str] = setting(
        {},
        "External pairs: folder, archive or CSV, or one a level; repeatable.",
        option="--external-pairs",
        metavar="NAME=PATH,…",
        repeatable=True,
    )
    align: bool = setting(False, "Move pristine images by the shift or the warp of their external pairs.", option=True)
    tile_px: int = setting(384, "Side of a tile, a multiple of 128.", POSITIVE, option=True)
    tiles_per_image: int = setting(4, "Training tiles per image.", POSITIVE, option=True)
    tiles_per_shard: int = setting(32, "Training tiles per shard and task.", POSITIVE)
    tiles_per_chunk: int = setting(16, "Training tiles per compressed chunk of a shard.", POSITIVE)
    min_tile_px: int = setting(256, "Least side of an image for training tiles.", POSITIVE, option=True)
    seed: int = setting(0, SEED_HELP, option=True)
    workers: int = setting(2, WORKERS_HELP, FROM_0, option=True)

    def check(self) -> None:
        """Raise PipelineError if two settings contradict each other."""
        shard, chunk = self.tiles_per_shard, self.tiles_per_chunk
        self.require(self.tile_px % NETWORK_MULTIPLE_PX == 0, "tile_px", f"a multiple of {NETWORK_MULTIPLE_PX}")
        self.require(self.min_tile_px <= self.tile_px, "min_tile_px", f"at most tile_px ({self.tile_px})")
        self.require(shard % chunk == 0, "tiles_per_shard", f"a multiple of tiles_per_chunk ({chunk})")
        at_most = f"at most tiles_per_shard ({shard}): an image's tiles share a shard"
        self.require(self.tiles_per_image <= shard, "tiles_per_image", at_most)
        named = bool(self.distortions or self.external)
        self.require(named, "distortions", "at least one name, unless pairs.external has names")
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


@dataclass(frozen=True)
class TrainConfig(ConfigSection):
    """Networks, losses and training loop; defaults are the paper's where stated there."""

    base_filters: int = setting(64, "Width of the generator; 64 in the paper.", POSITIVE, option=True)
    discriminator_filters: int = setting(
        64, "Width of the discriminator; 64 in the paper.", POSITIVE, option=True, metavar="N"
    )
    crop_px: int = setting(256, "Side of a crop, a multiple of 128.", SIDE_PX, option=True)
    crop_align: int = setting(16, "Grid of the crops' offsets, px.", one_of(CROP_ALIGNS))
    batch_size: int = setting(16, "Crops per step.", POSITIVE, option=True)
    steps: int = setting(20_000, "Training steps; 0: least-squares fit alone.", FROM_0, option=True)
    external_steps: int | None = setting(
        None, "Adversarial steps of external pairs; null: as many as fit into the minutes.", FROM_0
    )
    mean_steps: int | None = setting(
        None, "Steps of external pairs before them, towards the mean; null: as many, 3000 at most.", FROM_0
    )
    minutes: float | None = setting(None, "As many steps as fit.  [external pairs: 20]", POSITIVE, option=True)
    keep_anyway: bool = setting(False, "Keep a model that the identity baseline beats.", option=True)
    generator_lr: float = setting(3e-4, "Learning rate of the generator.", POSITIVE)
    discriminator_lr: float = setting(1e-4, "Learning rate of the discriminator.", POSITIVE, option=True)
    beta_1: float = setting(0.5, "Of Adam; pix2pix's (Isola et al. 2017), not stated in the paper.", BELOW_1)
    beta_2: float = setting(0.999, "Of Adam.", BELOW_1)
    lambda_l1: float = setting(0.1, "Weight of the L1 term, lambda in the paper.", FROM_0, option=True)
    l1_reduction: str = setting(
        "mean", "Reduction of the L1 term; not stated in the paper, see studies/.", either("mean", "sum")
    )
    l1_scale: float = setting(2.0, "White minus black on the scale of the L1 term; see studies/.", POSITIVE)
    adversarial_weight: float = setting(1.0, "Weight of the adversarial loss; 0: none.", FROM_0, option=True)
    pixel_weight: float = setting(0.0, "Weight of the distance to the true image; not in the paper's loss.", FROM_0)
    pixel_norm: str = setting("l1", "Norm of the distance to the true image.", either("l1", "l2"))
    noise_channels: int | None = setting(  # null: 3 for noise types, else 0 (the paper's)
        None, "z channels per scale; 0: deterministic, as in the paper.", FROM_0, option=True
    )
    levels: tuple[int, ...] | None = setting(
        None,
        "Comma-separated; several: multi-level.  [default: the first; all of external pairs]",
        Range("a list of different levels of the pair store", minItems=1, uniqueItems=True),
        option=True,
    )
    codec_prior: str | None = setting(
        None, "Codec of the coefficient curves; none as in the paper; null: the best.", one_of(CODEC_PRIORS)
    )
    discriminator_input: str = setting(
        "scaled_residual", "Input of the discriminator; plain in the paper.", either("plain", "scaled_residual")
    )
    discriminator_warmup_steps: int | None = setting(
        None, "Steps of D alone; null: a quarter of all, at most 500, after a fit, otherwise none.", FROM_0
    )
    select_checkpoint: str | None = setting(
        None, "Validation to keep; null: the best after a fit, otherwise the last.", either("best", "last")
    )
    ema_decay: float = setting(
        0.999, "Decay of the exponential moving average of the generator's weights; 0: none.", BELOW_1
    )
    precision: str = setting("float32", "Precision of the networks.", PRECISION, option=True)
    checkpoint_every: int = setting(500, "Steps between checkpoints, at most 5 minutes.", POSITIVE, option=True)
    validate_every: int = setting(500, "Steps between validations.", POSITIVE)
    validation_tiles: int = setting(64, "Tiles of a validation.", POSITIVE)
    seed: int = setting(0, SEED_HELP, option=True)
    threads: int = setting(0, "Threads of TensorFlow; 0: one per core.", FROM_0, option=True)
    xla: bool = setting(False, "Compile TensorFlow's training step by XLA; JAX's always is.", option=True)
    loggers: tuple[str, ...] = setting(
        ("tsv",), "Logger of losses and validations; repeatable.", option="--logger", repeatable=True
    )

    def check(self) -> None:
        """Raise PipelineError if two settings contradict each other."""
        self.require(
            self.codec_prior in (None, "none") or self.crop_align == CROP_ALIGNS[-1],
            "codec_prior",
            f"'none' unless train.crop_align is {CROP_ALIGNS[-1]}: its block grid has to stay aligned",
        )
        warmup = self.discriminator_warmup_steps
        in_time = warmup is None or self.steps == 0 or warmup < self.steps
        below = f"below train.steps ({self.steps}), otherwise the generator is never trained"
        self.require(in_time, "discriminator_warmup_steps", below)


@dataclass(frozen=True)
class EvaluateConfig(ConfigSection):
    """The table of divergences and the classifier two-sample tests."""

    side_by_side: int = setting(3, "Number of side-by-side images.", FROM_0, option=True)
    draws: int = setting(1, "Draws of a stochastic generator for each image.", POSITIVE)
    c2st_steps: int = setting(400, "Steps of each classifier two-sample test; 0: no tests.", FROM_0, option=True)
    c2st_tiles: int = setting(1536, "Tiles of 64 px per class, over all photographs.", POSITIVE)
    c2st_folds: int = setting(4, "Folds of the cross-validation over the photographs.", Range("2 or more", minimum=2))
    seed: int = setting(0, SEED_HELP, option=True)
    threads: int = setting(0, "Threads of TensorFlow; 0: one per core.")


@dataclass(frozen=True)
class GenerateConfig(ConfigSection):
    """Size, distortions and severities of a corpus, and its acceptance."""

    count: int = setting(2000, "Samples in all, split evenly over conditions.", POSITIVE, option=True)
    distortions: tuple[str, ...] = setting((), "Comma-separated model names.  [default: all]", option=True)
    num_levels: int | None = setting(
        None, "Levels per distortion; each tile gets all.  [default: the learned ones]", POSITIVE, option=True
    )
    severity: tuple[float, ...] = setting(
        (),
        "Severity of all samples, or a range to draw from, on each distortion's scale.",
        SEVERITIES,
        option=True,
        metavar="S or LO:HI",
    )
    target: dict[str, tuple[float, ...]] = setting(
        {}, "Target quality instead of a severity, such as ssim=0.8.", option=True, metavar="M=Q or M=LO:HI"
    )
    composite: tuple[str, ...] = setting(
        (), "Composite distortion: apply A, then B; repeatable.", option=True, metavar="A+B", repeatable=True
    )
    tile_px: int = setting(256, "Side of a tile, a multiple of 128.", SIDE_PX, option=True)
    whole_images: bool = setting(False, "Whole images instead of tiles.", option=True)
    splits: tuple[str, ...] = setting(
        ("train", "val"),
        "Comma-separated splits: train, val, test.",
        Range(SPLITS.words, minItems=1, **SPLITS.keywords),
        option=True,
    )
    samples_per_shard: int = setting(256, "Samples per shard, batch, task and report.", POSITIVE, option=True)
    tiles_per_chunk: int = setting(16, "Samples per compressed chunk of a shard.", POSITIVE)
    crop_align: int | None = setting(None, "Grid of the tiles' offsets, px; null: as in training.", one_of(CROP_ALIGNS))
    max_overlap: float = setting(1.0, "Largest share of pixels shared by neighbouring tiles.", SHARE, option=True)
    allow_repeats: bool = setting(False, "Allow the same tile again for a deterministic model.", option=True)
    truth_images: int = setting(8, "Truly distorted images per report.", POSITIVE, option=True)
    metrics: tuple[str, ...] = setting(METRICS, "Metrics in the record of each sample.", COMPUTED)
    precision: str = setting("float32", "Precision of the networks.", PRECISION, option=True)
    inference_batch_size: int = setting(16, "Tiles per call of a generator.", POSITIVE)
    on_fail: str = setting("flag", "Action on a rejected batch.", either("flag", "stop"), option=True)
    seed: int = setting(0, SEED_HELP, option=True)
    workers: int = setting(2, WORKERS_HELP, FROM_0, option=True)
    threads_per_worker: int = setting(1, "Threads of OpenCV, BLAS and TensorFlow in each worker.", POSITIVE)

    @property
    def model_names(self) -> list[str]:
        """The models requested by name, those of composites included."""
        return [*self.distortions, *(name for composite in self.composite for name in composite.split("+"))]

    def check(self) -> None:
        """Raise PipelineError if two settings contradict each other."""
        shard, chunk = self.samples_per_shard, self.tiles_per_chunk
        self.require(shard % chunk == 0, "samples_per_shard", f"a multiple of tiles_per_chunk ({chunk})")
        single, many = self.num_levels in (None, 1), "a range if generate.num_levels is above 1"
        self.require(list(self.severity) == sorted(self.severity), "severity", SEVERITIES.words)
        self.require(single or len(set(self.severity)) != 1, "severity", many)
        self._check_target()
        self.require(single or all(len(set(ends)) != 1 for ends in self.target.values()), "target", many)
        different = all(len(set(names)) == len(names) > 1 for names in (text.split("+") for text in self.composite))
        self.require(different, "composite", "names of different models joined by +, such as jpeg+white_noise")

    def _check_target(self) -> None:
        target, metrics = self.target, self.metrics
        in_order = all(len(ends) in (1, 2) and list(ends) == sorted(ends) for ends in target.values())
        self.require(len(target) <= 1 and set(target) <= set(CALIBRATED) and in_order, "target", TARGET_ENDS)
        within = all(0 <= end <= HIGHEST_TARGETS[name] for name, ends in target.items() for end in ends)
        self.require(within, "target", TARGET_LIMITS)
        self.require(not (target and self.severity), "target", "left out if generate.severity is given")
        self.require(not (target and self.composite), "target", "left out if generate.composite is given")
        self.require(set(target) <= set(metrics), "target", f"among generate.metrics {metrics}")


@dataclass(frozen=True)
class ExportConfig(ConfigSection):
    """Format and selection of exported files."""

    format: str = setting("png_folder", "Format of the files.", option=True)
    limit: int | None = setting(
        None, "Largest number of samples, split evenly over distortions.", POSITIVE, option=True
    )
    distortions: tuple[str, ...] = setting((), "Exported distortions; none: all.")
    levels: tuple[int, ...] = setting((), "Exported levels; none: all.")
    splits: tuple[str, ...] = setting((), "Exported splits; none: all.", SPLITS)
    label: str = setting("ssim", "Score in formats with scores.", option=True)
    allow_flagged: bool = setting(False, "Include rejected batches.", option=True)
    with_truth: bool = setting(False, "Add the true distortion of each sample, made again.", option=True)
    manifest: str | None = setting(None, "Manifest for --with-truth; null: beside the corpus.", option=True)
    pairs: str | None = setting(None, "Pair store for --with-truth of external distortions.", option=True)
    seed: int = setting(0, "Seed of the trials of a study.", option=True)
    study_sessions: int = setting(20, "Sessions of a study.", POSITIVE, option=True)
    date: str | None = setting(
        None,
        "Date of publication, YYYY-MM-DD, for card and Croissant.",
        Range("a date", pattern=r"\d{4}-\d{2}-\d{2}"),
        option=True,
    )
    study_trials: int = setting(60, "Trials per session of a study.", Range("10 or more", minimum=10), option=True)
    workers: int = setting(2, WORKERS_HELP, FROM_0, option=True)
