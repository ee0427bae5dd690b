"""Charts as inline SVG without scripts; colours follow the page's light or dark theme."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from distort_pipeline.metrics.jsd_nss import BINS, LIMIT
from distort_pipeline.reports.pages import in_bits

if TYPE_CHECKING:
    from distort_pipeline.metrics.classifier import Accuracy

WIDTH, HEIGHT = 360, 250  # a phone shows a chart at full size, a desktop three side by side
LEFT, RIGHT, TOP, BOTTOM = 66, 8, 30, 40
MOST_STEPS = 5  # between ticks
OVERFLOW_SPAN = (2.18, 2.46)  # x range of the overflow bins, detached from the axis
LOWEST_SHARE = 1e-5  # lower end of a logarithmic axis; smaller shares are mostly chance
SPIKE = 2.0  # a centre bin higher than this multiple of all others is cut off

Scale = Callable[[float], float]
Ticks = Sequence[tuple[float, str]]  # position and label

# Okabe and Ito's colours (2008), safe for colour-blind readers; in black and white, dashes, widths and shapes differ.
LINE_STYLES = {
    "pristine": "stroke:var(--pristine,#767676);stroke-width:1.4;stroke-dasharray:2 2",
    "true": "stroke:var(--true,#0072b2);stroke-width:3.2;stroke-opacity:.55",
    "generated": "stroke:var(--generated,#d55e00);stroke-width:1.4",
}
OTHER_STYLES = (
    "stroke:var(--other-1,#009e73);stroke-width:1.4;stroke-dasharray:6 2",
    "stroke:var(--other-2,#cc79a7);stroke-width:1.4;stroke-dasharray:8 2 2 2",
)
MARKS = (
    ("var(--generated,#d55e00)", "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0"),
    ("var(--other-1,#009e73)", "m-3.5 -3.5h7v7h-7z"),
    ("var(--true,#0072b2)", "m0 -4.5l4.5 8h-9z"),
)
LEGEND_Y = 18


def histogram_chart(
    histograms: Mapping[str, Sequence[float]],
    *,
    title: str,
    log: bool = False,
) -> str:
    """Return the normalised `histograms` as overlaid step lines in SVG.

    Each has 103 counts; first and last are overflow bins, drawn detached under "<" and ">".
    """
    shares = {name: _shares(name, counts) for name, counts in histograms.items()}
    highest, second = _highest(shares.values())
    note = ""
    if log:
        lowest = min((value for values in shares.values() for value in values if value > 0), default=1.0)
        bottom = math.floor(math.log10(max(lowest, LOWEST_SHARE)))
        top = max(math.ceil(math.log10(highest)), bottom + 1)
        y = upward(bottom, top)
        height_of = lambda share: y(math.log10(max(share, 10.0**bottom)))  # noqa: E731
        ticks = [(y(power), f"{10.0 ** (power + 2):g} %") for power in range(bottom, top + 1)]
    else:
        cut = second > 0 and highest > SPIKE * second
        steps = round_ticks(0, 100 * (second if cut else highest))
        y = upward(0, steps[-1])
        height_of = lambda share: y(min(share * 100, steps[-1] * 1.02))  # noqa: E731
        ticks = [(y(step), f"{step:g} %") for step in steps]
        note = f"bin at 0: up to {highest * 100:.0f} %" if cut else ""
    x = across(-2.5, 2.5)
    parts = [frame([], ticks, "product of diagonal neighbours (MSCN)", "share of products")]
    middle = sum(OVERFLOW_SPAN) / 2
    labels = [*((value, tick_label(value)) for value in (-2, -1, 0, 1, 2)), (-middle, "<"), (middle, ">")]
    parts += [text(x(value), HEIGHT - BOTTOM + 14, label, "middle") for value, label in labels]
    for number, (name, values) in enumerate(shares.items()):
        style = _line_style(name, number)
        parts.append(f'<path d="{_steps(values, x, height_of)}" style="fill:none;{style}"/>')
    if note:
        parts.append(text(x(0.12), TOP + 12, note))
    parts.append(_legend([(name, _line_style(name, number)) for number, name in enumerate(shares)]))
    return svg(title, f"Step lines for {', '.join(shares)}.", parts)


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
    path += f"M{x(-LIMIT):.1f} {y(values[1]):.1f}"
    for number, value in enumerate(values[1:-1]):
        path += f"V{y(value):.1f}H{x(-LIMIT + (number + 1) * 2 * LIMIT / BINS):.1f}"
    return path + f"M{x(near):.1f} {y(values[-1]):.1f}H{x(far):.1f}"


def threshold_chart(excesses: Sequence[float], *, title: str, batches: Sequence[int]) -> str:
    """Return a dot for each batch in SVG, in multiples of the threshold, with the threshold as a line at 1.

    Rejected batches are red diamonds, so colour is not the only cue.
    """
    flags = [excess > 1 for excess in excesses]
    steps = round_ticks(0, max([*excesses, 1.0]) * 1.08)
    y = upward(0, steps[-1] * 1.04)
    first, last = min(batches, default=0), max(batches, default=0)
    x = across(first - 0.6, last + 0.6)
    parts = [frame([], [(y(step), f"{step:g}") for step in steps], "batch", "× threshold")]
    for number in range(first, last + 1, max(1, math.ceil((last - first + 1) / 10))):
        parts.append(text(x(number), HEIGHT - BOTTOM + 14, str(number), "middle"))
    style = "stroke:var(--text,#222);stroke-width:1.4;stroke-dasharray:7 3"
    parts.append(f'<path d="M{LEFT} {y(1):.1f}H{WIDTH - RIGHT}" style="fill:none;{style}"/>')
    for number, excess, flag in zip(batches, excesses, flags, strict=True):
        parts.append(_dot(x(number), y(excess), flag, f"batch {number}: {excess:.2f} × threshold"))
    parts.append(_legend([("threshold", style)], marks=True))
    return svg(title, f"{len(excesses)} batches, {sum(flags)} of them rejected.", parts)


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
    ticks = log_ticks(lowest, highest * 1.01) if log else round_ticks(min(lowest, 0.0), max(highest, lowest + 1e-6))
    y = upward(scale(ticks[0]), scale(ticks[-1]))
    x = across(scale(min(*at, *x_ticks)), scale(max(*at, *x_ticks)))
    x_positions, y_positions = _ticks(lambda tick: x(scale(tick)), x_ticks), _ticks(lambda tick: y(scale(tick)), ticks)
    parts = [frame(x_positions, y_positions, x_label, y_label)]
    for number, (name, values) in enumerate(lines.items()):
        points = [
            f"{x(scale(position)):.1f} {y(scale(value)):.1f}"
            for position, value in zip(at, values, strict=True)
            if value > 0 or not log
        ]
        if points:
            parts.append(f'<path d="M{"L".join(points)}" style="fill:none;{LINE_STYLES[name]}"/>')
        parts.append(_line_sample(LEFT + 90 * number, name, LINE_STYLES[name]))
    return svg(title, f"Lines for {', '.join(lines)}.", parts)


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
        frame(_ticks(x, ticks), _ticks(y, ticks), f"true: {label}", "generated"),
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


CHANCE, LOWEST = 0.5, 0.3  # accuracy
LABELS_PX, RIGHT_PX, TOP_PX, ROW_PX, BOTTOM_PX = 132, 14, 24, 24, 36
INTERVAL_MARKS = {"generated": ("var(--generated,#d55e00)", "m0 -6l6 6l-6 6l-6 -6z")}
OTHER_MARK = ("var(--true,#0072b2)", "m-4 -4h8v8h-8z")


def interval_plot(accuracies: Mapping[str, Accuracy], *, goal: float, title: str) -> str:
    """Return `accuracies` by label as SVG, on an axis with chance and `goal`."""
    low = min([LOWEST, *(accuracy.low for accuracy in accuracies.values())])
    x = scaled(low, 1, LABELS_PX, WIDTH - RIGHT_PX)
    foot = TOP_PX + ROW_PX * len(accuracies)
    top, ink = TOP_PX - 4, "stroke:var(--text,#222)"
    parts = [_tick(x(tick / 10), top, foot, tick_label(tick / 10)) for tick in range(3, 11)]
    parts.append(_upright(x(CHANCE), top, foot, ink) + text(x(CHANCE), 16, "chance", "end"))
    parts.append(_upright(x(goal), top, foot, f"{ink};stroke-dasharray:5 3") + text(x(goal), 16, "goal", "start"))
    parts.append(text((LABELS_PX + WIDTH - RIGHT_PX) / 2, foot + 30, "classifier accuracy", "middle"))
    for index, (label, accuracy) in enumerate(accuracies.items()):
        y = TOP_PX + ROW_PX * (index + 0.5)
        colour, shape = INTERVAL_MARKS.get(label, OTHER_MARK)
        whisker = f"M{x(accuracy.low):.1f} {y - 4:.1f}v8M{x(accuracy.low):.1f} {y:.1f}H{x(accuracy.high):.1f}m0 -4v8"
        parts.append(text(LABELS_PX - 8, y + 4, label, "end"))
        parts.append(f'<path d="{whisker}" style="fill:none;stroke:{colour};stroke-width:1.6"/>')
        parts.append(f'<path d="M{x(accuracy.share):.1f} {y:.1f}{shape}" style="fill:{colour}"/>')
    listed = "; ".join(f"{label}: {a.share:.2f}, {a.low:.2f} to {a.high:.2f}" for label, a in accuracies.items())
    return svg(title, listed, parts, height=foot + BOTTOM_PX)


DOT_LABELS_PX, VALUES_PX = 118, 58  # left and right margins
DOTS_TOP, DOTS_ROW_PX, DOTS_BOTTOM = 12, 26, 34
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONGEST = 15  # letters of a label before truncation


def baseline_dot_plot(values: Mapping[str, float], *, marked: str, title: str) -> str:
    """Return `values` (label → bits) as SVG, a row each in ascending order; the row `marked` is highlighted."""
    shown = sorted(values.items(), key=lambda item: item[1])
    positive = [bits for _, bits in shown if bits > 0] or [1e-4]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    x = scaled(low, max(high, low + 1), DOT_LABELS_PX, WIDTH - VALUES_PX)
    foot = DOTS_TOP + DOTS_ROW_PX * len(shown)
    powers = range(low, max(high, low + 1) + 1)
    parts = [_tick(x(power), DOTS_TOP, foot, _decade(power)) for power in powers]
    parts.append(text((DOT_LABELS_PX + WIDTH - VALUES_PX) / 2, foot + 30, "bits, logarithmic", "middle"))
    for index, (label, bits) in enumerate(shown):
        y = DOTS_TOP + DOTS_ROW_PX * (index + 0.5)
        at = x(math.log10(bits)) if bits > 0 else DOT_LABELS_PX
        highlighted = label == marked
        colour = "var(--generated,#c94f00)" if highlighted else "var(--pristine,#767676)"
        parts.append(f'<path d="M{DOT_LABELS_PX} {y:.1f}H{at:.1f}" style="stroke:{colour};stroke-dasharray:1 3"/>')
        shape = f"M{at:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" if highlighted else f"M{at - 4:.1f} {y - 4:.1f}h8v8h-8z"
        parts.append(f'<path d="{shape}" style="fill:{colour}"/>')
        short = label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
        parts.append(text(DOT_LABELS_PX - 8, y + 4, short, "end"))
        parts.append(text(WIDTH - 4, y + 4, in_bits(bits), "end"))
    listed = ", ".join(f"{label} {in_bits(bits)}" for label, bits in shown)
    return svg(title, f"In ascending order: {listed} bits.", parts, height=foot + DOTS_BOTTOM)


def _decade(power: int) -> str:
    """Return a power of ten in superscript notation.

    >>> _decade(-4), _decade(0)
    ('10⁻⁴', '1')
    """
    return "1" if power == 0 else f"10{str(power).translate(SUPERSCRIPTS)}"


def scaled(low: float, high: float, start: float, end: float) -> Scale:
    """Return the linear map of [low, high] onto [start, end], in user units of the drawing."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


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
    first = max(step for step in steps if step <= low * (1 + 1e-9))
    last = min(step for step in steps if step >= high * (1 - 1e-9))
    return [int(step) if step.is_integer() else step for step in steps if first <= step <= last]


