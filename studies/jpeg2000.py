"""How near the pretrained JPEG 2000 is to OpenJPEG on photographs that no fit has seen, level by level.

    python -m studies.jpeg2000 PHOTOGRAPHS [--models FOLDER] [--tiles N]

N tiles of 256 px of each photograph are cut from the whole true image, and generated with the significance of the
whole. Prints, for each level: delta PSNR (generated minus true), its spread from tile to tile, the differences of power
by octave in luma and chroma, and the accuracy of a ridge classifier on 108 BRISQUE features (Mittal, Moorthy and Bovik,
IEEE TIP 21(12), 2012) of Y, Cb and Cr on photographs left out, with the 95 % interval over photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from distort_pipeline.commands.inputs import PRETRAINED
from distort_pipeline.data.images import decode
from distort_pipeline.distortions import apply
from distort_pipeline.metrics.acceptance import OF_TILES, tile_statistics
from distort_pipeline.models.store import TrainedGenerator, load_generator
from distort_pipeline.networks.wavelets import significance_of
from distort_pipeline.records import Image, Images, derive_seed, make_rng, spread_tiles

TILE_PX = 256
ALIGN_PX = 16
RIDGE = 10.0  # of standardised features
SHAPES = np.arange(0.2, 10, 0.001)  # of generalised Gaussians, as tabulated by BRISQUE
RATIOS = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))

Floats = NDArray[np.float64]


def brisque_features(image: Image) -> Floats:
    """Return 36 features of each of Y, Cb and Cr of `image`, (108,)."""
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float64))
    return np.concatenate([_plane_features(plane) for plane in planes])


def _plane_features(plane: Floats) -> Floats:
    features: list[float] = []
    for scale in (1, 2):
        scaled = plane if scale == 1 else cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        mean = cv2.GaussianBlur(scaled, (7, 7), 7 / 6)
        deviation = np.sqrt(np.maximum(cv2.GaussianBlur(scaled * scaled, (7, 7), 7 / 6) - mean * mean, 0))
        mscn = (scaled - mean) / (deviation + 1)
        features += [_shape(mscn), float(mscn.var())]
        for down, right in NEIGHBOURS:
            product = mscn * np.roll(mscn, (-down, -right), (0, 1))
            left, right_side = (float(np.sqrt(np.square(side).mean())) if side.size else 0.0
                                for side in (product[product < 0], product[product > 0]))  # fmt: skip
            features += [_shape(product), float(product.mean()), left, right_side]
    return np.array(features)


def _shape(values: Floats) -> float:
    """Return the shape of a generalised Gaussian with the moments of `values`."""
    ratio = float(np.abs(values).mean() ** 2 / (np.square(values).mean() + 1e-12))
    return float(SHAPES[np.abs(RATIOS - ratio).argmin()])


def ridge_accuracy(one: Floats, other: Floats, groups: NDArray[np.integer]) -> tuple[float, float]:
    """Return the accuracy of a ridge classifier on groups left out, and its standard error over the groups."""
    rows, labels = np.concatenate([one, other]), np.repeat([1.0, -1.0], len(one))
    group_of = np.concatenate([groups, groups])
    shares = []
    for group in np.unique(groups):
        held = group_of == group
        mean, scale = rows[~held].mean(0), rows[~held].std(0) + 1e-9
        design = (rows - mean) / scale
        normal = design[~held].T @ design[~held] + RIDGE * np.eye(rows.shape[1])
        weights = np.linalg.solve(normal, design[~held].T @ labels[~held])
        shares.append(float(np.mean(np.sign(design[held] @ weights) == labels[held])))
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(len(shares)))


def tiles_at_level(
    image: Image, trained: TrainedGenerator, severity: float, *, count: int
) -> tuple[Images, Images, Images]:
    """Return pristine, true and generated tiles of an image at a severity, (N, 256, 256, 3) each."""
    parameters = trained.card.true_parameters(severity)
    true = apply(trained.card.distortion, image, parameters, make_rng(0)).image
    seed = derive_seed(0, "study", image.shape[0], image.shape[1])
    places = spread_tiles(*image.shape[:2], tile_px=TILE_PX, count=count, align_px=ALIGN_PX, seed=seed)
    cut = [(slice(t.y, t.y + TILE_PX), slice(t.x, t.x + TILE_PX)) for t in places if min(t.height, t.width) == TILE_PX]
    pristine = np.stack([image[part] for part in cut])
    significances = np.tile(significance_of(image), (len(cut), 1))
    severities = [severity] * len(cut)
    generated = trained.predictor.distort(pristine, [0] * len(cut), severities, significances)
    return pristine, np.stack([true[part] for part in cut]), generated


def row(level: str, tiles: Sequence[tuple[Images, Images, Images]]) -> str:
    """Return the row of a level in the table."""
    groups = np.repeat(np.arange(len(tiles)), [len(pristine) for pristine, *_ in tiles])
    pristine, true, generated = (np.concatenate(kind) for kind in zip(*tiles, strict=True))
    values = [
        np.stack([tile_statistics(x, y) for x, y in zip(pristine, kind, strict=True)]) for kind in (generated, true)
    ]
    added = values[0] - values[1]
    starts = dict(
        zip([each.name for each in OF_TILES], np.cumsum([0, *(s.components for s in OF_TILES)]), strict=False)
    )
    octaves = [
        " ".join(f"{added[:, starts[f'{plane} power by octave'] + octave].mean():+.2f}" for octave in range(6))
        for plane in ("luma", "chroma")
    ]
    features = [np.stack([brisque_features(tile) for tile in kind]) for kind in (generated, true)]
    accuracy, error = ridge_accuracy(features[0], features[1], groups)
    psnr = added[:, 0]
    return (
        f"| {level} | {psnr.mean():+.2f} | {psnr.std():.2f}, {np.abs(psnr).max():.1f} | {octaves[0]} | {octaves[1]} | "
        f"{accuracy:.0%} ± {1.96 * error:.0%} |"
    )


@click.command()
@click.argument("photographs", type=click.Path(path_type=Path, exists=True))
@click.option("--models", type=click.Path(path_type=Path), default=PRETRAINED, help="Folder with the model jp2k.")
@click.option("--tiles", default=4, help="Tiles of each photograph.")
def main(photographs: Path, models: Path, tiles: int) -> None:
    """Print a row for each level."""
    trained = load_generator(models / "jp2k", batch_size=8)
    images = [decode(path.read_bytes())[0] for path in sorted(photographs.iterdir()) if path.suffix != ".csv"]
    click.echo("| ratio | delta PSNR, dB | spread, largest | luma by octave, dB | chroma | ridge |")
    click.echo("|---:|---:|---:|---|---|---:|")
    for level in trained.card.levels:
        cut = [tiles_at_level(image, trained, level.severity, count=tiles) for image in images]
        click.echo(row(f"{level.parameters['ratio']:g}", cut))


if __name__ == "__main__":
    main()
