"""The metadata of a corpus: its store.json, and the report of each batch in reports/."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distort_pipeline.data.arrays import read_table
from distort_pipeline.data.builds import restore_replaced
from distort_pipeline.data.conditions import Condition, Request
from distort_pipeline.data.files import from_json, read_json, read_metadata, to_json, write_json
from distort_pipeline.data.leases import Ledger
from distort_pipeline.data.plans import CorpusPlan, TileOverlap, overlap
from distort_pipeline.data.remote import is_remote
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import ImageRecord, Json, Judgement, ModelVerdict, SampleRecord, canonical, digest

KIND = "corpus"
VERSION = 6
REPORT_FORMAT = "distort-pipeline/report"
EXTENDED_FROM = "extended_from"  # in the settings of an extended corpus: its earlier counts


@dataclass(frozen=True)
class CorpusSettings:
    """All settings and inputs that decide the bytes of a corpus."""

    format: str
    version: int
    generate: Mapping[str, Any]  # the section `generate` of params.yaml without the settings of the run
    models: Mapping[str, str]  # name → digest of the weights
    manifest_digest: str
    codecs: Mapping[str, str]  # name → version

    @property
    def counts(self) -> tuple[int, ...]:
        """The samples of the corpus, after those before each extension, see `plans.sample_runs`."""
        return (*self.generate.get(EXTENDED_FROM, ()), int(self.generate["count"]))

    def is_extension_of(self, other: CorpusSettings) -> bool:
        """Return whether a corpus of these settings is that of `other` with more samples."""

        def without_counts(settings: CorpusSettings) -> CorpusSettings:
            generate = {k: value for k, value in settings.generate.items() if k not in ("count", EXTENDED_FROM)}
            return dataclasses.replace(settings, generate=generate)

        return canonical(to_json(without_counts(self))) == canonical(to_json(without_counts(other)))

    @classmethod
    def of_finished(cls, out: Path) -> CorpusSettings | None:
        """Return the settings of the finished local corpus at `out`; None if there is none."""
        if is_remote(out):
            return None
        restore_replaced(out)
        try:
            return CorpusMetadata.load(out).settings
        except PipelineError:  # nothing, or another store: a matter for `StagedStore`
            return None

    @property
    def digest(self) -> str:
        """The digest of all settings."""
        return digest(to_json(self))

    @property
    def samples_per_shard(self) -> int:
        """The number of samples of a batch, the last of a condition excepted."""
        return int(self.generate["samples_per_shard"])

    @property
    def tiles_per_chunk(self) -> int:
        """The number of tiles decompressed together."""
        return int(self.generate["tiles_per_chunk"])


@dataclass(frozen=True)
class ConditionMetadata:
    """A condition of a corpus, see `data/conditions.py`."""

    distortion: str
    models: tuple[str, ...]  # a single model, or the models of a composite in the order of application
    level: int
    request: Request
    sample_truths: bool  # whether each batch has a truth file of its own


@dataclass(frozen=True)
class ModelLevel:
    """A level learned by a model."""

    level: int
    parameters: Mapping[str, float]  # of the true distortion; empty for external pairs
    severity: float


@dataclass(frozen=True)
class ModelMetadata:
    """A model of a corpus."""

    digest: str  # of the weights
    distortion: str  # that it learned; its own name may be another
    external: bool  # whether it was trained on external pairs, without an algorithm
    origin: str  # how it was made: fits, network, adversarial steps kept
    levels: tuple[ModelLevel, ...]
    random: bool  # whether the output depends on the seed
    grey: bool  # whether it was trained on grey images only
    evaluation: ModelVerdict | None = None  # of the evaluation beside the models; None without


@dataclass(frozen=True)
class CorpusCounts:
    """The counts of a corpus."""

    samples: int
    tiles: int  # reference tiles
    tiles_available: int
    images: int
    batches: int
    flagged: int  # rejected batches
    duplicates: int  # samples with the pixels of another sample


@dataclass(frozen=True)
class CorpusMetadata:
    """The store.json of a corpus."""

    format: str
    version: int
    digest: str  # of settings, pixels, records, reports and truth
    settings: CorpusSettings
    tile_px: int | None  # None for whole images
    tile_shards: int
    conditions: Mapping[str, ConditionMetadata]  # by name, in the order of the samples
    samples: Mapping[str, int]  # by condition
    batches: Mapping[str, int]  # by condition
    counts: CorpusCounts
    overlap: TileOverlap
    models: Mapping[str, ModelMetadata]
    licences: Mapping[str, int]  # licence → source images
    packages: Mapping[str, str]  # name → version
    codecs: Mapping[str, str]  # name → version
    manifest_digest: str
    left_out: Mapping[str, str] = field(default_factory=dict)  # path of an unused image → reason

    @classmethod
    def load(cls, folder: Path) -> CorpusMetadata:
        """Return the metadata of the corpus in `folder`; PipelineError if missing, damaged or of another version."""
        path = folder / "store.json"
        metadata = from_json(cls, read_metadata(folder, KIND, VERSION), path)
        if not set(metadata.conditions) == set(metadata.samples) == set(metadata.batches):
            raise PipelineError(f"{path} is damaged: its conditions, samples and batches are of different names")
        return metadata

    def save(self, folder: Path) -> None:
        """Write the store.json of an unfinished corpus, for its page."""
        write_json(folder / "store.json", self.to_json())

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object that `load` reads."""
        return dataclasses.asdict(self)


