"""Statistics of residuals, each true against generated: the data of the plots, and the charts of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from markupsafe import Markup

from distort_pipeline.reports.line_chart import line_chart
from distort_pipeline.reports.scatter_chart import scatter_chart
from distort_pipeline.statistics.eval_images import Comparison
from distort_pipeline.statistics.evaluation import Evaluation
from distort_pipeline.statistics.residual_figures import FREQUENCIES, ResidualFigures
from distort_pipeline.statistics.residuals import GRID_LAGS_PX, JPEG_BLOCK_PX

Points: TypeAlias = Mapping[str, Sequence[tuple[float, float]]]  # name → (true, generated) of each image

COLOURS = "RGB"
COLOUR_PAIRS = {"R–G": (0, 1), "G–B": (1, 2), "R–B": (0, 2)}
PLOTS = {
    "mean": ("mean of the residual, greys", 2.0),
    "deviation": ("deviation of the residual, greys", 4.0),
    "correlation": ("correlation between channels", 0.4),
    "psnr": ("PSNR against pristine, dB", 2.0),
}
FREQUENCY_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5)


def residual_charts(evaluation: Evaluation, model: str) -> list[Markup]:
    """Return the charts of one generator: spectrum, grid, and points for each of PLOTS."""
    found = evaluation.models[model].residuals
    spectrum = line_chart(
        {kind: np.sqrt(found[kind]["power"]).tolist() for kind in ("true", "generated")},
        FREQUENCIES.tolist(),
        title=f"Amplitude spectrum of the residuals of {model}",
        x_label="cycles per pixel",
        y_label="amplitude, greys",
        x_ticks=FREQUENCY_TICKS,
        log=True,
    )
    grid = line_chart(
        {kind: found[kind]["autocorrelation"].tolist() for kind in ("true", "generated")},
        range(1, GRID_LAGS_PX + 1),
        title=f"Autocorrelation of the residual steps of {model}",
        x_label="lag, px",
        y_label="autocorrelation of steps",
        x_ticks=range(0, GRID_LAGS_PX + 1, JPEG_BLOCK_PX),
    )
    points = [
        scatter_chart(points_of(evaluation, model, name), title=f"{label}, {model}", label=label, least_span=span)
        for name, (label, span) in PLOTS.items()
    ]
    return [Markup(chart) for chart in (spectrum, grid, *points)]


def residual_csv(evaluation: Evaluation, model: str) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name of each CSV file of one generator's plots and its rows, the header first."""
    found = evaluation.models[model].residuals
    spectra = (np.sqrt(found[kind]["power"]).tolist() for kind in ("true", "generated"))
    yield (
        f"plots/spectrum_{model}.csv",
        [
            ["frequency", "true", "generated"],
            *zip(FREQUENCIES.tolist(), *spectra, strict=True),
        ],
    )
    grids = (found[kind]["autocorrelation"].tolist() for kind in ("true", "generated"))
    yield (
        f"plots/grid_{model}.csv",
        [
            ["lag", "true", "generated"],
            *zip(range(1, GRID_LAGS_PX + 1), *grids, strict=True),
        ],
    )
    for name in PLOTS:
        series = points_of(evaluation, model, name)
        rows = [[of, true, made] for of, values in series.items() for true, made in values]
        yield f"plots/{name}_{model}.csv", [["of", "true", "generated"], *rows]


def points_of(evaluation: Evaluation, model: str, name: str) -> Points:
    """Return the points of one of PLOTS: a series for each colour or pair of colours, a point for each image."""
    images = [image.comparisons[model] for image in evaluation.images if model in image.comparisons]
    if name == "psnr":
        both = [(one.true.psnr, one.generated.psnr) for one in images]
        return {"images": [(true, made) for true, made in both if true is not None and made is not None]}
    if name == "correlation":
        return {pair: _values(images, name, places) for pair, places in COLOUR_PAIRS.items()}
    return {colour: _values(images, name, (place,)) for place, colour in enumerate(COLOURS)}


def _values(images: Sequence[Comparison], name: str, places: tuple[int, ...]) -> list[tuple[float, float]]:
    return [(_value(one.true_residual, name, places), _value(one.generated_residual, name, places)) for one in images]


def _value(figures: ResidualFigures, name: str, places: tuple[int, ...]) -> float:
    if name == "deviation":
        return float(np.sqrt(figures["variance"][places]))
    return float(figures[name][places])
