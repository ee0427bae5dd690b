import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.corpus_metadata import VERSION
from distort_pipeline.data.files import read_json
from distort_pipeline.errors import PipelineError

pytest_plugins = ["corpus_fixtures"]


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_index_gives_one_sample_from_either_end(corpus):
    assert len(corpus) == 40
    first, last = corpus[0], corpus[-1]
    assert (first.record.sample, last.record.sample, corpus[np.int64(3)].record.sample) == (0, 39, 3)
    assert (first.record.distortion, last.record.distortion) == ("jpeg", "white_noise")
    np.testing.assert_array_equal(last.distorted, corpus.array("distorted/white_noise")[19])
    np.testing.assert_array_equal(last.pristine, corpus.array("pristine")[19])
    for outside in (40, -41):
        with pytest.raises(IndexError, match=f"has 40 samples, 0 to 39, got {outside}"):
            corpus[outside]


def test_a_corpus_shows_its_size_and_conditions(corpus):
    assert "40 tiles of 128 px (20 jpeg, 20 white_noise)" in repr(corpus)


@pytest.mark.skipif(find_spec("pandas") is not None, reason="pandas is installed")
def test_a_data_frame_needs_pandas_and_says_so(corpus):
    with pytest.raises(PipelineError, match="pip install pandas"):
        corpus.to_pandas()


def test_the_records_as_a_data_frame(corpus):
    pytest.importorskip("pandas")
    frame = corpus.to_pandas()
    assert (len(frame), set(frame.distortion)) == (40, {"jpeg", "white_noise"})


def test_another_working_folder_changes_nothing_of_an_open_corpus(finished_corpus, monkeypatch):
    monkeypatch.chdir(finished_corpus.parent)
    corpus = open_corpus(finished_corpus.name)
    monkeypatch.chdir("/")
    assert corpus[1].record.sample == 1
    assert corpus.table().num_rows == 40


def test_iterating_ends_with_the_last_sample(corpus):
    assert [sample.record.sample for sample in corpus] == list(range(40))


@pytest.mark.parametrize(
    "selection",
    [
        slice(3, 6),  # across a chunk
        slice(17, 24),  # across the distortions, where tiles start again
        slice(None, None, 7),
        slice(-5, None),
        slice(38, 100),
        slice(30, 14, -5),  # descending, across the distortions
        slice(None, None, -13),
        slice(5, 5),
    ],
)
def test_a_slice_gives_the_samples_of_single_indices(corpus, selection):
    samples = corpus[selection]
    indices = range(40)[selection]
    assert samples.distorted.shape == samples.pristine.shape == (len(indices), 128, 128, 3)
    assert samples.distorted.dtype == samples.pristine.dtype == np.uint8
    assert [record.sample for record in samples.records] == list(indices)
    for position, index in enumerate(indices):
        np.testing.assert_array_equal(samples.distorted[position], corpus[index].distorted)
        np.testing.assert_array_equal(samples.pristine[position], corpus[index].pristine)


def test_images_come_in_the_requested_order(corpus):
    numbers = [3, 4, 19, 0, 3]
    for number, image in zip(numbers, corpus.images("pristine", numbers), strict=True):
        np.testing.assert_array_equal(image, corpus.pristine(number))


def test_tables_reports_and_tiles_are_whole_and_in_order(corpus):
    table = corpus.table()
    assert table.num_rows == 40
    assert table["sample"].to_pylist() == list(range(40))
    assert table["tile"].to_pylist() == [record.tile for record in corpus.records]
    assert [tile.tile for tile in corpus.tiles()] == list(range(20))
    assert [(report.distortion, report.batch) for report in corpus.reports()] == [
        (name, number) for name in ("jpeg", "white_noise") for number in range(3)
    ]
    assert [entry["shard"] for entry in corpus.ledger()][2:4] == ["tiles-00002", "jpeg-00000"]
    assert corpus.batch_records("jpeg-00002") == corpus.records[16:20]


def test_opening_needs_neither_tensorflow_nor_dask(finished_corpus):
    code = (
        "import sys; from distort_pipeline.data.corpora import open_corpus;"
        f"print(open_corpus({str(finished_corpus)!r})[:3].distorted.shape,"
        "[name for name in ('tensorflow', 'keras', 'dask', 'cv2', 'scipy') if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "(3, 128, 128, 3) []"


def test_anything_but_a_finished_corpus_of_this_version_is_refused(damaged, tmp_path, pair_store):
    with pytest.raises(PipelineError, match="holds no corpus"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(PipelineError, match="is not a corpus"):
        open_corpus(pair_store.folder)
    change_json(damaged / "store.json", version=1)
    with pytest.raises(PipelineError, match=f"of version 1, and this program reads version {VERSION}"):
        open_corpus(damaged)
    (damaged / "store.json").write_text('{"format": "distort-pip')
    with pytest.raises(PipelineError, match="is damaged"):
        open_corpus(damaged)
    (damaged / "store.json").unlink()
    with pytest.raises(PipelineError, match="the command was interrupted: run the same command again"):
        open_corpus(damaged)


def test_damaged_and_missing_pixels_are_errors_and_not_black_images(damaged):
    shard = damaged / "pixels.zarr" / "distorted" / "jpeg" / "c.1.0.0.0"
    data = bytearray(shard.read_bytes())
    data[50] ^= 1
    shard.write_bytes(data)
    with pytest.raises(PipelineError, match=r"the pixels in .*distorted/jpeg/c\.1\.0\.0\.0 are damaged"):
        open_corpus(damaged)[8]
    assert open_corpus(damaged)[7].record.slot == 7
    for lose in (lambda: shard.write_bytes(b""), shard.unlink):
        lose()
        for selection in (8, slice(6, 10), -40 + 15):
            with pytest.raises(PipelineError, match=r"jpeg/c\.1\.0\.0\.0 (is missing|are damaged)"):
                open_corpus(damaged)[selection]
    (damaged / "pixels.zarr" / "pristine" / "zarr.json").write_text('{"attributes": 3}')
    with pytest.raises(PipelineError, match="lacks its array pristine, or it is damaged"):
        open_corpus(damaged)[0]


def test_a_missing_record_file_is_named(damaged):
    (damaged / "records" / "jpeg-00001.parquet").unlink()
    with pytest.raises(PipelineError, match="a record file is missing or damaged"):
        open_corpus(damaged)[9]
    assert open_corpus(damaged)[39].record.sample == 39  # read only when needed
    with pytest.raises(PipelineError, match="a record file is missing or damaged"):
        open_corpus(damaged).table()


def test_metadata_and_reports_are_read_as_they_were_written(corpus):
    stored = read_json(corpus.folder / "store.json")
    metadata = {name: value for name, value in stored.items() if name not in ("files", "seal", "config_hash")}
    assert json.loads(json.dumps(corpus.metadata.to_json())) == metadata
    for name, report in zip(corpus.batch_names(), corpus.reports(), strict=True):
        assert json.loads(json.dumps(report.to_json())) == read_json(corpus.folder / "reports" / f"{name}.json")
