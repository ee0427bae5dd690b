"""Pairs of the nineteen distortions of the PyPI package imagecorruptions (ImageNet-C), in folders for others.py.

python -m venv peer && peer/bin/pip install imagecorruptions 'setuptools<81' 'numpy<2'
peer/bin/python studies/learning/corruptions.py PHOTOS OUT [--only fog,snow] [--severity 3] [--images 30]
python studies/learning/others.py PHOTOS --pairs OUT [--only fog,snow]

imagecorruptions installs another OpenCV, hence the environment of its own. OUT/NAME gets a folder of pristine and one
of distorted PNG images. Kinds and levels: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from imagecorruptions import corrupt, get_corruption_names  # type: ignore[import-not-found]
from PIL import Image

CROP_PX = 768  # as in others.py


def main() -> None:
    """Write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(get_corruption_names("all")))
    parser.add_argument("--severity", type=int, default=3, help="1 to 5")
    parser.add_argument("--images", type=int, default=30)
    options = parser.parse_args()
    paths = sorted(
        p for p in options.photos.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".tif")
    )
    chosen = [paths[n] for n in np.unique(np.linspace(0, len(paths) - 1, options.images).astype(int))]
    for name in options.only.split(","):
        for side in ("pristine", "distorted"):
            (options.out / name / side).mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(chosen):
            image = np.asarray(Image.open(path).convert("RGB"))[:CROP_PX, :CROP_PX]
            np.random.seed(number)
            distorted = corrupt(image, corruption_name=name, severity=options.severity)
            for side, pixels in (("pristine", image), ("distorted", distorted)):
                Image.fromarray(np.asarray(pixels, np.uint8)).save(options.out / name / side / f"{number:03d}.png")


if __name__ == "__main__":
    main()
