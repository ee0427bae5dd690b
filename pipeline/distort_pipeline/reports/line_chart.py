"""A statistic over a variable, true and generated as lines over each other, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from distort_pipeline.reports.axes import across, frame, log_ticks, round_ticks, upward, worded
from distort_pipeline.reports.charts import LEFT, SERIES_STYLES, svg, text

LEGEND_Y = 18


def line_chart(
    series: Mapping[str, Sequence[float]],
    at: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float],
    log: bool = False,
) -> str:
    """Return the `series` ("true", "generated") over the places `at` as SVG; with `log`, both axes are logarithmic.

    On a logarithmic axis only positive values have a place; a series without any is left out.
    """
    turned: Callable[[float], float] = math.log10 if log else float
    every = [value for values in series.values() for value in values if value > 0 or not log]
    lowest, highest = (min(every), max(every)) if every else (1.0, 1.0)
    if log:
        steps = log_ticks(lowest, highest * 1.01)
    else:
        steps = round_ticks(min(lowest, 0.0), max(highest, lowest + 1e-6))
    y = upward(turned(steps[0]), turned(steps[-1]))
    x = across(turned(min(*at, *x_ticks)), turned(max(*at, *x_ticks)))
    places = [(x(turned(tick)), worded(tick)) for tick in x_ticks]
    parts = [frame(places, [(y(turned(step)), worded(step)) for step in steps], x_label, y_label)]
    for number, (name, values) in enumerate(series.items()):
        points = [
            f"{x(turned(place)):.1f} {y(turned(value)):.1f}"
            for place, value in zip(at, values, strict=True)
            if value > 0 or not log
        ]
        if points:
            parts.append(f'<path d="M{"L".join(points)}" style="fill:none;{SERIES_STYLES[name]}"/>')
        left = LEFT + 90 * number
        parts.append(f'<path d="M{left} {LEGEND_Y - 4}h22" style="fill:none;{SERIES_STYLES[name]}"/>')
        parts.append(text(left + 27, LEGEND_Y, name))
    return svg(title, f"Lines for {', '.join(series)}.", parts)
