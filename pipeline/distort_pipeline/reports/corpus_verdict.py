"""The verdict on a corpus, from its batch reports: a summary of each distortion, and remarks of caution."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from distort_pipeline.data.corpus_metadata import BatchReport, CorpusMetadata, MetricSpread, TargetAgreement
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Judgement

Pair = tuple[float | None, float | None]  # generated, true

MANY_CLIPPED = 0.05  # share of a distortion's samples; smaller shares appear in the tables only


@dataclass(frozen=True)
class BatchRow:
    """A batch's report with its names on the page."""

    report: BatchReport
    distortion: str
    level: int | None  # None if its distortion has a single level
    number: int
    image: Path  # of its side-by-side image, which may be missing

    @property
    def name(self) -> str:
        """The batch's displayed name."""
        level = "" if self.level is None else f" level {self.level},"
        return f"{self.distortion}{level} {self.number}"

    @property
    def flagged(self) -> bool:
        """Whether it is rejected."""
        return self.report.accepted is False

    @property
    def state(self) -> str:
        """'accepted', 'rejected' or 'not judged'."""
        return {True: "accepted", False: "rejected", None: "not judged"}[self.report.accepted]

    @property
    def jsd(self) -> float | None:
        """JSD_NSS in bits from the truth; None without a truth."""
        return self.report.divergence.jsd_bits if self.report.divergence else None

    @property
    def worst(self) -> Judgement | None:
        """The statistic farthest out; None if it is not judged."""
        return worst_of(self.report.statistics)

    @property
    def key(self) -> str:
        """The stem of the batch's file names."""
        return self.image.stem

    @property
    def link(self) -> str:
        """The relative URL of the side-by-side image."""
        return f"{quote(self.image.parent.name)}/{quote(self.image.name)}"


def worst_of(judgements: Iterable[Judgement]) -> Judgement | None:
    """Return the judgement farthest out, in multiples of its threshold; None without any."""
    return max(judgements, key=lambda judgement: judgement.excess, default=None)


def read_batches(folder: Path) -> list[BatchRow]:
    """Return the reports in `folder`, by distortion, level and number."""
    reports = {path: BatchReport.load(path) for path in folder.glob("*.json")}
    levels = Counter(name for name, _ in {(report.distortion, report.level) for report in reports.values()})
    rows = [
        BatchRow(
            report=report,
            distortion=report.distortion,
            level=report.level if levels[report.distortion] > 1 else None,
            number=report.batch,
            image=path.with_suffix(".png"),
        )
        for path, report in reports.items()
    ]
    return sorted(rows, key=lambda row: (row.distortion, row.level or 0, row.number))


