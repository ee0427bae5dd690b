"""Charts of generated against true."""

import re
from xml.etree import ElementTree

import pytest

from distort_pipeline.metrics.classifier import Accuracy
from distort_pipeline.reports.charts import HEIGHT, LEFT, TOP, WIDTH, interval_plot, line_chart, scatter_chart


def numbers(path):
    return [float(number) for number in re.findall(r"-?[0-9.]+", path)]


def paths_of(svg, style):
    return [path.get("d") for path in ElementTree.fromstring(svg).iter("path") if style in (path.get("style") or "")]


def starts(path):
    """Return the points of a series."""
    return [tuple(map(float, point)) for point in re.findall(r"M([-0-9.]+) ([-0-9.]+)", path)]


def test_equal_points_lie_on_the_diagonal_and_larger_values_above():
    svg = scatter_chart({"R": [(10, 10), (20, 20)], "G": [(10, 20)]}, title="t", label="l", least_span=1)
    (dashes,) = paths_of(svg, "dasharray")
    x0, y0, x1, y1 = numbers(dashes)
    red, green = (starts(path) for path in paths_of(svg, "fill-opacity")[::2])  # each is followed by its legend

    def identity_line_at(x):
        return y0 + (x - x0) / (x1 - x0) * (y1 - y0)

    assert [y for _, y in red] == pytest.approx([identity_line_at(x) for x, _ in red], abs=0.2)
    assert green[0][1] < identity_line_at(green[0][0]) - 20


def test_points_that_hardly_differ_are_not_blown_up():
    svg = scatter_chart({"R": [(5.0, 5.001)]}, title="t", label="l", least_span=4)
    ticks = [text.text for text in ElementTree.fromstring(svg).iter("text")]
    assert {"3", "7"} <= set(ticks) or {"2", "8"} <= set(ticks)


@pytest.mark.parametrize("log", [False, True])
def test_lines_stay_inside_the_frame_and_values_without_logarithm_are_omitted(log):
    lines = {"true": [1.0, 30.0, 500.0], "generated": [0.0, 0.0, 0.0]}
    svg = line_chart(lines, [0.02, 0.1, 0.5], title="t", x_label="x", y_label="y", x_ticks=(0.02, 0.5), log=log)
    (line, *_) = [path for path in paths_of(svg, "stroke-opacity") if "L" in path]
    xs, ys = numbers(line)[::2], numbers(line)[1::2]
    assert (min(xs), max(xs)) == (LEFT, WIDTH - 8)
    assert min(ys) >= TOP
    assert max(ys) <= HEIGHT
    assert len([path for path in paths_of(svg, "--generated") if "L" in path]) == (0 if log else 1)


def test_an_accuracy_lies_inside_its_interval():
    svg = interval_plot({"generated": Accuracy(0.55, 0.45, 0.65, 4, 80)}, goal=0.6, title="<t>")
    (whisker,) = paths_of(svg, "stroke-width:1.6")
    (mark,) = paths_of(svg, "fill:var(--generated")
    low, high = numbers(whisker)[0], float(re.search(r"H([0-9.]+)", whisker)[1])
    assert low < starts(mark)[0][0] < high
    assert starts(mark)[0][0] == pytest.approx((low + high) / 2, abs=0.2)
    assert "generated: 0.55, 0.45 to 0.65" in svg
    assert "<t>" not in svg
