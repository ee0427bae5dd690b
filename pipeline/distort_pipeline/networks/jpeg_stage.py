"""The last stage of most distortions: the JPEG that the distorted images carry, or betray where a PNG hides it.

A JPEG file says its quantisation tables and subsampling. Where only pixels are left, the block coefficients say them:
they gather at multiples of each table entry. Generating, libjpeg itself runs with those tables; in training
`DifferentiableJpeg` computes the same: the gradient of rounding a coefficient is 12 r² at r from a whole number, and of
rounding to 8 bits it is 1.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.linalg import solve_banded

TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]])
# ITU-T T.81, Annex K, tables K.1 and K.2, in rows
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMA_TABLE = np.full((8, 8), 99)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}  # Pillow's numbers
LEAST_COSINE = 0.6  # mean cosine of the phase within a step: 1 for exact multiples, 0 for anything
LEAST_SEEN = 400  # coefficients of a kind that are not zero


@dataclass(frozen=True)
class JpegStage:
    """Tables of luma and chroma (8, 8) in rows, and the subsampling of chroma."""

    luma: NDArray[np.int64]
    chroma: NDArray[np.int64]
    subsampling: str
    reach_px: ClassVar[int] = 16  # the largest unit of the grid, for the triangle filter of chroma

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return `image` (H, W, 3) after libjpeg's encoder and decoder with these tables."""
        buffer = io.BytesIO()
        tables = [self.luma.ravel().tolist(), self.chroma.ravel().tolist()]
        Image.fromarray(image).save(buffer, "JPEG", qtables=tables, subsampling=SUBSAMPLINGS[self.subsampling])
        return np.asarray(Image.open(buffer).convert("RGB"))


