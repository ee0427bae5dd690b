"""A manifest and a pair store of the images that benchmarks run on, made in a temporary folder."""

from __future__ import annotations

from pathlib import Path

from distort_pipeline.config import IngestConfig, PairsConfig
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.execution import Workers
from distort_pipeline.steps import ingest
from distort_pipeline.steps import pairs as pairs_step

DISTORTIONS = ("jpeg", "jp2k", "white_noise", "pink_noise")


def make_manifest(images: Path, folder: Path) -> Path:
    """Return the path of a new manifest of `images`, four of them for validation."""
    out = folder / "manifest.jsonl"
    ingest.run(IngestConfig(source=str(images), val_count=4), out)
    return out


def make_pairs(
    manifest: Path, out: Path, *, distortions: tuple[str, ...] = DISTORTIONS, levels: tuple[int, ...] = (1,),
    preset: str = "paper_like", workers: int = 0, tiles_per_shard: int = 64, tiles_per_image: int = 4,
) -> PairStore:  # fmt: skip
    """Return the pair store that the pairs step makes of `manifest`."""
    config = PairsConfig(
        distortions=distortions,
        preset=preset,
        levels=levels,
        tiles_per_shard=tiles_per_shard,
        tiles_per_image=tiles_per_image,
    )
    pairs_step.run(config, manifest, out, workers=Workers(workers))
    return open_pairs(out)
