"""Distorted tiles per second of CPU time: `distort-pipeline generate` beside the PyPI package imagecorruptions.

    python benchmarks/compare_generators.py --peer-python /tmp/peer/bin/python

The same task on one core: JPEG and white noise at five levels on 256 px tiles of `data/sample`, results on disk.
imagecorruptions calls the codec and the random numbers themselves and stores PNG files. `generate` runs the pretrained
generators and also stores seeds and records, four full-reference metrics, and a report against the true distortion.
imagecorruptions needs an environment of its own, since it installs `opencv-python` beside our `opencv-python-headless`:

    python -m venv /tmp/peer && /tmp/peer/bin/pip install imagecorruptions 'setuptools<81'

CPU time counts user and system time of the child processes, so other jobs on the machine matter little. Start-up is
excluded on both sides: each figure is the difference between a long and a short run. Levels differ between the two
packages (JPEG quality 25 to 7 there, 50 to 4 here), the work per tile hardly does.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

TILE_PX = 256
LEVELS = 5
PEER_NAMES = ("jpeg_compression", "gaussian_noise")  # imagecorruptions' words for our jpeg and white_noise
SHORT, LONG = 200, 1000  # samples of a run; multiples of LEVELS × len(PEER_NAMES)


def main() -> None:
    """Measure both packages in turn, and print the median of each with its range."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="Python of an environment that has imagecorruptions")
    parser.add_argument("--images", type=Path, default=Path("data/sample"), help="folder of PNG or WebP images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", nargs=3, metavar=("COUNT", "STORE", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        count, store, out = args.peer
        run_peer(args.images, int(count), Path(out) if store == "png" else None)
        return
    if args.peer_python is None:
        parser.error("name the environment of imagecorruptions with --peer-python")

    ours = Path(sys.executable).with_name("distort-pipeline")
    generate = [ours, "generate", args.images, "--distortions", "jpeg,white_noise", "--num-levels", LEVELS]
    peer = [args.peer_python, __file__, "--images", args.images, "--peer"]
    forms: dict[str, Callable[[int, Path], list[object]]] = {
        "generate, corpus on disk": lambda count, out: [*generate, "--workers", 0, "--count", count, "--out", out],
        "imagecorruptions, PNG files on disk": lambda count, out: [*peer, count, "png", out],
        "imagecorruptions, nothing stored": lambda count, out: [*peer, count, "none", out],
    }
    rates: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(args.rounds):
        for name, command in forms.items():
            rates[name].append(tiles_per_cpu_second(command))
    for name, values in rates.items():
        print(f"{name}: {statistics.median(values):.0f} tiles per CPU second ({min(values):.0f} – {max(values):.0f})")


def tiles_per_cpu_second(command: Callable[[int, Path], list[object]]) -> float:
    """Return the rate of a command between its short and its long run."""
    with tempfile.TemporaryDirectory() as folder:
        short = cpu_seconds(command(SHORT, Path(folder) / "short"))
        long = cpu_seconds(command(LONG, Path(folder) / "long"))
    return (LONG - SHORT) / (long - short)


def cpu_seconds(command: list[object]) -> float:
    """Return user and system time of `command` and its children on one core."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *map(str, command)]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_peer(images: Path, count: int, out: Path | None) -> None:
    """Distort `count` tiles by imagecorruptions, and store them as PNG where `out` is named."""
    from imagecorruptions import corrupt  # type: ignore[import-not-found]  # only in the environment of --peer-python

    if out is not None:
        out.mkdir()
    tiles = cut_tiles(images, count // (len(PEER_NAMES) * LEVELS))
    for number, tile in enumerate(tiles):
        for name in PEER_NAMES:
            for level in range(1, LEVELS + 1):
                distorted = corrupt(tile, severity=level, corruption_name=name)
                if out is not None:
                    cv2.imwrite(str(out / f"{number}_{name}_{level}.png"), distorted[..., ::-1])


def cut_tiles(images: Path, count: int) -> list[np.ndarray]:
    """Return `count` tiles (256, 256, 3), 8-bit RGB, in rows and columns of each image."""
    tiles: list[np.ndarray] = []
    for path in sorted(path for path in images.iterdir() if path.suffix.lower() in {".png", ".webp"}):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        height, width, _ = image.shape
        corners = [
            (top, left)
            for top in range(0, height - TILE_PX + 1, TILE_PX // 2)
            for left in range(0, width - TILE_PX + 1, TILE_PX // 2)
        ]
        tiles += [image[top : top + TILE_PX, left : left + TILE_PX] for top, left in corners]
    return (tiles * (count // len(tiles) + 1))[:count]


if __name__ == "__main__":
    main()
