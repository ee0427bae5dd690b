import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import distort_pipeline
from distort_pipeline.data.pairs import VERSION, open_pairs
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import PairRecord


def copied(pair_store, folder):
    shutil.copytree(pair_store.folder, folder / "pairs")
    return folder / "pairs"


def test_length_index_and_iteration_go_over_the_training_pairs(pair_store):
    records = pair_store.records("train")
    assert len(pair_store) == len(records) == 3 * sum(1 for record in records if record.distortion == "jpeg")
    pair = pair_store[2]
    assert pair.records == (records[2],)
    assert pair.pristine.shape == pair.distorted.shape == (records[2].height, records[2].width, 3)
    assert pair.pristine.dtype == np.uint8
    assert np.array_equal(pair_store[-1].distorted, pair_store[len(pair_store) - 1].distorted)
    with pytest.raises(IndexError):
        pair_store[len(pair_store)]
    assert sum(1 for _ in pair_store) == len(pair_store)


def test_a_single_pair_is_cropped_to_the_image_and_a_slice_holds_whole_tiles(pair_store):
    index = next(index for index, record in enumerate(pair_store.records()) if record.height < 256)
    record = pair_store.records()[index]
    assert (record.height, record.width) == (200, 256)
    single, tiles = pair_store[index], pair_store[index : index + 1]
    assert single.pristine.shape == (200, 256, 3)
    assert tiles.pristine.shape == tiles.distorted.shape == (1, 256, 256, 3)
    assert np.array_equal(tiles.distorted[0, :200], single.distorted)
    assert not tiles.distorted[0, 200:].any()


def test_slices_are_the_single_pairs_in_order(pair_store):
    pairs = pair_store[1:8:3]
    assert pairs.records == tuple(pair_store.records()[1:8:3])
    for index, record in enumerate(pairs.records):
        extent = (index, slice(record.height), slice(record.width))
        assert np.array_equal(pairs.distorted[extent], pair_store[1 + 3 * index].distorted)
        assert np.array_equal(pairs.pristine[extent], pair_store[1 + 3 * index].pristine)
    assert pair_store[5:5].pristine.shape == (0, 256, 256, 3)


def test_the_table_holds_the_records(pair_store):
    table = pair_store.table("val")
    assert table.num_rows == len(pair_store.records("val")) == 6
    assert [PairRecord(**values) for values in table.to_pylist()] == pair_store.records("val")


def test_validation_images_come_whole_with_their_records(pair_store, sample_images):
    images = {record.image: (record, pristine, bad) for record, pristine, bad in pair_store.validation("faded")}
    assert images.keys() == {"maple-1", "hills-1"}
    record, pristine, bad = images["maple-1"]
    assert (record.height, record.width) == sample_images["maple"].shape[:2]
    assert np.array_equal(pristine, sample_images["maple"])
    assert np.array_equal(bad, sample_images["maple"] // 2 + 100)
    assert list(pair_store.validation("jpeg", 9)) == []


def test_unknown_names_are_pipeline_errors(pair_store):
    assert pair_store.distortions == ("jpeg", "white_noise", "faded")
    assert pair_store.levels("jpeg") == (1,)
    with pytest.raises(PipelineError, match=r"holds no pairs of 'white_nose'; did you mean white_noise\?"):
        pair_store.recipes("white_nose")
    with pytest.raises(PipelineError, match="lacks its array train/jp2k"):
        pair_store.array("train/jp2k")


def test_no_store_another_version_and_half_a_store_say_so(pair_store, tmp_path):
    with pytest.raises(PipelineError, match="holds no pairs"):
        open_pairs(tmp_path / "none")
    folder = copied(pair_store, tmp_path)
    metadata = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    (folder / "store.json").write_text(json.dumps({**metadata, "version": VERSION + 1}), encoding="utf-8")
    with pytest.raises(
        PipelineError, match=f"pairs of version {VERSION + 1}, and this program reads version {VERSION}"
    ):
        open_pairs(folder)
    (folder / "store.json").unlink()
    with pytest.raises(PipelineError, match="interrupted"):
        open_pairs(folder)


def test_lost_pixels_and_lost_records_say_so(pair_store, tmp_path):
    folder = copied(pair_store, tmp_path)
    (folder / "records" / "train-00001.parquet").unlink()
    with pytest.raises(PipelineError, match="missing or damaged"):
        len(open_pairs(folder))
    shutil.rmtree(folder / "pixels.zarr" / "train" / "jpeg")
    with pytest.raises(PipelineError, match="lacks its array train/jpeg"):
        open_pairs(folder).array("train/jpeg")
    shutil.rmtree(folder / "pixels.zarr")
    with pytest.raises(PipelineError, match="missing or damaged"):
        open_pairs(folder)


def test_reading_a_store_starts_neither_tensorflow_nor_dask(pair_store):
    code = (
        "import sys, distort_pipeline\n"
        "assert 'numpy' not in sys.modules, 'the bare import is heavy'\n"
        f"pairs = distort_pipeline.open_pairs({str(pair_store.folder)!r})\n"
        "pairs[0], pairs[0:2], pairs.table()\n"
        "heavy = {'tensorflow', 'keras', 'dask', 'distributed', 'cv2', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert distort_pipeline.open_pairs is open_pairs


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="open_pears"):
        distort_pipeline.open_pears  # noqa: B018
