"""The baseline dot plot."""

import xml.etree.ElementTree as ElementTree

from distort_pipeline.reports.charts import baseline_dot_plot


def labels(chart):
    return [text.text for text in ElementTree.fromstring(chart).iter("text")]


def test_rows_are_in_ascending_order():
    drawn = labels(
        baseline_dot_plot({"threshold": 0.02, "floor": 0.0005, "generated": 0.01}, marked="generated", title="t")
    )
    assert [label for label in drawn if label in ("floor", "generated", "threshold")] == [
        "floor",
        "generated",
        "threshold",
    ]
    assert {"0.00050", "0.0100", "0.0200", "10⁻⁴", "10⁻¹"} <= set(drawn)


def test_zero_and_markup_can_be_drawn():
    chart = baseline_dot_plot({"<b>": 0.0, "a name that is far too long": 0.3}, marked="<b>", title="<script>")
    assert {"<b>", "a name that is…"} <= set(labels(chart))
    ElementTree.fromstring(baseline_dot_plot({"all": 0.0}, marked="x", title="t"))
