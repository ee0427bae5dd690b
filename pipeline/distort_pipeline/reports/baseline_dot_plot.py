"""Baseline dot plot: a divergence beside its noise floor and baselines on a logarithmic axis, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping

from distort_pipeline.reports.charts import WIDTH, scaled, svg, text
from distort_pipeline.reports.numbers import in_bits

LABELS_PX, VALUES_PX = 118, 58  # left and right margins
TOP, ROW_PX, BOTTOM = 12, 26, 34
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONGEST = 15  # letters of a label before truncation


def baseline_dot_plot(values: Mapping[str, float], *, marked: str, title: str) -> str:
    """Return `values` (label → bits) as SVG, a row each in ascending order; the row `marked` is highlighted."""
    shown = sorted(values.items(), key=lambda item: item[1])
    positive = [bits for _, bits in shown if bits > 0] or [1e-4]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    x = scaled(low, max(high, low + 1), LABELS_PX, WIDTH - VALUES_PX)
    foot = TOP + ROW_PX * len(shown)
    parts = []
    for power in range(low, max(high, low + 1) + 1):
        line = f'<path d="M{x(power):.1f} {TOP}V{foot}" style="stroke:var(--line,#ddd)"/>'
        parts.append(line + text(x(power), foot + 15, _power(power), "middle"))
    parts.append(text((LABELS_PX + WIDTH - VALUES_PX) / 2, foot + 30, "bits, logarithmic", "middle"))
    for index, (label, bits) in enumerate(shown):
        y = TOP + ROW_PX * (index + 0.5)
        at = x(math.log10(bits)) if bits > 0 else LABELS_PX
        highlighted = label == marked
        colour = "var(--generated,#c94f00)" if highlighted else "var(--pristine,#767676)"
        parts.append(f'<path d="M{LABELS_PX} {y:.1f}H{at:.1f}" style="stroke:{colour};stroke-dasharray:1 3"/>')
        shape = f"M{at:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" if highlighted else f"M{at - 4:.1f} {y - 4:.1f}h8v8h-8z"
        parts.append(f'<path d="{shape}" style="fill:{colour}"/>')
        short = label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
        parts.append(text(LABELS_PX - 8, y + 4, short, "end"))
        parts.append(text(WIDTH - 4, y + 4, in_bits(bits), "end"))
    listed = ", ".join(f"{label} {in_bits(bits)}" for label, bits in shown)
    return svg(title, f"In ascending order: {listed} bits.", parts, height=foot + BOTTOM)


def _power(power: int) -> str:
    """Return a power of ten in superscript notation.

    >>> _power(-4), _power(0)
    ('10⁻⁴', '1')
    """
    return "1" if power == 0 else f"10{str(power).translate(SUPERSCRIPTS)}"
