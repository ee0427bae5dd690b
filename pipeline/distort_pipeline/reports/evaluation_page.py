"""The page of an evaluation: which generator is near to the distortion it learned, by how much, and how that looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from distort_pipeline.ranges import Image
from distort_pipeline.reports.accuracy_chart import accuracy_chart
from distort_pipeline.reports.charts import histogram_chart
from distort_pipeline.reports.dial_tables import dial_charts, step_words
from distort_pipeline.reports.divergence_tables import (
    PAPER_CAVEAT,
    PAPER_COLUMNS,
    PAPER_TABLE,
    in_the_paper,
    smallest,
)
from distort_pipeline.reports.evaluation_files import SEVERITY, model_metrics, residuals, severity_means, severity_table
from distort_pipeline.reports.html import template
from distort_pipeline.reports.residual_plots import residual_charts
from distort_pipeline.reports.strips import Shown, amplified_residual, carry
from distort_pipeline.reports.told_tables import compared_in, lesson_words, severity_lesson_words, trial_words
from distort_pipeline.statistics.dials import FALLING_GOAL, STEPS, UNTOUCHED_GOAL_DB, Dial
from distort_pipeline.statistics.draws import CORRELATION_GOAL, VARIANCE_GOAL
from distort_pipeline.statistics.evaluation import Evaluation
from distort_pipeline.statistics.told import GOAL, Doubts
from distort_pipeline.statistics.vector import VECTOR
from distort_pipeline.stores.files import write_bytes

PAGE_NAME = "index.html"
CROP_PX = 256  # of an image in a strip
STRIP_COLUMNS = ("pristine", "true", "generated", "true residual x4", "generated residual x4")
STRENGTH_DB = 3.0  # ours: twice or half the error energy; MSCN divides by local contrast, so JSD_NSS hardly sees it
STRIP_BYTES = 7_000_000  # of PNG in all: base64 adds a third, which leaves the page below 10 MB


def write_page(
    folder: Path,
    evaluation: Evaluation,
    doubts: Doubts | None,
    header: Mapping[str, Any],
    dials: Mapping[str, Dial] | None = None,
) -> Path:
    """Write the page into `folder`, with the strips that lie there, and return its path."""
    images = {name: folder / "strips" / f"{name}.png" for name in evaluation.models}
    there = [path for path in images.values() if path.exists()]
    carried = carry(there, STRIP_BYTES)
    shown = {name: carried[path] for name, path in images.items() if path in carried}
    page = folder / PAGE_NAME
    write_bytes(page, render(evaluation, header, shown, doubts, dials).encode())
    return page


def render(
    evaluation: Evaluation,
    header: Mapping[str, Any],
    shown: Mapping[str, Shown],
    doubts: Doubts | None = None,
    dials: Mapping[str, Dial] | None = None,
) -> str:
    """Return the page as HTML; `header` is the evaluation's store.json, `shown` has strips, and `dials`, by model."""
    return template("evaluation.html.j2").render(
        evaluation=evaluation,
        header=header,
        verdict=verdict(evaluation, doubts),
        remarks=remarks(evaluation, doubts),
        tables=tables(evaluation),
        caveat=PAPER_CAVEAT,
        in_the_paper=in_the_paper(evaluation.columns),
        models={name: model_metrics(evaluation, name) for name in evaluation.models},
        charts={name: _charts(evaluation, name) for name in evaluation.models},
        residual_charts={name: residual_charts(evaluation, name) for name in evaluation.models},
        dials=dials or {},
        dial_charts=dial_charts,
        dial_goals={"falling": FALLING_GOAL, "untouched": UNTOUCHED_GOAL_DB, "steps": STEPS},
        step_words=step_words,
        doubts=doubts,
        told_charts=_told_charts(doubts),
        compared_in=compared_in,
        trial_words=trial_words,
        lesson_words=lesson_words,
        severity_lesson_words=severity_lesson_words,
        goals={"told": GOAL, "correlation": CORRELATION_GOAL, "variance": VARIANCE_GOAL},
        residuals=residuals(evaluation),
        components=VECTOR,
        nearest_words=nearest_words,
        severity=SEVERITY,
        severities=severity_table(evaluation),
        shown=shown,
    )


