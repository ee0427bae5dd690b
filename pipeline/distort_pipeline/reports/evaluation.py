"""The HTML page of an evaluation: each generator against its learned distortion, in tables, charts and images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distort_pipeline.data.evaluations import KIND, QUALITY, VERSION, EvaluationMetadata, training_curve
from distort_pipeline.data.files import write_bytes
from distort_pipeline.metrics.c2st import (
    GOAL,
    POSITIVE_CONTROL_SCALE,
    RATIO_IMAGES,
    TOO_EASY,
    TSTR_GOAL,
    C2STReport,
    SeverityTSTR,
    TSTRResult,
)
from distort_pipeline.metrics.evaluation import Comparison, Evaluation, Row
from distort_pipeline.metrics.jsd_nss import NSS_FEATURES
from distort_pipeline.metrics.residuals import (
    CORRELATION_GOAL,
    FREQUENCIES,
    GRID_LAGS_PX,
    JPEG_BLOCK_PX,
    VARIANCE_GOAL,
    ResidualFigures,
)
from distort_pipeline.metrics.severity_sweep import FALLING_GOAL, STEPS, UNTOUCHED_GOAL_DB, SeveritySweep
from distort_pipeline.records import ModelVerdict
from distort_pipeline.reports.charts import WIDTH, histogram_chart, interval_plot, line_chart, scatter_chart
from distort_pipeline.reports.evaluation_results import (
    CHANNEL_PAIRS,
    CHANNELS,
    c2st_text,
    compared_in,
    model_metrics,
    parameters_text,
)
from distort_pipeline.reports.pages import PAGE_NAME, EmbeddedImage, embed, template

PLOTS = "plots"
SIDE_BY_SIDE_BYTES = 1_900_000  # of PNG in all: base64 adds a third, so the page stays below 3 MB
FAILING_NAMED = 3  # statistics in an objection
SEVERITY_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
FREQUENCY_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5)
SCATTERED = {  # statistic of an image: its label, and the least span of the axes
    "mean": ("mean of the residual, 8-bit levels", 2.0),
    "deviation": ("std of the residual, 8-bit levels", 4.0),
    "correlation": ("correlation between channels", 0.4),
    "psnr": ("PSNR against pristine, dB", 2.0),
}

# Chen et al. 2020, table I: rows generated, columns true, in the same order
PAPER_TABLE: Mapping[str, tuple[float, ...]] = {
    "jpeg": (0.0107, 0.0043, 0.2191, 0.0470),
    "jp2k": (0.0116, 0.0031, 0.2321, 0.0541),
    "white_noise": (0.1847, 0.2149, 0.0008, 0.0959),
    "pink_noise": (0.0195, 0.0317, 0.1377, 0.0062),
}
PAPER_CAVEAT = (
    "The paper does not state distortion levels, image sizes, bins or logarithm, so the tables are comparable in "
    "pattern but not number by number."
)


def write_plots(folder: Path, evaluation: Evaluation, c2st: C2STReport | None, *, models: Mapping[str, Path]) -> None:
    """Write each chart as an SVG file with a white ground into the folder `plots`; `models` are the models' folders."""
    for name, chart in _plots(evaluation, c2st, models):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" style="background:#fff" '
        write_bytes(folder / PLOTS / f"{name}.svg", chart.replace("<svg ", head, 1).encode())


