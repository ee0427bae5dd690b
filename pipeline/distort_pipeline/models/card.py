"""The model card: what a trained generator has learned, from what, and how well, as in the store.json of its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distort_pipeline.data.conditions import ModelCapabilities
from distort_pipeline.data.files import from_json, read_metadata, to_json
from distort_pipeline.distortions import LevelScale, declared_scale
from distort_pipeline.distortions.presets import default_index
from distort_pipeline.records import Json

if TYPE_CHECKING:
    pass

KIND = "model"
VERSION = 5
COMPOSED = "composed"  # the kind of network of external pairs


@dataclass(frozen=True)
class Figures:
    """Results on validation images: JSD_NSS in bits, delta PSNR in dB; of several levels, the means."""

    jsd_nss: float  # to the true distortion, mean over images: the paper's cell
    jsd_nss_pooled: float  # the same, of all images' histograms together
    jsd_nss_pristine: float  # the identity baseline
    delta_psnr_db: float  # PSNR against pristine, generated minus true: positive if distorted too little


@dataclass(frozen=True)
class LearnedLevel:
    """A level learned by a model."""

    level: int  # its number in the pair store
    parameters: Mapping[str, float]  # of the true distortion; empty for external pairs
    severity: float  # on the severity scale of the distortion
    figures: Figures


@dataclass(frozen=True)
class NetworkCard:
    """The architecture of a generator, see `networks/generator.py`, or the parts of a composed one."""

    base_filters: int  # of the U-Net; 0 without one
    noise_channels: int  # of each noise map; 0 if deterministic
    codec_prior: str = "none"
    noise_pyramid: bool = False
    image_stats: bool = False  # whether it needs statistics of the whole image, see `networks/wavelets.py`
    kind: str | None = None
    parts: tuple[Mapping[str, Any], ...] | None = None  # of a composed generator by level, see `networks/saved.py`

    @property
    def needs_backend(self) -> bool:
        """Whether there is a network, run by TensorFlow or JAX; fitted models are NumPy alone."""
        return self.base_filters > 0 or any("body" in parts for parts in self.parts or ())


@dataclass(frozen=True)
class TrainingData:
    """The pairs of a training."""

    pairs_digest: str
    manifest_digest: str
    train_tiles: int
    val_images: int
    grey: bool = False  # whether all pristine training tiles are grey
    photographs: str | None = None  # their origin and licences, for the generators shipped with the package


@dataclass(frozen=True)
class TrainingSettings:
    """The settings that decide the weights."""

    format: str
    version: int
    distortion: str
    train: Mapping[str, Any]  # the section `train` of params.yaml, resolved
    pairs_digest: str
    init_from: str | None  # digest of the weights of the model that the training started from


@dataclass(frozen=True)
class HeldOutScores:
    """What a generator comes to on held-out images of the training split, and the identity baseline in its place."""

    score: float  # by which stages are chosen, the lower the better; the identity scores about 4
    jsd_nss: float  # bits
    jsd_identity: float
    features: float  # mean divergence of the twelve NSS features, bits
    features_identity: float
    c2st_accuracy: float  # of a linear classifier, 0.5 at chance
    c2st_bits: float  # its held-out cross-entropy, 1 at chance
    delta_psnr_db: float  # PSNR to pristine, generated minus true, mean over patches
    median_abs_delta_db: float


@dataclass(frozen=True)
class LearningStage:
    """A stage of learning from pairs alone, kept or not."""

    stage: str
    scores: HeldOutScores


@dataclass(frozen=True)
class LearningReport:
    """How a composed generator was learned."""

    stages: tuple[LearningStage, ...]
    kept: str  # the name of a stage
    better_than_identity: bool
    parts: tuple[str, ...] = ()  # fitted tone, colour and filters, in order
    noise: bool = False  # whether signal-dependent noise is added
    mse: float | None = None  # that the parts leave, levels²
    identity_mse: float | None = None  # levels²
    adversarial_steps: int = 0  # that were kept


@dataclass(frozen=True)
class ModelCard:
    """A trained generator, for programs; `models/readme.py` writes the same for people."""

    distortion: str
    external: bool  # whether it was learned from external pairs: its true distortion is unknown
    data: TrainingData
    levels: tuple[LearnedLevel, ...]  # lowest severity first
    network: NetworkCard
    explained: Mapping[str, float]  # codec prior → share of the squared residual that its curves explain
    settings: TrainingSettings
    steps: int
    kept_step: int  # of the selected weights
    figures: Figures
    weights_digest: str
    device: str
    packages: Mapping[str, str]
    calibration: Mapping[str, Sequence[float]] | None = None  # of a generator of any severity: mean quality by severity
    learning: tuple[LearningReport, ...] = ()  # of each level of a composed generator
    weights_precision: str | None = None  # float16 for the generators shipped with the package

    @property
    def is_multi_level(self) -> bool:
        """Whether the model has learned several levels, and so takes any severity up to the last level's."""
        return len(self.levels) > 1

    @cached_property
    def scale(self) -> LevelScale:
        """The learned levels on the severity scale of the distortion; external pairs have a scale of their own."""
        levels = tuple(level.parameters for level in self.levels)
        return LevelScale(self.distortion, levels, None if self.external else declared_scale(self.distortion))

    @property
    def highest_severity(self) -> float:
        """The severity of the last level, beyond which the model has learned nothing."""
        return self.levels[-1].severity

    def severity_in_composite(self, severity: float) -> float:
        """Return the severity of the model in a composite: a model of one level keeps it."""
        return severity if self.is_multi_level else self.highest_severity

    @property
    def is_stochastic(self) -> bool:
        """Whether the model's output depends on the seed."""
        return bool(self.network.noise_channels)

    @property
    def parts(self) -> str:
        """The parts of a composed generator in the order in which they act, for each level if these differ."""
        reports = self.learning or (None,) * len(self.network.parts or ())
        texts = [_acting(*level) for level in zip(self.network.parts or (), reports, strict=True)]
        if len(set(texts)) == 1:
            return texts[0]
        return "; ".join(f"level {level.level}: {text}" for level, text in zip(self.levels, texts, strict=True))

    @property
    def origin(self) -> str:
        """How the generator was made: what was fitted, which network there is, and the adversarial steps kept."""
        network = self.network
        if network.parts is not None:
            made = self.parts
        else:
            fitted = [f"coefficient curves ({network.codec_prior})"] if network.codec_prior != "none" else []
            fitted += ["a noise pyramid"] if network.noise_pyramid else []
            made = f"least-squares fit of {' and '.join(fitted)}" if fitted else "no fit"
            made += f", U-Net of {network.base_filters} base filters" if network.base_filters else ""
        if self.settings.init_from:
            made = f"a trained model ({self.settings.init_from[:8]}), {made}"
        return f"{made}; {self.kept_step} of {self.steps} adversarial steps kept" if self.steps else made

    @property
    def crop_align(self) -> int:
        """The grid in px that the training crops were aligned to."""
        return int(self.settings.train["crop_align"])

    @property
    def default_level(self) -> LearnedLevel:
        """The level used if no severity is requested: the default preset's level, else the middle."""
        return self.levels[default_index(self.distortion, [dict(level.parameters) for level in self.levels])]

    @property
    def capabilities(self) -> ModelCapabilities:
        """The levels, severities and draws available from the model."""
        default = self.default_level
        severities = tuple(level.severity for level in self.levels)
        any_severity = self.is_multi_level or self.network.parts is not None  # a composed generator scales its change
        return ModelCapabilities(default.level, default.severity, any_severity, self.is_stochastic, severities)

    def has_truth_at(self, severity: float) -> bool:
        """Whether a true distortion can be computed: never of external pairs, between levels on a declared scale."""
        known = self.scale.level_at(severity) is not None or self.scale.scale is not None
        return not self.external and known

    def true_parameters(self, severity: float) -> dict[str, float]:
        """Return the parameters of the true distortion at a severity; none where it has no truth."""
        if not self.has_truth_at(severity):
            level = self.scale.level_at(severity)
            return {} if level is None else dict(self.levels[level].parameters)
        return self.scale.parameters_at(severity)

    def level_at(self, severities: Iterable[float]) -> int | None:
        """Return the index of the learned level at all of the `severities`; None if there is none."""
        levels = {self.scale.level_at(severity) for severity in set(severities)}
        return levels.pop() if len(levels) == 1 else None

    def metadata(self) -> dict[str, Json]:
        """Return the card as in store.json."""
        return {"format": f"distort-pipeline/{KIND}", "version": VERSION, **to_json(self)}


