"""The evaluation on disk: its metadata, and its metrics.

evaluation/store.json         EvaluationMetadata and checksums
evaluation/metrics.json       EvaluationMetrics, the numbers for `dvc metrics show`
evaluation/results.csv        every measured figure in a line, see `reports/evaluation_results.py`
evaluation/plots/*.svg        the charts of the page, for `dvc plots show`
evaluation/side_by_side/      a PNG for each generator
evaluation/index.html         the page
evaluation/run.json           time: in no digest
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from distort_pipeline.data.files import from_json, read_json, read_metadata, write_json
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.evaluation import QualityPair, Row
from distort_pipeline.networks.backend import backend_name
from distort_pipeline.records import Json, ModelVerdict, digest, package_versions

KIND = "evaluation"
VERSION = 5
METRICS = "metrics.json"
DECIMALS = 6  # of bits: a hundredth of the smallest noise floor, coarser than differences between library versions
PACKAGES = ("keras", "numpy", "opencv-python-headless", "scipy")
QUALITY = tuple(column.name for column in fields(QualityPair))


@dataclass(frozen=True)
class EvaluatedModel:
    """A generator in an evaluation."""

    digest: str  # of the weights
    origin: str  # how it was made: fits, network, adversarial steps kept
    learned: str  # its true distortion
    verdict: ModelVerdict


@dataclass(frozen=True)
class TrueDistortion:
    """A true distortion in an evaluation, a level of the pair store."""

    distortion: str
    level: int
    parameters: Mapping[str, float]  # empty for external pairs
    external: bool


@dataclass(frozen=True)
class EvaluationMetadata:
    """The content of store.json, without format, version and checksums."""

    digest: str  # of metrics.json
    settings: Mapping[str, Any]  # all settings and inputs with an effect on the figures
    models: Mapping[str, EvaluatedModel]
    distortions: Mapping[str, TrueDistortion]  # by column of the table
    images: int
    too_small: int  # validation images left out
    pairs_digest: str
    manifest_digest: str
    packages: Mapping[str, str] = field(
        default_factory=lambda: package_versions((backend_name(), *PACKAGES))
    )  # name → version

    def content(self) -> dict[str, Json]:
        """Return the content of store.json."""
        counts = {"images": self.images, "too_small": self.too_small}
        fields_here = {name: entry for name, entry in asdict(self).items() if name not in counts}
        return {"format": f"distort-pipeline/{KIND}", "version": VERSION, **fields_here, "counts": counts}


@dataclass(frozen=True)
class ModelMetrics:
    """One generator against its learned distortion; None, and left out of the file, where not available."""

    jsd_nss: float  # bits, mean over images and draws, as the other divergences
    jsd_nss_nats: float
    jsd_nss_pooled: float  # of histograms summed over images
    jsd_nss_pristine: float  # identity baseline
    diagonal_dominant: int  # 0 or 1
    nearest_features: int  # diagonal-dominant NSS features, of twelve
    accepted: int  # 0 or 1: whether all statistics are within their thresholds
    excess: float  # of the statistic farthest out, in multiples of its threshold
    quality: QualityPair
    noise_floor: float | None = None  # None if deterministic
    draw_correlation_generated: float | None = None  # between the residuals of two draws
    draw_correlation_true: float | None = None
    draw_variance_ratio: float | None = None  # of a pixel from draw to draw, generated over true
    diversity_matches: int | None = None  # 0 or 1
    c2st_accuracy: float | None = None  # share of tiles; chance is 0.5
    c2st_accuracy_low: float | None = None  # of the 95 % interval
    c2st_accuracy_high: float | None = None
    c2st_negative_control: float | None = None
    c2st_positive_control: float | None = None


@dataclass(frozen=True)
class NoiseFloorMetrics:
    """Divergences in bits of a true distortion from itself."""

    redraw: float | None = None  # between two draws; None if deterministic: a redraw is identical
    between_content: float | None = None


@dataclass(frozen=True)
class TSTRMetrics:
    """Accuracies on true tiles after training on generated and on true tiles."""

    tstr: float
    trtr: float
    meaningful: int  # 0 or 1: whether the ratio says anything
    ratio: float | None = None
    ratio_low: float | None = None  # of the 95 % interval over images
    ratio_high: float | None = None


@dataclass(frozen=True)
class LevelMetrics:
    """A multi-level generator at a learned level, in bits."""

    jsd_nss: float
    jsd_nss_pristine: float
    quality: QualityPair
    noise_floor: float | None = None  # None if deterministic


@dataclass(frozen=True)
class MidpointMetrics:
    """A multi-level generator between two levels, in bits, and its output at either level against the same truth."""

    jsd_nss: float
    jsd_nss_level_below: float
    jsd_nss_level_above: float
    nearest: int  # 0 or 1
    quality: QualityPair


@dataclass(frozen=True, kw_only=True)
class SweepMetrics:
    """A severity sweep; shares are of `tiles`, PSNR in dB."""

    falling_levels_share: float  # PSNR falls from level to level
    true_falling_levels_share: float
    kept_falling_share: float | None = None  # of the tiles with falling true PSNR
    falling_share: float  # PSNR falls at every step of the scale
    true_falling_share: float | None = None
    tiles: int
    psnr_untouched: float
    psnr_untouched_least: float
    midpoints_nearest: int
    levels: Mapping[str, LevelMetrics]  # by severity
    midpoints: Mapping[str, MidpointMetrics]


@dataclass(frozen=True)
class EvaluationMetrics:
    """The content of metrics.json: numbers for `dvc metrics show`, independent of host and time."""

    table: Mapping[str, Row]  # model → true distortion → JSD_NSS in bits
    pristine: Row  # identity baseline
    models: Mapping[str, ModelMetrics]
    noise_floors: Mapping[str, NoiseFloorMetrics]  # by true distortion
    images: int
    diagonal_dominant: int  # models
    tstr: TSTRMetrics | None = None
    severity_tstr: Mapping[str, Mapping[str, float] | float] | None = None  # SRCC by distortion; ratio, meaningful
    sweeps: Mapping[str, SweepMetrics] | None = None  # by multi-level model

    def save(self, folder: Path) -> str:
        """Write metrics.json into `folder`, and return the digest of its content."""
        content = plain(self)
        write_json(folder / METRICS, content)
        return digest(content)

    @classmethod
    def load(cls, folder: Path) -> EvaluationMetrics:
        """Return the metrics in `folder`; PipelineError if missing or damaged."""
        path = folder / METRICS
        values = read_json(path)
        try:
            return cls(
                values["table"],
                values["pristine"],
                {name: ModelMetrics(**_nested(model)) for name, model in values["models"].items()},
                {name: NoiseFloorMetrics(**floor) for name, floor in values["noise_floors"].items()},
                int(values["images"]),
                int(values["diagonal_dominant"]),
                TSTRMetrics(**values["tstr"]) if "tstr" in values else None,
                values.get("severity_tstr"),
                {name: _sweep(sweep) for name, sweep in values["sweeps"].items()} if "sweeps" in values else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PipelineError(f"{path} is damaged ({error}); delete the evaluation and evaluate again") from None


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a line of metrics with its quality as a QualityPair."""
    quality = QualityPair(*(values.get(name) for name in QUALITY))
    return {**{name: value for name, value in values.items() if name not in QUALITY}, "quality": quality}