def strip_row(pristine: Image, true: Image, generated: Image) -> list[Image]:
    """Return the images under STRIP_COLUMNS: crops of 256 px from the centre, or all of a smaller image."""
    y, x = (max(0, side - CROP_PX) // 2 for side in pristine.shape[:2])
    clean, bad, made = (one[y : y + CROP_PX, x : x + CROP_PX] for one in (pristine, true, generated))
    return [clean, bad, made, amplified_residual(clean, bad), amplified_residual(clean, made)]


def verdict(evaluation: Evaluation, doubts: Doubts | None = None) -> tuple[str, str]:
    """Return 'good', 'unknown' or 'bad', and the sentence that a hurried reader takes home."""
    models = list(evaluation.models)
    astray = [name for name in models if not evaluation.nearest_own(name)]
    if astray:
        few = f"{len(astray)} of {len(models)} generators {'is' if len(astray) == 1 else 'are'} not"
        return "bad", f"{few} the nearest to what was learned: {', '.join(astray)}."
    words = "The generator is" if len(models) == 1 else f"All {len(models)} generators are"
    if len(evaluation.columns) > 1:
        words += " nearest to the distortion learned, and to no other"
    else:
        words += " nearer to the distortion learned, the only one here, than doing nothing"
    off = [name for name in models if _too_strong(evaluation, name) is not None]
    if off:
        return "unknown", f"{words}, but not of its strength: {', '.join(off)}."
    stale = [name for name in models if _draws_unlike_true(evaluation, name)]
    if stale:
        return "unknown", f"{words}, but not drawn like it: {', '.join(stale)}."
    told = [name for name, trial in doubts.trials.items() if trial.state == "bad"] if doubts else []
    if told:
        return "unknown", f"{words}, but a classifier tells {', '.join(told)} from true."
    return "good", f"{words}."


def remarks(evaluation: Evaluation, doubts: Doubts | None = None) -> list[str]:
    """Return, for each generator that something speaks against, what does."""
    against = {name: "; ".join(_objections(evaluation, doubts, name)) for name in evaluation.models}
    return [f"Generated {name} {objections}." for name, objections in against.items() if objections]


def nearest_words(evaluation: Evaluation, name: str) -> str:
    """Return by how many components of the vector a generator is nearest to what it learned, and by which it is not."""
    astray = [component for component in VECTOR if component not in evaluation.nearest_in(name)]
    if not astray:
        return f"all {len(VECTOR)}"
    return f"{len(VECTOR) - len(astray)} of {len(VECTOR)}; not {', '.join(astray)}"


def _objections(evaluation: Evaluation, doubts: Doubts | None, name: str) -> list[str]:
    own, learned = evaluation.own(name), evaluation.models[name].learned
    truth = f"true {learned} ({own:.4f} bits)"
    said = []
    if strays := evaluation.strays(name):
        nearer = ", ".join(f"{column} ({evaluation.table[name][column]:.4f})" for column in strays)
        said.append(f"is nearer to true {nearer} than to {truth}")
    if rivals := evaluation.rivals(name):
        nearer = ", ".join(f"{rival} ({evaluation.table[rival][learned]:.4f})" for rival in rivals)
        said.append(f"is farther from {truth} than generated {nearer}")
    if not evaluation.beats_pristine(name):
        said.append(f"is no nearer to {truth} than the untouched images ({evaluation.pristine[learned]:.4f})")
    if stronger := _too_strong(evaluation, name):
        how = "stronger" if stronger > 0 else "weaker"
        said.append(f"is {abs(stronger):.1f} dB {how} by PSNR than true {learned}, which JSD_NSS hardly sees")
    said += _draws_unlike_true(evaluation, name)
    trial = doubts.trials.get(name) if doubts else None
    if trial and trial.state == "bad":
        said.append(f"is told from true {learned} by a classifier, in {trial.generated.share:.0%} of unseen tiles")
    return said


def _draws_unlike_true(evaluation: Evaluation, name: str) -> list[str]:
    """Return what two draws of a generator have unlike two draws of the truth, in words; nothing if all is well."""
    draws = evaluation.freshness(name)
    said = []
    if draws and not draws.new_every_time:
        alike = f"two draws correlate by {draws.correlation:.2f}, true ones by {draws.true_correlation:.2f}"
        said.append(f"repeats its noise: {alike}")
    if draws and not draws.varied_enough:
        said.append(f"varies from draw to draw {draws.variance_ratio:.2f} times as much as true, in variance")
    return said


def _too_strong(evaluation: Evaluation, name: str) -> float | None:
    """Return by how many dB a generator distorts more (or, below 0, less) than the truth; None if that is tolerable."""
    difference = severity_means(evaluation, name)["psnr_difference"]
    return -difference if difference is not None and abs(difference) > STRENGTH_DB else None


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


def _told_charts(doubts: Doubts | None) -> dict[str, Markup]:
    trials = doubts.trials if doubts else {}
    return {
        name: Markup(accuracy_chart(compared_in(trial), title=f"How often {name} is told from true"))
        for name, trial in trials.items()
    }


def _charts(evaluation: Evaluation, name: str) -> list[Markup]:
    series = {kind: counts.tolist() for kind, counts in evaluation.models[name].histograms.items()}
    return [
        Markup(histogram_chart(series, title=f"Histograms of {name}{', logarithmic' if log else ''}", log=log))
        for log in (False, True)
    ]