def _acting(parts: Mapping[str, Any], learning: LearningReport | None) -> str:
    """Return the names of a level's parts, in the order in which they act."""
    names = list(learning.parts) if learning and parts.get("linear") else []
    if displaced := parts.get("displacement"):
        names.append(f"{displaced['kind']} from up to {displaced['most_px']:.2g} px away")
    if body := parts.get("body"):
        names.append(f"a compact network{' trained against a discriminator' if body['stochastic'] else ''}")
    if learning and learning.noise:
        names.append("signal-dependent noise")
    if overlays := parts.get("overlays"):
        names.append(f"overlays recorded from {overlays} patches of the pairs")
    if impulses := parts.get("impulses"):
        names.append(f"impulses on {100 * impulses['rate']:.2g} % of the pixels")
    if regions := parts.get("regions"):
        names.append(f"{regions['density']:.3g} {regions['kind']} regions in a million pixels")
    if "jpeg" in parts:
        names.append(f"libjpeg with the files' tables, {parts['jpeg']['subsampling']}")
    if codec := parts.get("codec"):
        names.append(_coded(codec))
    return ", then ".join(names or ["nothing"])


def _coded(codec: Mapping[str, Any]) -> str:
    """Return a codec of whole images in words."""
    measure = "{} of {} colours" if codec["name"].startswith("GIF") else "{} at quality {}"
    words = measure.format(codec["name"], codec["quality"]) + (", a panned frame" if codec["panned"] else "")
    smaller = codec.get("smaller")
    if smaller is None:
        return words
    shares = " to ".join(sorted({f"{end(smaller['shares']):.2f}" for end in (min, max)}))
    stored = "" if codec["name"] == "PNG" else f" and stored as {words}"
    return f"scaled to {shares} of the size by {smaller['down']}{stored}, then back by {smaller['up']}"


def read_card(folder: Path) -> ModelCard:
    """Return the model card of `folder`; PipelineError for another version, or a field missing or of another type."""
    return from_json(ModelCard, read_metadata(folder, KIND, VERSION), folder / "store.json")


def composite_parameters(cards: Mapping[str, ModelCard], severity: float) -> dict[str, float]:
    """Return the true parameters of a condition's models (name → card), prefixed with model names for a composite."""
    if len(cards) == 1:
        return next(iter(cards.values())).true_parameters(severity)
    return {
        f"{model} {name}": value
        for model, card in cards.items()
        for name, value in card.true_parameters(card.severity_in_composite(severity)).items()
    }


@dataclass(frozen=True)
class DistortionSpec:
    """A distortion of the registry with the parameters of a model, or of a condition."""

    name: str  # of the condition, in a composite of the model: two models may have learned one distortion
    distortion: str
    level: int  # of the condition; 0 in a batch of varied severities, or of a composite
    parameters: Mapping[str, float]
