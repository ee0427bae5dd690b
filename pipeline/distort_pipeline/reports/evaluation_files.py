"""The files of an evaluation for programs: metrics, tables, and the data of plots. The same figures, the same bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from distort_pipeline.reports.c2st_tables import c2st_csv, c2st_metrics, severity_tstr_metrics, tstr_metrics
from distort_pipeline.reports.divergence_tables import markdown
from distort_pipeline.reports.residual_plots import residual_csv
from distort_pipeline.reports.sweep_tables import sweep_csv, sweep_metrics
from distort_pipeline.statistics.c2st import C2STReport
from distort_pipeline.statistics.divergence import NATS_PER_BIT
from distort_pipeline.statistics.eval_images import Quality
from distort_pipeline.statistics.evaluation import Draws, Evaluation, ModelFigures
from distort_pipeline.statistics.histograms import centres
from distort_pipeline.statistics.nss_features import NSS_FEATURES
from distort_pipeline.statistics.residual_figures import FREQUENCIES, ResidualFigures, slope
from distort_pipeline.statistics.sample_diversity import SampleDiversity
from distort_pipeline.statistics.severity_sweep import SeveritySweep
from distort_pipeline.stores.files import write_bytes, write_json

SEVERITY = ("psnr_generated", "psnr_true", "psnr_difference", "ssim_generated", "ssim_true", "ssim_difference")
DECIMALS = 6  # of bits: a hundredth of the smallest floor, and coarser than the last digits that libraries differ in


def write_files(
    evaluation: Evaluation, c2st: C2STReport | None, folder: Path, sweeps: Mapping[str, SeveritySweep] | None = None
) -> dict[str, Any]:
    """Write every file but strips and page into `folder` and return the metrics; `doubts` are a sceptic's findings."""
    figures = metrics(evaluation, c2st, sweeps)
    write_json(folder / "metrics.json", figures)
    write_json(folder / "residuals.json", residuals(evaluation))
    write_bytes(folder / "table.md", markdown(evaluation).encode())
    told = c2st_csv(c2st) if c2st else ()
    for name, rows in (*csv_files(evaluation), *told, *sweep_csv(sweeps or {})):
        write_bytes(folder / name, csv_bytes(rows))
    return figures


def metrics(
    evaluation: Evaluation, c2st: C2STReport | None = None, sweeps: Mapping[str, SeveritySweep] | None = None
) -> dict[str, Any]:
    """Return the small nested numbers for `dvc metrics show`: nothing in them depends on the run."""
    found = {
        "table": evaluation.table,
        "pristine": evaluation.pristine,
        "models": {name: {**model_metrics(evaluation, name), **c2st_metrics(c2st, name)} for name in evaluation.models},
        "noise_floors": {
            column: {"sampling": floors.sampling, "content": floors.content}
            for column, floors in evaluation.noise_floors.items()
        },
        "images": len(evaluation.images),
        "nearest_own": sum(evaluation.nearest_own(name) for name in evaluation.models),
        "tstr": tstr_metrics(c2st),
        "severity_tstr": severity_tstr_metrics(c2st),
        "sweeps": {name: sweep_metrics(dial) for name, dial in sweeps.items()} if sweeps else None,
    }
    return _tidy(found)


