"""Judges generated images: `python -m benchmarks.unknown.judge GENERATED NAME [--data DIR] [--network] [--strips PNG]`.

GENERATED is a folder of whole images, one of each judging photograph, whose stem its name ends with or begins with;
DIR is what `make` wrote. Prints figures beside those of the identity baseline, of another true draw and of the positive
control; --json PATH keeps them. What the baselines score is kept in DIR/NAME/judge/baselines.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.unknown import strips
from benchmarks.unknown.c2st import logistic_c2st, network_c2st
from benchmarks.unknown.distortions import UNKNOWN
from benchmarks.unknown.features import ALIGN_PX, TILE_PX, tile_features
from benchmarks.unknown.figures import Interval, Scores, closeness, full_reference, severity, usefulness
from benchmarks.unknown.pixels import Image, decode
from distort_pipeline.metrics.jsd_nss import nss_histograms

VERSION = 1  # of the figures: baselines of another one are made again
TILES = 32  # of a photograph, at most, for the classifiers
NETWORK_TILE_PX = 64  # the product's classifier takes these
SEED = 1
DATA = Path("build/unknown")

Figures: TypeAlias = dict[str, Any]  # as results/*.json has them


@dataclass(frozen=True)
class Images:
    """Images of the judging photographs, in one order: each list (24 or so) of (H, W, 3)."""

    pristine: Sequence[Image]
    true: Sequence[Image]
    positive_control: Sequence[Image]  # pristine + 0.8 of the true residual
    redraw: Sequence[Image] | None  # another true draw; None for a deterministic distortion

    @cached_property
    def true_features(self) -> list[NDArray[np.float32]]:
        """The features of tiles of each true image, (N, F)."""
        return _features(self.true)

    @cached_property
    def true_histograms(self) -> list[NDArray[np.int64]]:
        """The histograms of the NSS features of each true image, (12, 103)."""
        return [nss_histograms(image) for image in self.true]

    @cached_property
    def true_scores(self) -> Scores:
        """PSNR and SSIM of each true image."""
        return full_reference(self.pristine, self.true)


def main() -> None:
    """Print, and if wanted keep, what is found of a folder of generated images."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unknown.judge", description=__doc__)
    parser.add_argument("generated", type=Path, help="folder of generated whole images")
    parser.add_argument("name", choices=UNKNOWN, metavar="NAME", help=f"one of {', '.join(UNKNOWN)}")
    parser.add_argument("--data", type=Path, default=DATA, help="what benchmarks.unknown.make wrote (%(default)s)")
    parser.add_argument("--network", action="store_true", help="the product's classifier as well: minutes")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--strips", type=Path, help="PNG for pristine, true and generated side by side")
    args = parser.parse_args()
    folder = args.data / args.name / "judge"
    images, stems = read_images(folder)
    generated = read_generated(args.generated, stems)
    baselines = read_baselines(folder, images, network=args.network)
    figures = judge(images, generated, network=args.network)
    print(table({"generated": figures, **baselines}))
    if args.json:
        args.json.write_text(json.dumps({"generated": figures, **baselines}, indent=1) + "\n", encoding="utf-8")
    if args.strips:
        strips.write(args.strips, images.pristine, images.true, generated)


def judge(images: Images, candidate: Sequence[Image], *, network: bool) -> Figures:
    """Return all figures of `candidate`, one image of each photograph, held against the true ones."""
    features = _features(candidate)
    c2st = {"logistic": asdict(logistic_c2st(images.true_features, features, seed=SEED))}
    if network:
        tiles = (_cut(kind, NETWORK_TILE_PX) for kind in (images.true, candidate))
        c2st["network"] = asdict(network_c2st(*tiles, seed=SEED))
    return {
        "jsd": {name: asdict(divergence) for name, divergence in closeness(images.true_histograms, candidate).items()},
        "severity": severity(images.pristine, images.true_scores, candidate),
        "c2st": c2st,
        "use": usefulness(
            *(_cut(kind, TILE_PX) for kind in (images.pristine, images.true, candidate)),
            candidate_features=features,
            true_features=images.true_features,
        ),
    }


