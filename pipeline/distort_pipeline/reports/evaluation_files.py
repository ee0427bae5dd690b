"""Machine-readable files of an evaluation: metrics, tables and plot data. Equal figures give equal bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from distort_pipeline.data.files import write_bytes, write_json
from distort_pipeline.metrics.c2st import C2STReport
from distort_pipeline.metrics.evaluation import Draws, Evaluation, ModelFigures, Quality
from distort_pipeline.metrics.jsd_nss import NATS_PER_BIT, NSS_FEATURES
from distort_pipeline.metrics.nss_features import centres
from distort_pipeline.metrics.residuals import FREQUENCIES, ResidualFigures, SampleDiversity, slope
from distort_pipeline.metrics.severity_sweep import SeveritySweep
from distort_pipeline.reports.evaluation_tables import (
    c2st_csv,
    c2st_metrics,
    markdown,
    severity_tstr_metrics,
    sweep_csv,
    sweep_metrics,
    tstr_metrics,
)
from distort_pipeline.reports.residual_plots import residual_csv

SEVERITY = ("psnr_generated", "psnr_true", "psnr_difference", "ssim_generated", "ssim_true", "ssim_difference")
DECIMALS = 6  # of bits: a hundredth of the smallest noise floor, coarser than differences between library versions


def write_files(
    evaluation: Evaluation, c2st: C2STReport | None, folder: Path, sweeps: Mapping[str, SeveritySweep] | None = None
) -> dict[str, Any]:
    """Write all files except images and page into `folder` and return the metrics."""
    figures = metrics(evaluation, c2st, sweeps)
    write_json(folder / "metrics.json", figures)
    write_json(folder / "residuals.json", residuals(evaluation))
    write_bytes(folder / "table.md", markdown(evaluation).encode())
    c2st_files = c2st_csv(c2st) if c2st else ()
    for name, rows in (*csv_files(evaluation), *c2st_files, *sweep_csv(sweeps or {})):
        write_bytes(folder / name, csv_bytes(rows))
    return figures


def metrics(
    evaluation: Evaluation, c2st: C2STReport | None = None, sweeps: Mapping[str, SeveritySweep] | None = None
) -> dict[str, Any]:
    """Return nested numbers for `dvc metrics show`, independent of host and time."""
    figures = {
        "table": evaluation.table,
        "pristine": evaluation.pristine,
        "models": {name: {**model_metrics(evaluation, name), **c2st_metrics(c2st, name)} for name in evaluation.models},
        "noise_floors": {
            column: {"split_half": noise_floor.sampling, "between_content": noise_floor.content}
            for column, noise_floor in evaluation.noise_floors.items()
        },
        "images": len(evaluation.images),
        "diagonal_dominant": sum(evaluation.diagonal_dominant(name) for name in evaluation.models),
        "tstr": tstr_metrics(c2st),
        "severity_tstr": severity_tstr_metrics(c2st),
        "sweeps": {name: sweep_metrics(sweep) for name, sweep in sweeps.items()} if sweeps else None,
    }
    return _tidy(figures)


def model_metrics(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """Return the metrics of one generator; None for an undefined metric."""
    model = evaluation.models[name]
    noise_floor = evaluation.noise_floors[model.learned]
    return {
        "jsd_nss": evaluation.diagonal(name),
        "jsd_nss_nats": evaluation.diagonal(name) * NATS_PER_BIT,
        "jsd_nss_pooled": evaluation.pooled_table[name][model.learned],
        "jsd_nss_pristine": evaluation.pristine[model.learned],
        "noise_floor": noise_floor.sampling,
        "diagonal_dominant": int(evaluation.diagonal_dominant(name)),
        "nearest_features": len(evaluation.dominant_features(name)),
        **quality_means(evaluation, name),
        **_draw_metrics(model.draws, evaluation.sample_diversity(name)),
    }


def quality_means(evaluation: Evaluation, name: str) -> dict[str, float | None]:
    """Return mean PSNR and SSIM of generated and true, and generated minus true, over images with a defined value."""
    columns = list(zip(*(values for _, values in _severities(evaluation, name)), strict=True))
    return {label: _mean(column) for label, column in zip(SEVERITY, columns, strict=True)}


def quality_table(evaluation: Evaluation) -> list[Sequence[object]]:
    """Return rows of model, image and the values of SEVERITY; the last row of each model is the mean."""
    rows: list[Sequence[object]] = []
    for name in evaluation.models:
        rows += [[name, image, *values] for image, values in _severities(evaluation, name)]
        rows.append([name, "mean", *quality_means(evaluation, name).values()])
    return rows


def residuals(evaluation: Evaluation) -> dict[str, Any]:
    """Return the statistics of residuals, generated and true, and of two draws, by model."""
    return {
        name: {
            **{kind: _residual_values(figures) for kind, figures in model.residuals.items()},
            "draws": _tidy({kind: vars(draws) for kind, draws in model.draws.items()}),
        }
        for name, model in evaluation.models.items()
    }


def csv_files(evaluation: Evaluation) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name and the rows of each CSV file, column names first."""
    columns = evaluation.columns
    for file, rows, pristine in (
        ("table.csv", evaluation.table, evaluation.pristine),
        ("pooled.csv", evaluation.pooled_table, evaluation.pooled_identity),
    ):
        all_rows = [*rows.items(), ("pristine", pristine)]
        yield file, [["generated", *columns], *([name, *(row[column] for column in columns)] for name, row in all_rows)]
        if file == "table.csv":
            long = [[name, column, row[column]] for name, row in all_rows for column in columns]
            yield "data/table.csv", [["generated", "true", "bits"], *long]
    yield (
        "noise_floors.csv",
        [
            ["distortion", "split_half", "split_half_of", "between_content"],
            *(
                [
                    name,
                    noise_floor.sampling,
                    "two draws" if noise_floor.second_draw else "random halves",
                    noise_floor.content,
                ]
                for name, noise_floor in evaluation.noise_floors.items()
            ),
        ],
    )
    yield from _feature_files(evaluation)
    yield "severity.csv", [["model", "image", *SEVERITY], *quality_table(evaluation)]
    for name, model in evaluation.models.items():
        yield f"data/histogram_{name}.csv", _histogram_rows(model)
        yield from residual_csv(evaluation, name)