@dataclass(frozen=True)
class Summary:
    """The batches of a distortion, or of one of its levels: means weighted by samples, divergences in bits."""

    name: str  # of the distortion
    batches: Sequence[BatchRow]
    flagged: Sequence[BatchRow]  # rejected batches
    samples: int
    severity: float | None  # mean of the highest of each batch
    jsd: float | None
    worst: Judgement | None  # the statistic farthest out of all batches
    comparisons: Sequence[str]
    noise_floor: float | None
    between_content_baseline: float | None
    duplicates: int
    metrics: Mapping[str, Pair]
    against: Mapping[str, float]  # pristine, and each true distortion of the same tiles
    against_levels: Mapping[str, float]  # each true level
    identity: float | None  # baseline of a distortion without a true distortion of the same tiles
    external: bool
    levels: Mapping[int, Summary]  # mildest first; empty for a single level
    targets: Sequence[tuple[BatchRow, TargetAgreement]]
    histograms: Mapping[str, Sequence[int]]  # pooled

    @property
    def state(self) -> str:
        """'rejected' with a rejected batch, 'not judged' without a truth for one, else 'accepted'."""
        judged = all(batch.report.accepted is not None for batch in self.batches)
        return "rejected" if self.flagged else "accepted" if judged else "not judged"

    @property
    def nearest(self) -> str | None:
        """The nearest of `against`; None without a true distortion of the same tiles."""
        return _nearest(self.against) if self.name in self.against else None

    @property
    def nearest_level(self) -> int | None:
        """The nearest of `against_levels`."""
        return int(_nearest(self.against_levels)) if self.against_levels else None

    @property
    def no_better_than_identity(self) -> bool:
        """Whether generated images are no nearer to true ones than pristine images are."""
        return self.identity is not None and self.jsd is not None and self.jsd >= self.identity

    @property
    def is_undecided(self) -> bool:
        """Whether it is no nearer than the identity baseline by a difference that other content alone can make.

        Without a truth of the same tiles, both are distances from validation images, and depend on their content.
        """
        if self.jsd is None or self.identity is None or self.between_content_baseline is None:
            return False
        return 0 <= self.jsd - self.identity <= self.between_content_baseline

    @property
    def is_mismatched(self) -> bool:
        """Whether it is nearer to another distortion, or clearly no nearer than the identity baseline."""
        return self.nearest not in (None, self.name) or (self.no_better_than_identity and not self.is_undecided)

    @property
    def clipped_share(self) -> float:
        """The share of samples clipped at severity 0 or the model's highest; 0 without quality targets."""
        samples = sum(batch.report.samples for batch, _ in self.targets)
        clipped = sum(target.severity_clipped * batch.report.samples for batch, target in self.targets)
        return clipped / samples if samples else 0.0


def _nearest(bits: Mapping[str, float]) -> str:
    return min(bits, key=lambda name: bits[name])


def summaries_of(batches: Sequence[BatchRow]) -> list[Summary]:
    """Return the summary of each distortion, by name."""
    names = sorted({batch.distortion for batch in batches})
    return [summary([batch for batch in batches if batch.distortion == name], by_level=True) for name in names]


def summary(batches: Sequence[BatchRow], *, by_level: bool = False) -> Summary:
    """Return the summary of batches of one distortion, `by_level` with a summary of each of several levels."""
    name = batches[0].distortion
    against = _means(batches, lambda report: report.against)
    levels = sorted({batch.level for batch in batches if batch.level is not None}) if by_level else []
    return Summary(
        name=name,
        batches=batches,
        flagged=[batch for batch in batches if batch.flagged],
        samples=sum(batch.report.samples for batch in batches),
        severity=_mean(batches, lambda report: report.severity.most),
        jsd=_mean(batches, lambda report: report.divergence.jsd_bits if report.divergence else None),
        worst=worst_of(batch.worst for batch in batches if batch.worst),
        comparisons=sorted({batch.report.comparison for batch in batches}),
        noise_floor=_mean(batches, lambda report: report.noise_floors.redraw_bits),
        between_content_baseline=_mean(batches, lambda report: report.noise_floors.between_content_bits),
        duplicates=sum(batch.report.duplicates for batch in batches),
        metrics=_metrics(batches),
        against=against,
        against_levels=_means(batches, lambda report: report.against_levels),
        identity=None if name in against else _mean(batches, _identity_bits),
        external=any(batch.report.external for batch in batches),
        levels={level: summary([batch for batch in batches if batch.level == level]) for level in levels},
        targets=[(batch, target) for batch in batches if (target := batch.report.target)],
        histograms=_pooled(batches),
    )


def _identity_bits(report: BatchReport) -> float | None:
    return report.divergence.identity_bits if report.divergence else None


def _metrics(batches: Sequence[BatchRow]) -> dict[str, Pair]:
    """Return PSNR and SSIM, generated and true, over samples with a true image, or over all if none has one."""

    def means(spread: Callable[[BatchReport], MetricSpread | None]) -> Pair:
        paired, true, mean = (
            _mean(batches, lambda report, name=name: getattr(spread(report), name, None))  # type: ignore[misc]
            for name in ("paired_mean", "true_mean", "mean")
        )
        return mean if paired is None else paired, true

    return {"psnr": means(lambda report: report.psnr), "ssim": means(lambda report: report.ssim)}


