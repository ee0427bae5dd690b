"""Contact side_by_side: the same tiles side by side, so that an eye can check what a number claims."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from distort_pipeline.pixels import Image, to_uint8

BACKGROUND_GREY = 48  # darker than the mid-grey of an empty residual, so that its edge stays visible
TEXT_GREY = 232
TEXT_PX = 13
MID_GREY = 128.0

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class EmbeddedImage:
    """A strip that a page carries in itself."""

    address: str  # data: URI
    whole: bool  # False: rows at its end were left out for size


def side_by_side(
    rows: Sequence[Sequence[Image]],
    columns: Sequence[str],
    *,
    row_labels: Sequence[str] | None = None,
    gap_px: int = 4,
    ground_grey: int = BACKGROUND_GREY,
    text_grey: int = TEXT_GREY,
) -> Image:
    """Return `rows` of images under the headings `columns` on a neutral ground, dark by default, pixel for pixel.

    Images may differ in size: each stands at the upper left of its cell. A row label runs upwards beside its row
    and is shortened when the row is lower than the text is long.
    """
    if not rows or any(len(row) != len(columns) for row in rows):
        raise ValueError(f"each row needs {len(columns)} images, got {[len(row) for row in rows]}")
    if row_labels is not None and len(row_labels) != len(rows):
        raise ValueError(f"{len(rows)} rows need as many labels, got {len(row_labels)}")
    columns = [_plain(heading) for heading in columns]
    font = ImageFont.load_default(TEXT_PX)
    line_px = TEXT_PX + 5
    widths = [
        max(*(row[column].shape[1] for row in rows), _length(font, heading)) for column, heading in enumerate(columns)
    ]
    heights = [max(image.shape[0] for image in row) for row in rows]
    left = gap_px + (line_px + gap_px if row_labels else 0)
    top = line_px + 2 * gap_px
    size = (left + sum(widths) + gap_px * len(widths), top + sum(heights) + gap_px * len(heights))
    ground, ink = (ground_grey,) * 3, (text_grey,) * 3
    canvas = PILImage.new("RGB", size, ground)
    draw = ImageDraw.Draw(canvas)
    x = left
    for heading, width in zip(columns, widths, strict=True):
        draw.text((x, gap_px), heading, font=font, fill=ink)
        x += width + gap_px
    y = top
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if row_labels:
            canvas.paste(_upright(_plain(row_labels[number]), font, (height, line_px), ground, ink), (gap_px, y))
        x = left
        for image, width in zip(row, widths, strict=True):
            canvas.paste(PILImage.fromarray(image), (x, y))
            x += width + gap_px
        y += height + gap_px
    return np.asarray(canvas)


def amplified_residual(pristine: Image, distorted: Image, gain: float = 4) -> Image:
    """Return mid-grey plus `gain` times what the distortion changed, rounded and clipped: grey means untouched."""
    if pristine.shape != distorted.shape:
        raise ValueError(f"a residual needs two images of one size, got {pristine.shape} and {distorted.shape}")
    return to_uint8(MID_GREY + gain * (distorted.astype(np.float32) - pristine.astype(np.float32)))


def carry(paths: Sequence[Path], budget_bytes: int) -> dict[Path, EmbeddedImage]:
    """Return the strips at `paths` for a page, together at most `budget_bytes` of PNG; earlier ones matter more.

    Each gets an equal share of what those before it left; one whose first row needs more may take half of the rest.
    """
    shown: dict[Path, EmbeddedImage] = {}
    left = budget_bytes
    for place, path in enumerate(paths):
        fit = fitting(path, left // (len(paths) - place)) or fitting(path, left // 2)
        if fit is not None:
            png, whole = fit
            left -= len(png)
            shown[path] = EmbeddedImage(f"data:image/png;base64,{base64.b64encode(png).decode()}", whole)
    return shown


def fitting(path: Path, limit_bytes: int) -> tuple[bytes, bool] | None:
    """Return the strip at `path` as a PNG file of at most `limit_bytes`, and whether all of its rows are in it.

    A strip that is too large loses rows at its end; pixels are never resampled or compressed with loss, which would
    change the very thing it shows. None: not even its first row fits.
    """
    whole = path.read_bytes()
    if len(whole) <= limit_bytes:
        return whole, True
    with PILImage.open(io.BytesIO(whole)) as image:
        pixels = np.asarray(image.convert("RGB"))
    for end in reversed(_row_ends(pixels)[:-1]):
        if end / len(pixels) * len(whole) > 1.2 * limit_bytes:  # spares encoding what cannot fit
            continue
        cut = png_bytes(pixels[:end])
        if len(cut) <= limit_bytes:
            return cut, False
    return None


def png_bytes(image: Image) -> bytes:
    """Return `image` as a PNG file."""
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _row_ends(side_by_side_pixels: Image) -> list[int]:
    """Return where each row of images of a strip ends, the gap below it included."""
    empty = (side_by_side_pixels == side_by_side_pixels[0, 0]).all(axis=(1, 2))
    starts = np.flatnonzero(empty[:-1] & ~empty[1:]) + 1  # of the headings, then of every row of images
    return [*(int(start) for start in starts[2:]), len(side_by_side_pixels)]


def _upright(
    label: str, font: Font, size: tuple[int, int], ground: tuple[int, ...], ink: tuple[int, ...]
) -> PILImage.Image:
    """Return `label` as an image, shortened to `size` (length, height) and turned so that it runs upwards."""
    text = label
    while len(text) > 1 and _length(font, text) > size[0]:
        text = text.rstrip(".")[:-1] + "..."
        if text == "...":
            break
    image = PILImage.new("RGB", size, ground)
    ImageDraw.Draw(image).text((0, 0), text, font=font, fill=ink)
    return image.transpose(PILImage.Transpose.ROTATE_90)


def _plain(text: str) -> str:
    """Return `text` in the letters that Pillow's own font has.

    >>> _plain("residual ×4")
    'residual x4'
    """
    return text.replace("×", "x").encode("ascii", "replace").decode()


def _length(font: Font, text: str) -> int:
    return int(np.ceil(font.getlength(text)))
