"""Charts as inline SVG without scripts; colours follow the page's light or dark theme; numbers for pages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

BINS = 101  # equal bins on [-SPAN, SPAN]; one overflow bin more at each end
SPAN = 2.0
WIDTH, HEIGHT = 360, 250  # a phone shows a chart at full size, a desktop three side by side
LEFT, RIGHT, TOP, BOTTOM = 66, 8, 30, 40
OVERFLOW_SPAN = (2.18, 2.46)  # x range of the overflow bins, detached from the axis
LOWEST_SHARE = 1e-5  # lower end of a logarithmic axis; smaller shares are mostly chance
SPIKE = 2.0  # a centre bin higher than this multiple of all others is cut off

Scale = Callable[[float], float]

# Okabe and Ito's colours (2008), safe for colour-blind readers; in black and white, dashes and widths differ.
LINE_STYLES = {
    "pristine": "stroke:var(--pristine,#767676);stroke-width:1.4;stroke-dasharray:2 2",
    "true": "stroke:var(--true,#0072b2);stroke-width:3.2;stroke-opacity:.55",
    "generated": "stroke:var(--generated,#d55e00);stroke-width:1.4",
}
OTHER_STYLES = (
    "stroke:var(--other-1,#009e73);stroke-width:1.4;stroke-dasharray:6 2",
    "stroke:var(--other-2,#cc79a7);stroke-width:1.4;stroke-dasharray:8 2 2 2",
)


def histogram_chart(
    histograms: Mapping[str, Sequence[float]],
    *,
    title: str,
    description: str = "",
    log: bool = False,
    x_label: str = "product of diagonal neighbours (MSCN)",
) -> str:
    """Return the normalised `histograms` as overlaid step lines in SVG.

    Each has BINS + 2 counts; first and last are overflow bins, drawn detached under "<" and ">".
    """
    shares = {name: _shares(name, counts) for name, counts in histograms.items()}
    highest, second = _highest(shares.values())
    note = ""
    if log:
        lowest = min((value for values in shares.values() for value in values if value > 0), default=1.0)
        bottom = math.floor(math.log10(max(lowest, LOWEST_SHARE)))
        top = max(math.ceil(math.log10(highest)), bottom + 1)
        y = scaled(bottom, top, HEIGHT - BOTTOM, TOP)
        height_of = lambda share: y(math.log10(max(share, 10.0**bottom)))  # noqa: E731
        ticks = [(y(power), _power(power)) for power in range(bottom, top + 1)]
    else:
        cut = second > 0 and highest > SPIKE * second
        steps = _nice_ticks(100 * (second if cut else highest))
        y = scaled(0, steps[-1], HEIGHT - BOTTOM, TOP)
        height_of = lambda share: y(min(share * 100, steps[-1] * 1.02))  # noqa: E731
        ticks = [(y(step), f"{step:g} %") for step in steps]
        note = f"bin at 0: up to {highest * 100:.0f} %" if cut else ""
    x = scaled(-2.5, 2.5, LEFT, WIDTH - RIGHT)
    parts = [_frame(ticks, x_label, "share of products")]
    for value in (-2, -1, 0, 1, 2):
        parts.append(text(x(value), HEIGHT - BOTTOM + 14, f"{value}".replace("-", "−"), "middle"))
    for sign, symbol in ((-1, "<"), (1, ">")):
        middle = sign * sum(OVERFLOW_SPAN) / 2
        parts.append(text(x(middle), HEIGHT - BOTTOM + 14, symbol, "middle"))
    for number, (name, values) in enumerate(shares.items()):
        style = _line_style(name, number)
        parts.append(f'<path d="{_steps(values, x, height_of)}" style="fill:none;{style}"/>')
    if note:
        parts.append(text(x(0.12), TOP + 12, note))
    parts.append(_legend([(name, _line_style(name, number)) for number, name in enumerate(shares)]))
    return svg(title, description or f"Step lines for {', '.join(shares)}.", parts)


def threshold_chart(
    values: Sequence[float],
    thresholds: Sequence[float],
    *,
    title: str,
    description: str = "",
    flagged: Sequence[bool] | None = None,
    batches: Sequence[int] | None = None,
    floor: float | None = None,
) -> str:
    """Return JSD_NSS in bits per batch as dots in SVG, with `thresholds` as a line and a dotted noise `floor`.

    Rejected batches (by default every batch above its threshold) are red diamonds, so colour is not the only cue.
    """
    if len(values) != len(thresholds):
        raise ValueError(f"{len(values)} values need as many thresholds, got {len(thresholds)}")
    flags = (
        [value > threshold for value, threshold in zip(values, thresholds, strict=True)]
        if flagged is None
        else list(flagged)
    )
    numbers = list(range(len(values))) if batches is None else list(batches)
    steps = _nice_ticks(max([*values, *thresholds, floor or 0.0, 1e-6]) * 1.08)
    y = scaled(0, steps[-1] * 1.04, HEIGHT - BOTTOM, TOP)
    first, last = min(numbers, default=0), max(numbers, default=0)
    x = scaled(first - 0.6, last + 0.6, LEFT, WIDTH - RIGHT)
    parts = [_frame([(y(step), f"{step:g}") for step in steps], "batch", "JSD_NSS, bits")]
    for number in range(first, last + 1, max(1, math.ceil((last - first + 1) / 10))):
        parts.append(text(x(number), HEIGHT - BOTTOM + 14, str(number), "middle"))
    threshold_style = "stroke:var(--text,#222);stroke-width:1.4;stroke-dasharray:7 3"
    floor_style = "stroke:var(--pristine,#767676);stroke-width:1.4;stroke-dasharray:1 3"
    line = "".join(
        f"{'V' if index else f'M{x(number - 0.5):.1f} '}{y(threshold):.1f}H{x(number + 0.5):.1f}"
        for index, (number, threshold) in enumerate(zip(numbers, thresholds, strict=True))
    )
    parts.append(f'<path d="{line}" style="fill:none;{threshold_style}"/>')
    if floor is not None:
        parts.append(f'<path d="M{LEFT} {y(floor):.1f}H{WIDTH - RIGHT}" style="fill:none;{floor_style}"/>')
    for number, value, flag in zip(numbers, values, flags, strict=True):
        parts.append(_dot(x(number), y(value), flag, f"batch {number}: {value:.4f} bits"))
    legend = [("threshold", threshold_style), *([("noise floor", floor_style)] if floor is not None else [])]
    parts.append(_legend(legend, marks=True))
    rejected = sum(flags)
    return svg(title, description or f"{len(values)} batches, {rejected} of them rejected.", parts)


def _shares(name: str, counts: Sequence[float]) -> list[float]:
    total = math.fsum(counts)
    if len(counts) != BINS + 2 or total <= 0:
        raise ValueError(f"the histogram {name!r} needs {BINS + 2} counts above 0 in all, got {len(counts)}: {total}")
    return [count / total for count in counts]


def _highest(shares: Iterable[Sequence[float]]) -> tuple[float, float]:
    """Return the highest share of all bins, and of all bins except the centre bin."""
    centre = 1 + BINS // 2
    histograms = list(shares)
    others = (value for values in histograms for value in [*values[:centre], *values[centre + 1 :]])
    return max((max(values) for values in histograms), default=1.0), max(others, default=1.0)


def _steps(values: Sequence[float], x: Scale, y: Scale) -> str:
    """Return the path of a step line: the left overflow bin, the bins of the axis, the right overflow bin."""
    near, far = OVERFLOW_SPAN
    path = f"M{x(-far):.1f} {y(values[0]):.1f}H{x(-near):.1f}"
    path += f"M{x(-SPAN):.1f} {y(values[1]):.1f}"
    for number, value in enumerate(values[1:-1]):
        path += f"V{y(value):.1f}H{x(-SPAN + (number + 1) * 2 * SPAN / BINS):.1f}"
    return path + f"M{x(near):.1f} {y(values[-1]):.1f}H{x(far):.1f}"


def scaled(low: float, high: float, start: float, end: float) -> Scale:
    """Return the linear map of [low, high] onto [start, end], in user units of the drawing."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _nice_ticks(highest: float) -> list[float]:
    """Return three to six round values from 0 to at least `highest`.

    >>> _nice_ticks(0.047)
    [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    """
    size = 10.0 ** math.floor(math.log10(highest))
    step = next(factor * size for factor in (0.2, 0.5, 1, 2) if highest / (factor * size) <= 5)
    return [round(number * step, 12) for number in range(math.ceil(highest / step) + 1)]


