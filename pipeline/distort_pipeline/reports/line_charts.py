"""Charts with two axes as inline SVG: lines, points, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from distort_pipeline.metrics.c2st import GOAL, Accuracy
from distort_pipeline.reports.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LINE_STYLES,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    scaled,
    svg,
    text,
)

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


LEGEND_Y = 18


def line_chart(
    lines: Mapping[str, Sequence[float]],
    at: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float],
    log: bool = False,
) -> str:
    """Return `lines` ("true", "generated") over the positions `at` as SVG; with `log`, both axes are logarithmic.

    A logarithmic axis omits values of 0 and below, and a line without positive values.
    """
    scale: Callable[[float], float] = math.log10 if log else float
    shown = [value for values in lines.values() for value in values if value > 0 or not log]
    lowest, highest = (min(shown), max(shown)) if shown else (1.0, 1.0)
    if log:
        steps = log_ticks(lowest, highest * 1.01)
    else:
        steps = round_ticks(min(lowest, 0.0), max(highest, lowest + 1e-6))
    y = upward(scale(steps[0]), scale(steps[-1]))
    x = across(scale(min(*at, *x_ticks)), scale(max(*at, *x_ticks)))
    ticks = [(x(scale(tick)), tick_label(tick)) for tick in x_ticks]
    parts = [frame(ticks, [(y(scale(step)), tick_label(step)) for step in steps], x_label, y_label)]
    for number, (name, values) in enumerate(lines.items()):
        points = [
            f"{x(scale(position)):.1f} {y(scale(value)):.1f}"
            for position, value in zip(at, values, strict=True)
            if value > 0 or not log
        ]
        if points:
            parts.append(f'<path d="M{"L".join(points)}" style="fill:none;{LINE_STYLES[name]}"/>')
        left = LEFT + 90 * number
        parts.append(f'<path d="M{left} {LEGEND_Y - 4}h22" style="fill:none;{LINE_STYLES[name]}"/>')
        parts.append(text(left + 27, LEGEND_Y, name))
    return svg(title, f"Lines for {', '.join(lines)}.", parts)


# Okabe and Ito's colours, and three shapes
MARKS = (
    ("var(--generated,#d55e00)", "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0"),
    ("var(--other-1,#009e73)", "m-3.5 -3.5h7v7h-7z"),
    ("var(--true,#0072b2)", "m0 -4.5l4.5 8h-9z"),
)


def scatter_chart(
    points: Mapping[str, Sequence[tuple[float, float]]], *, title: str, label: str, least_span: float
) -> str:
    """Return up to three groups of (true, generated) points as SVG, on equal axes at least `least_span` wide.

    `label` is the quantity with its unit.
    """
    values = [value for group in points.values() for point in group for value in point] or [0.0]
    middle, span = (min(values) + max(values)) / 2, max(max(values) - min(values), least_span)
    ticks = round_ticks(middle - span / 2, middle + span / 2)
    x, y = across(ticks[0], ticks[-1]), upward(ticks[0], ticks[-1])
    parts = [
        frame(
            [(x(tick), tick_label(tick)) for tick in ticks],
            [(y(tick), tick_label(tick)) for tick in ticks],
            f"true: {label}",
            "generated",
        ),
        f'<path d="M{x(ticks[0]):.1f} {y(ticks[0]):.1f}L{x(ticks[-1]):.1f} {y(ticks[-1]):.1f}" '
        'style="fill:none;stroke:var(--text,#222);stroke-width:1;stroke-dasharray:7 3"/>',
    ]
    left = float(LEFT)
    for (name, group), (colour, shape) in zip(points.items(), MARKS, strict=False):
        style = f"fill:{colour};fill-opacity:.65"
        dots = "".join(f"M{x(true):.1f} {y(generated):.1f}{shape}" for true, generated in group)
        parts.append(f'<path d="{dots}" style="{style}"><title>{escape(name)}</title></path>')
        parts.append(
            f'<path d="M{left + 5:.0f} {LEGEND_Y - 5}{shape}" style="{style}"/>{text(left + 14, LEGEND_Y, name)}'
        )
        left += 32 + 7 * len(name)
    return svg(title, f"Points for {', '.join(points)}; on the diagonal, generated equals true.", parts)


LABELS_PX, RIGHT_PX, TOP_PX, ROW_PX, BOTTOM_PX = 132, 14, 24, 24, 36
CHANCE = 0.5
LOWEST = 0.3
INTERVAL_MARKS = {"generated": ("var(--generated,#d55e00)", "m0 -6l6 6l-6 6l-6 -6z")}
OTHER_MARK = ("var(--true,#0072b2)", "m-4 -4h8v8h-8z")


def interval_plot(accuracies: Mapping[str, Accuracy], *, title: str) -> str:
    """Return `accuracies` by label as SVG, on an axis with chance and goal."""
    low = min([LOWEST, *(accuracy.low for accuracy in accuracies.values())])
    x = scaled(low, 1, LABELS_PX, WIDTH - RIGHT_PX)
    foot = TOP_PX + ROW_PX * len(accuracies)
    parts = [
        _upright(x(tick), foot, "stroke:var(--line,#ddd)") + text(x(tick), foot + 15, tick_label(tick), "middle")
        for tick in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ]
    parts.append(_upright(x(CHANCE), foot, "stroke:var(--text,#222)") + text(x(CHANCE), 16, "chance", "end"))
    dashed = "stroke:var(--text,#222);stroke-dasharray:5 3"
    parts.append(_upright(x(GOAL), foot, dashed) + text(x(GOAL), 16, "goal", "start"))
    parts.append(text((LABELS_PX + WIDTH - RIGHT_PX) / 2, foot + 30, "classifier accuracy", "middle"))
    for index, (label, accuracy) in enumerate(accuracies.items()):
        y = TOP_PX + ROW_PX * (index + 0.5)
        colour, shape = INTERVAL_MARKS.get(label, OTHER_MARK)
        whisker = f"M{x(accuracy.low):.1f} {y - 4:.1f}v8M{x(accuracy.low):.1f} {y:.1f}H{x(accuracy.high):.1f}m0 -4v8"
        parts.append(text(LABELS_PX - 8, y + 4, label, "end"))
        parts.append(f'<path d="{whisker}" style="fill:none;stroke:{colour};stroke-width:1.6"/>')
        parts.append(f'<path d="M{x(accuracy.share):.1f} {y:.1f}{shape}" style="fill:{colour}"/>')
    listed = "; ".join(
        f"{label}: {accuracy.share:.2f}, {accuracy.low:.2f} to {accuracy.high:.2f}"
        for label, accuracy in accuracies.items()
    )
    return svg(title, listed, parts, height=foot + BOTTOM_PX)


def _upright(x: float, foot: float, style: str) -> str:
    return f'<path d="M{x:.1f} {TOP_PX - 4}V{foot}" style="{style}"/>'
