"""The HTML page of an evaluation: each generator against its learned distortion, in tables, charts and images."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from markupsafe import Markup

from distort_pipeline.data.files import write_bytes
from distort_pipeline.metrics.c2st import GOAL, POSITIVE_CONTROL_SCALE, C2STReport
from distort_pipeline.metrics.evaluation import Evaluation
from distort_pipeline.metrics.jsd_nss import NSS_FEATURES
from distort_pipeline.metrics.residuals import CORRELATION_GOAL, VARIANCE_GOAL
from distort_pipeline.metrics.severity_sweep import FALLING_GOAL, STEPS, UNTOUCHED_GOAL_DB, SeveritySweep
from distort_pipeline.records import Image
from distort_pipeline.reports.charts import WIDTH, histogram_chart
from distort_pipeline.reports.corpus_page import template
from distort_pipeline.reports.evaluation_files import SEVERITY, model_metrics, quality_means, quality_table, residuals
from distort_pipeline.reports.evaluation_tables import (
    PAPER_CAVEAT,
    PAPER_COLUMNS,
    PAPER_TABLE,
    c2st_text,
    compared_in,
    in_the_paper,
    parameters_text,
    severity_tstr_text,
    smallest,
    sweep_charts,
    tstr_text,
)
from distort_pipeline.reports.line_charts import interval_plot, line_chart
from distort_pipeline.reports.residual_plots import residual_charts
from distort_pipeline.reports.side_by_side import EmbeddedImage, amplified_residual, embed

FOLDER = "plots"
Curve: TypeAlias = Sequence[tuple[int, float, float]]  # training step, JSD_NSS, JSD_NSS of the identity baseline


def histogram_charts(evaluation: Evaluation, name: str) -> dict[str, str]:
    """Return the histograms of one generator as SVG: with a linear and with a logarithmic axis."""
    counts = {kind: values.tolist() for kind, values in evaluation.models[name].histograms.items()}
    return {
        "histogram": histogram_chart(counts, title=f"Histograms of {name}", log=False),
        "histogram_log": histogram_chart(counts, title=f"Histograms of {name}, logarithmic", log=True),
    }


def c2st_charts(c2st: C2STReport | None) -> dict[str, str]:
    """Return the C2ST accuracies with their intervals as SVG, by generator."""
    results = c2st.results if c2st else {}
    return {
        name: interval_plot(compared_in(result), title=f"C2ST accuracy of {name}") for name, result in results.items()
    }


def training_chart(name: str, curve: Curve) -> str:
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


def training_curve(model: Path) -> Curve:
    """Return the logged validation figures of a model folder, by step; empty if there are none."""
    columns = []
    for name in ("jsd_nss", "jsd_nss_pristine"):
        path = model / "live" / "plots" / "metrics" / f"{name}.tsv"
        if not path.is_file():
            return ()
        with path.open(newline="", encoding="utf-8") as file:
            columns.append({int(row["step"]): float(row[name]) for row in csv.DictReader(file, delimiter="\t")})
    bits, identity = columns
    return [(step, bits[step], identity[step]) for step in sorted(bits.keys() & identity.keys())]


def write_plots(folder: Path, evaluation: Evaluation, c2st: C2STReport | None, models: Mapping[str, Path]) -> None:
    """Write every plot as an SVG file of its own into the folder `plots` of the evaluation at `folder`."""
    for name, chart in _plots(evaluation, c2st, models):
        write_bytes(folder / FOLDER / f"{name}.svg", _svg_file(chart))


def _plots(evaluation: Evaluation, c2st: C2STReport | None, models: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for name in evaluation.models:
        for kind, chart in {**histogram_charts(evaluation, name), **residual_charts(evaluation, name)}.items():
            yield f"{kind}_{name}", chart
        curve = training_curve(models[name])
        if len(curve) > 1:
            yield f"training_{name}", training_chart(name, curve)
    for name, chart in c2st_charts(c2st).items():
        yield f"c2st_{name}", chart


def _svg_file(chart: str) -> bytes:
    """Return an inline SVG chart as a file: with its namespace, a width and a white ground."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" style="background:#fff" '
    return chart.replace("<svg ", head, 1).encode()


PAGE_NAME = "index.html"
CROP_PX = 256  # of an image in a side-by-side row
SIDE_BY_SIDE_COLUMNS = ("pristine", "true", "generated", "true residual x4", "generated residual x4")
DELTA_PSNR_DB = 3.0  # ours: twice or half the error energy; MSCN normalisation makes JSD_NSS insensitive to severity
SIDE_BY_SIDE_BYTES = 7_000_000  # of PNG in all: base64 adds a third, so the page stays below 10 MB


def write_evaluation_page(
    folder: Path,
    evaluation: Evaluation,
    c2st: C2STReport | None,
    metadata: Mapping[str, Any],
    sweeps: Mapping[str, SeveritySweep] | None = None,
) -> Path:
    """Write the page into `folder`, with the side-by-side images found there, and return its path."""
    images = {name: folder / "side_by_side" / f"{name}.png" for name in evaluation.models}
    embedded = embed([path for path in images.values() if path.exists()], SIDE_BY_SIDE_BYTES)
    shown = {name: embedded[path] for name, path in images.items() if path in embedded}
    page = folder / PAGE_NAME
    write_bytes(page, render(evaluation, metadata, shown, c2st, sweeps).encode())
    return page