def _power(power: int) -> str:
    return f"{10.0**power * 100:.10f}".rstrip("0").rstrip(".") + " %"


def _line_style(name: str, number: int) -> str:
    return LINE_STYLES.get(name) or OTHER_STYLES[number % len(OTHER_STYLES)]


def _frame(ticks: Sequence[tuple[float, str]], x_label: str, y_label: str) -> str:
    """Return grid lines with their values, and the names of both axes."""
    grid = "".join(f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}" for y, _ in ticks)
    labels = "".join(text(LEFT - 5, y + 4, label, "end") for y, label in ticks)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<path d="{grid}" style="fill:none;stroke:var(--line,#ddd)"/>{labels}'
        + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 7, x_label, "middle")
        + f'<g transform="rotate(-90 9 {middle:.0f})">{text(9, middle, y_label, "middle")}</g>'
    )


def _dot(x: float, y: float, flagged: bool, title: str) -> str:
    label = f"<title>{escape(title)}{', rejected' if flagged else ''}</title>"
    if not flagged:
        circle = f'cx="{x:.1f}" cy="{y:.1f}" r="3.5"'
        return f'<circle class="accepted" {circle} style="fill:var(--true,#0072b2)">{label}</circle>'
    path = f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"
    return f'<path class="rejected" d="{path}" style="fill:var(--bad,#c00);stroke:var(--ground,#fff)">{label}</path>'


