"""A small pair store with several levels, made of crops of the built-in photographs."""

from pathlib import Path

from distort_pipeline.config import IngestConfig, PairsConfig
from distort_pipeline.data.images import decode, encode_png
from distort_pipeline.execution import Workers
from distort_pipeline.steps import ingest, pairs

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
NAMES = ("canyon-wren", "roman-colosseum", "the-spices-of-life")


def five_level_pairs(root, distortions, levels, *, val_count):
    """Return the pair store in the folder `root` of three crops, at `levels` of the preset five_levels."""
    (root / "pristine").mkdir()
    for name in NAMES:
        image, _ = decode((SAMPLE / f"budgie-backgrounds__{name}.png").read_bytes())
        (root / "pristine" / f"{name}.png").write_bytes(encode_png(image[60:330, 100:400]))
    ingest.run(IngestConfig(source=str(root / "pristine"), val_count=val_count, workers=0), root / "manifest.jsonl")
    config = PairsConfig(
        distortions=distortions, preset="five_levels", levels=levels, tile_px=256, tiles_per_image=1, tiles_per_shard=4,
        tiles_per_chunk=2,
    )  # fmt: skip
    pairs.run(config, root / "manifest.jsonl", root / "pairs", workers=Workers(0))
    return root / "pairs"
