"""Random 256² crops read from a pair store for training, at first with nothing in memory, and from disk.

The store holds more chunks than the cache, so that every epoch reads and decompresses each of them once, unless the
images are too small for so many tiles. Files are evicted from the page cache before each cold
epoch (`posix_fadvise`; elsewhere than on Linux they stay).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.harness import Figure, Options, Result, spread
from benchmarks.sample_store import make_manifest, make_pairs
from distort_pipeline.data.arrays import PIXELS
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.pairs import PairStore
from distort_pipeline.records import package_versions
from distort_pipeline.training.crops import CACHED_CHUNKS, CROPS_A_TILE, READERS, Crops

BAR_PER_SECOND = 2000
BATCH = 16
DISTORTION = "white_noise"  # compresses least of all
TILES_TOTAL = 3600
TILES_PER_CHUNK = 16
LEVELS_TRIED = (
    "3: 46 / 70 %, read 1.3 / 1.4 GB, written 0.3 / 0.5; 2: 48 / 73 %, 1.3 / 1.4, 0.4 / 0.8; 1: 57 / 80 %, 1.4 / 1.3, "
    "0.5 / 0.9; -1: 64 / 90 %, 2.2 / 6.9, 0.6 / 1.9; -5: 66 / 88 %, 2.5 / 7.5, 0.9 / 2.3"
)


def measure(options: Options) -> Result:
    """Return crops a second from the store, each pristine and distorted."""
    rounds = options.rounds_or(7)
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_manifest(options.images, Path(folder))
        images = sum(record.split == "train" for record in read_manifest(manifest).records)
        tiles_each = 2 if options.quick else max(4, -(-TILES_TOTAL // images))
        store = make_pairs(
            manifest, Path(folder) / "pairs", distortions=(DISTORTION,), tiles_per_image=min(tiles_each, 64)
        )
        tiles, epoch = len(_crops(store).records), _crops(store).epoch_crops
        cold, warm, cached, work, bare = [], [], [], [], []
        for _ in range(rounds):
            _forget(store.folder)
            bare.append(epoch / _seconds(lambda: _read_all(store.folder / PIXELS / "train")))
            _forget(store.folder)
            crops = _crops(store)
            cold.append(_rate(crops, 0, epoch))
            began = time.process_time()
            warm.append(_rate(crops, epoch, 2 * epoch))
            work.append(1e6 * (time.process_time() - began) / epoch)
            cached.append(_rate_again(crops))
    chunks = -(-tiles // TILES_PER_CHUNK)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Result(
        f"pairs of 256² crops, {CROPS_A_TILE} from each of {tiles} tiles of 384² in {chunks} chunks, one process, "
        f"{cores} cores",
        [
            Figure("the first epoch, from disk", "–", spread(cold), "crops/s", BAR_PER_SECOND),
            Figure("the same files from disk, only read", "–", spread(bare), "crops/s"),
            Figure("the next epoch, files in memory", "–", spread(warm), "crops/s", BAR_PER_SECOND),
            Figure("from chunks that are in the cache", "–", spread(cached), "crops/s", BAR_PER_SECOND),
            Figure("processor time of a crop of the next epoch", "–", spread(work), "µs"),
        ],
        [
            f"A crop here is a pristine and a distorted one, aligned: 393 KB of pixels. Of each column {CACHED_CHUNKS} "
            "chunks are kept; a store that is smaller is decompressed in the first epoch only.",
            "Each tile that is read gives as many crops, shuffled with those of 255 other tiles: with 1, 2, 3 and 4 of "
            "them the first epoch gave 1,056, 2,005, 2,577 and 2,494 crops a second from disk, the next 1,946, 2,686, "
            "3,856 and 3,339 (2026-11-26, 5 to 7 rounds each on A; on B 1,855 and 3,850 with 1). What follows was "
            "measured with 1.",
            "Tried (2026-11-24, processor time, 909 tiles of dev/): reading by Zarr 3.1.6 decompressed 650 MB a "
            "second, past it 1,600; its event loop copies three times, each time into new memory.",
            "Zstandard's levels, what they keep of the pixels and how much they read and write a second (2026-11-24, "
            f"processor time, the pristine tiles / those with white noise): {LEVELS_TRIED}. The store takes 414 "
            "MB at level 2 and 583 at -1; a crop of the next epoch takes 780 µs of processor time at level 2 and 500 "
            "at -1, one of the first 1,090 and 790; the pairs step of four distortions 4.77 and 4.68 s. A negative "
            "level was taken for pairs, as two cores do not decompress 2,000 crops a second at level 2: -1, and -5 "
            "when writing came to be measured (2026-11-25, pairs.py says what it saves). Where a disk gives less than "
            "a GB a second and the store is read once, level 2 would be faster; corpora have that. Negative levels "
            "leave Huffman's code out, which is what takes the time of 2.",
            "Which chunk makes room (2026-11-24): the one read before all others made the next epoch decompress chunks "
            "up to three times, 175 columns of chunks for 116; the one used before all others 101.",
            "What the disk gives when nothing else is done stands below the first epoch. Tried (2026-11-26, 5 rounds "
            "each, crops a second for 1,607 as it is): 8 readers for 4, 1,601; 16, 1,709; 224 crops read ahead for "
            "128, 1,623; both, 1,497; posix_fadvise of the next reads, no more than the disk gave that time.",
            "New memory for every chunk's compressed bytes cost more than their reading from memory: with each "
            "thread's own, an epoch from memory that has yet to fill the cache gives 3,700 crops a second for 3,100. A "
            "store of 900 tiles, an epoch of half a second, gave 1,640 to 1,850 from disk (2026-11-26), as the first "
            "window of chunks is waited for and the cache's memory is new.",
            "LZ4 (Blosc, with and without shuffling) decompresses 2 to 6 GB a second and keeps half as much "
            "again as level 2; Zstandard in Blosc, with bytes or bits shuffled, keeps more and decompresses 750 MB. "
            "Chunks smaller than a tile would not help: a crop of 256² touches nearly all of a tile of 384².",
        ],
        packages=package_versions(["zarr", "numcodecs", "numpy"]),
    )


def _crops(store: PairStore) -> Crops:
    return Crops(store, DISTORTION, [1], crop_px=256, crop_align=16, batch_size=BATCH, seed=0)


def _rate(crops: Crops, first: int, last: int) -> float:
    """Return crops a second over the crops `first` to `last`, in the order of training."""
    steps = range(first // BATCH, max(last // BATCH, first // BATCH + 1))
    return len(steps) * BATCH / _seconds(lambda: [crops.at(step) for step in steps])


def _rate_again(crops: Crops) -> float:
    """Return crops a second of a repeated step."""
    crops.at(0)
    return 100 * BATCH / _seconds(lambda: [crops.at(0) for _ in range(100)])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _read_all(folder: Path) -> None:
    """Read all files of a folder, READERS at a time."""
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(Path.read_bytes, [path for path in folder.rglob("*") if path.is_file()]):
            pass


def _forget(folder: Path) -> None:
    """Ask the system to drop what it holds of the files in `folder`."""
    if not hasattr(os, "posix_fadvise"):
        return
    os.sync()  # what is not on disk yet cannot be dropped
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
