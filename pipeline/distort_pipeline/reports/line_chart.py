"""Line chart of a statistic over a variable, true and generated overlaid, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from distort_pipeline.reports.axes import across, frame, log_ticks, round_ticks, tick_label, upward
from distort_pipeline.reports.charts import LEFT, LINE_STYLES, svg, text

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