def _plots(evaluation: Evaluation, c2st: C2STReport | None, models: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for name in evaluation.models:
        for kind, chart in {**histogram_charts(evaluation, name), **residual_charts(evaluation, name)}.items():
            yield f"{kind}_{name}", chart
        curve = training_curve(models[name])
        if len(curve) > 1:
            yield f"training_{name}", training_chart(name, curve)
    for name, chart in c2st_charts(c2st).items():
        yield f"c2st_{name}", chart


def write_page(folder: Path, evaluation: Evaluation, c2st: C2STReport | None, *, metadata: EvaluationMetadata) -> None:
    """Write the page into `folder`, with the side-by-side images found there."""
    images = {name: folder / "side_by_side" / f"{name}.png" for name in evaluation.models}
    embedded = embed([path for path in images.values() if path.exists()], SIDE_BY_SIDE_BYTES)
    shown = {name: embedded[path] for name, path in images.items() if path in embedded}
    write_bytes(folder / PAGE_NAME, render(evaluation, metadata, shown, c2st).encode())


def render(
    evaluation: Evaluation,
    metadata: EvaluationMetadata,
    shown: Mapping[str, EmbeddedImage],
    c2st: C2STReport | None = None,
) -> str:
    """Return the page as HTML; `shown` has side-by-side images by model."""
    return template("evaluation.html.j2").render(
        evaluation=evaluation,
        metadata=metadata,
        format=f"distort-pipeline/{KIND}, version {VERSION}",
        verdict=verdict(evaluation, c2st),
        remarks=remarks(evaluation, c2st),
        tables=tables(evaluation),
        caveat=PAPER_CAVEAT,
        in_the_paper=in_the_paper(evaluation.columns),
        models={name: model_metrics(evaluation, c2st, name) for name in evaluation.models},
        charts={name: histogram_charts(evaluation, name) for name in evaluation.models},
        residual_charts={name: residual_charts(evaluation, name) for name in evaluation.models},
        sweeps=evaluation.sweeps,
        sweep_charts={name: sweep_charts(name, sweep) for name, sweep in evaluation.sweeps.items()},
        sweep_goals={"falling": FALLING_GOAL, "untouched": UNTOUCHED_GOAL_DB, "steps": STEPS},
        parameters_text=parameters_text,
        c2st=c2st,
        c2st_charts=c2st_charts(c2st),
        c2st_text=c2st_text,
        tstr_text=tstr_text,
        positive_control=POSITIVE_CONTROL_SCALE,
        goals={"c2st": GOAL, "correlation": CORRELATION_GOAL, "variance": VARIANCE_GOAL},
        features=NSS_FEATURES,
        nearest_text=nearest_text,
        quality_names=QUALITY,
        shown=shown,
    )


def verdict(evaluation: Evaluation, c2st: C2STReport | None = None) -> tuple[str, str]:
    """Return 'good', 'unknown' or 'bad', and the verdict as a sentence."""
    models = list(evaluation.models)
    mismatched = [name for name in models if not evaluation.diagonal_dominant(name)]
    if mismatched:
        are = "is" if len(mismatched) == 1 else "are"
        return "bad", f"{len(mismatched)} of {len(models)} generators {are} mismatched: {', '.join(mismatched)}."
    subject, whose = ("The generator is", "its") if len(models) == 1 else (f"All {len(models)} generators are", "their")
    if len(evaluation.columns) > 1:
        sentence = f"{subject} nearest to {whose} learned distortion"
    else:
        sentence = f"{subject} nearer to {whose} learned distortion than the identity baseline"
    failing = {name: judgements[0] for name in models if (judgements := evaluation.failing(name))}
    told = [name for name in models if _c2st_is_bad(c2st, name)]
    diverse = [name for name in models if _diversity_unlike_true(evaluation, name)]
    for state, doubt, names in (
        (
            "bad",
            f"differ{'s' if len(models) == 1 else ''} from the truth",
            [f"{name} ({judgement})" for name, judgement in failing.items()],
        ),
        ("bad", f"the C2ST accuracy exceeds {GOAL:.0%}", told),
        ("unknown", "the sample diversity differs", diverse),
    ):
        if names:
            return state, f"{sentence}, but {doubt}: {', '.join(names)}."
    return "good", f"{sentence}."


def model_verdict(evaluation: Evaluation, c2st: C2STReport | None, name: str) -> ModelVerdict:
    """Return the verdict on one generator, for the corpora made with it."""
    row, result = evaluation.table[name], c2st.results.get(name) if c2st else None
    is_bad = not evaluation.diagonal_dominant(name) or evaluation.failing(name) or _c2st_is_bad(c2st, name)
    doubted = _diversity_unlike_true(evaluation, name)
    tested = (result.state, result.generated.share, result.generated.low, result.generated.high) if result else ()
    return ModelVerdict(
        "bad" if is_bad else "unknown" if doubted else "good",
        "; ".join(_objections(evaluation, c2st, name)),
        min(row, key=lambda column: row[column]),
        sum(name in image.comparisons for image in evaluation.images),
        *tested,
    )


def _c2st_is_bad(c2st: C2STReport | None, name: str) -> bool:
    return bool(c2st and name in c2st.results and c2st.results[name].state == "bad")


def remarks(evaluation: Evaluation, c2st: C2STReport | None = None) -> list[str]:
    """Return a sentence for each generator with objections."""
    sentences = {name: "; ".join(_objections(evaluation, c2st, name)) for name in evaluation.models}
    return [f"Generated {name} {objections}." for name, objections in sentences.items() if objections]


def nearest_text(evaluation: Evaluation, name: str) -> str:
    """Return the number of NSS features nearest to the learned distortion, and the names of the others."""
    all_features, dominant = len(NSS_FEATURES), evaluation.dominant_features(name)
    others = ", ".join(feature for feature in NSS_FEATURES if feature not in dominant)
    return f"{len(dominant)} of {all_features}; not {others}" if others else f"all {all_features}"


def _objections(evaluation: Evaluation, c2st: C2STReport | None, name: str) -> list[str]:
    bits, learned = evaluation.diagonal(name), evaluation.models[name].learned
    truth = f"true {learned} ({bits:.4f} bits)"
    objections = []
    if closer_distortions := evaluation.closer_distortions(name):
        nearer = ", ".join(f"{column} ({evaluation.table[name][column]:.4f})" for column in closer_distortions)
        objections.append(f"is nearer to true {nearer} than to {truth}")
    if closer_generators := evaluation.closer_generators(name):
        nearer = ", ".join(f"{other} ({evaluation.table[other][learned]:.4f})" for other in closer_generators)
        objections.append(f"is farther from {truth} than generated {nearer}")
    if not evaluation.beats_identity(name):
        objections.append(f"is no nearer to {truth} than the identity baseline ({evaluation.pristine[learned]:.4f})")
    if failing := evaluation.failing(name):
        more = f" and {len(failing) - FAILING_NAMED} more" if len(failing) > FAILING_NAMED else ""
        objections.append(f"differs from true {learned} in {', '.join(map(str, failing[:FAILING_NAMED]))}{more}")
    objections += _diversity_unlike_true(evaluation, name)
    result = c2st.results.get(name) if c2st else None
    if result and result.state == "bad":
        accuracy = result.generated
        interval = f"95 % interval {accuracy.low:.2f} to {accuracy.high:.2f}"
        objections.append(f"has a C2ST accuracy of {accuracy.share:.2f} ({interval}) against true {learned}")
    return objections


def _diversity_unlike_true(evaluation: Evaluation, name: str) -> list[str]:
    """Return objections to the sample diversity of a generator, compared with two true draws."""
    draws = evaluation.sample_diversity(name)
    objections = []
    if draws and not draws.independent:
        correlations = (
            f"the correlation of two draws is {draws.correlation:.2f}, of true draws {draws.true_correlation:.2f}"
        )
        objections.append(f"repeats its noise: {correlations}")
    if draws and not draws.variance_matches:
        objections.append(f"has a variance between draws of {draws.variance_ratio:.2f} times the true variance")
    return objections


@dataclass(frozen=True)
class Table:
    """Divergences in bits from true distortions, in columns: of generators and perhaps of the identity baseline."""

    rows: Mapping[str, Row]
    pristine: Row | None
    learned: Mapping[str, str]  # generator → column

    @property
    def all_rows(self) -> Mapping[str, Row]:
        """The rows, the identity baseline last."""
        return {**self.rows, **({"pristine": self.pristine} if self.pristine is not None else {})}

    def is_least_of_row(self, name: str, column: str) -> bool:
        """Return whether a generator is nearest to `column`; never for the identity baseline."""
        return name in self.rows and self.rows[name][column] == min(self.rows[name].values())

    def is_least_of_column(self, name: str, column: str) -> bool:
        """Return whether no row is nearer to `column` than `name`."""
        return self.all_rows[name][column] == min(row[column] for row in self.all_rows.values())


def tables(evaluation: Evaluation) -> dict[str, Table]:
    """Return the tables of mean and pooled divergences and the paper's table."""
    learned = {name: model.learned for name, model in evaluation.models.items()}
    paper = {name: dict(zip(PAPER_TABLE, row, strict=True)) for name, row in PAPER_TABLE.items()}
    return {
        "mean": Table(evaluation.table, evaluation.pristine, learned),
        "pooled": Table(evaluation.pooled_table, evaluation.pooled_identity, learned),
        "paper": Table(paper, None, {name: name for name in paper}),
    }


def in_the_paper(columns: Sequence[str]) -> bool:
    """Return whether the paper has any of these true distortions, at any level.

    >>> in_the_paper(["lens", "jpeg-3"]), in_the_paper(["lens"])
    (True, False)
    """
    return any(column == name or column.startswith(f"{name}-") for column in columns for name in PAPER_TABLE)


def tstr_text(result: TSTRResult | SeverityTSTR) -> str:
    """Return the outcome of TSTR in words."""
    if isinstance(result, SeverityTSTR) and result.mean_trtr <= 0:
        return "Not meaningful: severity cannot be learned from true tiles either."
    if result.images < RATIO_IMAGES:
        return f"No ratio: {result.images} photographs are too few, it takes {RATIO_IMAGES}."
    if not result.meaningful:
        return f"Not meaningful: TRTR is above {TOO_EASY:.0%}, so the task is too easy."
    low, high = result.ratio_interval
    reached = "reached" if low >= TSTR_GOAL else "not reached" if high < TSTR_GOAL else "within the interval"
    return (
        f"TSTR reaches {result.ratio:.1%} of TRTR (95 % interval {low:.1%} to {high:.1%} over {result.images} "
        f"photographs); the goal of {TSTR_GOAL:.0%} is {reached}."
    )


def histogram_charts(evaluation: Evaluation, name: str) -> dict[str, str]:
    """Return the histograms of one generator as SVG: with a linear and with a logarithmic axis."""
    model = evaluation.models[name]
    counts = {
        "pristine": model.pristine_histogram.tolist(),
        "true": model.true_histogram.tolist(),
        "generated": model.generated_histogram.tolist(),
    }
    return {
        "histogram": histogram_chart(counts, title=f"Histograms of {name}", log=False),
        "histogram_log": histogram_chart(counts, title=f"Histograms of {name}, logarithmic", log=True),
    }


def residual_charts(evaluation: Evaluation, name: str) -> dict[str, str]:
    """Return the charts of one generator as SVG: spectrum, block grid, and a chart for each of SCATTERED."""
    true, generated = evaluation.models[name].true_residual, evaluation.models[name].generated_residual
    spectrum = line_chart(
        {"true": true.amplitude.tolist(), "generated": generated.amplitude.tolist()},
        FREQUENCIES.tolist(),
        title=f"Amplitude spectrum of the residuals of {name}",
        x_label="cycles per pixel",
        y_label="amplitude, 8-bit levels",
        x_ticks=FREQUENCY_TICKS,
        log=True,
    )
    grid = line_chart(
        {"true": true.autocorrelation.tolist(), "generated": generated.autocorrelation.tolist()},
        range(1, GRID_LAGS_PX + 1),
        title=f"Autocorrelation of the residual's gradient, {name}",
        x_label="lag, px",
        y_label="autocorrelation of the gradient",
        x_ticks=range(0, GRID_LAGS_PX + 1, JPEG_BLOCK_PX),
    )
    images = [image.comparisons[name] for image in evaluation.images if name in image.comparisons]
    scattered = {
        statistic: scatter_chart(_points(images, statistic), title=f"{label}, {name}", label=label, least_span=span)
        for statistic, (label, span) in SCATTERED.items()
    }
    return {"spectrum": spectrum, "grid": grid, **scattered}


def _points(images: Sequence[Comparison], statistic: str) -> dict[str, list[tuple[float, float]]]:
    """Return (true, generated) of each image for an entry of SCATTERED, by channel or pair of channels."""
    if statistic == "psnr":
        psnr = [(image.quality.psnr_true, image.quality.psnr_generated) for image in images]
        return {"images": [(true, generated) for true, generated in psnr if true is not None and generated is not None]}
    true = [_components(image.true_residual, statistic) for image in images]
    generated = [_components(image.generated_residual, statistic) for image in images]
    names = CHANNEL_PAIRS if statistic == "correlation" else CHANNELS
    return {name: [(t[name], g[name]) for t, g in zip(true, generated, strict=True)] for name in names}


def _components(residual: ResidualFigures, statistic: str) -> dict[str, float]:
    if statistic == "correlation":
        return {pair: float(residual.correlation[indices]) for pair, indices in CHANNEL_PAIRS.items()}
    values = residual.mean if statistic == "mean" else np.sqrt(residual.variance)
    return dict(zip(CHANNELS, values.tolist(), strict=True))


def sweep_charts(name: str, sweep: SeveritySweep) -> dict[str, str]:
    """Return the charts of JSD_NSS over severity with the noise floor, and of PSNR over severity with true."""
    points = sweep.points()
    bits = line_chart(
        {
            "true": [level.floor_bits or 0.0 for level in sweep.levels],
            "generated": [level.bits for level in sweep.levels],
        },
        [level.point.severity for level in sweep.levels],
        title=f"JSD_NSS of {name} over severity",
        x_label="severity",
        y_label="JSD_NSS, bits",
        x_ticks=SEVERITY_TICKS,
    )
    psnr = line_chart(
        {
            "true": [result.true.psnr or 0.0 for result in points],
            "generated": [result.generated.psnr or 0.0 for result in points],
        },
        [result.point.severity for result in points],
        title=f"PSNR of {name} over severity",
        x_label="severity",
        y_label="PSNR, dB",
        x_ticks=SEVERITY_TICKS,
    )
    return {"bits": bits, "psnr": psnr}


def c2st_charts(c2st: C2STReport | None) -> dict[str, str]:
    """Return the C2ST accuracies with their intervals as SVG, by generator."""
    return {
        name: interval_plot(compared_in(result), goal=GOAL, title=f"C2ST accuracy of {name}")
        for name, result in (c2st.results if c2st else {}).items()
    }


def training_chart(name: str, curve: Sequence[tuple[int, float, float]]) -> str:
    """Return validation JSD_NSS over the training steps as SVG, beside the identity baseline."""
    steps, bits, identity = zip(*curve, strict=True)
    return line_chart(
        {"generated": bits, "pristine": identity},
        steps,
        title=f"Validation JSD_NSS of {name}",
        x_label="training step",
        y_label="JSD_NSS, bits",
        x_ticks=sorted({steps[0], steps[len(steps) // 2], steps[-1]}),
    )