def _pooled(batches: Iterable[BatchRow]) -> dict[str, list[int]]:
    """Return the summed histograms of the batches by kind."""
    pooled = {
        name: [
            sum(column) for column in zip(*(getattr(batch.report.histograms, name) for batch in batches), strict=True)
        ]
        for name in ("pristine", "true", "generated")
    }
    return {name: counts for name, counts in pooled.items() if any(counts)}


def _means(batches: Sequence[BatchRow], values: Callable[[BatchReport], Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each of the named `values`, over the batches with that name."""
    names = dict.fromkeys(name for batch in batches for name in values(batch.report))
    means = {name: _mean(batches, lambda report, name=name: values(report).get(name)) for name in names}  # type: ignore[misc]
    return {name: mean for name, mean in means.items() if mean is not None}


def _mean(batches: Sequence[BatchRow], value: Callable[[BatchReport], float | None]) -> float | None:
    """Return the mean of a value of the reports over batches, weighted by samples; None if no batch has a value."""
    known = [(number, batch.report.samples) for batch in batches if (number := value(batch.report)) is not None]
    return statistics.fmean(*zip(*known, strict=True)) if known else None


def findings(corpus: Path) -> list[str]:
    """Return the verdict on the corpus in the folder `corpus`, and remarks, a sentence each; damage is one of them."""
    try:
        batches = read_batches(corpus / "reports")
    except PipelineError as damage:
        return [f"Its reports cannot be read: {damage}; `verify --repair` makes them again."]
    metadata, summaries = CorpusMetadata.load(corpus), summaries_of(batches)
    return [verdict(metadata, batches, summaries)[1], *remarks(metadata, batches, summaries)]


def verdict(metadata: CorpusMetadata, batches: Sequence[BatchRow], summaries: Iterable[Summary]) -> tuple[str, str]:
    """Return 'good', 'bad' or 'unknown', and the verdict as a sentence, with the statistic farthest out.

    Thresholds hold a batch against the truth. Missing reports, batches without a truth, distortions nearer to another
    distortion or no nearer than the identity baseline, and content too unlike the model's make the verdict 'unknown'.
    A model that failed in its evaluation makes it 'bad'.
    """
    total, rejected = len(batches), [batch for batch in batches if batch.flagged]
    mismatched = [summary.name for summary in summaries if summary.is_mismatched]
    undecided = [summary.name for summary in summaries if summary.is_undecided]
    failed = [name for name, model in metadata.models.items() if model.evaluation and model.evaluation.state == "bad"]
    missing, unjudged = max(0, metadata.counts.batches - total), sum(batch.report.accepted is None for batch in batches)
    if not batches:
        return "unknown", "No batch has a report, so nothing is known about this corpus."
    if rejected:
        names = _named(rejected)
        partly = f"{len(rejected)} of {total} batches {'is' if len(rejected) == 1 else 'are'} rejected ({names})"
        fully = f"All {total} batches are rejected" if total > 1 else f"The only batch is rejected ({names})"
        sentence = fully if len(rejected) == total else partly
        worst = worst_of(batch.worst for batch in rejected if batch.worst)
        sentence += f"; farthest out is {worst}." if worst else "."
    elif unjudged:
        these = (
            f"{unjudged} of {total} batches {'is' if unjudged == 1 else 'are'}" if total > 1 else "The only batch is"
        )
        sentence = f"{these} not judged: there is no truth at "
        sentence += "this severity, or too few validation photographs."
    else:
        sentence = f"All {total} batches are accepted." if total > 1 else "The only batch is accepted."
    if mismatched and not rejected:
        are = "is" if len(mismatched) == 1 else "are"
        sentence = f"{sentence.removesuffix('.')}, but {', '.join(mismatched)} {are} mismatched: nearer to another "
        sentence += "distortion than to the learned one, or no nearer than the identity baseline."
    elif undecided and not rejected:
        sentence = f"{sentence.removesuffix('.')}, but these images differ from the model's validation images more in "
        sentence += f"content than by the distortion: {', '.join(undecided)} cannot be judged."
    if failed:
        whose = ", ".join(failed)
        sentence = (
            f"{sentence.removesuffix('.')}; in its evaluation {whose} failed: {_objections(metadata, failed[0])}."
        )
    if missing:
        sentence += f" {missing} more {'has' if missing == 1 else 'have'} no report."
    doubtful = missing or mismatched or undecided or unjudged
    return "bad" if rejected or failed else "unknown" if doubtful else "good", sentence


def _named(batches: Sequence[BatchRow]) -> str:
    """Return each distortion of `batches` once, with its levels, or with the number of batches."""
    names = []
    for distortion in dict.fromkeys(batch.distortion for batch in batches):
        those = [batch for batch in batches if batch.distortion == distortion]
        levels = sorted({batch.level for batch in those if batch.level is not None})
        if levels:
            names.append(f"{distortion} level{'s' if len(levels) > 1 else ''} {', '.join(map(str, levels))}")
        else:
            names.append(distortion if len(those) == 1 else f"{distortion} {len(those)} times")
    return "; ".join(names)


def _objections(metadata: CorpusMetadata, name: str) -> str:
    evaluation = metadata.models[name].evaluation
    return evaluation.objections if evaluation else ""


def remarks(metadata: CorpusMetadata, batches: Sequence[BatchRow], summaries: Iterable[Summary]) -> list[str]:
    """Return remarks of caution, a sentence each."""
    grey = [name for name, model in metadata.models.items() if model.grey]
    sentences = [f"The model of {name} was trained on grey images only: it did not learn colour." for name in grey]
    shared, tiles = metadata.overlap, metadata.counts.tiles
    if shared.tiles_with_overlap:
        sentences.append(
            f"{shared.tiles_with_overlap} of {tiles} tiles share pixels with another tile of their image, "
            f"{shared.mean_fraction:.0%} of a tile on average: samples are not independent. --max-overlap bounds it."
        )
    for summary in summaries:
        name = summary.name
        if summary.no_better_than_identity:
            content = summary.between_content_baseline if summary.is_undecided else None
            sentences.append(
                f"Generated {name} is no nearer to its model's true images ({summary.jsd:.4f} bits) than "
                f"the identity baseline ({summary.identity:.4f})"
                + ("." if content is None else f", by less than other content makes ({content:.4f}).")
            )
        elif summary.nearest is not None and summary.nearest != name:
            nearest = "the pristine images" if summary.nearest == "pristine" else f"true {summary.nearest}"
            sentences.append(
                f"Generated {name} is nearer to {nearest} ({summary.against[summary.nearest]:.4f} bits) than to "
                f"true {name} ({summary.against[name]:.4f})."
            )
        if summary.clipped_share >= MANY_CLIPPED:
            sentences.append(
                f"{100 * summary.clipped_share:.0f} % of the samples of {name} are clipped at severity 0 or the "
                "highest: no severity is nearer to the requested quality."
            )
        if summary.duplicates:
            sentences.append(f"{name} has {summary.duplicates} duplicate samples.")
    counts = {
        "batches": (metadata.counts.batches, len(batches)),
        "samples": (metadata.counts.samples, sum(batch.report.samples for batch in batches)),
        "flagged": (metadata.counts.flagged, sum(batch.flagged for batch in batches)),
    }
    return sentences + [
        f"The corpus counts {counted} {name}, its reports {reported}: store.json and reports do not match."
        for name, (counted, reported) in counts.items()
        if counted != reported
    ]
