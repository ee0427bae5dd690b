"""Results of the classifier two-sample test and of TSTR: metrics, CSV rows and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from distort_pipeline.metrics.c2st import (
    GOAL,
    POSITIVE_CONTROL_SCALE,
    TOO_EASY,
    TSTR_GOAL,
    Accuracy,
    C2STReport,
    C2STResult,
    SeverityTSTR,
    TSTRResult,
)
from distort_pipeline.metrics.evaluation import Evaluation, Quality
from distort_pipeline.metrics.severity_sweep import LevelResult, MidpointResult, SeverityPoint, SeveritySweep
from distort_pipeline.reports.charts import in_bits, parameter_text
from distort_pipeline.reports.line_charts import line_chart


def c2st_metrics(c2st: C2STReport | None, model: str) -> dict[str, Any]:
    """Return the C2ST metrics of one generator; empty without a test."""
    result = c2st.results.get(model) if c2st else None
    if result is None:
        return {}
    return {
        "c2st_accuracy": result.generated.share,
        "c2st_accuracy_low": result.generated.low,
        "c2st_accuracy_high": result.generated.high,
        "c2st_negative_control": result.negative_control.share,
        "c2st_positive_control": result.positive_control.share,
    }


def tstr_metrics(c2st: C2STReport | None) -> dict[str, Any] | None:
    """Return the accuracies of TSTR (train on generated, test on true) and TRTR; None without that test."""
    tstr_result = c2st.tstr_result if c2st else None
    if tstr_result is None:
        return None
    return {
        "tstr": tstr_result.tstr.share,
        "trtr": tstr_result.trtr.share,
        "ratio": tstr_result.ratio,
        "meaningful": int(tstr_result.meaningful),
    }


def severity_tstr_metrics(c2st: C2STReport | None) -> dict[str, Any] | None:
    """Return the SRCC of TSTR and TRTR severity regression by distortion; None without that test."""
    tstr_result = c2st.severity_tstr if c2st else None
    if tstr_result is None:
        return None
    correlations = {
        name: {"tstr": tstr.value, "trtr": tstr_result.trtr[name].value} for name, tstr in tstr_result.tstr.items()
    }
    return {**correlations, "ratio": tstr_result.ratio, "meaningful": int(tstr_result.meaningful)}


def c2st_csv(c2st: C2STReport) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name and the rows of each CSV file, column names first."""
    columns = ["model", "compared", "accuracy", "low", "high", "images", "tiles"]
    rows = [
        [model, compared, *vars(accuracy).values()]
        for model, result in c2st.results.items()
        for compared, accuracy in compared_in(result).items()
    ]
    yield "c2st.csv", [columns, *rows]
    yield "data/c2st.csv", [["compared", "accuracy"], *([f"{row[0]}: {row[1]}", row[2]] for row in rows)]
    if c2st.tstr_result:
        yield (
            "tstr.csv",
            [
                ["trained on", "true class", *c2st.tstr_result.kinds],
                *(
                    [source, kind, *counts]
                    for source, confusion in c2st.tstr_result.confusion.items()
                    for kind, counts in zip(c2st.tstr_result.kinds, confusion.tolist(), strict=True)
                ),
            ],
        )
    if c2st.severity_tstr:
        columns = ["true", "trained on", "srcc", "low", "high", "images", "tiles"]
        yield "severity_tstr.csv", [columns, *_severity_rows(c2st.severity_tstr)]


def _severity_rows(tstr_result: SeverityTSTR) -> list[Sequence[object]]:
    return [
        [name, source, *vars(correlation).values()]
        for source, correlations in (("generated", tstr_result.tstr), ("true", tstr_result.trtr))
        for name, correlation in correlations.items()
    ]


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
    return "inconclusive: the accuracy is within the goal, but the positive control is not detected either"


def severity_tstr_text(tstr_result: SeverityTSTR) -> str:
    """Return the outcome of TSTR severity regression in words."""
    if tstr_result.mean_trtr <= 0:
        return "Not meaningful: severity cannot be learned from true tiles either."
    return tstr_text(tstr_result)


def tstr_text(tstr_result: TSTRResult | SeverityTSTR) -> str:
    """Return the outcome of TSTR in words."""
    if not tstr_result.meaningful:
        return f"Not meaningful: TRTR is above {TOO_EASY:.0%}, so the task is too easy."
    reached = "reached" if tstr_result.ratio >= TSTR_GOAL else "not reached"
    return f"TSTR reaches {tstr_result.ratio:.1%} of TRTR; the goal of {TSTR_GOAL:.0%} is {reached}."


CORNER = "generated / true"  # rows / columns