def negative_control(images: Images, *, network: bool) -> Figures:
    """Return the C2STs of true tiles against true ones with permuted labels: chance, for a deterministic distortion."""
    rng = np.random.default_rng(SEED)
    orders = [rng.permutation(TILES) for _ in images.true]

    def halves(kinds: Sequence[NDArray[Any]]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        shuffled = [rows[order[order < len(rows)]] for rows, order in zip(kinds, orders, strict=True)]
        return [rows[::2] for rows in shuffled], [rows[1::2] for rows in shuffled]

    c2st = {"logistic": asdict(logistic_c2st(*halves(images.true_features), seed=SEED))}
    if network:
        c2st["network"] = asdict(network_c2st(*halves(_cut(images.true, NETWORK_TILE_PX)), seed=SEED))
    return {"c2st": c2st}


def read_baselines(folder: Path, images: Images, *, network: bool) -> dict[str, Figures]:
    """Return the figures of identity, redraw or permuted labels, and the positive control: kept ones, or new ones."""
    path = folder / "baselines.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["version"] == VERSION and (kept["network"] or not network):
            return kept["figures"]
    figures = {"identity": judge(images, images.pristine, network=False)}
    if images.redraw is not None:
        figures["redraw"] = judge(images, images.redraw, network=network)
    else:
        figures["permuted"] = negative_control(images, network=network)
    figures["weaker"] = judge(images, images.positive_control, network=network)
    kept = {"version": VERSION, "network": network, "figures": figures}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return figures


def read_images(folder: Path) -> tuple[Images, list[str]]:
    """Return the images below the `judge` folder of one distortion, and the stems of their files, sorted."""
    stems = sorted(path.stem for path in (folder / "pristine").glob("*.png"))
    if not stems:
        raise SystemExit(f"there are no judging photographs in {folder}: run benchmarks.unknown.make first")

    def read(kind: str) -> list[Image]:
        return [decode(next((folder / kind).glob(f"{stem}.*")).read_bytes()) for stem in stems]

    redraw = read("redraw") if (folder / "redraw").is_dir() else None
    return Images(read("pristine"), read("distorted"), read("weaker"), redraw), stems


def read_pairs(folder: Path) -> tuple[list[Image], list[Image], list[str]]:
    """Return the pristine and the true images below one part's `folder`, and the stems of their files, sorted."""
    stems = sorted(path.stem for path in (folder / "pristine").glob("*.png"))
    pristine, true = (
        [decode(next((folder / kind).glob(f"{stem}.*")).read_bytes()) for stem in stems]
        for kind in ("pristine", "distorted")
    )
    return pristine, true, stems


def read_generated(folder: Path, stems: Sequence[str]) -> list[Image]:
    """Return one image of each of `stems` below `folder`: the file of that stem, or the first whose name has it."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    images = []
    for stem in stems:
        matches = [path for path in files if stem in path.stem]
        if not matches:
            raise SystemExit(
                f"no image in {folder} has {stem} in its name: there has to be one of each of {len(stems)}"
            )
        images.append(decode(min(matches, key=lambda path: (len(path.stem), path)).read_bytes()))
    return images


def table(columns: Mapping[str, Figures]) -> str:
    """Return the main figures as text, one line each of `columns`."""
    lines = [
        f"{'':10} {'JSD_NSS':>22} {'ΔPSNR dB':>9} {'|Δ|':>5} {'ΔSSIM':>7} {'logistic':>9} {'bits':>5} {'network':>8}"
    ]
    for name, figures in columns.items():
        cells = [f"{name:10}"]
        if "jsd" in figures:
            jsd = Interval(**figures["jsd"]["d1_1"])
            psnr, ssim = (figures["severity"][measure] for measure in ("psnr_db", "ssim"))
            cells += [f"{jsd.mean:8.5f} ({jsd.low:.4f}–{jsd.high:.4f})"]
            cells += [f"{psnr['delta']['mean']:+9.2f} {psnr['median_abs_delta']:5.2f}" if psnr else " " * 15]
            cells += [f"{ssim['delta']['mean']:+7.3f}"]
        else:
            cells += [" " * 46]
        for kind, accuracy in figures["c2st"].items():
            bits = f" {accuracy['cross_entropy_bits']:5.2f}" if kind == "logistic" else ""
            cells += [f"{accuracy['accuracy']:9.3f}{bits}"]
        lines.append(" ".join(cells))
    return "\n".join(lines)


def _features(images: Sequence[Image]) -> list[NDArray[np.float32]]:
    return [tile_features(tiles) for tiles in _cut(images, TILE_PX)]


def _cut(images: Sequence[Image], tile_px: int) -> list[NDArray[np.uint8]]:
    """Return up to TILES tiles (N, tile_px, tile_px, 3) of each image, apart; images of one size, the same places."""
    return [np.stack([image[y : y + tile_px, x : x + tile_px] for y, x in _places(image, tile_px)]) for image in images]


def _places(image: Image, tile_px: int) -> list[tuple[int, int]]:
    """Return the corners (y, x) of tiles that do not overlap, at multiples of ALIGN_PX, in a random order."""
    steps = -(-tile_px // ALIGN_PX) * ALIGN_PX
    rows, columns = (range(0, side - tile_px + 1, steps) for side in image.shape[:2])
    corners = [(y, x) for y in rows for x in columns]
    return [corners[index] for index in np.random.default_rng(SEED).permutation(len(corners))[:TILES]]


if __name__ == "__main__":
    main()
