"""Rates of the acceptance test on true batches and on substitutions: see docs/trust.md.

    python -m studies.acceptance PHOTOGRAPHS [--count N] [--batches N]

PHOTOGRAPHS is a folder of images. Four tiles of 256 px of each photograph are cut from whole distorted images. A batch
has 8 photographs, with one tile of each or four; `generate` compares one or two.
Prints the share of rejected batches: of true draws, which should be at most 1 %, and of each substitution, which should
be all. Written to studies/acceptance.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from distort_pipeline.data.images import decode
from distort_pipeline.distortions import apply, is_random
from distort_pipeline.metrics.acceptance import STATISTICS, TileStatistics, judge
from distort_pipeline.records import Image, derive_seed, make_rng, spread_tiles, to_uint8

OUT = Path(__file__).with_suffix(".json")
TRUTHS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "jpeg": ("jpeg", {"quality": 12}),
    "jp2k": ("jp2k", {"ratio": 150}),
    "white_noise": ("white_noise", {"sigma_8bit": 19}),
    "pink_noise": ("pink_noise", {"sigma_8bit": 25}),
}
DRAWS = 5  # of a random truth
PHOTOGRAPHS = 8  # of a batch
TILE_PX, TILES = 256, 4

Rng = np.random.Generator
Substitution = Callable[[Image, Rng], Image]


def true(name: str, **parameters: float) -> Substitution:
    """Return a true distortion, of the usual parameters unless others are given."""
    distortion, usual = TRUTHS[name]
    return lambda image, rng: apply(distortion, image, {**usual, **parameters}, rng).image


def grey(image: Image, rng: Rng) -> Image:
    """Return JPEG without its colour."""
    return cv2.cvtColor(cv2.cvtColor(true("jpeg")(image, rng), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def brighter(image: Image, rng: Rng) -> Image:
    """Return JPEG with 20 levels added."""
    return to_uint8(true("jpeg")(image, rng).astype(np.float32) + 20)


def mirrored(image: Image, rng: Rng) -> Image:
    """Return JPEG of the mirrored image."""
    return true("jpeg")(np.ascontiguousarray(image[:, ::-1]), rng)


def moved_grid(image: Image, rng: Rng) -> Image:
    """Return JPEG with its block grid moved by 3 px."""
    return np.ascontiguousarray(true("jpeg")(np.pad(image, ((3, 0), (3, 0), (0, 0)), "edge"), rng)[3:, 3:])


def full_chroma(image: Image, _rng: Rng) -> Image:
    """Return JPEG in 4:4:4."""
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    stream = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 12, *sampling])[1]
    return cv2.cvtColor(np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)


def one_draw(image: Image, rng: Rng) -> Image:
    """Return white noise with one draw for all channels."""
    return to_uint8(image + rng.standard_normal(image.shape[:2])[..., None] * 19)


def noise_on_jpeg(image: Image, rng: Rng) -> Image:
    """Return white noise on top of JPEG."""
    return true("white_noise")(true("jpeg")(image, rng), rng)


def uniform_noise(image: Image, rng: Rng) -> Image:
    """Return white noise of uniform distribution and the same variance."""
    return to_uint8(image + rng.uniform(-1, 1, image.shape) * 19 * np.sqrt(3))


def smooth_noise(image: Image, rng: Rng) -> Image:
    """Return white noise, slightly blurred, of the same variance."""
    noise = cv2.GaussianBlur(rng.standard_normal(image.shape), (3, 3), 0.4)
    return to_uint8(image + noise / noise.std() * 19)


def correlated_pink(image: Image, rng: Rng) -> Image:
    """Return pink noise whose channels correlate by 0.1."""
    noise, shared = (true("pink_noise")(np.full_like(image, 128), rng).astype(np.float32) - 128 for _ in range(2))
    return to_uint8(image + np.sqrt(0.9) * noise + np.sqrt(0.1) * shared[..., :1])


def shifted(name: str) -> Substitution:
    """Return a true distortion, moved by one pixel."""
    return lambda image, rng: np.roll(true(name)(image, rng), 1, axis=1)


def half_true(name: str, **parameters: float) -> Substitution:
    """Return the truth on half of the photographs, other parameters on the others."""
    return lambda image, rng: true(name, **(parameters if image.sum(dtype=np.int64) % 2 else {}))(image, rng)


SUBSTITUTIONS: Mapping[str, Mapping[str, Substitution]] = {
    "jpeg": {
        "all colour lost": grey,
        "20 levels added": brighter,
        "mirrored image": mirrored,
        "grid moved by 3 px": moved_grid,
        "4:4:4": full_chroma,
        "quality 10": true("jpeg", quality=10),
        "quality 13": true("jpeg", quality=13),
        "with white noise": noise_on_jpeg,
        "further: moved by 1 px": shifted("jpeg"),
        "further: quality 8 on half of the photographs": half_true("jpeg", quality=8),
        "further: pristine": lambda image, _rng: image,
    },
    "jp2k": {
        "ratio 110": true("jp2k", ratio=110),
        "ratio 220": true("jp2k", ratio=220),
        "further: JPEG": true("jpeg"),
        "further: moved by 1 px": shifted("jp2k"),
    },
    "white_noise": {
        "sigma 13": true("white_noise", sigma_8bit=13),
        "sigma 30": true("white_noise", sigma_8bit=30),
        "one draw for all channels": one_draw,
        "on top of JPEG": noise_on_jpeg,
        "further: sigma 18": true("white_noise", sigma_8bit=18),
        "further: uniform": uniform_noise,
        "further: slightly blurred": smooth_noise,
    },
    "pink_noise": {
        "further: sigma 21": true("pink_noise", sigma_8bit=21),
        "further: white": true("white_noise", sigma_8bit=25),
        "further: channels correlate by 0.1": correlated_pink,
    },
}


def measured(images: list[Image], distort: Substitution, seed: str) -> TileStatistics:
    """Return the statistics of the tiles of all images, TILES of each, under a distortion."""
    parts = []
    for number, image in enumerate(images):
        distorted = distort(image, make_rng(derive_seed(seed, number)))
        cuts = spread_tiles(*image.shape[:2], tile_px=TILE_PX, count=TILES, align_px=16, seed=number)
        tiles = [
            [np.ascontiguousarray(whole[cut.y : cut.y + TILE_PX, cut.x : cut.x + TILE_PX]) for cut in cuts]
            for whole in (image, distorted)
        ]
        parts.append(TileStatistics.of(*tiles))
    return TileStatistics.stacked(parts)


def rejected(
    candidates: list[TileStatistics], truth: list[TileStatistics], tiles: int, batches: int, rng: Rng
) -> dict[str, Any]:
    """Return the share of rejected batches, and the failures of each statistic; a batch has `tiles` a photograph."""
    total = len(truth[0].values) // TILES
    failures: dict[str, int] = {}
    count = 0
    for _ in range(batches):
        photographs = rng.choice(total, PHOTOGRAPHS, replace=False)
        rows = np.concatenate(
            [photograph * TILES + rng.choice(TILES, tiles, replace=False) for photograph in photographs]
        )
        draws = rng.permutation(len(truth))
        generated = candidates[rng.integers(len(candidates))] if candidates else truth[draws[2]]
        redrawn = truth[draws[1]] if len(truth) > 1 else None
        parts = [
            None if each is None else TileStatistics(each.values[rows], each.histograms[rows])
            for each in (generated, truth[draws[0]], redrawn)
        ]
        pair = None if parts[2] is None else (parts[1], parts[2])
        judgements = judge(parts[0], parts[1], rows // TILES, pair, rng=rng)  # type: ignore[arg-type]
        failed = [judgement.statistic for judgement in judgements if not judgement.accepted]
        count += bool(failed)
        for name in failed:
            failures[name] = failures.get(name, 0) + 1
    order = {statistic.name: statistic for statistic in STATISTICS}
    shares = {name: round(failures[name] / batches, 4) for name in order if name in failures}
    return {"rejected": round(count / batches, 4), "by": shares}


def tiles_of(folder: Path, count: int) -> list[Image]:
    """Return up to `count` images of the folder that hold TILES tiles, evenly chosen, at most 1,024 px on a side."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix != ".csv"]
    images = []
    for index in np.unique(np.linspace(0, len(files) - 1, count).astype(int)):
        image = decode(files[index].read_bytes())[0][:1024, :1024]
        if min(image.shape[:2]) >= 2 * TILE_PX:
            images.append(np.ascontiguousarray(image))
    return images