def describe_corpus(
    work: Path,
    settings: CorpusSettings,
    plan: CorpusPlan,
    *,
    models: Mapping[str, ModelMetadata],
    images: Sequence[ImageRecord],
    left_out: Mapping[str, str],
    packages: Mapping[str, str],
) -> CorpusMetadata:
    """Return the metadata of the finished corpus in the folder `work`, cut from `images`."""
    generate = settings.generate
    shards = plan.tile_shards(settings.samples_per_shard)
    names = [batch.name for batch in plan.batches]
    entries = Ledger(work).entries(shards + names)
    records = read_table([work / "records" / f"{name}.parquet" for name in names], SampleRecord)
    sizes: dict[Condition, list[int]] = {}  # condition → samples of each batch
    for batch in plan.batches:
        sizes.setdefault(batch.condition, []).append(len(batch.samples))
    return CorpusMetadata(
        format=f"distort-pipeline/{KIND}",
        version=VERSION,
        digest=digest([dataclasses.asdict(settings), [entry["digest"] for entry in entries]]),
        settings=settings,
        tile_px=None if generate["whole_images"] else generate["tile_px"],
        tile_shards=len(shards),
        conditions={
            condition.name: ConditionMetadata(
                condition.distortion,
                condition.models,
                condition.level,
                condition.request,
                sample_truths=not condition.fixed_severity,
            )
            for condition in sizes
        },
        samples={condition.name: sum(counts) for condition, counts in sizes.items()},
        batches={condition.name: len(counts) for condition, counts in sizes.items()},
        counts=CorpusCounts(
            samples=len(records),
            tiles=len(plan.tiles),
            tiles_available=plan.available_tiles,
            images=len({image.image_digest for image in images}),
            batches=len(names),
            flagged=sum(entry.get("accepted") is False for entry in entries),
            duplicates=len(records) - len(records.column("pixel_digest").unique()),
        ),
        overlap=overlap(plan.tiles, align_px=generate["crop_align"]),
        models=models,
        licences=dict(Counter(image.licence for image in images)),
        packages=packages,
        codecs=settings.codecs,
        manifest_digest=settings.manifest_digest,
        left_out=left_out,
    )


@dataclass(frozen=True)
class Range:
    """The ends of a range."""

    least: float
    most: float