def frame(x_ticks: Ticks, y_ticks: Ticks, x_label: str, y_label: str) -> str:
    """Return SVG grid lines with tick labels and axis labels."""
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


def _ticks(axis: Scale, values: Sequence[float]) -> Ticks:
    return [(axis(value), tick_label(value)) for value in values]


def _tick(x: float, top: float, foot: float, label: str) -> str:
    return _upright(x, top, foot, "stroke:var(--line,#ddd)") + text(x, foot + 15, label, "middle")


def _upright(x: float, top: float, foot: float, style: str) -> str:
    return f'<path d="M{x:.1f} {top}V{foot}" style="{style}"/>'


def tick_label(value: float) -> str:
    """Return a tick's value with a true minus sign.

    >>> tick_label(-0.5), tick_label(20.0)
    ('−0.5', '20')
    """
    return f"{value:g}".replace("-", "−")


def _line_style(name: str, number: int) -> str:
    return LINE_STYLES.get(name) or OTHER_STYLES[number % len(OTHER_STYLES)]


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
        parts.append(_line_sample(x, name, style))
        x += 37 + 6.6 * len(name)
    return "".join(parts)


def _line_sample(x: float, name: str, style: str) -> str:
    return f'<path d="M{x:.0f} {LEGEND_Y - 4}h22" style="fill:none;{style}"/>{text(x + 27, LEGEND_Y, name)}'


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
