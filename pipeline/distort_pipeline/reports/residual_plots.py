"""Residual statistics, generated against true: plot data and charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from distort_pipeline.metrics.evaluation import Comparison, Evaluation
from distort_pipeline.metrics.residuals import FREQUENCIES, GRID_LAGS_PX, JPEG_BLOCK_PX, ResidualFigures
from distort_pipeline.reports.line_charts import line_chart, scatter_chart

Points: TypeAlias = Mapping[str, Sequence[tuple[float, float]]]  # name → (true, generated) of each image

COLOURS = "RGB"
COLOUR_PAIRS = {"R–G": (0, 1), "G–B": (1, 2), "R–B": (0, 2)}
PLOTS = {
    "mean": ("mean of the residual, 8-bit levels", 2.0),
    "deviation": ("std of the residual, 8-bit levels", 4.0),
    "correlation": ("correlation between channels", 0.4),
    "psnr": ("PSNR against pristine, dB", 2.0),
}
FREQUENCY_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5)


def residual_charts(evaluation: Evaluation, model: str) -> dict[str, str]:
    """Return the charts of one generator as SVG: spectrum, block grid, and a scatter chart for each of PLOTS."""
    residuals = evaluation.models[model].residuals
    spectrum = line_chart(
        {kind: np.sqrt(residuals[kind]["power"]).tolist() for kind in ("true", "generated")},
        FREQUENCIES.tolist(),
        title=f"Amplitude spectrum of the residuals of {model}",
        x_label="cycles per pixel",
        y_label="amplitude, 8-bit levels",
        x_ticks=FREQUENCY_TICKS,
        log=True,
    )
    grid = line_chart(
        {kind: residuals[kind]["autocorrelation"].tolist() for kind in ("true", "generated")},
        range(1, GRID_LAGS_PX + 1),
        title=f"Autocorrelation of the residual's gradient, {model}",
        x_label="lag, px",
        y_label="autocorrelation of the gradient",
        x_ticks=range(0, GRID_LAGS_PX + 1, JPEG_BLOCK_PX),
    )
    points = {
        name: scatter_chart(points_of(evaluation, model, name), title=f"{label}, {model}", label=label, least_span=span)
        for name, (label, span) in PLOTS.items()
    }
    return {"spectrum": spectrum, "grid": grid, **points}


def residual_csv(evaluation: Evaluation, model: str) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name and the rows of each CSV file of one generator's plots, column names first."""
    residuals = evaluation.models[model].residuals
    spectra = (np.sqrt(residuals[kind]["power"]).tolist() for kind in ("true", "generated"))
    yield (
        f"data/spectrum_{model}.csv",
        [
            ["frequency", "true", "generated"],
            *zip(FREQUENCIES.tolist(), *spectra, strict=True),
        ],
    )
    grids = (residuals[kind]["autocorrelation"].tolist() for kind in ("true", "generated"))
    yield (
        f"data/grid_{model}.csv",
        [
            ["lag", "true", "generated"],
            *zip(range(1, GRID_LAGS_PX + 1), *grids, strict=True),
        ],
    )
    for name in PLOTS:
        points = points_of(evaluation, model, name)
        rows = [[of, true, generated] for of, values in points.items() for true, generated in values]
        yield f"data/{name}_{model}.csv", [["of", "true", "generated"], *rows]


def points_of(evaluation: Evaluation, model: str, name: str) -> Points:
    """Return the points of an entry of PLOTS, a point for each image, grouped by colour or pair of colours."""
    images = [image.comparisons[model] for image in evaluation.images if model in image.comparisons]
    if name == "psnr":
        psnr = [(image.true.psnr, image.generated.psnr) for image in images]
        return {"images": [(true, generated) for true, generated in psnr if true is not None and generated is not None]}
    if name == "correlation":
        return {pair: _values(images, name, index) for pair, index in COLOUR_PAIRS.items()}
    return {colour: _values(images, name, (index,)) for index, colour in enumerate(COLOURS)}


def _values(images: Sequence[Comparison], name: str, index: tuple[int, ...]) -> list[tuple[float, float]]:
    return [
        (_value(image.true_residual, name, index), _value(image.generated_residual, name, index)) for image in images
    ]


def _value(figures: ResidualFigures, name: str, index: tuple[int, ...]) -> float:
    if name == "deviation":
        return float(np.sqrt(figures["variance"][index]))
    return float(figures[name][index])