@click.command()
@click.argument("photographs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=96, show_default=True, help="Photographs.")
@click.option("--batches", default=2000, show_default=True, help="Batches of each kind.")
@click.option("--only", multiple=True, type=click.Choice(list(TRUTHS)), help="Distortions; all if not given.")
def main(photographs: Path, count: int, batches: int, only: tuple[str, ...]) -> None:
    """Measure the rates, print them and write them to studies/acceptance.json."""
    cv2.setNumThreads(1)
    images = tiles_of(photographs, count)
    results: dict[str, Any] = {"photographs": len(images), "batches": batches, "rates": {}}
    for name in only or TRUTHS:
        draws = DRAWS if is_random(TRUTHS[name][0]) else 1
        truth = [measured(images, true(name), f"draw {draw}") for draw in range(draws)]
        candidates = {"true draws": []} if draws > 1 else {"true draws": truth}
        candidates |= {label: [measured(images, each, label)] for label, each in SUBSTITUTIONS[name].items()}
        for label, tiles in candidates.items():
            for each in (1, TILES):
                number = batches if label == "true draws" else max(batches // 20, 1)
                rates = rejected(tiles, truth, each, number, make_rng(derive_seed(name, label, each)))
                results["rates"].setdefault(name, {}).setdefault(label, {})[f"{each * PHOTOGRAPHS} tiles"] = rates
                click.echo(f"{name}: {label}, {each * PHOTOGRAPHS} tiles: {rates}")
    OUT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