def standard_tables(quality: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tables of the Independent JPEG Group's `quality`, 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (np.clip((table * scale + 50) // 100, 1, 255) for table in (LUMA_TABLE, CHROMA_TABLE))
    return luma, chroma


def read_jpeg_stage(file: Any) -> JpegStage | None:
    """Return the stage that a JPEG file says, None for another kind of file or one with unusual sampling."""
    with Image.open(file) as image:
        if image.format != "JPEG":
            return None
        from PIL import JpegImagePlugin

        number = JpegImagePlugin.get_sampling(image)
        names = {value: name for name, value in SUBSAMPLINGS.items()}
        tables = image.quantization  # type: ignore[attr-defined]
        if number not in names or image.mode not in ("RGB", "L"):
            return None
        luma = np.array(tables[0]).reshape(8, 8)
        return JpegStage(luma, np.array(tables.get(1, tables[0])).reshape(8, 8), names[number])


def estimate_jpeg_stage(images: Sequence[NDArray[np.uint8]]) -> JpegStage | None:
    """Return the stage whose multiples the block coefficients of `images` (H, W, 3) gather at; None if none is seen.

    The 8 px grid begins at each image's first row and column. Of chroma, 4:2:0 and 4:4:4 are tried.
    """
    planes = [image.astype(np.float64) @ TO_YCC.T for image in images]
    luma_steps = _steps([plane[..., 0] - 128 for plane in planes])
    if luma_steps is None:
        return None
    quality = _quality(luma_steps, 0)
    luma = standard_tables(quality)[0] if quality else _completed(luma_steps, LUMA_TABLE)
    tried = {
        "4:2:0": [_undo_fancy(plane[..., c]) for plane in planes for c in (1, 2)],
        "4:4:4": [plane[..., c] for plane in planes for c in (1, 2)],
    }
    chroma_steps = {name: _steps(chroma) for name, chroma in tried.items()}
    seen = {name: 0 if steps is None else int((steps > 0).sum()) for name, steps in chroma_steps.items()}
    name = max(seen, key=lambda each: seen[each])
    steps = chroma_steps[name]
    if quality:
        chroma_table = standard_tables(quality)[1]
    elif steps is not None:
        chroma_table = _completed(steps, CHROMA_TABLE)
    else:
        chroma_table = np.maximum(np.rint(CHROMA_TABLE * np.median(luma / LUMA_TABLE)), 1).astype(np.int64)
    return JpegStage(luma, chroma_table, name if seen[name] else "4:2:0")


def _steps(planes: Sequence[NDArray[np.float64]]) -> NDArray[np.int64] | None:
    """Return the step (8, 8) of each coefficient, 0 where none is seen; None if hardly any is."""
    blocks = np.concatenate([_blocks(plane) for plane in planes])
    steps = np.zeros((8, 8), np.int64)
    clear = 0
    for row in range(8):
        for column in range(8):
            size = np.abs(blocks[:, row, column])
            size = size[size > 0.75]
            if len(size) < LEAST_SEEN:
                continue
            best = 0.0
            for step in range(2, 100):
                large = size[size > step / 2]
                if len(large) < LEAST_SEEN // 4:
                    break
                if len(large) < 0.7 * len(size):  # most of what is not zero has to be seen
                    break
                cosine = float(np.cos(2 * np.pi * large / step).mean())
                if cosine > max(LEAST_COSINE, best - 0.05):  # the largest step of those that divide it
                    best, steps[row, column] = max(cosine, best), step
            clear += steps[row, column] > 0
    return steps if clear >= 6 else None


def _quality(steps: NDArray[np.int64], table: int) -> int:
    """Return the standard quality whose table agrees with nine tenths of the steps that were seen, or 0."""
    seen = steps > 0
    agreement = {
        quality: float((standard_tables(quality)[table][seen] == steps[seen]).mean()) for quality in range(1, 100)
    }
    # few steps may be seen, and neighbours share them: then people's round numbers
    best = max(agreement, key=lambda quality: (agreement[quality], quality % 5 == 0))
    return best if agreement[best] >= 0.85 else 0


def _completed(steps: NDArray[np.int64], like: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `steps` with those that were not seen filled in from the standard table, as much scaled as the others."""
    seen = steps > 0
    scale = np.median(steps[seen] / like[seen])
    return np.where(seen, steps, np.clip(np.rint(like * scale), 1, 255)).astype(np.int64)


def _blocks(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the DCT coefficients (n, 8, 8) of whole blocks of `plane` (H, W)."""
    height, width = (side // 8 * 8 for side in plane.shape)
    blocks = plane[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    return np.asarray(dctn(blocks, axes=(1, 2), norm="ortho"))


def _undo_fancy(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return chroma samples from what libjpeg's triangle upsampling made of them: box means, then a tridiagonal solve.

    The mean of the two pixels of a sample is 3/4 of it and an eighth of each neighbour; at borders they are repeated.
    """
    height, width = (side // 16 * 16 for side in plane.shape)
    half = plane[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    for _ in range(2):
        count = len(half)
        bands = np.empty((3, count))
        bands[0], bands[1], bands[2] = 0.125, 0.75, 0.125
        bands[1, 0] = bands[1, -1] = 0.875
        half = solve_banded((1, 1), bands, half).T
    return half


class DifferentiableJpeg:
    """`JpegStage` as Keras operations, for training: levels (N, H, W, 3) to levels, sides multiples of 16."""

    def __init__(self, stage: JpegStage) -> None:
        u, i = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
        basis = np.cos((2 * i + 1) * u * np.pi / 16) * np.sqrt(np.where(u == 0, 1, 2) / 8)
        self._basis = basis.astype(np.float32)  # (8, 8): coefficients are basis @ block @ basis.T
        self._tables = [stage.luma.astype(np.float32), stage.chroma.astype(np.float32)]
        self._half = stage.subsampling == "4:2:0"

    def __call__(self, levels: Any) -> Any:
        """Return what the codec makes of `levels`, neither rounded to 8 bits nor clipped."""
        from distort_pipeline.networks.backend import ops

        clipped = _through(levels, ops.clip(ops.round(levels), 0.0, 255.0))
        ycc = ops.matmul(clipped, TO_YCC.T.astype(np.float32))
        luma = self._quantise(ycc[..., :1] - 128.0, self._tables[0])
        chroma = ycc[..., 1:]
        if self._half:
            shape = ops.shape(chroma)
            boxes = ops.reshape(chroma, (shape[0], shape[1] // 2, 2, shape[2] // 2, 2, 2))
            chroma = _fancy(_fancy(self._quantise(ops.mean(boxes, axis=(2, 4)), self._tables[1]), 1), 2)
        else:
            chroma = self._quantise(chroma, self._tables[1])
        back = np.linalg.inv(TO_YCC).T.astype(np.float32)
        return ops.matmul(ops.concatenate([luma + 128.0, chroma], axis=-1), back)

    def _quantise(self, plane: Any, table: NDArray[np.float32]) -> Any:
        from distort_pipeline.networks.backend import ops

        n, height, width, channels = ops.shape(plane)
        blocks = ops.reshape(plane, (n, height // 8, 8, width // 8, 8, channels))
        blocks = ops.transpose(blocks, (0, 1, 3, 5, 2, 4))
        coefficients = ops.matmul(ops.matmul(self._basis, blocks), self._basis.T) / table
        coefficients = _rounded(coefficients) * table
        blocks = ops.matmul(ops.matmul(self._basis.T, coefficients), self._basis)
        return ops.reshape(ops.transpose(blocks, (0, 1, 4, 2, 5, 3)), (n, height, width, channels))


def _rounded(values: Any) -> Any:
    """Return `values` rounded, with the gradient 12 r² at a distance of r from the whole number: 1 on average.

    After Shin and Song 2017, "JPEG-resistant adversarial images", whose factor is 3. A gradient of 1 everywhere lets
    coefficients grow that are rounded away: nobody sees them, until noise lifts them over half a step.
    """
    from distort_pipeline.networks.backend import ops

    whole = ops.stop_gradient(ops.round(values))
    cubed = 4.0 * (values - whole) ** 3
    return whole + cubed - ops.stop_gradient(cubed)


def _through(values: Any, hard: Any) -> Any:
    """Return `hard` with the gradient of `values`."""
    from distort_pipeline.networks.backend import ops

    return values + ops.stop_gradient(hard - values)


def _fancy(plane: Any, axis: int) -> Any:
    """Return `plane` (N, h, w, C) twice as long along `axis`, by libjpeg's triangle filter; borders are repeated."""
    from distort_pipeline.networks.backend import ops

    first, last = (ops.take(plane, [end], axis=axis) for end in (0, plane.shape[axis] - 1))
    rest = [slice(None)] * 4
    rest[axis] = slice(None, -1)
    before = ops.concatenate([first, plane[tuple(rest)]], axis=axis)
    rest[axis] = slice(1, None)
    after = ops.concatenate([plane[tuple(rest)], last], axis=axis)
    pair = ops.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis=axis + 1)
    shape = list(ops.shape(plane))
    shape[axis] = 2 * shape[axis]
    return ops.reshape(pair, shape)