def render(
    evaluation: Evaluation,
    metadata: Mapping[str, Any],
    shown: Mapping[str, EmbeddedImage],
    c2st: C2STReport | None = None,
    sweeps: Mapping[str, SeveritySweep] | None = None,
) -> str:
    """Return the page as HTML; `metadata` is store.json, `shown` has images and `sweeps` severity sweeps by model."""
    return template("evaluation.html.j2").render(
        evaluation=evaluation,
        metadata=metadata,
        verdict=verdict(evaluation, c2st),
        remarks=remarks(evaluation, c2st),
        tables=tables(evaluation),
        caveat=PAPER_CAVEAT,
        in_the_paper=in_the_paper(evaluation.columns),
        models={name: model_metrics(evaluation, name) for name in evaluation.models},
        charts={name: _markup(histogram_charts(evaluation, name)) for name in evaluation.models},
        residual_charts={name: _markup(residual_charts(evaluation, name)) for name in evaluation.models},
        sweeps=sweeps or {},
        sweep_charts=sweep_charts,
        sweep_goals={"falling": FALLING_GOAL, "untouched": UNTOUCHED_GOAL_DB, "steps": STEPS},
        parameters_text=parameters_text,
        c2st=c2st,
        c2st_charts=_markup(c2st_charts(c2st)),
        compared_in=compared_in,
        c2st_text=c2st_text,
        tstr_text=tstr_text,
        severity_tstr_text=severity_tstr_text,
        positive_control=POSITIVE_CONTROL_SCALE,
        goals={"c2st": GOAL, "correlation": CORRELATION_GOAL, "variance": VARIANCE_GOAL},
        residuals=residuals(evaluation),
        components=NSS_FEATURES,
        nearest_text=nearest_text,
        severity=SEVERITY,
        severities=quality_table(evaluation),
        shown=shown,
    )


def side_by_side_row(pristine: Image, true: Image, generated: Image) -> list[Image]:
    """Return the images of SIDE_BY_SIDE_COLUMNS: centre crops of 256 px, or smaller images in full."""
    y, x = (max(0, side - CROP_PX) // 2 for side in pristine.shape[:2])
    clean, distorted, output = (image[y : y + CROP_PX, x : x + CROP_PX] for image in (pristine, true, generated))
    return [clean, distorted, output, amplified_residual(clean, distorted), amplified_residual(clean, output)]


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
    wrong_severity = [name for name in models if _severity_difference(evaluation, name) is not None]
    if wrong_severity:
        return "unknown", f"{sentence}, but the severity differs: {', '.join(wrong_severity)}."
    wrong_diversity = [name for name in models if _diversity_unlike_true(evaluation, name)]
    if wrong_diversity:
        return "unknown", f"{sentence}, but the sample diversity differs: {', '.join(wrong_diversity)}."
    distinguishable = [name for name, result in c2st.results.items() if result.state == "bad"] if c2st else []
    if distinguishable:
        return "unknown", f"{sentence}, but the C2ST accuracy exceeds {GOAL:.0%}: {', '.join(distinguishable)}."
    return "good", f"{sentence}."


def remarks(evaluation: Evaluation, c2st: C2STReport | None = None) -> list[str]:
    """Return a sentence for each generator with objections."""
    sentences = {name: "; ".join(_objections(evaluation, c2st, name)) for name in evaluation.models}
    return [f"Generated {name} {objections}." for name, objections in sentences.items() if objections]


def nearest_text(evaluation: Evaluation, name: str) -> str:
    """Return the number of NSS features nearest to the learned distortion, and the names of the others."""
    mismatched = [component for component in NSS_FEATURES if component not in evaluation.dominant_features(name)]
    if not mismatched:
        return f"all {len(NSS_FEATURES)}"
    return f"{len(NSS_FEATURES) - len(mismatched)} of {len(NSS_FEATURES)}; not {', '.join(mismatched)}"


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
    if difference := _severity_difference(evaluation, name):
        side = "below" if difference < 0 else "above"
        objections.append(f"has a PSNR {abs(difference):.1f} dB {side} true {learned}")
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


def _severity_difference(evaluation: Evaluation, name: str) -> float | None:
    """Return the mean delta PSNR of a generator, generated minus true; None within DELTA_PSNR_DB."""
    difference = quality_means(evaluation, name)["psnr_difference"]
    return difference if difference is not None and abs(difference) > DELTA_PSNR_DB else None


def tables(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Return the tables of mean and pooled divergences and the paper's table, as rows of marked cells."""
    learned = {name: model.learned for name, model in evaluation.models.items()}
    paper = {name: dict(zip(PAPER_COLUMNS, row, strict=True)) for name, row in PAPER_TABLE.items()}
    return {
        "mean": _table(evaluation.columns, evaluation.table, evaluation.pristine, learned),
        "pooled": _table(evaluation.columns, evaluation.pooled_table, evaluation.pooled_identity, learned),
        "paper": _table(PAPER_COLUMNS, paper, None, {name: name for name in PAPER_TABLE}),
    }


def _table(
    columns: Sequence[str],
    rows: Mapping[str, Mapping[str, float]],
    pristine: Mapping[str, float] | None,
    learned: Mapping[str, str],
) -> dict[str, Any]:
    all_rows = [*rows.items(), *([("pristine", pristine)] if pristine is not None else [])]
    of_rows, of_columns = smallest([[row[column] for column in columns] for _, row in all_rows])
    return {
        "columns": columns,
        "rows": [
            {
                "name": name,
                "identity": number == len(rows),
                "cells": [
                    {
                        "bits": row[column],
                        "learned": number < len(rows) and learned[name] == column,
                        "of_row": number < len(rows) and (number, index) in of_rows,
                        "of_column": (number, index) in of_columns,
                    }
                    for index, column in enumerate(columns)
                ],
            }
            for number, (name, row) in enumerate(all_rows)
        ],
    }


def _markup(charts: Mapping[str, str]) -> dict[str, Markup]:
    return {name: Markup(chart) for name, chart in charts.items()}
