"""Makes the unknown distortions: `python -m benchmarks.unknown.make PHOTOS OUT [--only NAME,NAME]`.

OUT/NAME/learn and OUT/NAME/judge each get the folders `pristine` and `distorted`, whose files of one stem are a pair.
Beside the judging pairs lie `redraw`, another true draw (not of deterministic distortions), and `weaker`, the pristine
image plus 0.8 of the true residual: for the judge alone. Files that are there already are left alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.unknown.camera import QUALITY
from benchmarks.unknown.distortions import UNKNOWN, Unknown
from benchmarks.unknown.photos import Photo, choose
from benchmarks.unknown.pixels import Image, decode, jpeg_bytes, to_uint8
from distort_pipeline.records import derive_seed, make_rng

SEED = 1
WEAKER = 0.8  # of the true residual: the positive control


def main() -> None:
    """Make the named distortions, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unknown.make", description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of pristine photographs")
    parser.add_argument("out", type=Path, help="folder for the pairs")
    parser.add_argument("--only", help=f"some of {', '.join(UNKNOWN)}, with commas between")
    args = parser.parse_args()
    names = names_of(args.only, parser.error)
    photos = choose(args.photos)
    for name in names:
        started = time.process_time()
        make(UNKNOWN[name], photos, args.out / name)
        print(f"{name}: {time.process_time() - started:.0f} CPU-seconds", flush=True)


def names_of(only: str | None, refuse: Callable[[str], object]) -> list[str]:
    """Return the distortions that `only` names, with commas between, or all; `refuse` is told of one unheard of."""
    names = only.split(",") if only else list(UNKNOWN)
    if missing := [name for name in names if name not in UNKNOWN]:
        refuse(f"no unknown distortion is called {', '.join(missing)}; there are {', '.join(UNKNOWN)}")
    return names


def make(unknown: Unknown, photos: Sequence[tuple[Photo, Image]], out: Path) -> None:
    """Write all folders of one distortion below `out`."""
    for photo, image in photos:
        folder, name = out / photo.part, f"{photo.stem}{unknown.suffix}"
        write_once(folder / "pristine" / f"{photo.stem}.png", partial(png_bytes, image))
        write_once(folder / "distorted" / name, partial(true_file, unknown, image, photo.digest))
        if photo.part == "judge":
            if unknown.has_redraw:
                write_once(folder / "redraw" / name, partial(true_file, unknown, image, photo.digest, draw=1))
            true = decode((folder / "distorted" / name).read_bytes())
            write_once(folder / "weaker" / f"{photo.stem}.png", partial(_positive_control_file, image, true))


def true_file(unknown: Unknown, image: Image, digest: str, *, draw: int = 0) -> bytes:
    """Return the file of one true version of `image`; all its randomness comes from `digest`, its name and `draw`."""
    rng = make_rng(derive_seed(SEED, "unknown", unknown.name, digest, draw))
    distorted = unknown.make(image, rng)
    return jpeg_bytes(distorted, QUALITY) if unknown.suffix == ".jpg" else png_bytes(distorted)


def positive_control(pristine: Image, true: Image) -> Image:
    """Return `pristine` plus WEAKER of the true residual."""
    return to_uint8(pristine + WEAKER * (true.astype(np.float32) - pristine))


def _positive_control_file(pristine: Image, true: Image) -> bytes:
    return png_bytes(positive_control(pristine, true))


def png_bytes(image: Image) -> bytes:
    """Return `image` as a PNG file without metadata."""
    return bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def write_once(path: Path, content: Callable[[], bytes]) -> None:
    """Write the `content` of `path` unless it is there, whole or not at all."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content())
    unfinished.replace(path)


if __name__ == "__main__":
    main()
