"""What is true of a corpus's tiles: one file a shard, with statistics, and pixels of a few examples.

Batches whose samples all have one strength share the file of their reference tiles' shard. A batch whose samples differ
in strength, or are mixes, has a file of its own.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.pixels import Image
from distort_pipeline.stores.files import write_bytes
from distort_pipeline.wavelets.significance import Significances

EXAMPLE_PX = 256  # of a whole image, its middle


@dataclass(frozen=True)
class Truth:
    """What is true of one shard's reference tiles, or of some samples of one batch.

    `pristine` (n, 103) holds the headline histogram of every tile (of a batch, of none); `rows` (m,), tiles of the
    shard or samples of the batch, says for which of them the true
    distortions were made: `histograms` (m, 103), `psnr` and `ssim` (m,) by distortion, NaN where a PSNR is infinite.
    `example_rows` (e,) and `examples` by distortion are pixels for side_by_side. `wholes` (n, 18) is the significance of the
    images that the tiles are of, see `wavelets/significance.py`; None where no generator goes by it.
    """

    first_tile: int
    pristine: NDArray[np.int64]
    rows: NDArray[np.int64]
    histograms: Mapping[str, NDArray[np.int64]]
    psnr: Mapping[str, NDArray[np.float64]]
    ssim: Mapping[str, NDArray[np.float64]]
    example_rows: NDArray[np.int64]
    examples: Mapping[str, NDArray[np.uint8]]
    significances: Significances | None


def write_truth_arrays(work: Path, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the named arrays of the truth file of the shard or batch `name`."""
    buffer = io.BytesIO()
    save: Any = np.savez_compressed  # its stub takes the arrays for its own options
    save(buffer, **arrays)
    write_bytes(_truth_path(work, name), buffer.getvalue())


def read_truth(work: Path, name: str) -> Truth:
    """Return what is true of the shard of reference tiles, or the batch, called `name`."""
    return truth_of(read_truth_arrays(work, name))


def truth_of(arrays: Mapping[str, NDArray[Any]]) -> Truth:
    """Return what the named arrays of a truth file tell."""

    def by_distortion(kind: str) -> dict[str, NDArray[Any]]:
        return {name.split("/", 1)[1]: array for name, array in arrays.items() if name.startswith(f"{kind}/")}

    return Truth(
        int(arrays["first_tile"]),
        arrays["pristine"],
        arrays["rows"],
        by_distortion("histogram"),
        by_distortion("psnr"),
        by_distortion("ssim"),
        arrays["example_rows"],
        by_distortion("example"),
        arrays.get("significances"),
    )


def read_truth_arrays(work: Path, name: str) -> dict[str, NDArray[Any]]:
    """Return the named arrays of the truth file of a shard or batch; PipelineError if it is missing or damaged."""
    path = _truth_path(work, name)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PipelineError(f"{path} is missing or damaged: {error}") from None


def middle(image: Image) -> Image:
    """Return the middle of an image, EXAMPLE_PX on both sides or less, filled up with mid-grey."""
    height, width = image.shape[:2]
    y, x = max(height - EXAMPLE_PX, 0) // 2, max(width - EXAMPLE_PX, 0) // 2
    part = image[y : y + EXAMPLE_PX, x : x + EXAMPLE_PX]
    if part.shape[:2] == (EXAMPLE_PX, EXAMPLE_PX):
        return part
    filled = np.full((EXAMPLE_PX, EXAMPLE_PX, 3), 128, np.uint8)
    filled[: part.shape[0], : part.shape[1]] = part
    return filled


def _truth_path(work: Path, name: str) -> Path:
    return work / "truth" / f"{name}.npz"
