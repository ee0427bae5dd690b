"""The page of an evaluation: which generator is near to the distortion it learned, by how much, and how that looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from distort_pipeline.pixels import Image
from distort_pipeline.reports.c2st_tables import c2st_text, compared_in, severity_tstr_text, tstr_text
from distort_pipeline.reports.charts import histogram_chart
from distort_pipeline.reports.divergence_tables import (
    PAPER_CAVEAT,
    PAPER_COLUMNS,
    PAPER_TABLE,
    in_the_paper,
    smallest,
)
from distort_pipeline.reports.evaluation_files import SEVERITY, model_metrics, quality_means, quality_table, residuals
from distort_pipeline.reports.html import template
from distort_pipeline.reports.interval_plot import interval_plot
from distort_pipeline.reports.residual_plots import residual_charts
from distort_pipeline.reports.side_by_side import EmbeddedImage, amplified_residual, carry
from distort_pipeline.reports.sweep_tables import step_words, sweep_charts
from distort_pipeline.statistics.c2st import GOAL, C2STReport
from distort_pipeline.statistics.evaluation import Evaluation
from distort_pipeline.statistics.nss_features import NSS_FEATURES
from distort_pipeline.statistics.sample_diversity import CORRELATION_GOAL, VARIANCE_GOAL
from distort_pipeline.statistics.severity_sweep import FALLING_GOAL, STEPS, UNTOUCHED_GOAL_DB, SeveritySweep
from distort_pipeline.stores.files import write_bytes

PAGE_NAME = "index.html"
CROP_PX = 256  # of an image in a strip
SIDE_BY_SIDE_COLUMNS = ("pristine", "true", "generated", "true residual x4", "generated residual x4")
DELTA_PSNR_DB = 3.0  # ours: twice or half the error energy; MSCN divides by local contrast, so JSD_NSS hardly sees it
SIDE_BY_SIDE_BYTES = 7_000_000  # of PNG in all: base64 adds a third, which leaves the page below 10 MB


def write_evaluation_page(
    folder: Path,
    evaluation: Evaluation,
    c2st: C2STReport | None,
    metadata: Mapping[str, Any],
    sweeps: Mapping[str, SeveritySweep] | None = None,
) -> Path:
    """Write the page into `folder`, with the strips that lie there, and return its path."""
    images = {name: folder / "side_by_side" / f"{name}.png" for name in evaluation.models}
    there = [path for path in images.values() if path.exists()]
    carried = carry(there, SIDE_BY_SIDE_BYTES)
    shown = {name: carried[path] for name, path in images.items() if path in carried}
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
    """Return the page as HTML; `header` is the evaluation's store.json, `shown` has side_by_side, and `dials`, by model."""
    return template("evaluation.html.j2").render(
        evaluation=evaluation,
        metadata=metadata,
        verdict=verdict(evaluation, c2st),
        remarks=remarks(evaluation, c2st),
        tables=tables(evaluation),
        caveat=PAPER_CAVEAT,
        in_the_paper=in_the_paper(evaluation.columns),
        models={name: model_metrics(evaluation, name) for name in evaluation.models},
        charts={name: _charts(evaluation, name) for name in evaluation.models},
        residual_charts={name: residual_charts(evaluation, name) for name in evaluation.models},
        sweeps=sweeps or {},
        sweep_charts=sweep_charts,
        sweep_goals={"falling": FALLING_GOAL, "untouched": UNTOUCHED_GOAL_DB, "steps": STEPS},
        step_words=step_words,
        c2st=c2st,
        c2st_charts=_c2st_charts(c2st),
        compared_in=compared_in,
        c2st_text=c2st_text,
        tstr_text=tstr_text,
        severity_tstr_text=severity_tstr_text,
        goals={"told": GOAL, "correlation": CORRELATION_GOAL, "variance": VARIANCE_GOAL},
        residuals=residuals(evaluation),
        components=NSS_FEATURES,
        nearest_words=nearest_words,
        severity=SEVERITY,
        severities=quality_table(evaluation),
        shown=shown,
    )