# Chen et al. 2020, table I: rows generated, columns true. Levels, sizes, bins and logarithm are not stated there.
PAPER_COLUMNS = ("jpeg", "jp2k", "white_noise", "pink_noise")
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


def markdown(evaluation: Evaluation) -> str:
    """Return the table as Markdown, minima of rows and columns marked, followed by the paper's table if comparable."""
    columns = evaluation.columns
    ours = {name: [row[column] for column in columns] for name, row in evaluation.table.items()}
    identity = [evaluation.pristine[column] for column in columns]
    lines = [
        "# JSD_NSS in bits, mean over validation images",
        "",
        f"Rows: generated. Columns: true. {len(evaluation.images)} images. The row *pristine* is the "
        "identity baseline. **Bold**: smallest of its row; ↓: smallest of its column.",
        "",
        *_markdown_table(columns, ours, identity, in_bits),
    ]
    if in_the_paper(columns):
        lines += [
            "",
            "The paper's table (Chen et al., IEEE Signal Processing Letters 27, 2020). " + PAPER_CAVEAT,
            "",
            *_markdown_table(
                PAPER_COLUMNS, {name: list(row) for name, row in PAPER_TABLE.items()}, None, "{:.4f}".format
            ),
        ]
    return "\n".join(lines) + "\n"


def in_the_paper(columns: Sequence[str]) -> bool:
    """Return whether the paper has any of these true distortions, at any level.

    >>> in_the_paper(["lens", "jpeg-3"]), in_the_paper(["lens"])
    (True, False)
    """
    return any(column == name or column.startswith(f"{name}-") for column in columns for name in PAPER_COLUMNS)


