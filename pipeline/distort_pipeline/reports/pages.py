"""Parts of the pages: templates, numbers as their text, and side-by-side images of tiles and their residuals."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from distort_pipeline.data.files import write_bytes
from distort_pipeline.data.images import marked_png
from distort_pipeline.records import Image, to_uint8

if TYPE_CHECKING:
    from distort_pipeline.metrics.evaluation import EvalImages

PAGE_NAME = "index.html"
SMALL_BITS = 0.001
LEAST_BITS = 0.00001  # smaller values are shown as '< 0.00001'
DIGITS = 4  # of a parameter


def in_bits(bits: float) -> str:
    """Return a divergence with four decimals, or five below SMALL_BITS; 0 is exact.

    >>> in_bits(0.1279), in_bits(0.00004), in_bits(0.000002), in_bits(0.0)
    ('0.1279', '0.00004', '< 0.00001', '0')
    """
    if bits == 0:
        return "0"
    if 0 < bits < LEAST_BITS / 2:
        return f"< {LEAST_BITS:.5f}"
    return f"{bits:.5f}" if bits < SMALL_BITS else f"{bits:.4f}"


def parameter_text(value: Any) -> str:
    """Return a value, or a range of values, to four digits.

    >>> parameter_text(24), parameter_text([27.261965, 600]), parameter_text(4.08515)
    ('24', '27.26 to 600', '4.085')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return " to ".join(map(parameter_text, value))
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def settings_text(values: Mapping[str, Any]) -> str:
    """Return settings by name, without unset values.

    >>> settings_text({"tile_px": 256, "splits": ["train", "val"], "composite": [], "target": {"ssim": [0.8]}})
    'splits = train, val; target = ssim 0.8; tile_px = 256'
    """
    shown = {name: _setting(value) for name, value in sorted(values.items()) if value not in (None, [], (), {})}
    return "; ".join(f"{name} = {value}" for name, value in shown.items())


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_setting(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_setting, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def template(name: str) -> jinja2.Template:
    """Return the template `name` of the folder `templates`, with the common filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distort_pipeline.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fixed"] = lambda value, digits=4: "–" if value is None else f"{value:.{digits}f}"
    environment.filters["bits"] = lambda value: "–" if value is None else in_bits(value)
    environment.filters["parameter"] = parameter_text
    environment.filters["settings"] = settings_text
    environment.filters["grouped"] = lambda value: f"{value:,}" if isinstance(value, int) else str(value)
    return environment.get_template(name)


BACKGROUND_GREY = 48  # darker than the mid-grey of a zero residual, so that edges stay visible
TEXT_GREY = 232
TEXT_PX = 13
MID_GREY = 128.0
COMPARED = ("pristine", "true", "generated", "true residual x4", "generated residual x4")
CROP_PX = 256  # of an image in a `compared_row`

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class EmbeddedImage:
    """A side-by-side image embedded in a page."""

    address: str  # data: URI
    complete: bool  # False: the last rows were omitted for size


def side_by_side(
    rows: Sequence[Sequence[Image]],
    columns: Sequence[str],
    *,
    row_labels: Sequence[str] | None = None,
    gap_px: int = 4,
    ground_grey: int = BACKGROUND_GREY,
    text_grey: int = TEXT_GREY,
) -> Image:
    """Return `rows` of images under the headings `columns` on a neutral background, without resampling.

    Images may differ in size and are aligned to the upper left of their cells. Row labels run upwards and are
    shortened to the height of their row.
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
    """Return mid-grey plus `gain` times the residual, rounded and clipped."""
    if pristine.shape != distorted.shape:
        raise ValueError(f"a residual needs two images of equal size, got {pristine.shape} and {distorted.shape}")
    return to_uint8(MID_GREY + gain * (distorted.astype(np.float32) - pristine.astype(np.float32)))


def compared_row(pristine: Image, true: Image, generated: Image) -> list[Image]:
    """Return the images of COMPARED: centre crops of 256 px, or smaller images in full."""
    y, x = (max(0, side - CROP_PX) // 2 for side in pristine.shape[:2])
    clean, distorted, output = (image[y : y + CROP_PX, x : x + CROP_PX] for image in (pristine, true, generated))
    return [clean, distorted, output, amplified_residual(clean, distorted), amplified_residual(clean, output)]


def embed(paths: Sequence[Path], budget_bytes: int) -> dict[Path, EmbeddedImage]:
    """Return the images at `paths` for a page, in total at most `budget_bytes` of PNG; earlier paths take precedence.

    An image gets an equal share of the remaining budget, or half of the remainder if its first row needs more.
    """
    embedded: dict[Path, EmbeddedImage] = {}
    remaining = budget_bytes
    for index, path in enumerate(paths):
        fit = fitting(path, remaining // (len(paths) - index)) or fitting(path, remaining // 2)
        if fit is not None:
            png, complete = fit
            remaining -= len(png)
            embedded[path] = EmbeddedImage(f"data:image/png;base64,{base64.b64encode(png).decode()}", complete)
    return embedded


def fitting(path: Path, limit_bytes: int) -> tuple[bytes, bool] | None:
    """Return the image at `path` as a PNG file of at most `limit_bytes`, and whether the file has all rows.

    An image above the limit loses its last rows; pixels are not resampled or compressed with loss. None if the first
    row exceeds the limit.
    """
    original = path.read_bytes()
    if len(original) <= limit_bytes:
        return original, True
    with PILImage.open(io.BytesIO(original)) as image:
        pixels = np.asarray(image.convert("RGB"))
    for end in reversed(_row_ends(pixels)[:-1]):
        if end / len(pixels) * len(original) > 1.2 * limit_bytes:  # cannot fit
            continue
        cut = marked_png(pixels[:end])
        if len(cut) <= limit_bytes:
            return cut, False
    return None


def _row_ends(pixels: Image) -> list[int]:
    """Return the lower end of each row of images, with the gap below."""
    empty = (pixels == pixels[0, 0]).all(axis=(1, 2))
    starts = np.flatnonzero(empty[:-1] & ~empty[1:]) + 1  # of the headings, then of every row of images
    return [*(int(start) for start in starts[2:]), len(pixels)]


def _upright(
    label: str, font: Font, size: tuple[int, int], ground: tuple[int, ...], ink: tuple[int, ...]
) -> PILImage.Image:
    """Return `label` as an image, shortened to `size` (length, height) and rotated to run upwards."""
    text = label
    while len(text) > 1 and _length(font, text) > size[0]:
        text = text.rstrip(".")[:-1] + "..."
        if text == "...":
            break
    image = PILImage.new("RGB", size, ground)
    ImageDraw.Draw(image).text((0, 0), text, font=font, fill=ink)
    return image.transpose(PILImage.Transpose.ROTATE_90)


def _plain(text: str) -> str:
    """Return `text` in the characters of Pillow's default font.

    >>> _plain("residual ×4")
    'residual x4'
    """
    return text.replace("×", "x").encode("ascii", "replace").decode()


def _length(font: Font, text: str) -> int:
    return int(np.ceil(font.getlength(text)))


def compared_rows(versions: EvalImages, learned: Mapping[str, str]) -> dict[str, list[Image]]:
    """Return the images of COMPARED by model, for each with its true distortion on this image."""
    return {
        name: compared_row(versions.pristine, versions.true[column], versions.generated[name][0])
        for name, column in learned.items()
        if column in versions.true
    }


def write_side_by_side(folder: Path, rows: Mapping[str, Sequence[Sequence[Image]]]) -> None:
    """Write a PNG file for each model with its `compared_rows` into the folder `side_by_side`."""
    for name, images in rows.items():
        if images:
            write_bytes(folder / "side_by_side" / f"{name}.png", marked_png(side_by_side(images, COMPARED)))
