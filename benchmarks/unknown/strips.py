"""Strips: the middle of a few photographs, pristine, true and generated side by side, enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.unknown.pixels import Image

CROP_PX, ZOOM, ROWS = 192, 2, 4


def write(path: Path, *columns: Sequence[Image]) -> None:
    """Write a PNG with a row for each of ROWS photographs and a column for each of `columns`."""
    chosen = np.linspace(0, len(columns[0]) - 1, ROWS).round().astype(int)
    rows = [np.concatenate([_middle(column[index]) for column in columns], axis=1) for index in chosen]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1]):
        raise OSError(f"cannot write {path}")


def _middle(image: Image) -> Image:
    """Return the CROP_PX² in the middle of `image`, ZOOM times enlarged pixel by pixel, with a white rim."""
    top, left = ((side - CROP_PX) // 2 for side in image.shape[:2])
    crop = image[top : top + CROP_PX, left : left + CROP_PX]
    enlarged = cv2.resize(crop, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.copyMakeBorder(enlarged, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
