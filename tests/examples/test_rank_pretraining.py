"""The ranking experiment at a tiny size: equal tiles on both sides, no test photograph among them, and training."""

import numpy as np
import pytest

from distort_pipeline.distortions import apply
from distort_pipeline.records import make_rng, normalize
from examples.rank_pretraining.__main__ import main
from examples.rank_pretraining.experiment import (
    Material,
    generated_material,
    severity_correlation,
    spread_indices,
    train_scorer,
    true_material,
    validation_images,
)

pytest_plugins = ["corpus_fixtures"]


def test_both_materials_are_of_the_same_training_tiles(corpus, small_manifest, sample_images):
    indices = spread_indices(corpus, 3)
    records = [corpus[int(index)].record for index in indices]
    assert {record.split for record in records} == {"train"}
    assert [record.distortion for record in records] == ["jpeg"] * 3 + ["white_noise"] * 3
    generated = generated_material(corpus, indices)
    true = true_material(corpus, indices, small_manifest, seed=1)
    np.testing.assert_array_equal(generated.pristine, true.pristine)
    np.testing.assert_array_equal(generated.distorted[4], corpus[int(indices[4])].distorted)
    record = records[1]
    distorted = apply("jpeg", sample_images[record.image.removesuffix("-1")], {"quality": 12}, make_rng(0)).image
    inside = (slice(record.y, record.y + 128), slice(record.x, record.x + 128))
    np.testing.assert_array_equal(true.distorted[1], distorted[inside])


def test_a_scorer_learns_the_order(corpus):
    tiles = corpus.take(list(range(8))).pristine
    noisy = apply("white_noise", tiles.reshape(-1, 128, 3), {"sigma_8bit": 40}, make_rng(0)).image
    material = Material(tiles, noisy.reshape(tiles.shape))
    scorer = train_scorer(material, steps=60, batch_size=4, crop_px=64, seed=0)
    clean, distorted = (np.asarray(scorer(normalize(tiles))) for tiles in (material.pristine, material.distorted))
    assert np.mean(distorted[:, None] > clean) > 0.9


def test_the_correlation_is_one_for_a_perfect_scorer_and_minus_one_for_its_opposite(small_manifest):
    images = validation_images(small_manifest)
    assert [record.id for record, _ in images] == ["hills-1", "maple-1"]
    for sign in (1, -1):
        levels = iter([sign * level for _ in images for level in range(6)])
        correlations = severity_correlation(lambda _, levels=levels: [next(levels)], images, ["jpeg"], seed=0)
        assert correlations["jpeg"] == pytest.approx(sign)


@pytest.mark.usefixtures("eager")
def test_the_program_prints_a_row_for_each_kind_of_training(finished_corpus, small_manifest, capsys):
    sizes = ["--samples", "3", "--steps", "2", "--batch-size", "2", "--crop-px", "32", "--seeds", "1"]
    main(["--corpus", str(finished_corpus), "--manifest", str(small_manifest), *sizes])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SRCC with severity, 2 photographs, levels 0 to 5; mean of 1 trainings"
    assert lines[1].split() == ["trained", "on", "jpeg", "white_noise", "mean"]
    assert [line.split()[0] for line in lines[2:]] == ["untrained", "generated", "true"]
    assert all(-1 <= float(value) <= 1 for line in lines[2:] for value in line.split()[1:])
