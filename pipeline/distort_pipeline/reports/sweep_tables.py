"""What is said of a multi-level generator's dial: for programs as metrics and CSV, for people in words and charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distort_pipeline.reports.line_chart import line_chart
from distort_pipeline.reports.numbers import in_bits, parameter_words
from distort_pipeline.statistics.eval_images import Quality
from distort_pipeline.statistics.severity_sweep import LevelResult, MidpointResult, SeverityPoint, SeveritySweep

SEVERITY_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def sweep_metrics(dial: SeveritySweep) -> dict[str, Any]:
    """Return the small nested numbers of a dial; levels and what is between them by their severity."""
    return {
        "falling_levels_share": dial.falling_levels_share,
        "true_falling_levels_share": dial.true_falling_levels_share,
        "kept_falling_share": dial.kept_falling_share,
        "falling_share": dial.falling_share,
        "true_falling_share": dial.true_falling_share,
        "tiles": dial.tiles,
        "psnr_untouched": dial.untouched_db,
        "psnr_untouched_least": dial.untouched_least_db,
        "between_nearest": sum(measured.nearest for _, measured in dial.midpoints),
        "levels": {_name(step): _level_values(measured) for step, measured in dial.levels},
        "between": {_name(step): _between_values(measured) for step, measured in dial.midpoints},
    }


def sweep_csv(sweeps: Mapping[str, SeveritySweep]) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name of each CSV file and its rows, the header first; no file that would have no row."""
    levels = [
        {"model": name, **_step_values(step), **_level_values(measured)}
        for name, dial in sweeps.items()
        for step, measured in dial.levels
    ]
    midpoints = [
        {"model": name, **_step_values(step), **_between_values(measured)}
        for name, dial in sweeps.items()
        for step, measured in dial.midpoints
    ]
    for file, rows in (("dial_levels.csv", levels), ("dial_between.csv", midpoints)):
        if rows:
            yield file, [list(rows[0]), *(list(row.values()) for row in rows)]


def sweep_text(dial: SeveritySweep) -> str:
    """Return a dial in one line, for a terminal."""
    bits = ", ".join(in_bits(measured.bits) for _, measured in dial.levels)
    words = (
        f"JSD_NSS by level {bits}; PSNR falls from level to level in {dial.falling_levels_share:.1%} of tiles "
        f"({dial.true_falling_levels_share:.1%} where truly distorted), all along the dial in {dial.falling_share:.1%}"
    )
    if dial.true_falling_share is not None:
        words += f" ({dial.true_falling_share:.1%})"
    words += f"; {dial.untouched_db:.1f} dB at severity 0"
    if dial.midpoints:
        nearest = sum(measured.nearest for _, measured in dial.midpoints)
        words += f"; nearer than both neighbours at {nearest} of {len(dial.midpoints)} places between levels"
    return words


def sweep_charts(name: str, dial: SeveritySweep) -> list[Markup]:
    """Return JSD_NSS over severity beside what true scores against itself, and PSNR over severity beside true."""
    steps = dial.steps()
    bits = line_chart(
        {
            "true": [measured.floor_bits for _, measured in dial.levels],
            "generated": [measured.bits for _, measured in dial.levels],
        },
        [step.severity for step, _ in dial.levels],
        title=f"JSD_NSS of {name} over severity",
        x_label="severity",
        y_label="JSD_NSS, bits",
        x_ticks=SEVERITY_TICKS,
    )
    strength = line_chart(
        {
            "true": [measured.true.psnr or 0.0 for _, measured in steps],
            "generated": [measured.generated.psnr or 0.0 for _, measured in steps],
        },
        [step.severity for step, _ in steps],
        title=f"PSNR of {name} over severity",
        x_label="severity",
        y_label="PSNR, dB",
        x_ticks=SEVERITY_TICKS,
    )
    return [Markup(bits), Markup(strength)]


def step_words(step: SeverityPoint) -> str:
    """Return the parameters at a step as a person would write them.

    >>> step_words(SeverityPoint(0.3, {"sigma_grey": 7.5})), step_words(SeverityPoint(0.5, {"ratio": 102.203914}))
    ('sigma_grey 7.5', 'ratio 102.2')
    """
    return ", ".join(f"{name} {parameter_words(value)}" for name, value in step.parameters.items())


def _name(step: SeverityPoint) -> str:
    """Return a severity as a key.

    >>> _name(SeverityPoint(0.6000000000000001, {})), _name(SeverityPoint(1 / 3, {}))
    ('0.6', '0.333')
    """
    return f"{step.severity:.3g}"


def _step_values(step: SeverityPoint) -> dict[str, Any]:
    return {"severity": step.severity, "parameters": step_words(step)}


def _level_values(measured: LevelResult) -> dict[str, float | None]:
    return {
        "jsd_nss": measured.bits,
        "jsd_nss_pristine": measured.pristine_bits,
        "sampling_floor": measured.floor_bits,
        **_strength(measured.generated, measured.true),
    }


def _between_values(measured: MidpointResult) -> dict[str, float | None]:
    return {
        "jsd_nss": measured.bits,
        "jsd_nss_level_below": measured.below_bits,
        "jsd_nss_level_above": measured.above_bits,
        "nearest": int(measured.nearest),
        **_strength(measured.generated, measured.true),
    }


def _strength(generated: Quality, true: Quality) -> dict[str, float | None]:
    """Return PSNR and SSIM against pristine, and generated minus true."""
    difference = None if generated.psnr is None or true.psnr is None else generated.psnr - true.psnr
    return {
        "psnr_generated": generated.psnr,
        "psnr_true": true.psnr,
        "psnr_difference": difference,
        "ssim_generated": generated.ssim,
        "ssim_true": true.ssim,
        "ssim_difference": generated.ssim - true.ssim,
    }
