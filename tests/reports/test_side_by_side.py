from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from distort_pipeline.data.images import marked_png
from distort_pipeline.reports.pages import (
    BACKGROUND_GREY,
    amplified_residual,
    embed,
    fitting,
    side_by_side,
)


def noise(seed: int, height: int = 40, width: int = 120) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def contains(canvas: np.ndarray, image: np.ndarray) -> bool:
    """Return whether `canvas` contains `image`."""
    height, width = image.shape[:2]
    corners = np.argwhere((canvas == image[0, 0]).all(axis=2))
    return any(np.array_equal(canvas[y : y + height, x : x + width], image) for y, x in corners)


def test_images_are_not_resampled():
    rows = [[noise(row * 2 + column) for column in range(2)] for row in range(3)]
    canvas = side_by_side(
        rows, ["pristine", "generated"], row_labels=["one", "two", "a label far too long for its row"]
    )
    assert canvas.dtype == np.uint8
    assert all(contains(canvas, image) for row in rows for image in row)


def test_images_keep_their_sizes():
    rows = [[noise(1, 20, 30), noise(2, 50, 10)], [noise(3, 8, 90), noise(4, 5, 5)]]
    canvas = side_by_side(rows, ["a", "b"], gap_px=7)
    assert all(contains(canvas, image) for row in rows for image in row)
    assert canvas.shape[1] >= 90 + 10 + 3 * 7


def test_heading_wider_than_its_image_is_not_cut():
    narrow = side_by_side([[noise(1, 10, 10)]], ["a long heading"])
    wide = side_by_side([[noise(1, 10, 300)]], ["a long heading"])

    def ink(canvas: np.ndarray) -> int:
        return int((canvas[:20] != BACKGROUND_GREY).any(axis=2).sum())

    assert ink(narrow) == ink(wide) > 0


def test_rows_and_labels_must_match():
    with pytest.raises(ValueError, match="needs 2 images"):
        side_by_side([[noise(1)]], ["a", "b"])
    with pytest.raises(ValueError, match="as many labels"):
        side_by_side([[noise(1)]], ["a"], row_labels=["x", "y"])


def test_residual_is_grey_where_unchanged_and_clips_large_changes():
    pristine = np.full((2, 2, 3), 100, np.uint8)
    distorted = pristine.copy()
    distorted[0, 0] = (110, 90, 255)
    residual = amplified_residual(pristine, distorted)
    assert residual[1, 1].tolist() == [128, 128, 128]
    assert residual[0, 0].tolist() == [168, 88, 255]
    assert amplified_residual(pristine, distorted, gain=1)[0, 0].tolist() == [138, 118, 255]


def test_residual_of_two_sizes_is_refused():
    with pytest.raises(ValueError, match="equal size"):
        amplified_residual(noise(1), noise(1, 20))


def test_too_large_an_image_loses_complete_rows_only(tmp_path: Path):
    rows = [[noise(row)] for row in range(4)]
    original = side_by_side(rows, ["generated"])
    path = tmp_path / "rows.png"
    path.write_bytes(marked_png(original))
    size = path.stat().st_size
    assert fitting(path, size) == (path.read_bytes(), True)
    fit = fitting(path, int(size * 0.6))
    assert fit is not None
    assert not fit[1]
    assert len(fit[0]) <= size * 0.6
    pixels = np.asarray(PILImage.open(io.BytesIO(fit[0])))
    assert np.array_equal(pixels, original[: len(pixels)])
    assert [contains(pixels, row[0]) for row in rows] == [True, True, False, False]
    assert fitting(path, 2000) is None


def test_embedded_images_stay_within_the_budget(tmp_path: Path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(marked_png(side_by_side([[noise(number)], [noise(number + 9)]], ["generated"])))
    size = paths[0].stat().st_size
    assert all(shown.complete for shown in embed(paths, 4 * size).values())
    tight = embed(paths, 2 * size)
    assert paths[0] in tight
    assert sum(len(shown.address) for shown in tight.values()) * 3 / 4 <= 2 * size + 100
    assert all(shown.address.startswith("data:image/png;base64,") for shown in tight.values())
    assert embed(paths, 10) == {}