def side_by_side_row(pristine: Image, true: Image, generated: Image) -> list[Image]:
    """Return the images under SIDE_BY_SIDE_COLUMNS: crops of 256 px from the centre, or all of a smaller image."""
    y, x = (max(0, side - CROP_PX) // 2 for side in pristine.shape[:2])
    clean, bad, made = (one[y : y + CROP_PX, x : x + CROP_PX] for one in (pristine, true, generated))
    return [clean, bad, made, amplified_residual(clean, bad), amplified_residual(clean, made)]


def verdict(evaluation: Evaluation, c2st: C2STReport | None = None) -> tuple[str, str]:
    """Return 'good', 'unknown' or 'bad', and the sentence that a hurried reader takes home."""
    models = list(evaluation.models)
    mismatched = [name for name in models if not evaluation.nearest_own(name)]
    if mismatched:
        few = f"{len(mismatched)} of {len(models)} generators {'is' if len(mismatched) == 1 else 'are'} not"
        return "bad", f"{few} the nearest to what was learned: {', '.join(mismatched)}."
    words = "The generator is" if len(models) == 1 else f"All {len(models)} generators are"
    if len(evaluation.columns) > 1:
        words += " nearest to the distortion learned, and to no other"
    else:
        words += " nearer to the distortion learned, the only one here, than the identity baseline"
    off = [name for name in models if _too_strong(evaluation, name) is not None]
    if off:
        return "unknown", f"{words}, but not of its strength: {', '.join(off)}."
    stale = [name for name in models if _diversity_unlike_true(evaluation, name)]
    if stale:
        return "unknown", f"{words}, but not drawn like it: {', '.join(stale)}."
    told = [name for name, trial in c2st.results.items() if trial.state == "bad"] if c2st else []
    if told:
        return "unknown", f"{words}, but a classifier tells {', '.join(told)} from true."
    return "good", f"{words}."


def remarks(evaluation: Evaluation, c2st: C2STReport | None = None) -> list[str]:
    """Return, for each generator that something speaks against, what does."""
    against = {name: "; ".join(_objections(evaluation, c2st, name)) for name in evaluation.models}
    return [f"Generated {name} {objections}." for name, objections in against.items() if objections]


def nearest_words(evaluation: Evaluation, name: str) -> str:
    """Return by how many components of the vector a generator is nearest to what it learned, and by which it is not."""
    mismatched = [component for component in NSS_FEATURES if component not in evaluation.nearest_in(name)]
    if not mismatched:
        return f"all {len(NSS_FEATURES)}"
    return f"{len(NSS_FEATURES) - len(mismatched)} of {len(NSS_FEATURES)}; not {', '.join(mismatched)}"


def _objections(evaluation: Evaluation, c2st: C2STReport | None, name: str) -> list[str]:
    own, learned = evaluation.own(name), evaluation.models[name].learned
    truth = f"true {learned} ({own:.4f} bits)"
    said = []
    if closer_distortions := evaluation.closer_distortions(name):
        nearer = ", ".join(f"{column} ({evaluation.table[name][column]:.4f})" for column in closer_distortions)
        said.append(f"is nearer to true {nearer} than to {truth}")
    if closer_generators := evaluation.closer_generators(name):
        nearer = ", ".join(
            f"{closer_generator} ({evaluation.table[closer_generator][learned]:.4f})"
            for closer_generator in closer_generators
        )
        said.append(f"is farther from {truth} than generated {nearer}")
    if not evaluation.beats_pristine(name):
        said.append(f"is no nearer to {truth} than the untouched images ({evaluation.pristine[learned]:.4f})")
    if stronger := _too_strong(evaluation, name):
        how = "stronger" if stronger > 0 else "positive_control"
        said.append(f"is {abs(stronger):.1f} dB {how} by PSNR than true {learned}, which JSD_NSS hardly sees")
    said += _diversity_unlike_true(evaluation, name)
    trial = c2st.results.get(name) if c2st else None
    if trial and trial.state == "bad":
        said.append(f"is told from true {learned} by a classifier, in {trial.generated.share:.0%} of unseen tiles")
    return said


def _diversity_unlike_true(evaluation: Evaluation, name: str) -> list[str]:
    """Return what two draws of a generator have unlike two draws of the truth, in words; nothing if all is well."""
    draws = evaluation.sample_diversity(name)
    said = []
    if draws and not draws.independent:
        alike = f"two draws correlate by {draws.correlation:.2f}, true ones by {draws.true_correlation:.2f}"
        said.append(f"repeats its noise: {alike}")
    if draws and not draws.variance_matches:
        said.append(f"varies from draw to draw {draws.variance_ratio:.2f} times as much as true, in variance")
    return said


def _too_strong(evaluation: Evaluation, name: str) -> float | None:
    """Return by how many dB a generator distorts more (or, below 0, less) than the truth; None if that is tolerable."""
    difference = quality_means(evaluation, name)["psnr_difference"]
    return -difference if difference is not None and abs(difference) > DELTA_PSNR_DB else None


def tables(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Return our table, the pooled one and the paper's, ready to be laid out: rows of marked cells."""
    learned = {name: model.learned for name, model in evaluation.models.items()}
    paper = {name: dict(zip(PAPER_COLUMNS, row, strict=True)) for name, row in PAPER_TABLE.items()}
    return {
        "mean": _table(evaluation.columns, evaluation.table, evaluation.pristine, learned),
        "pooled": _table(evaluation.columns, evaluation.pooled_table, evaluation.pooled_pristine, learned),
        "paper": _table(PAPER_COLUMNS, paper, None, {name: name for name in PAPER_TABLE}),
    }


def _table(
    columns: Sequence[str],
    rows: Mapping[str, Mapping[str, float]],
    pristine: Mapping[str, float] | None,
    learned: Mapping[str, str],
) -> dict[str, Any]:
    every = [*rows.items(), *([("pristine", pristine)] if pristine is not None else [])]
    of_rows, of_columns = smallest([[row[column] for column in columns] for _, row in every])
    return {
        "columns": columns,
        "rows": [
            {
                "name": name,
                "nothing": number == len(rows),
                "cells": [
                    {
                        "bits": row[column],
                        "own": number < len(rows) and learned[name] == column,
                        "of_row": number < len(rows) and (number, place) in of_rows,
                        "of_column": (number, place) in of_columns,
                    }
                    for place, column in enumerate(columns)
                ],
            }
            for number, (name, row) in enumerate(every)
        ],
    }


def _c2st_charts(c2st: C2STReport | None) -> dict[str, Markup]:
    results = c2st.results if c2st else {}
    return {
        name: Markup(interval_plot(compared_in(trial), title=f"How often {name} is told from true"))
        for name, trial in results.items()
    }


def _charts(evaluation: Evaluation, name: str) -> list[Markup]:
    series = {kind: counts.tolist() for kind, counts in evaluation.models[name].histograms.items()}
    return [
        Markup(histogram_chart(series, title=f"Histograms of {name}{', logarithmic' if log else ''}", log=log))
        for log in (False, True)
    ]
