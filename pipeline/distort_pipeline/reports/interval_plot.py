"""Interval plot: accuracies of classifiers with their 95 % intervals, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping

from distort_pipeline.reports.axes import tick_label
from distort_pipeline.reports.charts import WIDTH, scaled, svg, text
from distort_pipeline.statistics.c2st import GOAL, Accuracy

LABELS_PX, RIGHT_PX, TOP_PX, ROW_PX, BOTTOM_PX = 132, 14, 24, 24, 36
CHANCE = 0.5
LOWEST = 0.3
MARKS = {"generated": ("var(--generated,#d55e00)", "m0 -6l6 6l-6 6l-6 -6z")}
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
        colour, shape = MARKS.get(label, OTHER_MARK)
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
