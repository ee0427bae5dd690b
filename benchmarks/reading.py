"""Reading a corpus in NumPy, PyTorch, tf.data and xarray: against Zarr on the same files, and against other formats.

The others hold the same tiles: a folder of PNG files, read with OpenCV or with TensorFlow's own decoder; WebDataset and
litdata, with PNG files inside. One process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.harness import Figure, Options, Result, interleaved, ratios, read_images, spread
from benchmarks.random_models import write_model
from benchmarks.sample_store import make_manifest
from distort_pipeline import open_corpus
from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.corpora import PRISTINE, CorpusStore, distorted_array
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import package_versions
from distort_pipeline.steps import generate

BATCH = 32
LEAST_GAIN = 1.8  # over Zarr on the same files, for the processor time of reading a corpus in order
PACKAGES = ("zarr", "numpy", "opencv-python-headless", "torch", "webdataset", "litdata", "tensorflow", "xarray")
KINDS = ("pristine", "distorted")
Form = Callable[[], object]


def measure(options: Options) -> Result:
    """Return samples a second of each reader, and the ratio to the PNG folder."""
    samples, rounds = (64, 1) if options.quick else (256, 3)
    figures: list[Figure] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        corpus, png = _corpus(options.images, Path(temporary), samples), Path(temporary) / "png"
        _write_png(corpus, png)
        figures += _zarr(corpus, rounds)
        peers = ((_torch, "torch"), (_webdataset, "webdataset"), (_litdata, "litdata"))
        for reader, package in ((_numpy, ""), *peers, (_tensorflow, ""), (_xarray, "xarray")):
            try:
                forms = reader(corpus, png)
            except (ModuleNotFoundError, PipelineError):  # to_torch() says which package it lacks
                missing.append(f"{package}: not installed")
                continue
            figures += _figures(forms, samples, rounds)
        sizes = [_bytes(folder) / samples for folder in (corpus.folder / "pixels.zarr", png)]
    return Result(
        f"{samples} samples of two 256² tiles, one process; random against in order",
        figures,
        [
            "A sample is a pristine and a distorted tile: 393 KB of pixels. Files lie in the disk cache.",
            f"On the disk a sample takes {sizes[0] / 1000:.0f} KB in the corpus and {sizes[1] / 1000:.0f} KB as PNG.",
            "In random order each sample costs two chunks of 16 tiles, of which two tiles are used; `to_torch()` "
            "shuffles by chunks and reads each chunk once, or twice where a batch cuts it.",
        ],
        missing,
        package_versions(PACKAGES),
    )


def _figures(forms: Mapping[str, Form], samples: int, rounds: int) -> list[Figure]:
    """Return rate and ratio of each form; each is compared with the PNG form of the same order."""
    seconds = interleaved(forms, rounds)
    figures = []
    for name, walls in seconds.items():
        rate = spread([samples / wall for wall in walls])
        plain = next((other for other in forms if other.startswith("PNG") and other.endswith(_order(name))), None)
        if plain is None or plain == name:
            figures.append(Figure(name, "–", rate, "samples/s"))
        else:
            note = f"{rate.median:.0f} samples/s"
            figures.append(Figure(name, plain, ratios(seconds[plain], walls), note=note))
    return figures


def _zarr(corpus: CorpusStore, rounds: int) -> list[Figure]:
    """Return the gain over Zarr, in processor time: both read whole columns in order, all pixels once."""
    names = [PRISTINE, *(distorted_array(name) for name in corpus.conditions)]
    arrays = {name: corpus.array(name) for name in names}
    group = max(BATCH, *(array.chunks[0] for array in arrays.values()))

    def ours() -> None:
        for name, array in arrays.items():
            for start in range(0, array.shape[0], group):
                corpus.tile_array(name).read(range(start, min(start + group, array.shape[0])))

    def zarrs() -> None:
        for array in arrays.values():
            for start in range(0, array.shape[0], group):
                array[start : start + group]

    seconds = interleaved({"ours": ours, "zarr": zarrs}, 3 * rounds, clock=time.process_time)
    megabytes = sum(array.nbytes for array in arrays.values()) / 1e6
    rates = {name: spread([megabytes / wall for wall in walls]) for name, walls in seconds.items()}
    note = f"{rates['ours'].median:.0f} against {rates['zarr'].median:.0f} MB of pixels a CPU second"
    gain = ratios(seconds["zarr"], seconds["ours"])
    return [Figure("tiles of a corpus, in order", "Zarr on the same files", gain, bar=LEAST_GAIN, note=note)]


def _order(name: str) -> str:
    return "random" if "random" in name else "in order"


def _numpy(corpus: CorpusStore, png: Path) -> dict[str, Form]:
    shuffled = np.random.default_rng(0).permutation(len(corpus)).tolist()

    def indices(order: Any) -> None:
        for index in order:
            corpus[index]

    def slices() -> None:
        for start in range(0, len(corpus), BATCH):
            corpus[start : start + BATCH]

    def folder(order: Any) -> None:
        for index in order:
            _read_png(png, index)

    return {
        "PNG files with OpenCV, in order": lambda: folder(range(len(corpus))),
        "PNG files with OpenCV, random": lambda: folder(shuffled),
        f"NumPy, slices of {BATCH}, in order": slices,
        "NumPy, one by one, random": lambda: indices(shuffled),
    }


def _torch(corpus: CorpusStore, png: Path) -> dict[str, Form]:
    import torch
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(1)

    class PngFolder(Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(corpus)

        def __getitem__(self, index: int) -> Any:
            return [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in _read_png(png, index)]

    def load(dataset: Any, **options: Any) -> None:
        for _ in DataLoader(dataset, batch_size=BATCH, **options):
            pass

    plain = PngFolder()
    in_order, by_chunks = corpus.to_torch(shuffle_seed=None), corpus.to_torch()
    return {
        "PNG files in a DataLoader, in order": lambda: load(plain),
        "PNG files in a DataLoader, random": lambda: load(plain, shuffle=True),
        "to_torch(shuffle_seed=None), in order": lambda: load(in_order),
        "to_torch(), random by chunks": lambda: load(by_chunks),
        "to_torch() with shuffle=True, random": lambda: load(by_chunks, shuffle=True),
    }


def _webdataset(corpus: CorpusStore, png: Path) -> dict[str, Form]:
    import webdataset

    shards = png.with_name("webdataset.tar")
    with webdataset.TarWriter(str(shards)) as writer:
        for number in range(len(corpus)):
            parts = {f"{kind}.png": (png / f"{number:05d}.{kind}.png").read_bytes() for kind in KINDS}
            writer.write({"__key__": f"{number:05d}", **parts})

    def load() -> None:
        for sample in webdataset.WebDataset(str(shards), shardshuffle=False):
            for kind in KINDS:
                _decoded(sample[f"{kind}.png"])

    return {"WebDataset, PNG with OpenCV, in order": load}


def _litdata(corpus: CorpusStore, png: Path) -> dict[str, Form]:
    from litdata import StreamingDataset
    from litdata.streaming import Cache

    folder = png.with_name("litdata")
    cache = Cache(str(folder), chunk_bytes="64MB")
    for number in range(len(corpus)):
        cache[number] = {kind: (png / f"{number:05d}.{kind}.png").read_bytes() for kind in KINDS}
    cache.done()
    cache.merge()
    streamed = StreamingDataset(str(folder))

    def load() -> None:
        for number in range(len(streamed)):
            sample = streamed[number]
            for kind in KINDS:
                _decoded(sample[kind])

    return {"litdata, PNG with OpenCV, in order": load}


def _tensorflow(corpus: CorpusStore, png: Path) -> dict[str, Form]:
    import tensorflow as tf

    names = [[str(png / f"{number:05d}.{kind}.png") for kind in KINDS] for number in range(len(corpus))]
    plain = tf.data.Dataset.from_tensor_slices(names).map(
        lambda pair: [tf.io.decode_png(tf.io.read_file(pair[index]), 3) for index in range(2)]
    )

    def load(dataset: Any) -> None:
        for _ in dataset.batch(BATCH):
            pass

    return {
        "PNG files in tf.data, in order": lambda: load(plain),
        "to_tf(), in order": lambda: load(corpus.to_tf()),
        "to_tf(), chunks shuffled, in order within": lambda: load(corpus.to_tf(shuffle_seed=0)),
    }


def _xarray(corpus: CorpusStore, png: Path) -> dict[str, Form]:
    import xarray

    assert xarray is not None
    data = corpus.to_xarray()

    def parts() -> None:
        for start in range(0, len(corpus), BATCH):
            data[list(KINDS)].isel(sample=slice(start, start + BATCH)).compute(scheduler="synchronous")

    def folder() -> None:
        for start in range(0, len(corpus), BATCH):
            np.stack([_read_png(png, index) for index in range(start, start + BATCH)])

    return {"PNG files, stacked, in order": folder, f"to_xarray(), slices of {BATCH}, in order": parts}


def _read_png(folder: Path, number: int) -> list[Any]:
    return [_decoded((folder / f"{number:05d}.{kind}.png").read_bytes()) for kind in KINDS]


def _decoded(png: bytes) -> Any:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _write_png(corpus: CorpusStore, folder: Path) -> None:
    folder.mkdir()
    for number in range(len(corpus)):
        sample = corpus[number]
        for kind in KINDS:
            image = cv2.cvtColor(getattr(sample, kind), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f"{number:05d}.{kind}.png"), image)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _corpus(images: Path, folder: Path, samples: int) -> CorpusStore:
    """Return a corpus of two generators of random weights; reading costs as much as for trained generators."""
    for name in ("jpeg", "jp2k"):
        write_model(folder / "models" / name, 4, read_images(images, 4))
    config = GenerateConfig(count=samples, truth_images=1, metrics=(), workers=0)
    generate.run(config, make_manifest(images, folder), folder / "models", folder / "corpus")
    return open_corpus(folder / "corpus")
