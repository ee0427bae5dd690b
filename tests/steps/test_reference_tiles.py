from contextlib import suppress

import numpy as np
import pytest

from distort_pipeline.data.arrays import create_group, create_samples
from distort_pipeline.data.corpus_pixels import EXAMPLE_PX, middle, read_truth
from distort_pipeline.data.files import read_json
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.plans import ReferenceTile
from distort_pipeline.distortions import apply
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.acceptance import tile_statistics
from distort_pipeline.metrics.jsd_nss import nss_histograms, product_histogram
from distort_pipeline.networks.wavelets import significance_of
from distort_pipeline.records import Tile, make_rng, sample_seed
from distort_pipeline.steps.truth import TRUTH_DRAW, DistortionSpec, TileTask, make_tile_shard

pytest_plugins = ["corpus_fixtures"]

NOISE = DistortionSpec("grain", "white_noise", 1, {"sigma_8bit": 19})
JPEG = DistortionSpec("jpeg", "jpeg", 1, {"quality": 12})


@pytest.fixture
def task(tmp_path, small_manifest):
    """The second shard of three tiles each: two of one image, one of another."""
    manifest = read_manifest(small_manifest)
    osprey, wren = (record for record in manifest.records if record.id in ("osprey-1", "wren-1"))
    cuts = ((osprey, 0, 16), (osprey, 32, 48), (wren, 160, 64))
    tiles = tuple(ReferenceTile(3 + index, image, Tile(y, x, 128, 128)) for index, (image, y, x) in enumerate(cuts))
    create_samples(create_group(tmp_path), "pristine", slots=6, tile_px=128, per_shard=3, per_chunk=1)
    return TileTask(tmp_path, manifest.root, 1, tiles, (NOISE, JPEG), 1, 7, False, False)


def test_pristine_tiles_are_the_photographs_at_the_recorded_offsets(corpus, sample_images):
    for tile in corpus.tiles():
        image = sample_images[tile.image.removesuffix("-1")]
        cut = image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        np.testing.assert_array_equal(corpus.pristine(tile.tile), cut)
        assert tile.y % 16 == tile.x % 16 == 0
    assert len({(tile.image, tile.y, tile.x) for tile in corpus.tiles()}) == 20
    assert {tile.image for tile in corpus.tiles()} == {f"{name}-1" for name in sample_images}


def test_truth_is_that_of_the_tiles_cut_from_whole_distorted_images(task, sample_images):
    assert make_tile_shard(task)["shard"] == "tiles-00001"
    truth = read_truth(task.work, "tiles-00001")
    assert truth.first_tile == 3
    assert truth.rows.tolist() == [0, 1]  # the tiles of one image, as truth_images says
    osprey = task.tiles[0].image
    for spec in (NOISE, JPEG):
        seed = sample_seed(7, osprey.image_digest, spec.distortion, 1, TRUTH_DRAW)
        true_image = apply(spec.distortion, sample_images["osprey"], spec.parameters, make_rng(seed)).image
        for row, (y, x) in enumerate(((0, 16), (32, 48))):
            tile, clean = (image[y : y + 128, x : x + 128] for image in (true_image, sample_images["osprey"]))
            np.testing.assert_array_equal(truth.histograms[spec.name][row], nss_histograms(tile))
            np.testing.assert_array_equal(truth.statistics[spec.name].values[row], tile_statistics(clean, tile))
        np.testing.assert_array_equal(truth.examples[spec.name][0], middle(true_image[:128, 16:144]))
    assert set(truth.redrawn) == {"grain"}  # JPEG drawn again is the same
    assert (truth.redrawn["grain"].values != truth.statistics["grain"].values).any()
    np.testing.assert_allclose(truth.redrawn["grain"].values[:, 0], truth.statistics["grain"].values[:, 0], atol=0.3)
    assert truth.pristine.shape == (3, 103)
    np.testing.assert_array_equal(truth.pristine[2], product_histogram(sample_images["wren"][160:288, 64:192]))


def test_the_ledger_comes_last_and_a_shard_made_again_is_the_same(task):
    make_tile_shard(task)
    entry = read_json(task.work / "ledger" / "tiles-00001.json")
    assert (entry["shard"], entry["tiles"]) == ("tiles-00001", 3)
    make_tile_shard(task)
    assert read_json(task.work / "ledger" / "tiles-00001.json") == entry


def test_without_true_distortions_there_are_only_pristine_histograms(task):
    make_tile_shard(TileTask(**{**vars(task), "truths": ()}))
    truth = read_truth(task.work, "tiles-00001")
    assert (truth.rows.size, dict(truth.histograms), truth.pristine.shape) == (0, {}, (3, 103))


def test_a_shard_knows_the_significance_of_its_tiles_images_where_a_generator_needs_it(task, sample_images):
    make_tile_shard(task)
    assert read_truth(task.work, "tiles-00001").significances is None
    make_tile_shard(TileTask(**{**vars(task), "significances": True}))
    expected = [significance_of(sample_images[name]) for name in ("osprey", "osprey", "wren")]
    np.testing.assert_array_equal(read_truth(task.work, "tiles-00001").significances, expected)


def test_an_infinite_psnr_is_capped(task):
    unchanging = DistortionSpec("identity", "white_noise", 1, {"sigma_8bit": 0})
    make_tile_shard(TileTask(**{**vars(task), "truths": (unchanging,)}))
    values = read_truth(task.work, "tiles-00001").statistics["identity"].values
    assert values[:, 0].tolist() == [60, 60]
    assert values[:, 1] == pytest.approx(1)


def test_a_few_tiles_of_each_image_are_compared(task):
    tiles = tuple(ReferenceTile(number, task.tiles[0].image, Tile(16 * number, 0, 128, 128)) for number in range(9))
    create_samples(create_group(task.work / "c"), "pristine", slots=12, tile_px=128, per_shard=12, per_chunk=1)
    make_tile_shard(TileTask(**{**vars(task), "work": task.work / "c", "tiles": tiles, "truths": (JPEG,)}))
    rows = read_truth(task.work / "c", "tiles-00001").rows.tolist()
    assert len(rows) == 2
    assert (rows[0], rows[-1]) == (0, 8)


@pytest.mark.parametrize("position", [0, 26, 28, 40, -4, -20, -40, -60, -80])
def test_a_damaged_truth_file_is_a_pipeline_error_or_reads_as_it_was(task, position):
    make_tile_shard(task)
    before = read_truth(task.work, "tiles-00001")
    path = task.work / "truth" / "tiles-00001.npz"
    data = path.read_bytes()
    for bit in range(8):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        with suppress(PipelineError):  # any other error fails the test
            np.testing.assert_array_equal(read_truth(task.work, "tiles-00001").pristine, before.pristine)
    for length in (0, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(PipelineError, match=r"tiles-00001\.npz is missing or damaged"):
            read_truth(task.work, "tiles-00001")
    path.unlink()
    with pytest.raises(PipelineError, match="is missing or damaged"):
        read_truth(task.work, "tiles-00001")


def test_the_middle_of_an_image_is_of_one_size():
    ramp = np.arange(300 * 400 * 3, dtype=np.uint32).reshape(300, 400, 3).astype(np.uint8)
    np.testing.assert_array_equal(middle(ramp), ramp[22:278, 72:328])
    small = middle(ramp[:100, :300])
    assert small.shape == (EXAMPLE_PX, EXAMPLE_PX, 3)
    np.testing.assert_array_equal(small[:100], ramp[:100, 22:278])
    assert (small[100:] == 128).all()
