"""The pairs as a user would write them with `datasets` or `litdata`: the same images, distortions, tiles, digests.

`python -m benchmarks.pair_peers NAME MANIFEST SETTINGS OUT` prints the seconds from the first call of the library to
the end of the last; imports come before. Both get the friendlier form: tiles as raw bytes, which neither encodes as
PNG. Each row is a tile, or a full validation image, under one recipe, with its parameters and its SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.pair_floor import ImageTask, distort, image_tasks
from distort_pipeline.config import PairsConfig
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.execution import pin_threads
from distort_pipeline.records import TILE_ALIGN_PX, Image, Tile, derive_seed, spread_tiles

NAMES = ("datasets", "litdata")
WORKERS = 2
Row = dict[str, Any]


def installed() -> list[str]:
    """Return the installed packages."""
    return [name for name in NAMES if find_spec(name)]


def seconds_of(name: str, manifest: Path, settings: dict[str, Any], out: Path) -> float:
    """Return the seconds of `name` for the pairs, in a new process."""
    command = [sys.executable, "-m", "benchmarks.pair_peers", name, str(manifest), json.dumps(settings), str(out)]
    completed = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(completed.stdout.split()[-1])


def rows_of(task: ImageTask, config: PairsConfig) -> Iterator[Row]:
    """Yield the rows of one image: its pristine tiles, then the tiles under each recipe."""
    pin_threads(1)
    pristine = read_ingested(task.root, task.record)
    tiles = _tiles(task, config)
    yield from _rows(task, pristine, tiles, "pristine", 0, {})
    for recipe in task.recipes:
        distorted = distort(task, recipe, pristine)
        facts = {**recipe.parameters, **distorted.facts}
        yield from _rows(task, distorted.image, tiles, recipe.distortion, recipe.level, facts)


def _tiles(task: ImageTask, config: PairsConfig) -> list[Tile]:
    record = task.record
    if record.split == "val":
        return [Tile(0, 0, record.height, record.width)]
    return spread_tiles(
        record.height,
        record.width,
        tile_px=config.tile_px,
        count=config.tiles_per_image,
        align_px=TILE_ALIGN_PX,
        seed=derive_seed(config.seed, "tiles", record.image_digest),
    )


def _rows(
    task: ImageTask, image: Image, tiles: list[Tile], distortion: str, level: int, facts: dict[str, Any]
) -> Iterator[Row]:
    for tile in tiles:
        pixels = image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width].tobytes()
        yield {
            "image": task.record.id,
            "split": task.record.split,
            "distortion": distortion,
            "level": level,
            "parameters": json.dumps(facts),
            "y": tile.y,
            "x": tile.x,
            "height": tile.height,
            "width": tile.width,
            "sha256": hashlib.sha256(pixels).hexdigest(),
            "pixels": pixels,
        }


def _row_lists(numbers: list[int], tasks: list[ImageTask], config: PairsConfig) -> dict[str, list[Any]]:
    rows = [row for number in numbers for row in rows_of(tasks[number], config)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def with_datasets(manifest: Path, config: PairsConfig, out: Path) -> float:
    """Write the pairs by `datasets.map(num_proc=2)` into Parquet and return the seconds."""
    datasets: Any = importlib.import_module("datasets")
    datasets.disable_progress_bars()
    tasks = image_tasks(manifest, config)
    started = time.perf_counter()
    # every second image to each process: they get contiguous parts, and the largest come first
    order = [*range(0, len(tasks), WORKERS), *range(1, len(tasks), WORKERS)]
    source = datasets.Dataset.from_dict({"number": order})
    pairs = source.map(
        lambda batch: _row_lists(batch["number"], tasks, config),
        batched=True,
        batch_size=1,
        writer_batch_size=100,
        num_proc=WORKERS,
        remove_columns=["number"],
        cache_file_name=str(out / "cache.arrow"),
    )
    pairs.to_parquet(str(out / "pairs.parquet"))
    return time.perf_counter() - started


def with_litdata(manifest: Path, config: PairsConfig, out: Path) -> float:
    """Write the pairs by `litdata.optimize` and return the seconds."""
    litdata: Any = importlib.import_module("litdata")
    tasks = image_tasks(manifest, config)
    started = time.perf_counter()
    litdata.optimize(
        fn=partial(rows_of, config=config),
        inputs=tasks,
        output_dir=str(out / "chunks"),
        chunk_bytes="64MB",
        num_workers=WORKERS,
        verbose=False,
    )
    return time.perf_counter() - started


def main() -> None:
    """Run one of the two and print its seconds."""
    name, manifest, settings, out = sys.argv[1:]
    importlib.import_module(name)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(settings).items()}
    config = PairsConfig(**values)
    Path(out).mkdir(parents=True, exist_ok=True)
    seconds = {"datasets": with_datasets, "litdata": with_litdata}[name](Path(manifest), config, Path(out))
    print(seconds)


if __name__ == "__main__":
    main()
