"""CPU load beside a GPU, estimated: arithmetic counted, the rest of the pipeline measured on this machine.

Counted are the multiplications and additions of the convolutions in the compiled graphs, which are all but everything.
Measured is processor time, of all threads: a complete `generate` run (images, tiles, truths, statistics, records,
writing, reports) less the network's. Estimates for GPUs use these figures, the vendor's peak and an
assumed share of the peak, without a GPU at hand.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Figure, Options, Result, read_images, spread
from benchmarks.random_models import write_model
from benchmarks.sample_store import make_manifest
from benchmarks.trainers import trainer_of
from distort_pipeline.commands.inputs import PRETRAINED
from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.corpora import PRISTINE, open_corpus
from distort_pipeline.models.store import load_generator
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.records import package_versions
from distort_pipeline.steps import generate

PEAK_TFLOPS = 989  # dense bfloat16, H100 SXM, NVIDIA's datasheet; the H200's is the same
SHARE = 0.3  # of the peak, assumed
GPUS = 8
MANY = 10**9
HOUR_MS = 3.6e6
TILE_PX = 256
COUNT = 4096  # 16 tiles of each of 258 photographs: what a photograph costs falls on many, as in large corpora
FULL_FILTERS, SMALL_FILTERS = 64, 16
CONVOLUTIONS = ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")


def measure(options: Options) -> Result:
    """Return arithmetic of both networks, and what is beside them; the reckoning is among the remarks."""
    pin_backend_threads(1)
    filters, count, rounds = (4, 32, 1) if options.quick else (FULL_FILTERS, COUNT, options.rounds_or(1))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = read_images(options.images, 4)
        write_model(folder / "full" / "jpeg", filters, images)
        write_model(folder / "small" / "jpeg", 4 if options.quick else SMALL_FILTERS, images)
        manifest = make_manifest(options.images, folder)
        generating = _arithmetic(load_generator(folder / "full" / "jpeg", batch_size=1, precision="mixed_bfloat16"))
        overhead_ms = [_overhead_ms(manifest, folder, count) for _ in range(rounds)]
        pretrained, disk = zip(*(_by_pretrained(manifest, folder, count) for _ in range(rounds)), strict=True)
    trained = _training_arithmetic(filters)
    figures = [
        Figure("arithmetic of a tile, generation", "–", spread([generating / 1e9]), "GFLOP"),
        Figure("arithmetic of an image in a training step, G and D", "–", spread([trained / 1e9]), "GFLOP"),
        Figure("processor time of a tile beside the network, four metrics", "–", spread(overhead_ms), "ms"),
        Figure("processor time of a tile by the pretrained generators, all in all", "–", spread(pretrained), "ms"),
        Figure(
            "a sample of the pretrained generators on disk, with its share of reference tiles", "–", spread(disk), "KB"
        ),
    ]
    return Result(
        f"one tile of {TILE_PX}², full-size networks, and what GPUs would want beside them",
        figures,
        _reckoning({figure.what: figure.spread.median for figure in figures}),
        packages=package_versions(["tensorflow", "keras", "zarr"]),
    )


def _reckoning(median: Mapping[str, float]) -> list[str]:
    generating, trained, overhead_ms, pretrained, disk = median.values()
    tiles, images = (SHARE * PEAK_TFLOPS * 1e3 / giga for giga in (generating, trained))
    cores = tiles * overhead_ms / 1e3
    return [
        f"On paper: at {SHARE:.0%} of a peak of {PEAK_TFLOPS} TFLOP/s (H100 or H200, dense bfloat16, by NVIDIA's "
        f"datasheet; the share is assumed) a GPU makes {tiles:,.0f} tiles a second and trains on {images:,.0f} "
        f"images. {cores:,.0f} cores like this one would keep it busy with tiles, {images / 2000:.1f} pairs of "
        "cores with crops, by the bar of crops.py.",
        f"{GPUS} GPUs would be limited by what is beside them: {GPUS * cores:,.0f} cores, and "
        f"{GPUS * tiles * disk / 1e6:,.1f} GB written a second. A machine with 192 cores would keep "
        f"{192 / cores:.1f} of one busy: GPUs are for training, or for networks that cost far more.",
        f"A billion tiles of full-size networks: {MANY / tiles / 3600:,.0f} hours of one GPU, "
        f"{MANY * overhead_ms / HOUR_MS:,.0f} core hours beside it, {MANY * disk / 1e9:,.0f} TB. By the pretrained "
        f"generators, which need no GPU, {MANY * pretrained / HOUR_MS:,.0f} core hours in all. "
        "The same seeds make them again, so samples need not be stored.",
        "Many tiles of each photograph were made here. At two of each, one photograph is decoded for two tiles: on A "
        "33 ms beside the network and 50 ms by the pretrained generators (2026-11-26, 3 rounds).",
    ]


def _arithmetic(trained: Any) -> int:
    """Return the floating-point operations of the fused generator for one tile, as `generate` runs it."""
    import tensorflow as tf

    tile = tf.TensorSpec((1, TILE_PX, TILE_PX, 3), tf.float32)
    return operations(
        tf.function(lambda x: trained.predictor.model(x, training=False)).get_concrete_function(tile).graph
    )


def _training_arithmetic(filters: int) -> float:
    """Return the floating-point operations of a training step for one pair of crops: D's update and G's."""
    import tensorflow as tf

    batch = 2
    trainer = trainer_of(filters, batch, TILE_PX, "mixed_bfloat16")
    crops = tf.TensorSpec((batch, TILE_PX, TILE_PX, 3), tf.uint8)
    severity, number = tf.TensorSpec((batch, 1), tf.float32), tf.TensorSpec((), tf.int64)
    step = tf.function(trainer._replica_step, autograph=False)
    return operations(step.get_concrete_function(crops, crops, severity, number).graph) / batch


def operations(graph: Any) -> int:
    """Return multiplications and additions of all convolutions of a TensorFlow graph, and of their gradients.

    A convolution has a multiplication and an addition for each pair of kernel weight and output position; a transposed
    convolution, in TensorFlow the gradient by the input, for each pair of kernel weight and input position.
    """
    total = 0
    for operation in graph.get_operations():
        if operation.type in CONVOLUTIONS:
            kernel = (
                operation.inputs[1].shape if operation.type != "Conv2DBackpropFilter" else operation.outputs[0].shape
            )
            shape = (operation.outputs[0] if operation.type == "Conv2D" else operation.inputs[2]).shape
            total += 2 * int(np.prod(kernel)) * int(np.prod(shape[:-1]))
    return total


def _overhead_ms(manifest: Path, folder: Path, count: int) -> float:
    """Return processor milliseconds of a tile of a complete `generate` run, less the network's."""
    models = folder / "small"
    corpus = folder / "corpus"
    config = GenerateConfig(count=count, workers=0, precision="mixed_bfloat16", allow_repeats=True)
    predictor = load_generator(
        models / "jpeg", batch_size=config.inference_batch_size, precision=config.precision
    ).predictor
    batch = np.zeros((config.inference_batch_size, TILE_PX, TILE_PX, 3), np.uint8)
    predictor.distort(batch, range(len(batch)))  # traces and compiles
    total = _processor_seconds(lambda: generate.run(config, manifest, models, corpus))
    store = open_corpus(corpus)
    pristine = np.stack(list(store.images(PRISTINE, [record.tile for record in store.records])))
    network = _processor_seconds(lambda: predictor.distort(pristine, [record.seed for record in store.records]))
    shutil.rmtree(corpus)
    return (total - network) / len(store) * 1e3


def _by_pretrained(manifest: Path, folder: Path, count: int) -> tuple[float, float]:
    """Return processor milliseconds and KB on disk of a sample by the pretrained generators, in equal shares."""
    corpus = folder / "corpus"
    config = GenerateConfig(count=count, workers=0, allow_repeats=True)
    seconds = _processor_seconds(lambda: generate.run(config, manifest, PRETRAINED, corpus))
    size = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())
    shutil.rmtree(corpus)
    return seconds / count * 1e3, size / count / 1e3


def _processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
