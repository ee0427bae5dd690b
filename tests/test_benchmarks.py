"""The cheap parts of the benchmarks: figures against bars, and the page made of them. Times are never asserted."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import NAMES
from benchmarks.corpus_run import memory_mb
from benchmarks.gpu_on_paper import operations
from benchmarks.harness import (
    Figure,
    Options,
    Result,
    Spread,
    interleaved,
    machine,
    ratios,
    read_images,
    spread,
    write_result,
)
from benchmarks.nss_statistics import plain_histogram
from benchmarks.pair_floor import distort, image_tasks
from benchmarks.pair_peers import rows_of
from benchmarks.results_page import read_results, render
from benchmarks.trainers import trainer_of
from distort_pipeline.config import PairsConfig
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.metrics.jsd_nss import product_histogram

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_each_benchmark_is_a_file_of_its_name_and_the_readme_knows_it():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert find_spec(f"benchmarks.{name}"), name
        assert f"`{name}`" in readme, name


@pytest.mark.parametrize(
    ("at_least", "every", "bar", "reached"),
    [
        (True, False, 3.0, True),
        (True, True, 3.0, False),  # the least run is below
        (True, False, 3.1, False),
        (False, False, 3.0, True),
        (False, True, 3.0, False),
        (True, False, None, None),
    ],
)
def test_a_bar_is_for_the_median_or_for_every_run(at_least, every, bar, reached):
    figure = Figure("ours", "theirs", Spread(3, 2.0, 3.0, 4.0), bar=bar, at_least=at_least, every=every)
    assert figure.reached is reached


def test_images_may_be_png_or_webp_and_others_are_left_out(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for name in ("b.png", "a.webp"):
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if name.endswith("webp") else []  # above 100: without loss
        assert cv2.imwrite(str(tmp_path / name), image[..., ::-1], options)
    (tmp_path / "SOURCES.csv").write_text("file\n")
    images = read_images(tmp_path)
    assert len(images) == 2
    assert all(np.array_equal(read, image) for read in images)
    assert len(read_images(tmp_path, 1)) == 1


def test_quick_measures_once_and_others_as_often_as_requested():
    assert Options(quick=True, rounds=5).rounds_or(3) == 1
    assert Options(rounds=5).rounds_or(3) == 5
    assert Options().rounds_or(3) == 3


def test_memory_is_that_of_a_process_and_all_below_it():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
    hold = "import sys; memory = bytearray(80_000_000); print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code.format(hold)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n"
        assert memory_mb(child.pid) > 80
    finally:
        child.stdin.close()
        child.wait()
    assert memory_mb(child.pid) == 0


def test_forms_take_turns_and_their_first_turn_does_not_count():
    calls = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(calls) == "ababab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}
    assert ratios([1.0, 4.0], [2.0, 2.0]) == spread([0.5, 2.0])


def test_the_page_says_what_was_reached_missed_and_not_measured(tmp_path):
    figures = [
        Figure("ours", "theirs", spread([4.0, 5.0, 6.0]), bar=4.0),
        Figure("wall", "floor", spread([1.3]), bar=1.15, at_least=False),
        Figure("start", "–", spread([2.0]), "s"),
    ]
    here = {**machine(), "load_before": 0.4}
    write_result("pairs", Result("a title", figures, ["a remark"], ["a peer"], {"numpy": "2"}), here, 1.0, tmp_path)
    page = render(read_results(tmp_path, ["statistics", "pairs"]), ["a GPU"])
    assert "| pairs | A, 0.4 | ours / theirs | ≥ 4 × | 5 × (4 – 6) | yes |" in page
    assert "| pairs | A, 0.4 | wall / floor | ≤ 1.15 × | 1.3 × | **no** |" in page
    for line in ("| start | – | 2 s | 1 | – |", "- a remark", "- pairs: a peer", "- a GPU", "AVX-512 BF16"):
        assert line in page


def test_figures_of_several_machines_are_kept_apart(tmp_path):
    for name, cores in (("pairs", 2), ("crops", 64), ("growth", 2)):
        here = {**machine(), "cores": cores, "load_before": 0.4}
        write_result(name, Result("a title", [Figure("a", "b", spread([1.0]), bar=1.0)]), here, 1.0, tmp_path)
    page = render(read_results(tmp_path, ["pairs", "crops", "growth"]))
    assert "- A: 2 cores of " in page
    assert "- B: 64 cores of " in page
    assert [line.split(" | ")[:2] for line in page.splitlines() if line.endswith("| yes |")] == [
        ["| pairs", "A, 0.4"],
        ["| crops", "B, 0.4"],
        ["| growth", "A, 0.4"],
    ]


def test_stored_results_are_those_of_the_page():
    results = read_results(FOLDER / "results", NAMES)
    assert results
    page = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    for result in results:
        assert f"## {result['name']}: {result['title']}" in page


def test_the_plain_statistics_are_the_same_statistics(sample_images):
    for image in sample_images.values():
        assert np.abs(plain_histogram(image) - product_histogram(image)).sum() <= 20  # edges, float32 and float64


def test_the_plain_generator_is_the_same_network_with_its_weights_in_the_same_order():
    from benchmarks.plain_networks import build_plain_generator
    from distort_pipeline.networks.generator import Architecture, build_generator

    plain, ours = build_plain_generator(Architecture(base_filters=2)), build_generator(Architecture(base_filters=2))
    rng = np.random.default_rng(0)
    weights = [rng.uniform(0.05, 0.3, array.shape).astype(np.float32) for array in plain.get_weights()]
    for network in (plain, ours):
        network.set_weights(weights)
    images = rng.uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32)
    output, expected = (np.asarray(network(images, training=False)) for network in (ours, plain))
    assert np.allclose(output, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_plain_trainer_trains_the_plain_generator():
    kinds = [
        {type(layer).__name__ for layer in trainer_of(2, 1, 128, "float32", plain=plain).generator.layers}
        for plain in (True, False)
    ]
    assert "BatchNormalization" in kinds[0] - kinds[1]  # ours is a class of our own


def test_the_floor_distorts_as_the_step_does(pair_store, small_manifest, small_settings):
    config = PairsConfig(**small_settings)
    for task in image_tasks(small_manifest, config):
        if task.record.split == "val":
            pristine = read_ingested(task.root, task.record)
            for recipe in task.recipes:
                stored = pair_store.val_image(task.record.id, recipe.distortion, recipe.level)
                assert np.array_equal(distort(task, recipe, pristine).image, stored)


def test_rows_of_other_tools_are_the_tiles_stored_by_the_step(pair_store, small_manifest, small_settings):
    config = PairsConfig(**small_settings)
    stored = {
        (pair.records[0].image, pair.records[0].y, pair.records[0].x, pair.records[0].distortion): pair
        for pair in (pair_store[index] for index in range(len(pair_store)))
    }
    rows = [row for task in image_tasks(small_manifest, config) for row in rows_of(task, config)]
    checked = 0
    for row in rows:
        key = (row["image"], row["y"], row["x"], row["distortion"])
        if row["split"] == "train" and key in stored:
            assert row["pixels"] == stored[key].distorted.tobytes()
            checked += 1
    assert checked == len([key for key in stored if key[3] != "faded"]) > 6


def test_arithmetic_is_counted_of_convolutions_transposed_ones_and_both_gradients():
    import tensorflow as tf

    @tf.function(autograph=False)
    def down_and_up(image, narrow, wide):
        with tf.GradientTape() as tape:
            tape.watch((image, narrow, wide))
            smaller = tf.nn.conv2d(image, narrow, 2, "SAME")  # 8 x 8 x 3 to 4 x 4 x 5
            larger = tf.nn.conv2d_transpose(smaller, wide, (1, 8, 8, 7), 2, "SAME")  # and to 8 x 8 x 7
        return tape.gradient(larger, (image, narrow, wide))

    shapes = (1, 8, 8, 3), (4, 4, 3, 5), (4, 4, 7, 5)
    graph = down_and_up.get_concrete_function(*(tf.TensorSpec(shape, tf.float32) for shape in shapes)).graph
    forward = 4 * 4 * (4 * 4 * 3 * 5) + 4 * 4 * (4 * 4 * 7 * 5)
    assert operations(graph) == 2 * 3 * forward  # forward, and gradients by input and kernel
