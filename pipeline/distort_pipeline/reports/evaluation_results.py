"""The results of an evaluation for programs and terminals. Equal figures give equal bytes.

results.csv has a line for each measured figure, described by `Figure`. docs/trust.md lists its statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distort_pipeline.data.evaluations import (
    DECIMALS,
    EvaluationMetrics,
    LevelMetrics,
    MidpointMetrics,
    ModelMetrics,
    NoiseFloorMetrics,
    SweepMetrics,
    TSTRMetrics,
)
from distort_pipeline.data.files import write_csv
from distort_pipeline.metrics.c2st import GOAL, POSITIVE_CONTROL_SCALE, C2STReport, C2STResult, SeverityTSTR, TSTRResult
from distort_pipeline.metrics.classifier import Accuracy, RankCorrelation
from distort_pipeline.metrics.evaluation import Evaluation, FeatureDivergences, QualityPair
from distort_pipeline.metrics.jsd_nss import JSD_NSS, NATS_PER_BIT, centres
from distort_pipeline.metrics.residuals import FREQUENCIES, ResidualFigures
from distort_pipeline.metrics.severity_sweep import LevelResult, SeverityPoint, SeveritySweep
from distort_pipeline.records import row
from distort_pipeline.reports.pages import in_bits, parameter_text

RESULTS = "results.csv"
CHANNELS = "RGB"
CHANNEL_PAIRS = {"R–G": (0, 1), "G–B": (1, 2), "R–B": (0, 2)}
CORNER = "generated / true"  # rows / columns of the table in a terminal


def metrics(evaluation: Evaluation, c2st: C2STReport | None = None) -> EvaluationMetrics:
    """Return the metrics of an evaluation."""
    tstr, severity = (c2st.tstr, c2st.severity_tstr) if c2st else (None, None)
    return EvaluationMetrics(
        table=evaluation.table,
        pristine=evaluation.pristine,
        models={name: model_metrics(evaluation, c2st, name) for name in evaluation.models},
        noise_floors={name: NoiseFloorMetrics(f.redraw, f.content) for name, f in evaluation.noise_floors.items()},
        images=len(evaluation.images),
        diagonal_dominant=sum(map(evaluation.diagonal_dominant, evaluation.models)),
        tstr=TSTRMetrics(tstr.tstr.share, tstr.trtr.share, **_ratio(tstr)) if tstr else None,
        severity_tstr={
            **{name: {"tstr": srcc.value, "trtr": severity.trtr[name].value} for name, srcc in severity.tstr.items()},
            **_ratio(severity),
        }
        if severity
        else None,
        sweeps={name: _sweep_metrics(sweep) for name, sweep in evaluation.sweeps.items()} or None,
    )


def _ratio(result: TSTRResult | SeverityTSTR) -> dict[str, Any]:
    """Return whether the ratio of TSTR to TRTR is meaningful, and if so the ratio and its interval."""
    if not result.meaningful:
        return {"meaningful": 0}
    low, high = result.ratio_interval
    return {"meaningful": 1, "ratio": result.ratio, "ratio_low": low, "ratio_high": high}


def model_metrics(evaluation: Evaluation, c2st: C2STReport | None, name: str) -> ModelMetrics:
    """Return the metrics of one generator."""
    model = evaluation.models[name]
    diversity = evaluation.sample_diversity(name)
    result = c2st.results.get(name) if c2st else None
    return ModelMetrics(
        jsd_nss=evaluation.diagonal(name),
        jsd_nss_nats=evaluation.diagonal(name) * NATS_PER_BIT,
        jsd_nss_pooled=evaluation.pooled_table[name][model.learned],
        jsd_nss_pristine=evaluation.pristine[model.learned],
        noise_floor=evaluation.noise_floors[model.learned].redraw,
        diagonal_dominant=int(evaluation.diagonal_dominant(name)),
        nearest_features=len(evaluation.dominant_features(name)),
        accepted=int(not evaluation.failing(name)),
        excess=max(judgement.excess for judgement in model.statistics),
        quality=model.quality,
        draw_correlation_generated=model.generated_draws.correlation if model.generated_draws else None,
        draw_correlation_true=model.true_draws.correlation if model.true_draws else None,
        draw_variance_ratio=diversity.variance_ratio if diversity else None,
        diversity_matches=int(diversity.independent and diversity.variance_matches) if diversity else None,
        c2st_accuracy=result.generated.share if result else None,
        c2st_accuracy_low=result.generated.low if result else None,
        c2st_accuracy_high=result.generated.high if result else None,
        c2st_negative_control=result.negative_control.share if result else None,
        c2st_positive_control=result.positive_control.share if result else None,
    )


def _sweep_metrics(sweep: SeveritySweep) -> SweepMetrics:
    return SweepMetrics(
        falling_levels_share=sweep.falling_levels_share,
        true_falling_levels_share=sweep.true_falling_levels_share,
        kept_falling_share=sweep.kept_falling_share,
        falling_share=sweep.falling_share,
        true_falling_share=sweep.true_falling_share,
        tiles=sweep.tiles,
        psnr_untouched=sweep.untouched_db,
        psnr_untouched_least=sweep.untouched_least_db,
        midpoints_nearest=sweep.midpoints_nearest,
        levels={
            _name(r.point): LevelMetrics(r.bits, r.identity_bits, QualityPair.of(r.generated, r.true), r.floor_bits)
            for r in sweep.levels
        },
        midpoints={
            _name(r.point): MidpointMetrics(
                r.bits, r.below_bits, r.above_bits, int(r.nearest), QualityPair.of(r.generated, r.true)
            )
            for r in sweep.midpoints
        },
    )


@dataclass(frozen=True)
class Figure:
    """A line of results.csv: one measured figure, of an image or of all images."""

    statistic: str
    value: float | None  # a line without value is left out
    generator: str = ""  # empty for a figure of the truth alone
    distortion: str = ""  # the true distortion
    severity: float | None = None  # in a sweep
    measured: str = ""  # kind of images: generated, pristine, true, true again, ...
    compared_with: str = ""  # kind of images
    component: str | float = ""  # NSS feature, channel, frequency, lag, bin, predicted class, parameters
    image: str = ""  # empty for all images
    low: float | None = None  # 95 % interval
    high: float | None = None
    images: int | None = None
    tiles: int | None = None


COLUMNS = (
    *("generator", "distortion", "severity", "measured", "compared_with", "statistic", "component", "image"),
    *("value", "low", "high", "images", "tiles"),
)


def write_results(folder: Path, evaluation: Evaluation, c2st: C2STReport | None) -> None:
    """Write results.csv into `folder`."""
    lines = (row(figure) for figure in figures(evaluation, c2st) if figure.value is not None)
    rounded = ({name: _rounded(value) for name, value in line.items()} for line in lines)
    write_csv(folder / RESULTS, COLUMNS, rounded)


def _rounded(value: object) -> object:
    return round(value, DECIMALS) if isinstance(value, float) else value


def figures(evaluation: Evaluation, c2st: C2STReport | None) -> Iterator[Figure]:
    """Yield every measured figure."""
    yield from _divergences(evaluation)
    for name in evaluation.models:
        yield from _quality(evaluation, name)
        yield from _acceptance(evaluation, name)
        yield from _residuals(evaluation, name)
        yield from _histograms(evaluation, name)
    for name, sweep in evaluation.sweeps.items():
        yield from _sweep_figures(sweep, name, evaluation.models[name].learned)
    if c2st:
        yield from _c2st(evaluation, c2st)


def _divergences(evaluation: Evaluation) -> Iterator[Figure]:
    """Yield the tables of all NSS features, and the noise floors."""
    rows = [("generated", name, table) for name, table in evaluation.feature_table.items()]
    for measured, name, table in [*rows, ("pristine", "", evaluation.identity_features)]:
        for column, features in table.items():
            yield from _features(features, measured, name, column)
    pooled = [("generated", name, pooled) for name, pooled in evaluation.pooled_table.items()]
    for measured, name, bits in [*pooled, ("pristine", "", evaluation.pooled_identity)]:
        for column, value in bits.items():
            yield Figure("jsd_pooled", value, name, column, None, measured, "true", JSD_NSS)
    for column, floor in evaluation.noise_floors.items():
        if floor.second_draw:
            yield from _features(floor.second_draw, "true again", "", column)
        yield Figure("jsd", floor.content, "", column, None, "true", "true on other images", JSD_NSS)


def _features(features: FeatureDivergences, measured: str, name: str, column: str) -> Iterator[Figure]:
    for feature, bits in features.items():
        yield Figure("jsd", bits, name, column, None, measured, "true", feature)


# Statistic, images measured and images compared with
QUALITY = {
    "psnr_generated": ("psnr", "generated", "pristine"),
    "psnr_true": ("psnr", "true", "pristine"),
    "psnr_difference": ("psnr_difference", "generated", "true"),
    "ssim_generated": ("ssim", "generated", "pristine"),
    "ssim_true": ("ssim", "true", "pristine"),
    "ssim_difference": ("ssim_difference", "generated", "true"),
}


def _quality(evaluation: Evaluation, name: str) -> Iterator[Figure]:
    """Yield the quality of each image, and the means."""
    model = evaluation.models[name]
    each = {i.image: i.comparisons[name].quality for i in evaluation.images if name in i.comparisons}
    for image, quality in {**each, "": model.quality}.items():
        for field, (statistic, measured, against) in QUALITY.items():
            value = getattr(quality, field)
            yield Figure(statistic, value, name, model.learned, None, measured, against, image=image)


def _residuals(evaluation: Evaluation, name: str) -> Iterator[Figure]:
    """Yield mean statistics of residuals and of two draws, and the moments of each image."""
    model = evaluation.models[name]
    kinds: list[tuple[str, str, ResidualFigures]] = [
        ("generated", "", model.generated_residual),
        ("true", "", model.true_residual),
    ]
    for image in evaluation.images:
        if comparison := image.comparisons.get(name):
            kinds.append(("generated", image.image, comparison.generated_residual))
            kinds.append(("true", image.image, comparison.true_residual))
    for measured, image_id, residual in kinds:
        for statistic, component, value in _statistics(residual, moments_alone=bool(image_id)):
            yield Figure(
                f"residual_{statistic}", value, name, model.learned, None, measured, "pristine", component, image_id
            )
    for measured, draws in (("generated", model.generated_draws), ("true", model.true_draws)):
        if draws:
            again = f"{measured} again"
            yield Figure("draw_correlation", draws.correlation, name, model.learned, None, measured, again)
            yield Figure("draw_variance", draws.variance, name, model.learned, None, measured, again)


def _acceptance(evaluation: Evaluation, name: str) -> Iterator[Figure]:
    """Yield the statistics of the acceptance test; the interval is that of accepted values."""
    learned = evaluation.models[name].learned
    for each in evaluation.models[name].statistics:
        figure = Figure("acceptance", each.difference, name, learned, None, "generated", "true", each.statistic)
        yield replace(figure, low=-each.threshold, high=each.threshold)


def _statistics(residual: ResidualFigures, *, moments_alone: bool) -> Iterator[tuple[str, str | float, float | None]]:
    """Yield the name, the component and the value of each statistic of a residual."""
    for index, channel in enumerate(CHANNELS):
        yield "mean", channel, float(residual.mean[index])
        yield "variance", channel, float(residual.variance[index])
    for pair, indices in CHANNEL_PAIRS.items():
        yield "correlation", pair, float(residual.correlation[indices])
    if moments_alone:
        return
    for frequency, amplitude in zip(FREQUENCIES.tolist(), residual.amplitude.tolist(), strict=True):
        yield "amplitude", frequency, amplitude
    for phase, step in enumerate(residual.grid.tolist()):
        yield "grid_step", phase, step
    for lag, correlation in enumerate(residual.autocorrelation.tolist(), start=1):
        yield "autocorrelation", lag, correlation
    yield "spectral_slope", "", residual.spectral_slope
    yield "blocking", "", residual.blocking


def _histograms(evaluation: Evaluation, name: str) -> Iterator[Figure]:
    """Yield the pooled histograms of JSD_NSS as shares; a component is the centre of a bin."""
    model = evaluation.models[name]
    kinds = {
        "pristine": model.pristine_histogram,
        "true": model.true_histogram,
        "generated": model.generated_histogram,
    }
    for measured, counts in kinds.items():
        for centre, share in zip(centres().tolist(), (counts / counts.sum()).tolist(), strict=True):
            yield Figure("histogram_share", share, name, model.learned, None, measured, component=centre)


def _sweep_figures(sweep: SeveritySweep, name: str, learned: str) -> Iterator[Figure]:
    for result in sweep.points():
        at = result.point
        kind = "level" if isinstance(result, LevelResult) else "midpoint"
        component = f"{kind} {parameters_text(at)}"
        if isinstance(result, LevelResult):
            others = (("pristine", result.identity_bits), ("true again", result.floor_bits))
        else:
            others = (("generated, level below", result.below_bits), ("generated, level above", result.above_bits))
        for measured, bits in (("generated", result.bits), *others):
            yield Figure("jsd", bits, name, learned, at.severity, measured, "true", component)
        quality = QualityPair.of(result.generated, result.true)
        for field, (statistic, measured, against) in QUALITY.items():
            yield Figure(statistic, getattr(quality, field), name, learned, at.severity, measured, against, component)


def _c2st(evaluation: Evaluation, c2st: C2STReport) -> Iterator[Figure]:
    for name, result in c2st.results.items():
        for measured, accuracy in compared_in(result).items():
            learned = evaluation.models[name].learned
            yield _interval(Figure("c2st_accuracy", accuracy.share, name, learned, None, measured, "true"), accuracy)
    if c2st.tstr:
        sources = (
            ("tstr", c2st.tstr.tstr, c2st.tstr.tstr_confusion),
            ("trtr", c2st.tstr.trtr, c2st.tstr.trtr_confusion),
        )
        for test, accuracy, confusion in sources:
            yield _interval(Figure(f"{test}_accuracy", accuracy.share, measured="true"), accuracy)
            for kind, counts in zip(c2st.tstr.kinds, confusion.tolist(), strict=True):
                for predicted, count in zip(c2st.tstr.kinds, counts, strict=True):
                    yield Figure(f"{test}_tiles", count, distortion=kind, measured="true", component=predicted)
    if c2st.severity_tstr:
        for test, correlations in (("tstr", c2st.severity_tstr.tstr), ("trtr", c2st.severity_tstr.trtr)):
            for column, correlation in correlations.items():
                figure = Figure(f"{test}_srcc", correlation.value, distortion=column, measured="true")
                yield _interval(figure, correlation)


def _interval(figure: Figure, result: Accuracy | RankCorrelation) -> Figure:
    """Return `figure` with the interval and the counts of a result."""
    return replace(figure, low=result.low, high=result.high, images=result.images, tiles=result.tiles)


def compared_in(result: C2STResult) -> dict[str, Accuracy]:
    """Return the C2ST accuracies by label: generated tiles and both controls, each against true tiles."""
    negative_control = "another true draw" if result.second_draw else "other true tiles"
    return {
        "generated": result.generated,
        negative_control: result.negative_control,
        f"true, residual × {POSITIVE_CONTROL_SCALE:g}": result.positive_control,
    }


def c2st_text(result: C2STResult) -> str:
    """Return the outcome of a classifier two-sample test in words.

    >>> half = Accuracy(0.5, 0.4, 0.6, 4, 80)
    >>> c2st_text(C2STResult(half, half, True, half))
    'inconclusive: the accuracy is within the goal, but the positive control is not detected either'
    """
    if result.state == "bad":
        return f"the accuracy exceeds the goal of {GOAL:.0%}"
    if result.state == "good":
        return f"the accuracy is within the goal of {GOAL:.0%}, and the positive control is detected"
    if result.generated.share > GOAL:
        return "inconclusive: the accuracy exceeds the goal, but its interval includes chance"
    return "inconclusive: the accuracy is within the goal, but the positive control is not detected either"


def parameters_text(point: SeverityPoint) -> str:
    """Return the parameters at a severity as text.

    >>> parameters_text(SeverityPoint(0.5, {"ratio": 102.203914}))
    'ratio 102.2'
    """
    return ", ".join(f"{name} {parameter_text(value)}" for name, value in point.parameters.items())


def text_table(values: EvaluationMetrics) -> tuple[str, ...]:
    """Return the table of JSD_NSS as aligned lines for a terminal."""
    columns = list(values.pristine)
    rows = [*values.table.items(), ("pristine", values.pristine)]
    first = max(len(CORNER), *(len(name) for name, _ in rows))
    formatted = {name: [in_bits(bits[column]) for column in columns] for name, bits in rows}
    widths = [max(map(len, cells)) for cells in zip(columns, *formatted.values(), strict=True)]
    return tuple(
        "  ".join([f"{name:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])
        for name, cells in {CORNER: columns, **formatted}.items()
    )


def sweep_text(sweep: SeveritySweep) -> str:
    """Return a severity sweep in one line, for a terminal."""
    bits = ", ".join(in_bits(result.bits) for result in sweep.levels)
    text = (
        f"JSD_NSS by level {bits}; PSNR falls from level to level in {sweep.falling_levels_share:.1%} of tiles "
        f"({sweep.true_falling_levels_share:.1%} for true), at every small step in {sweep.falling_share:.1%}"
    )
    if sweep.true_falling_share is not None:
        text += f" ({sweep.true_falling_share:.1%})"
    text += f"; {sweep.untouched_db:.1f} dB at severity 0"
    if sweep.midpoints:
        nearest = f"{sweep.midpoints_nearest} of {len(sweep.midpoints)} midpoints"
        text += f"; nearer than both neighbouring levels at {nearest}"
    return text


def _name(point: SeverityPoint) -> str:
    """Return a severity as a metric name.

    >>> _name(SeverityPoint(0.6000000000000001, {})), _name(SeverityPoint(1 / 3, {}))
    ('0.6', '0.333')
    """
    return f"{point.severity:.3g}"
