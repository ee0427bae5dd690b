"""`python docs/figures.py`: draws the README's figures from what `make repro` left in build/.

The report's figure is a screenshot and needs a Chromium on the path; without one it stays as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np

from distort_pipeline import open_pairs
from distort_pipeline.ranges import Picture
from distort_pipeline.reports.strips import amplified_residual, png_bytes, strip
from distort_pipeline.stores.models import model_folders
from distort_pipeline.stores.pictures import decode
from distort_pipeline.trained import load_generator

BUILD, DOCS = Path("build"), Path("docs")
SIDE_PX = 160
COLUMNS = ["pristine", "true", "generated", "true residual x4", "generated residual x4"]
ORDER = ("white_noise", "pink_noise", "jpeg", "jp2k")
PICTURE = 2  # of the validation pictures: one with texture
REPORT_PX = (1280, 1010)


def draw_strip() -> None:
    """Draw a row for each distortion: the middle of one validation picture, pristine, true and generated."""
    pairs, folders = open_pairs(BUILD / "pairs"), model_folders(BUILD / "models")
    rows = []
    for name in ORDER:
        _, pristine, true = list(pairs.validation(name))[PICTURE]
        made = load_generator(folders[name], batch=1).forward.distort_picture(pristine, seed=0)
        clean, bad, learned = (_middle(picture) for picture in (pristine, true, made))
        rows.append([clean, bad, learned, amplified_residual(clean, bad), amplified_residual(clean, learned)])
    (DOCS / "strip.png").write_bytes(
        png_bytes(strip(rows, COLUMNS, row_labels=[name.replace("_", " ") for name in ORDER]))
    )


def shoot_report() -> None:
    """Take a picture of the top of the corpus's report, in a few colours to keep it small."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium: docs/report.png stays as it is")
        return
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *(f"--user-data-dir={folder}/profile", f"--screenshot={shot}"),
                f"--window-size={REPORT_PX[0]},{REPORT_PX[1]}",
                (BUILD / "corpus" / "index.html").resolve().as_uri(),
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
    draw_strip()
    shoot_report()
