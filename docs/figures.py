"""`python docs/figures.py`: draws the README's figures from the built-in photographs and the starter generators.

The report's figure is a screenshot and needs a Chromium on the path; without one it stays as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from distort_pipeline.builtin import sample_folder, starter
from distort_pipeline.ranges import Picture
from distort_pipeline.reports.strips import amplified_residual, png_bytes
from distort_pipeline.stores.pictures import decode

from distort_pipeline.distortions import apply
from distort_pipeline.reports.side_by_side import side_by_side
from distort_pipeline.seeds import make_rng
from distort_pipeline.trained import load_generator

DOCS = Path(__file__).parent
SIDE_PX = 144
COLUMNS = ["pristine", "true", "generated", "true residual x4", "generated residual x4"]
ORDER = ("white_noise", "pink_noise", "jpeg", "jp2k")
PICTURE = "budgie-backgrounds__sunning-anhinga.png"  # one with texture, and with a smooth background
SAMPLES = 2000
REPORT_PX = (1440, 1545)


def draw_side_by_side() -> None:
    """Draw a row for each distortion: the middle of one photograph, pristine, true and generated."""
    pristine, _ = decode((sample_folder() / PICTURE).read_bytes())
    rows = []
    for name in ORDER:
        trained = load_generator(starter(name), batch=1)
        true = apply(name, pristine, trained.card["levels"][-1]["parameters"], make_rng(0)).picture
        made = trained.forward.distort_picture(pristine, seed=1)
        clean, bad, learned = (_middle(picture) for picture in (pristine, true, made))
        rows.append([clean, bad, learned, amplified_residual(clean, bad), amplified_residual(clean, learned)])
    (DOCS / "strip.png").write_bytes(
        png_bytes(side_by_side(rows, COLUMNS, row_labels=[name.replace("_", " ") for name in ORDER]))
    )


def shoot_report() -> None:
    """Make a corpus, and take a picture of the top of its report."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium: docs/report.png stays as it is")
        return
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        # there, as neither a manifest nor models of ours may lie in the folder
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
        picture, _ = decode(shot.read_bytes())
    _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    (DOCS / "report.png").write_bytes(bytes(png))


def _middle(picture: Picture) -> Picture:
    y, x = (np.array(picture.shape[:2]) - SIDE_PX) // 2
    return picture[y : y + SIDE_PX, x : x + SIDE_PX]


if __name__ == "__main__":
    draw_side_by_side()
    shoot_report()
