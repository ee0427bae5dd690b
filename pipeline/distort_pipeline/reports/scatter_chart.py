"""Scatter chart of generated against true, a point for each image, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from distort_pipeline.reports.axes import across, frame, round_ticks, tick_label, upward
from distort_pipeline.reports.charts import LEFT, svg, text

LEGEND_Y = 18
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