def _legend(lines: Sequence[tuple[str, str]], *, marks: bool = False) -> str:
    """Return a row of labelled line samples above the chart, after accepted and rejected batches if `marks`."""
    parts, x = [], float(LEFT)
    if marks:
        x = 4.0  # four entries need the full width
        for flagged, label in ((False, "accepted"), (True, "rejected")):
            shape = _dot(x + 5, 14, flagged, label).replace("class=", "data-legend=")
            parts.append(shape + text(x + 15, 18, label))
            x += 24 + 6.6 * len(label)
    for name, style in lines:
        parts.append(f'<path d="M{x:.0f} 14h22" style="fill:none;{style}"/>{text(x + 27, 18, name)}')
        x += 37 + 6.6 * len(name)
    return "".join(parts)


def text(x: float, y: float, label: str, anchor: str = "start") -> str:
    """Return `label` as escaped SVG text at (x, y); `anchor` is start, middle or end."""
    style = "font:12px system-ui,sans-serif;fill:var(--text,#222)"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">{escape(label)}</text>'


def svg(title: str, description: str, parts: Sequence[str], *, height: int = HEIGHT) -> str:
    """Return the SVG element of `parts`, WIDTH × `height` units, with title and description for screen readers."""
    mark = "chart-" + hashlib.sha256("\0".join((title, description, *parts)).encode()).hexdigest()[:12]
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{mark}-t" aria-describedby="{mark}-d">'
        f'<title id="{mark}-t">{escape(title)}</title><desc id="{mark}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


SMALL_BITS = 0.001
LEAST_BITS = 0.00001  # smaller values are shown as '< 0.00001'
DIGITS = 4  # of a parameter


def in_bits(bits: float) -> str:
    """Return a divergence with four decimals, or five below SMALL_BITS; 0 is exact.

    >>> in_bits(0.1279), in_bits(0.00004), in_bits(0.000002), in_bits(0.0)
    ('0.1279', '0.00004', '< 0.00001', '0')
    """
    if bits == 0:
        return "0"
    if 0 < bits < LEAST_BITS / 2:
        return f"< {LEAST_BITS:.5f}"
    return f"{bits:.5f}" if bits < SMALL_BITS else f"{bits:.4f}"


def parameter_text(value: Any) -> str:
    """Return a value, or a range of values, to four digits.

    >>> parameter_text(24), parameter_text([27.261965, 600]), parameter_text(4.08515)
    ('24', '27.26 to 600', '4.085')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return " to ".join(map(parameter_text, value))
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def settings_text(values: Mapping[str, Any]) -> str:
    """Return settings by name, without unset values.

    >>> settings_text({"tile_px": 256, "splits": ["train", "val"], "composite": [], "target": {"ssim": [0.8]}})
    'splits = train, val; target = ssim 0.8; tile_px = 256'
    """
    shown = {name: _setting(value) for name, value in sorted(values.items()) if value not in (None, [], (), {})}
    return "; ".join(f"{name} = {value}" for name, value in shown.items())


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_setting(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_setting, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


LABELS_PX, VALUES_PX = 118, 58  # left and right margins
DOTS_TOP, ROW_PX, DOTS_BOTTOM = 12, 26, 34
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONGEST = 15  # letters of a label before truncation


def baseline_dot_plot(values: Mapping[str, float], *, marked: str, title: str) -> str:
    """Return `values` (label → bits) as SVG, a row each in ascending order; the row `marked` is highlighted."""
    shown = sorted(values.items(), key=lambda item: item[1])
    positive = [bits for _, bits in shown if bits > 0] or [1e-4]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    x = scaled(low, max(high, low + 1), LABELS_PX, WIDTH - VALUES_PX)
    foot = DOTS_TOP + ROW_PX * len(shown)
    parts = []
    for power in range(low, max(high, low + 1) + 1):
        line = f'<path d="M{x(power):.1f} {DOTS_TOP}V{foot}" style="stroke:var(--line,#ddd)"/>'
        parts.append(line + text(x(power), foot + 15, _decade(power), "middle"))
    parts.append(text((LABELS_PX + WIDTH - VALUES_PX) / 2, foot + 30, "bits, logarithmic", "middle"))
    for index, (label, bits) in enumerate(shown):
        y = DOTS_TOP + ROW_PX * (index + 0.5)
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
    return svg(title, f"In ascending order: {listed} bits.", parts, height=foot + DOTS_BOTTOM)


def _decade(power: int) -> str:
    """Return a power of ten in superscript notation.

    >>> _decade(-4), _decade(0)
    ('10⁻⁴', '1')
    """
    return "1" if power == 0 else f"10{str(power).translate(SUPERSCRIPTS)}"
