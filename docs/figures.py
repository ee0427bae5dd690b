"""`python docs/figures.py`: draws the README's figures from the built-in photographs and the pretrained generators.

The report's figure is a screenshot and needs a Chromium on the path; without a browser the figure stays.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from distort_pipeline.commands.inputs import SAMPLE, pretrained
from distort_pipeline.data.images import decode, marked_png
from distort_pipeline.distortions import apply
from distort_pipeline.models.store import load_generator
from distort_pipeline.records import Image, make_rng
from distort_pipeline.reports.pages import amplified_residual, side_by_side

DOCS = Path(__file__).parent
SIDE_PX = 144
COLUMNS = ["pristine", "true", "generated", "true residual x4", "generated residual x4"]
ORDER = ("white_noise", "pink_noise", "jpeg", "jp2k")
IMAGE = "budgie-backgrounds__sunning-anhinga.png"  # texture beside a smooth background
SAMPLES = 2000
REPORT_PX = (1440, 1545)


def draw_side_by_side() -> None:
    """Draw a row for each distortion: the middle of one photograph, pristine, true and generated."""
    pristine, _ = decode((SAMPLE / IMAGE).read_bytes())
    rows = []
    for name in ORDER:
        trained = load_generator(pretrained(name), batch_size=1)
        true = apply(name, pristine, trained.card.levels[-1].parameters, make_rng(0)).image
        generated = trained.predictor.distort_image(pristine, seed=1)
        clean, bad, learned = (_middle(image) for image in (pristine, true, generated))
        rows.append([clean, bad, learned, amplified_residual(clean, bad), amplified_residual(clean, learned)])
    (DOCS / "side_by_side.png").write_bytes(
        marked_png(side_by_side(rows, COLUMNS, row_labels=[name.replace("_", " ") for name in ORDER]))
    )


def shoot_report() -> None:
    """Make a corpus, and take a screenshot of the top of its report."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium: docs/report.png stays")
        return
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        # in a folder without a manifest and models of ours
        subprocess.run(
            [sys.executable, "-m", "distort_pipeline", "generate", "--count", str(SAMPLES)], cwd=folder, check=True
        )
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
                *(f"--user-data-dir={folder}/profile", f"--screenshot={shot}"),
                f"--window-size={REPORT_PX[0]},{REPORT_PX[1]}",
                (Path(folder) / "corpus" / "index.html").as_uri(),
            ],
            check=True,
            capture_output=True,
        )
        image, _ = decode(shot.read_bytes())
    _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    (DOCS / "report.png").write_bytes(bytes(png))


def _middle(image: Image) -> Image:
    y, x = (np.array(image.shape[:2]) - SIDE_PX) // 2
    return image[y : y + SIDE_PX, x : x + SIDE_PX]


if __name__ == "__main__":
    draw_side_by_side()
    shoot_report()