def _sweep(values: Mapping[str, Any]) -> SweepMetrics:
    levels = {severity: LevelMetrics(**_nested(level)) for severity, level in values["levels"].items()}
    midpoints = {severity: MidpointMetrics(**_nested(level)) for severity, level in values["midpoints"].items()}
    return SweepMetrics(**{**values, "levels": levels, "midpoints": midpoints})


def plain(value: Any) -> Any:
    """Return `value` as plain JSON: numbers rounded, without None entries, a QualityPair's values in its parent."""
    if is_dataclass(value):
        flat: dict[str, object] = {}
        for column in fields(value):
            entry = getattr(value, column.name)
            flat |= vars(entry) if isinstance(entry, QualityPair) else {column.name: entry}
        return plain(flat)
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items() if entry is not None}
    return round(value, DECIMALS) if isinstance(value, float) else value


def verdicts_in(folder: Path) -> dict[str, ModelVerdict]:
    """Return digest of the weights → verdict of each generator of the evaluation in `folder`."""
    models = read_metadata(folder, KIND, VERSION)["models"]
    evaluated = (from_json(EvaluatedModel, model, folder / "store.json") for model in models.values())
    return {model.digest: model.verdict for model in evaluated}


def write_run(folder: Path, seconds: float) -> None:
    """Write run.json into `folder`."""
    write_json(folder / "run.json", {"seconds": round(seconds, 1)})


def training_curve(model: Path) -> list[tuple[int, float, float]]:
    """Return step, JSD_NSS and identity baseline of each logged validation of a model folder; empty without log."""
    columns = []
    for name in ("jsd_nss", "jsd_nss_pristine"):
        path = model / "live" / "plots" / "metrics" / f"{name}.tsv"
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            columns.append({int(row["step"]): float(row[name]) for row in csv.DictReader(file, delimiter="\t")})
    bits, identity = columns
    return [(step, bits[step], identity[step]) for step in sorted(bits.keys() & identity.keys())]