def text_table(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table of `metrics` as aligned lines for a terminal.

    >>> print(*text_table({"table": {"jpeg": {"jpeg": 0.01}}, "pristine": {"jpeg": 0.077}}), sep=chr(10))
    generated / true    jpeg
    jpeg              0.0100
    pristine          0.0770
    """
    columns = list(figures["pristine"])
    rows = [*figures["table"].items(), ("pristine", figures["pristine"])]
    first = max(len(CORNER), *(len(name) for name, _ in rows))
    formatted = {name: [in_bits(row[column]) for column in columns] for name, row in rows}
    widths = [max(map(len, cells)) for cells in zip(columns, *formatted.values(), strict=True)]
    head = [f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)]
    body = [
        "  ".join([f"{name:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])
        for name, cells in formatted.items()
    ]
    return ("  ".join([f"{CORNER:<{first}}", *head]), *body)


def smallest(rows: Sequence[Sequence[float]]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return the indices (row, column) of the minima of rows, and of the minima of columns.

    >>> smallest([[1.0, 2.0], [3.0, 4.0]]) == ({(0, 0), (1, 0)}, {(0, 0), (0, 1)})
    True
    """
    table = np.asarray(rows)
    of_rows = table == table.min(1, keepdims=True)
    of_columns = table == table.min(0, keepdims=True)
    return _indices(of_rows), _indices(of_columns)


def _markdown_table(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    pristine: Sequence[float] | None,
    form: Callable[[float], str],
) -> list[str]:
    all_rows = [*rows.items(), *([("pristine", pristine)] if pristine is not None else [])]
    of_rows, of_columns = smallest([row for _, row in all_rows])
    lines = [f"| {CORNER} | {' | '.join(map(_cell, columns))} |", "|---" + "|---:" * len(columns) + "|"]
    for number, (name, row) in enumerate(all_rows):
        cells = [_cell(f"*{name}*" if number == len(rows) else name)]
        for index, bits in enumerate(row):
            is_smallest = (number, index) in of_rows and number < len(rows)
            arrow = " ↓" if (number, index) in of_columns else ""
            cells.append(f"**{form(bits)}**{arrow}" if is_smallest else f"{form(bits)}{arrow}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _indices(marked: Any) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in np.argwhere(marked)}


SEVERITY_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def sweep_metrics(sweep: SeveritySweep) -> dict[str, Any]:
    """Return the metrics of a severity sweep; levels and midpoints by severity."""
    return {
        "falling_levels_share": sweep.falling_levels_share,
        "true_falling_levels_share": sweep.true_falling_levels_share,
        "kept_falling_share": sweep.kept_falling_share,
        "falling_share": sweep.falling_share,
        "true_falling_share": sweep.true_falling_share,
        "tiles": sweep.tiles,
        "psnr_untouched": sweep.untouched_db,
        "psnr_untouched_least": sweep.untouched_least_db,
        "midpoints_nearest": sum(result.nearest for _, result in sweep.midpoints),
        "levels": {_name(step): _level_values(result) for step, result in sweep.levels},
        "midpoints": {_name(step): _midpoint_values(result) for step, result in sweep.midpoints},
    }


def sweep_csv(sweeps: Mapping[str, SeveritySweep]) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name and the rows of each CSV file, column names first; no empty file."""
    levels = [
        {"model": name, **_step_values(step), **_level_values(result)}
        for name, sweep in sweeps.items()
        for step, result in sweep.levels
    ]
    midpoints = [
        {"model": name, **_step_values(step), **_midpoint_values(result)}
        for name, sweep in sweeps.items()
        for step, result in sweep.midpoints
    ]
    for file, rows in (("sweep_levels.csv", levels), ("sweep_midpoints.csv", midpoints)):
        if rows:
            yield file, [list(rows[0]), *(list(row.values()) for row in rows)]


def sweep_text(sweep: SeveritySweep) -> str:
    """Return a severity sweep in one line, for a terminal."""
    bits = ", ".join(in_bits(result.bits) for _, result in sweep.levels)
    text = (
        f"JSD_NSS by level {bits}; PSNR falls from level to level in {sweep.falling_levels_share:.1%} of tiles "
        f"({sweep.true_falling_levels_share:.1%} for true), at every small step in {sweep.falling_share:.1%}"
    )
    if sweep.true_falling_share is not None:
        text += f" ({sweep.true_falling_share:.1%})"
    text += f"; {sweep.untouched_db:.1f} dB at severity 0"
    if sweep.midpoints:
        nearest = sum(result.nearest for _, result in sweep.midpoints)
        text += f"; nearer than both neighbouring levels at {nearest} of {len(sweep.midpoints)} midpoints"
    return text


def sweep_charts(name: str, sweep: SeveritySweep) -> list[Markup]:
    """Return the charts of JSD_NSS over severity with the noise floor, and of PSNR over severity with true."""
    steps = sweep.steps()
    bits = line_chart(
        {
            "true": [result.floor_bits for _, result in sweep.levels],
            "generated": [result.bits for _, result in sweep.levels],
        },
        [step.severity for step, _ in sweep.levels],
        title=f"JSD_NSS of {name} over severity",
        x_label="severity",
        y_label="JSD_NSS, bits",
        x_ticks=SEVERITY_TICKS,
    )
    psnr = line_chart(
        {
            "true": [result.true.psnr or 0.0 for _, result in steps],
            "generated": [result.generated.psnr or 0.0 for _, result in steps],
        },
        [step.severity for step, _ in steps],
        title=f"PSNR of {name} over severity",
        x_label="severity",
        y_label="PSNR, dB",
        x_ticks=SEVERITY_TICKS,
    )
    return [Markup(bits), Markup(psnr)]


def parameters_text(step: SeverityPoint) -> str:
    """Return the parameters at a severity as text.

    >>> parameters_text(SeverityPoint(0.5, {"ratio": 102.203914}))
    'ratio 102.2'
    """
    return ", ".join(f"{name} {parameter_text(value)}" for name, value in step.parameters.items())


def _name(step: SeverityPoint) -> str:
    """Return a severity as a metric name.

    >>> _name(SeverityPoint(0.6000000000000001, {})), _name(SeverityPoint(1 / 3, {}))
    ('0.6', '0.333')
    """
    return f"{step.severity:.3g}"


def _step_values(step: SeverityPoint) -> dict[str, Any]:
    return {"severity": step.severity, "parameters": parameters_text(step)}


def _level_values(result: LevelResult) -> dict[str, float | None]:
    return {
        "jsd_nss": result.bits,
        "jsd_nss_pristine": result.identity_bits,
        "noise_floor": result.floor_bits,
        **_quality(result.generated, result.true),
    }


def _midpoint_values(result: MidpointResult) -> dict[str, float | None]:
    return {
        "jsd_nss": result.bits,
        "jsd_nss_level_below": result.below_bits,
        "jsd_nss_level_above": result.above_bits,
        "nearest": int(result.nearest),
        **_quality(result.generated, result.true),
    }


def _quality(generated: Quality, true: Quality) -> dict[str, float | None]:
    """Return PSNR and SSIM against pristine, generated, true and generated minus true."""
    difference = None if generated.psnr is None or true.psnr is None else generated.psnr - true.psnr
    return {
        "psnr_generated": generated.psnr,
        "psnr_true": true.psnr,
        "psnr_difference": difference,
        "ssim_generated": generated.ssim,
        "ssim_true": true.ssim,
        "ssim_difference": generated.ssim - true.ssim,
    }
