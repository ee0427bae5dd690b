"""JPEG 2000 compression to a given fraction of the raw size, by Glymur and OpenJPEG.

Glymur's wheel has no OpenJPEG: Glymur imports without and fails at the first use. It gets the library inside Pillow's
wheel, so that the same packages give the same bytes on every machine; where Pillow has none, a library found by Glymur
itself serves (the system's, or one named in the user's glymurrc).
"""

from __future__ import annotations

import configparser
import ctypes
import importlib
import math
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from distort_pipeline.distortions import DISTORTIONS, Distorted, SeverityScale
from distort_pipeline.errors import PipelineError
from distort_pipeline.process import MEMORY_FOLDER, TMPDIR, scratch_folder, temporary_folder
from distort_pipeline.records import Image

SIZE_TOLERANCE = 0.03  # of the target size: OpenJPEG cuts the stream only between coding passes
SIZE_TOLERANCE_BYTES = 150  # about the headers of a .jp2, dominant at ratios of hundreds


@DISTORTIONS.add("jp2k")
def jp2k(image: Image, *, ratio: float) -> Distorted:
    """Return `image` after JPEG 2000 at a compression ratio of `ratio` (1 or more; 24 over the bits per pixel).

    Facts: `bytes`, the file's size, and `reached`: whether the size is within 3 % or 150 bytes of raw size over ratio.
    A plain image needs fewer bytes, and headers alone can exceed the target.
    """
    if not 1 <= ratio < math.inf:
        raise PipelineError(f"jp2k: ratio must be 1 or more, got {ratio!r}")
    distorted, size = round_trip(image, ratio=ratio)
    return Distorted(distorted, {"bytes": size, "reached": is_near(size, image.size / ratio)})


def is_near(size: int, target: float) -> bool:
    """Return whether `size` bytes meet the `target` within the codec's precision.

    >>> is_near(1030, 1000), is_near(10_301, 10_000), is_near(255, 100)
    (True, False, False)
    """
    return abs(size - target) <= max(SIZE_TOLERANCE * target, SIZE_TOLERANCE_BYTES)


# no compression at a ratio of 1; 2400 leaves 0.01 bits per pixel, half of Waterloo's last level
SEVERITY_SCALE = SeverityScale(
    "ratio", half=150, strongest=2400, amount=lambda ratio: ratio - 1, value=lambda amount: amount + 1, geometric=True
)


def versions() -> dict[str, str]:
    """Return the versions of Glymur and OpenJPEG."""
    return {"glymur": load_glymur().__version__, "openjpeg": openjpeg_status()[0]}


OLDEST_OPENJPEG = (2, 4)  # required by Glymur
RESOLUTIONS = 6  # OpenJPEG's default, five wavelet levels

_loading = threading.Lock()


def round_trip(image: Image, *, ratio: float) -> tuple[Image, int]:
    """Return `image` after a single layer of irreversible JPEG 2000 at `ratio`, and the size of the .jp2 in bytes.

    Glymur writes to paths only, and first reads an existing file: each call has a new folder, always deleted.
    """
    glymur = load_glymur()
    with scratch_folder(temp_root(image.nbytes)) as folder:
        path = folder / "image.jp2"
        try:
            written = glymur.Jp2k(
                path,
                data=np.ascontiguousarray(image),
                cratios=[ratio],
                irreversible=True,  # the 9-7 wavelet
                mct=True,  # multi-component transform: RGB is coded as YCbCr
                numres=min(RESOLUTIONS, min(image.shape[:2]).bit_length()),  # fewer for a side under 32 px
            )
            return written[:], path.stat().st_size
        except (OSError, glymur.lib.openjp2.OpenJPEGLibraryError) as error:
            if shutil.disk_usage(folder).free > image.nbytes:
                raise
            raise PipelineError(
                f"the temporary folder {folder.parent} has no room for a JPEG 2000 file of {image.nbytes / ratio:.0f} "
                f"bytes; {TMPDIR}"
            ) from error


def load_glymur() -> Any:
    """Return the module `glymur` with a working OpenJPEG; PipelineError with install advice if there is none."""
    with _loading:  # not thread-safe
        if not _has_home():  # no HOME and no line in /etc/passwd: Glymur looks there for its settings
            os.environ["HOME"] = os.sep
        try:
            import glymur
        except configparser.Error as error:
            raise PipelineError(
                f"the settings of Glymur, glymurrc, cannot be read: {' '.join(str(error).split())}"
            ) from None
        _use_bundled(glymur)
        if not _works(glymur):
            raise PipelineError(
                f"JPEG 2000 needs OpenJPEG {'.'.join(map(str, OLDEST_OPENJPEG))} or newer, and none was found: install"
                " the system's (package libopenjp2-7 or openjpeg2), or Pillow from its wheel (pip install pillow)"
            )
        return glymur


def openjpeg_status() -> tuple[str, str]:
    """Return the version of the OpenJPEG in use and the path of its file; PipelineError if there is none."""
    glymur = load_glymur()
    return glymur.version.openjpeg_version, glymur.lib.openjp2.OPENJP2._name


def bundled_library() -> Path | None:
    """Return the path of the OpenJPEG inside Pillow's wheel (Linux, macOS), or None if there is none."""
    package = Path(PIL.__file__).parent
    libraries = [*package.parent.glob("pillow.libs/libopenjp2*.so*"), *package.glob(".dylibs/libopenjp2*.dylib")]
    return min(libraries, default=None)


def temp_root(size: int) -> Path:
    """Return a folder with room for `size` bytes: in memory if possible, else the folder of temporary files."""
    in_memory = os.access(MEMORY_FOLDER, os.W_OK) and shutil.disk_usage(MEMORY_FOLDER).free > 2 * size
    return MEMORY_FOLDER if in_memory else temporary_folder()


def _has_home() -> bool:
    try:
        return bool(Path.home())
    except RuntimeError:
        return False


def _works(glymur: Any) -> bool:
    return bool(glymur.version.openjpeg_version_tuple >= OLDEST_OPENJPEG)  # (0, 0, 0) without a library


def _use_bundled(glymur: Any) -> None:
    """Let Glymur use the library in Pillow's wheel, if any.

    Glymur fixes its library, and structures depending on its version, at import: both modules concerned are reloaded
    with a finder for the bundled library. The documented way, a file glymurrc under $XDG_CONFIG_HOME, would change the
    environment of all threads, and comes too late after another import of Glymur.
    """
    path = bundled_library()
    if path is None or getattr(glymur.lib.openjp2.OPENJP2, "_name", None) == str(path):
        return
    library = ctypes.CDLL(str(path))
    find = glymur.config.glymur_config
    glymur.config.glymur_config = lambda _name: library
    try:
        importlib.reload(glymur.lib.openjp2)
        importlib.reload(glymur.version)
    finally:
        glymur.config.glymur_config = find
