"""`python figures.py`: measures the runs on full validation images, and draws the paper's figures 3 and 4.

Writes into build/figures the figures, the table as Markdown, metrics.json (`dvc metrics`) and runs.csv (`dvc plots`).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import yaml

from distort_pipeline.data.files import write_bytes, write_json
from distort_pipeline.data.images import marked_png
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.full_reference import HIGHEST_PSNR_DB, psnr
from distort_pipeline.metrics.jsd_nss import jsd_nss, luma
from distort_pipeline.models.store import load_generator
from distort_pipeline.records import Image
from distort_pipeline.reports.pages import amplified_residual, side_by_side

BUILD = Path("build")
DISTORTION = "jpeg"
HEADINGS = ("", "JSD_NSS", "PSNR, dB", "delta PSNR, dB", "PSNR to true, dB", "detail")
Figures = dict[str, float]


def main() -> None:
    """Measure every run in params.yaml, and draw its figures."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    pairs = open_pairs(BUILD / "pairs")
    pristine, true = validation(pairs)
    generated, names = {}, {}
    for run in params["runs"]:
        trained = load_generator(BUILD / "models" / run, batch_size=1)
        generated[run] = [trained.predictor.distort_image(image, seed=0) for image in pristine]
        names[run] = name_of(trained.card.settings.train)
    metrics: dict[str, Any] = {
        "images": len(pristine),
        "pristine": means(pristine, true, pristine),
        "true": means(pristine, true, true),
        "runs": {run: means(pristine, true, images) for run, images in generated.items()},
    }
    out, shown = BUILD / "figures", params["figures"]
    write_json(out / "metrics.json", metrics)
    write_bytes(out / "table.md", table(metrics, names).encode())
    _write_runs(out / "runs.csv", metrics["runs"], names)
    index = shown["image"]
    for figure in ("figure3", "figure4"):
        drawn = drawing(
            pristine[index],
            true[index],
            {f"{names[run]}: {metrics['runs'][run]['jsd_nss']:.4f}": generated[run][index] for run in shown[figure]},
            identity_bits=metrics["pristine"]["jsd_nss"],
            side_px=shown["side_px"],
        )
        write_bytes(out / f"{figure}.png", marked_png(drawn))
    print(table(metrics, names))


def name_of(settings: Mapping[str, Any]) -> str:
    """Return the name of a training's `settings` in the figures.

    >>> name_of({"adversarial_weight": 1.0, "lambda_l1": 0.01})
    'lambda 0.01'
    >>> name_of({"adversarial_weight": 0.0, "pixel_norm": "l2"})
    'l2 alone'
    """
    if settings["adversarial_weight"]:
        return f"lambda {settings['lambda_l1']:g}"
    return f"{settings['pixel_norm']} alone"


def validation(pairs: PairStore) -> tuple[list[Image], list[Image]]:
    """Return the full validation images, pristine and true, in the order of the manifest."""
    images = list(pairs.validation(DISTORTION))
    return [pristine for _, pristine, _ in images], [true for _, _, true in images]


def means(pristine: Sequence[Image], true: Sequence[Image], generated: Sequence[Image]) -> Figures:
    """Return the figures of `generated` images, means over images.

    JSD_NSS in bits to true; PSNR in dB to pristine and to true, capped at 60; `delta_psnr_db` is PSNR to pristine,
    generated minus true: positive if the severity is too low. `detail` is the mean square of the Laplacian of luma,
    over the pristine image's: below 1 where detail is lost, above 1 where detail is added.
    """
    rows = [_figures(*images) for images in zip(pristine, true, generated, strict=True)]
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def table(metrics: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return the `metrics` as a Markdown table: a row for each run under its name, then pristine and true."""
    rows = {names[run]: figures for run, figures in metrics["runs"].items()}
    rows |= {"*pristine*": metrics["pristine"], "*true JPEG*": metrics["true"]}
    lines = [_row(HEADINGS), "|---|" + "---:|" * (len(HEADINGS) - 1)]
    for name, figures in rows.items():
        to_true = "–" if name == "*true JPEG*" else f"{figures['psnr_true_db']:.2f}"
        clean = name == "*pristine*"
        db, delta_psnr = ("–",) * 2 if clean else (f"{figures['psnr_db']:.2f}", f"{figures['delta_psnr_db']:+.2f}")
        lines.append(_row((name, f"{figures['jsd_nss']:.4f}", db, delta_psnr, to_true, f"{figures['detail']:.2f}")))
    return "\n".join(lines) + "\n"


def drawing(
    pristine: Image, true: Image, generated: Mapping[str, Image], *, identity_bits: float, side_px: int
) -> Image:
    """Return a figure: the centre crop of an image, `side_px` wide, above the residuals, amplified by 4.

    Columns are pristine (with the JSD_NSS of the identity baseline), true, then `generated` by caption.
    """
    columns = {f"pristine: {identity_bits:.4f}": pristine, "true JPEG": true, **generated}
    images = [_middle(image, side_px) for image in columns.values()]
    residuals = [amplified_residual(images[0], image) for image in images]
    return side_by_side([images, residuals], list(columns), row_labels=["image", "residual x4"])


def _figures(pristine: Image, true: Image, generated: Image) -> Figures:
    db = min(psnr(pristine, generated), HIGHEST_PSNR_DB)
    return {
        "jsd_nss": jsd_nss(true, generated),
        "psnr_db": db,
        "delta_psnr_db": db - min(psnr(pristine, true), HIGHEST_PSNR_DB),
        "psnr_true_db": min(psnr(true, generated), HIGHEST_PSNR_DB),
        "detail": _edges(generated) / max(_edges(pristine), 1e-6),  # 0 for a constant image
    }


def _edges(image: Image) -> float:
    return float((cv2.Laplacian(luma(image), cv2.CV_32F) ** 2).mean())


def _middle(image: Image, side_px: int) -> Image:
    y, x = (max(side - side_px, 0) // 2 for side in image.shape[:2])
    return image[y : y + side_px, x : x + side_px]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _write_runs(path: Path, runs: Mapping[str, Figures], names: Mapping[str, str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["run", *next(iter(runs.values()))], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"run": names[run], **figures} for run, figures in runs.items())


if __name__ == "__main__":
    try:
        main()
    except PipelineError as error:
        print(f"figures: {error}", file=sys.stderr)
        sys.exit(2)