def model_metrics(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """Return the numbers of one generator; None where there is no such number."""
    model = evaluation.models[name]
    floors = evaluation.noise_floors[model.learned]
    return {
        "jsd_nss": evaluation.own(name),
        "jsd_nss_nats": evaluation.own(name) * NATS_PER_BIT,
        "jsd_nss_pooled": evaluation.pooled_table[name][model.learned],
        "jsd_nss_pristine": evaluation.pristine[model.learned],
        "sampling_floor": floors.sampling,
        "nearest_own": int(evaluation.nearest_own(name)),
        "nearest_of_vector": len(evaluation.nearest_in(name)),
        **quality_means(evaluation, name),
        **_draw_metrics(model.draws, evaluation.sample_diversity(name)),
    }


def quality_means(evaluation: Evaluation, name: str) -> dict[str, float | None]:
    """Return mean PSNR and SSIM of generated and true, and generated minus true, over the images that have them."""
    columns = list(zip(*(values for _, values in _severities(evaluation, name)), strict=True))
    return {label: _mean(column) for label, column in zip(SEVERITY, columns, strict=True)}


def quality_table(evaluation: Evaluation) -> list[Sequence[object]]:
    """Return rows of model, image and the values of SEVERITY; the last one of each model is the mean."""
    rows: list[Sequence[object]] = []
    for name in evaluation.models:
        rows += [[name, image, *values] for image, values in _severities(evaluation, name)]
        rows.append([name, "mean", *quality_means(evaluation, name).values()])
    return rows


def residuals(evaluation: Evaluation) -> dict[str, Any]:
    """Return the statistics of residuals, generated beside true, and of two draws, by model."""
    return {
        name: {
            **{kind: _residual_values(figures) for kind, figures in model.residuals.items()},
            "draws": _tidy({kind: vars(draws) for kind, draws in model.draws.items()}),
        }
        for name, model in evaluation.models.items()
    }


def csv_files(evaluation: Evaluation) -> Iterator[tuple[str, list[Sequence[object]]]]:
    """Yield the name of each CSV file and its rows, the header first."""
    columns = evaluation.columns
    for file, rows, pristine in (
        ("table.csv", evaluation.table, evaluation.pristine),
        ("pooled.csv", evaluation.pooled_table, evaluation.pooled_pristine),
    ):
        every = [*rows.items(), ("pristine", pristine)]
        yield file, [["generated", *columns], *([name, *(row[column] for column in columns)] for name, row in every)]
        if file == "table.csv":
            long = [[name, column, row[column]] for name, row in every for column in columns]
            yield "plots/table.csv", [["generated", "true", "bits"], *long]
    yield (
        "floors.csv",
        [
            ["distortion", "sampling", "sampling_between", "content"],
            *(
                [name, floors.sampling, "two draws" if floors.second_draw else "random halves", floors.content]
                for name, floors in evaluation.noise_floors.items()
            ),
        ],
    )
    yield from _feature_files(evaluation)
    yield "severity.csv", [["model", "image", *SEVERITY], *quality_table(evaluation)]
    for name, model in evaluation.models.items():
        yield f"plots/histogram_{name}.csv", _histogram_rows(model)
        yield from residual_csv(evaluation, name)


def _feature_files(evaluation: Evaluation) -> Iterator[tuple[str, list[Sequence[object]]]]:
    own: list[Sequence[object]] = [
        [name, model.learned, kind, *(features[component] for component in NSS_FEATURES)]
        for name, model in evaluation.models.items()
        for kind, features in model.feature_table.items()
    ]
    yield "vector.csv", [["model", "true", "compared", *NSS_FEATURES], *own]
    tables: list[Sequence[object]] = [
        [name, column, *(feature_table[column][component] for component in NSS_FEATURES)]
        for name, feature_table in (*evaluation.feature_table.items(), ("pristine", evaluation.identity_features))
        for column in evaluation.columns
    ]
    yield "vector_tables.csv", [["generated", "true", *NSS_FEATURES], *tables]


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """Return `rows` as a CSV file; floats rounded, None empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([_tidy(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def _draw_metrics(draws: Mapping[str, Draws], sample_diversity: SampleDiversity | None) -> dict[str, float | None]:
    found = {f"draw_correlation_{kind}": one.correlation for kind, one in draws.items()}
    if sample_diversity is not None:
        found["draw_variance_ratio"] = sample_diversity.variance_ratio
        found["draws_as_true"] = int(sample_diversity.independent and sample_diversity.variance_matches)
    return found


def _severities(evaluation: Evaluation, name: str) -> list[tuple[str, tuple[float | None, ...]]]:
    return [
        (image.image, _quality_values(image.comparisons[name].generated, image.comparisons[name].true))
        for image in evaluation.images
        if name in image.comparisons
    ]


def _quality_values(generated: Quality, true: Quality) -> tuple[float | None, ...]:
    """Return the values of SEVERITY; no PSNR difference to or from identical images."""
    difference = None if generated.psnr is None or true.psnr is None else generated.psnr - true.psnr
    return generated.psnr, true.psnr, difference, generated.ssim, true.ssim, generated.ssim - true.ssim


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


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
    """Return `value` as plain JSON with rounded numbers; entries of mappings that are None are left out."""
    if isinstance(value, Mapping):
        return {name: _tidy(part) for name, part in value.items() if part is not None}
    if isinstance(value, np.ndarray):
        return _tidy(value.tolist())
    if isinstance(value, list | tuple):
        return [_tidy(part) for part in value]
    return round(value, DECIMALS) if isinstance(value, float) else value
