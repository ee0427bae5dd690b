"""`python figures.py`: measures the runs on whole validation images, and draws the paper's figures 3 and 4.

Leaves in build/figures the side_by_side, the table as Markdown, metrics.json for `dvc metrics` and runs.csv for `dvc plots`.
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

from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Image
from distort_pipeline.reports.side_by_side import amplified_residual, png_bytes, side_by_side
from distort_pipeline.statistics.calibration import HIGHEST_PSNR_DB
from distort_pipeline.statistics.divergence import jsd_nss
from distort_pipeline.statistics.full_reference import psnr
from distort_pipeline.statistics.mscn import luma
from distort_pipeline.stores.files import write_bytes, write_json
from distort_pipeline.stores.pairs import PairStore, open_pairs
from distort_pipeline.trained import load_generator

BUILD = Path("build")
DISTORTION = "jpeg"
HEADINGS = ("", "JSD_NSS", "PSNR, dB", "strength, dB", "PSNR to true, dB", "detail")
Figures = dict[str, float]


def main() -> None:
    """Measure every run in params.yaml, and draw its figures."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    pairs = open_pairs(BUILD / "pairs")
    pristine, true = validation(pairs)
    made, names = {}, {}
    for run in params["runs"]:
        trained = load_generator(BUILD / "models" / run, batch_size=1)
        made[run] = [trained.predictor.distort_image(image, seed=0) for image in pristine]
        names[run] = name_of(trained.card["settings"]["train"])
    metrics: dict[str, Any] = {
        "images": len(pristine),
        "pristine": means(pristine, true, pristine),
        "true": means(pristine, true, true),
        "runs": {run: means(pristine, true, images) for run, images in made.items()},
    }
    out, shown = BUILD / "figures", params["figures"]
    write_json(out / "metrics.json", metrics)
    write_bytes(out / "table.md", table(metrics, names).encode())
    _write_runs(out / "runs.csv", metrics["runs"], names)
    place = shown["image"]
    for figure in ("figure3", "figure4"):
        drawn = drawing(
            pristine[place],
            true[place],
            {f"{names[run]}: {metrics['runs'][run]['jsd_nss']:.4f}": made[run][place] for run in shown[figure]},
            identity_bits=metrics["pristine"]["jsd_nss"],
            side_px=shown["side_px"],
        )
        write_bytes(out / f"{figure}.png", png_bytes(drawn))
    print(table(metrics, names))


def name_of(settings: Mapping[str, Any]) -> str:
    """Return what a training's `settings` are called in the figures.

    >>> name_of({"adversarial_weight": 1.0, "sparsity_weight": 0.01})
    'lambda 0.01'
    >>> name_of({"adversarial_weight": 0.0, "pixel_norm": "l2"})
    'l2 alone'
    """
    if settings["adversarial_weight"]:
        return f"lambda {settings['lambda_l1']:g}"
    return f"{settings['pixel_norm']} alone"


def validation(pairs: PairStore) -> tuple[list[Image], list[Image]]:
    """Return the whole validation images, pristine and true, in the order of the manifest."""
    found = list(pairs.validation(DISTORTION))
    return [pristine for _, pristine, _ in found], [true for _, _, true in found]


def means(pristine: Sequence[Image], true: Sequence[Image], made: Sequence[Image]) -> Figures:
    """Return the means over images of what `made` scores, each image beside its pristine and true one.

    JSD_NSS in bits to true; PSNR in dB to pristine and to true, at most 60; `strength_db` is the first less that of
    true to pristine: above 0 where too little is distorted. `detail` is the mean square of the Laplacian of luma over
    that of the pristine image: below 1 where detail is lost, above it where some is added.
    """
    each = [_one(*trio) for trio in zip(pristine, true, made, strict=True)]
    return {name: fmean(figures[name] for figures in each) for name in each[0]}


def table(metrics: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return the `metrics` as a Markdown table: a row for each run under its name, then pristine and true."""
    rows = {names[run]: figures for run, figures in metrics["runs"].items()}
    rows |= {"*pristine*": metrics["pristine"], "*true JPEG*": metrics["true"]}
    lines = [_row(HEADINGS), "|---|" + "---:|" * (len(HEADINGS) - 1)]
    for name, figures in rows.items():
        to_true = "–" if name == "*true JPEG*" else f"{figures['psnr_true_db']:.2f}"
        clean = name == "*pristine*"
        db, strength = ("–",) * 2 if clean else (f"{figures['psnr_db']:.2f}", f"{figures['delta_psnr_db']:+.2f}")
        lines.append(_row((name, f"{figures['jsd_nss']:.4f}", db, strength, to_true, f"{figures['detail']:.2f}")))
    return "\n".join(lines) + "\n"


def drawing(pristine: Image, true: Image, made: Mapping[str, Image], *, identity_bits: float, side_px: int) -> Image:
    """Return the strip of a figure: the middle of one image, `side_px` wide, and below it the residuals fourfold.

    Columns are pristine (with the JSD_NSS of the identity baseline), true, then `made` under its captions.
    """
    columns = {f"pristine: {identity_bits:.4f}": pristine, "true JPEG": true, **made}
    images = [_middle(image, side_px) for image in columns.values()]
    residuals = [amplified_residual(images[0], image) for image in images]
    return side_by_side([images, residuals], list(columns), row_labels=["image", "residual x4"])


def _one(pristine: Image, true: Image, made: Image) -> Figures:
    found = min(psnr(pristine, made), HIGHEST_PSNR_DB)
    return {
        "jsd_nss": jsd_nss(true, made),
        "psnr_db": found,
        "delta_psnr_db": found - min(psnr(pristine, true), HIGHEST_PSNR_DB),
        "psnr_true_db": min(psnr(true, made), HIGHEST_PSNR_DB),
        "detail": _edges(made) / max(_edges(pristine), 1e-6),  # an image of one grey has none
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
