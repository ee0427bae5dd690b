"""Severity sweeps of multi-level generators: metrics, CSV rows, text and charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distort_pipeline.reports.line_chart import line_chart
from distort_pipeline.reports.numbers import in_bits, parameter_text
from distort_pipeline.statistics.eval_images import Quality
from distort_pipeline.statistics.severity_sweep import LevelResult, MidpointResult, SeverityPoint, SeveritySweep

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