def _feature_files(evaluation: Evaluation) -> Iterator[tuple[str, list[Sequence[object]]]]:
    learned: list[Sequence[object]] = [
        [name, model.learned, kind, *(features[component] for component in NSS_FEATURES)]
        for name, model in evaluation.models.items()
        for kind, features in model.feature_table.items()
    ]
    yield "nss_features.csv", [["model", "true", "compared", *NSS_FEATURES], *learned]
    tables: list[Sequence[object]] = [
        [name, column, *(feature_table[column][component] for component in NSS_FEATURES)]
        for name, feature_table in (*evaluation.feature_table.items(), ("pristine", evaluation.identity_features))
        for column in evaluation.columns
    ]
    yield "nss_feature_tables.csv", [["generated", "true", *NSS_FEATURES], *tables]


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """Return `rows` as a CSV file; floats rounded, None empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([_tidy(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def _draw_metrics(draws: Mapping[str, Draws], sample_diversity: SampleDiversity | None) -> dict[str, float | None]:
    figures = {f"draw_correlation_{kind}": pair.correlation for kind, pair in draws.items()}
    if sample_diversity is not None:
        figures["draw_variance_ratio"] = sample_diversity.variance_ratio
        figures["diversity_matches"] = int(sample_diversity.independent and sample_diversity.variance_matches)
    return figures


def _severities(evaluation: Evaluation, name: str) -> list[tuple[str, tuple[float | None, ...]]]:
    return [
        (image.image, _quality_values(image.comparisons[name].generated, image.comparisons[name].true))
        for image in evaluation.images
        if name in image.comparisons
    ]


def _quality_values(generated: Quality, true: Quality) -> tuple[float | None, ...]:
    """Return the values of SEVERITY; the PSNR difference is None if an image equals its reference."""
    difference = None if generated.psnr is None or true.psnr is None else generated.psnr - true.psnr
    return generated.psnr, true.psnr, difference, generated.ssim, true.ssim, generated.ssim - true.ssim


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _residual_values(figures: ResidualFigures) -> dict[str, Any]:
    values = {name: values for name, values in figures.items() if name != "power"}
    spectrum = {"frequency": FREQUENCIES, "amplitude": np.sqrt(figures["power"])}
    grid = figures["grid"]
    blocking = float(grid[0] / grid[1:].mean()) if grid[1:].any() else None
    return _tidy({**values, "spectrum": spectrum, "spectral_slope": slope(figures["power"]), "blocking": blocking})


def _histogram_rows(model: ModelFigures) -> list[Sequence[object]]:
    shares = [counts / counts.sum() for counts in model.histograms.values()]
    rows = zip(centres().tolist(), *(share.tolist() for share in shares), strict=True)
    return [["centre", *model.histograms], *rows]


def _tidy(value: Any) -> Any:
    """Return `value` as plain JSON with rounded numbers, without None entries of mappings."""
    if isinstance(value, Mapping):
        return {name: _tidy(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, np.ndarray):
        return _tidy(value.tolist())
    if isinstance(value, list | tuple):
        return [_tidy(entry) for entry in value]
    return round(value, DECIMALS) if isinstance(value, float) else value
