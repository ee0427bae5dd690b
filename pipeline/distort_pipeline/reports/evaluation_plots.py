"""The plots of an evaluation, on its page and as SVG files for `dvc plots show`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from distort_pipeline.reports.c2st_tables import compared_in
from distort_pipeline.reports.charts import WIDTH, histogram_chart
from distort_pipeline.reports.interval_plot import interval_plot
from distort_pipeline.reports.line_chart import line_chart
from distort_pipeline.reports.residual_plots import residual_charts
from distort_pipeline.statistics.c2st import C2STReport
from distort_pipeline.statistics.evaluation import Evaluation
from distort_pipeline.stores.files import write_bytes

FOLDER = "plots"
Curve: TypeAlias = Sequence[tuple[int, float, float]]  # training step, JSD_NSS, JSD_NSS of the identity baseline


def histogram_charts(evaluation: Evaluation, name: str) -> dict[str, str]:
    """Return the histograms of one generator as SVG: with a linear and with a logarithmic axis."""
    counts = {kind: values.tolist() for kind, values in evaluation.models[name].histograms.items()}
    return {
        "histogram": histogram_chart(counts, title=f"Histograms of {name}", log=False),
        "histogram_log": histogram_chart(counts, title=f"Histograms of {name}, logarithmic", log=True),
    }


def c2st_charts(c2st: C2STReport | None) -> dict[str, str]:
    """Return the C2ST accuracies with their intervals as SVG, by generator."""
    results = c2st.results if c2st else {}
    return {
        name: interval_plot(compared_in(result), title=f"C2ST accuracy of {name}") for name, result in results.items()
    }


def training_chart(name: str, curve: Curve) -> str:
    """Return validation JSD_NSS over the training steps as SVG, beside the identity baseline."""
    steps, bits, identity = zip(*curve, strict=True)
    return line_chart(
        {"generated": bits, "pristine": identity},
        steps,
        title=f"Validation JSD_NSS of {name}",
        x_label="training step",
        y_label="JSD_NSS, bits",
        x_ticks=sorted({steps[0], steps[len(steps) // 2], steps[-1]}),
    )


def training_curve(model: Path) -> Curve:
    """Return the logged validation figures of a model folder, by step; empty if there are none."""
    columns = []
    for name in ("jsd_nss", "jsd_nss_pristine"):
        path = model / "live" / "plots" / "metrics" / f"{name}.tsv"
        if not path.is_file():
            return ()
        with path.open(newline="", encoding="utf-8") as file:
            columns.append({int(row["step"]): float(row[name]) for row in csv.DictReader(file, delimiter="\t")})
    bits, identity = columns
    return [(step, bits[step], identity[step]) for step in sorted(bits.keys() & identity.keys())]


def write_plots(folder: Path, evaluation: Evaluation, c2st: C2STReport | None, models: Mapping[str, Path]) -> None:
    """Write every plot as an SVG file of its own into the folder `plots` of the evaluation at `folder`."""
    for name, chart in _plots(evaluation, c2st, models):
        write_bytes(folder / FOLDER / f"{name}.svg", _svg_file(chart))


def _plots(evaluation: Evaluation, c2st: C2STReport | None, models: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for name in evaluation.models:
        for kind, chart in {**histogram_charts(evaluation, name), **residual_charts(evaluation, name)}.items():
            yield f"{kind}_{name}", chart
        curve = training_curve(models[name])
        if len(curve) > 1:
            yield f"training_{name}", training_chart(name, curve)
    for name, chart in c2st_charts(c2st).items():
        yield f"c2st_{name}", chart


def _svg_file(chart: str) -> bytes:
    """Return an inline SVG chart as a file: with its namespace, a width and a white ground."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" style="background:#fff" '
    return chart.replace("<svg ", head, 1).encode()
