"""Axes, ticks and grid lines of charts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from distort_pipeline.reports.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, scaled, text

MOST_STEPS = 5


def across(low: float, high: float) -> Scale:
    """Return the map of [low, high] onto the width of a drawing."""
    return scaled(low, high, LEFT, WIDTH - RIGHT)


def upward(low: float, high: float) -> Scale:
    """Return the map of [low, high] onto the height of a drawing, low at the bottom."""
    return scaled(low, high, HEIGHT - BOTTOM, TOP)


def round_ticks(low: float, high: float) -> list[float]:
    """Return a few round values covering [low, high].

    >>> round_ticks(-0.3, 0.9), round_ticks(22.1, 27.9)
    ([-0.5, 0.0, 0.5, 1.0], [22.0, 24.0, 26.0, 28.0])
    """
    size = 10.0 ** math.floor(math.log10(high - low))
    step = next(factor * size for factor in (0.2, 0.5, 1, 2) if (high - low) / (factor * size) <= MOST_STEPS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the values 1, 2, 5 × 10ⁿ covering [low, high]; both limits are positive.

    >>> log_ticks(0.3, 4)
    [0.2, 0.5, 1, 2, 5]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= low * (1 + 1e-9))
    last = min(index for index, step in enumerate(steps) if step >= high * (1 - 1e-9))
    return [int(step) if step.is_integer() else step for step in steps[first : last + 1]]


def frame(
    x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], x_label: str, y_label: str
) -> str:
    """Return SVG grid lines with tick labels and axis labels; a tick is (position, label)."""
    foot = HEIGHT - BOTTOM
    grid = "".join(f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}" for y, _ in y_ticks)
    grid += "".join(f"M{x:.1f} {TOP}V{foot}" for x, _ in x_ticks)
    labels = "".join(text(LEFT - 5, y + 4, label, "end") for y, label in y_ticks)
    labels += "".join(text(x, foot + 14, label, "middle") for x, label in x_ticks)
    middle = (TOP + foot) / 2
    return (
        f'<path d="{grid}" style="fill:none;stroke:var(--line,#ddd)"/>{labels}'
        + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 7, x_label, "middle")
        + f'<g transform="rotate(-90 9 {middle:.0f})">{text(9, middle, y_label, "middle")}</g>'
    )


def tick_label(value: float) -> str:
    """Return a tick's value with a true minus sign.

    >>> tick_label(-0.5), tick_label(20.0)
    ('−0.5', '20')
    """
    return f"{value:g}".replace("-", "−")