@dataclass(frozen=True)
class Divergence:
    """JSD_NSS from the truth: of the same tiles (paired), else of the model's validation tiles (unpaired)."""

    jsd_bits: float
    jsd_nats: float
    threshold_bits: float | None  # None where the batch is not judged
    samples: int  # compared
    images: int  # of these samples
    identity_bits: float  # the same of the pristine tiles


@dataclass(frozen=True)
class NoiseFloors:
    """Divergences of the true distortion from itself, in bits."""

    redraw_bits: float | None  # between two draws on the same tiles; None if deterministic: a redraw is identical
    between_content_bits: float | None  # None with a single image


@dataclass(frozen=True)
class MetricSpread:
    """A full-reference metric over the samples of a batch.

    `true_mean` is over the true distortions, `paired_mean` over the generated samples of the same tiles, so that
    severity and content agree; None without a truth. There an identical tile counts with a PSNR of 60 dB.
    """

    mean: float
    std: float
    min: float
    max: float
    paired_mean: float | None
    true_mean: float | None


@dataclass(frozen=True)
class PooledHistograms:
    """The JSD_NSS histograms (103) pooled over tiles with a true distortion, or over all tiles if none has one."""

    pristine: tuple[int, ...]
    true: tuple[int, ...]
    generated: tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """The agreement of requested and reached quality."""

    mean_abs_error: float
    spearman: float | None  # SRCC; None for a single requested value


@dataclass(frozen=True)
class TargetAgreement:
    """Requested and reached quality of a batch."""

    measure: str
    least: float  # of the requested values
    most: float
    reached_mean: float
    mean_abs_error: float
    spearman: float | None
    severity_clipped: float  # share of samples clipped at severity 0 or the model's highest
    resampled: float  # share of targets drawn again because the tile could not reach the first
    unclipped: Agreement | None  # of the other samples


@dataclass(frozen=True)
class BatchReport:
    """The statistics of a batch, and its acceptance."""

    format: str
    version: int
    distortion: str
    batch: int  # number within its condition
    samples: int
    tiles: int
    images: int
    tile_px: int | None  # None for several sizes
    level: int
    severity: Range
    parameters: Mapping[str, Any]  # of the true distortion: a value, or [minimum, maximum] over the samples
    external: bool  # whether a model was trained on external pairs
    model: str
    precision: str
    comparison: str  # "paired", "unpaired", or "none": no truth at this severity
    divergence: Divergence | None  # None without a truth of any kind
    false_alarms: float  # of all statistics together, among batches of the truth
    statistics: tuple[Judgement, ...]  # empty without a comparison
    accepted: bool | None  # None without a comparison
    reasons: tuple[str, ...]  # of a rejection: the failing statistics, the farthest out first
    noise_floors: NoiseFloors
    against: Mapping[str, float]  # bits from pristine and from each true distortion of the same tiles
    against_levels: Mapping[str, float]  # bits from each level of the true distortion
    psnr: MetricSpread | None
    ssim: MetricSpread | None
    clipped_fraction: float  # of pixel values at 0 or 255 that are not so in the pristine tile
    duplicates: int
    histograms: PooledHistograms
    target: TargetAgreement | None = None  # None where a severity was requested

    @classmethod
    def load(cls, path: Path) -> BatchReport:
        """Return the report at `path`; PipelineError if missing, damaged or of another version."""
        document = read_json(path)
        if not isinstance(document, dict) or document.get("format") != REPORT_FORMAT:
            raise PipelineError(f"{path} is not a {REPORT_FORMAT} document")
        if document.get("version") != VERSION:
            raise PipelineError(f"{path} is of version {document.get('version')!r}; this program reads {VERSION} only")
        return from_json(cls, document, path)

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object that `load` reads."""
        fields = dataclasses.asdict(self)
        return fields if self.target else {name: value for name, value in fields.items() if name != "target"}

    def save(self, path: Path) -> None:
        """Write the report to `path`."""
        write_json(path, self.to_json())
