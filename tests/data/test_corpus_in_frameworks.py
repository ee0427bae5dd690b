"""A corpus in PyTorch, tf.data and xarray: the same samples, and no more read than is needed."""

import pickle

import numpy as np
import pytest

from distort_pipeline.data.arrays import TileArray
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.errors import PipelineError

pytest_plugins = ["corpus_fixtures"]


def same(item, sample, axes=(0, 1, 2)):
    np.testing.assert_array_equal(np.asarray(item["pristine"]), sample.pristine.transpose(axes))
    np.testing.assert_array_equal(np.asarray(item["distorted"]), sample.distorted.transpose(axes))


@pytest.fixture
def chunks_read(monkeypatch):
    """Array and number of each chunk of pixels that is read, once for each read."""
    seen = []
    plain = TileArray.read_chunk

    def counted(self, number, **options):
        seen.append((self._array.path, number))
        return plain(self, number, **options)

    monkeypatch.setattr(TileArray, "read_chunk", counted)
    return seen


def test_samples_come_in_the_requested_order_and_each_chunk_is_read_once(corpus, chunks_read):
    indices = [22, 3, 39, 3, 0, 21, -1]
    samples = corpus.take(indices)
    chunks = {("distorted/jpeg", 0), ("distorted/white_noise", 0), ("distorted/white_noise", 4)} | {
        ("pristine", 0), ("pristine", 4)
    }  # fmt: skip
    assert sorted(chunks_read) == sorted(chunks)
    for position, index in enumerate(indices):
        np.testing.assert_array_equal(samples.pristine[position], corpus[index].pristine)
        np.testing.assert_array_equal(samples.distorted[position], corpus[index].distorted)
        assert samples.records[position].sample == index % 40


def test_a_slice_reads_the_shards_and_records_of_its_samples_and_no_others(damaged):
    intact = open_corpus(damaged)[10:13]
    needed = {"distorted/jpeg/c.1.0.0.0", "pristine/c.1.0.0.0"}
    for shard in (damaged / "pixels.zarr").rglob("c.*.0.0.0"):
        if shard.relative_to(damaged / "pixels.zarr").as_posix() not in needed:
            shard.unlink()
    for record in (damaged / "records").glob("*.parquet"):
        if record.name != "jpeg-00001.parquet":
            record.unlink()
    repeated = open_corpus(damaged)[10:13]
    np.testing.assert_array_equal(repeated.distorted, intact.distorted)
    np.testing.assert_array_equal(repeated.pristine, intact.pristine)
    assert repeated.records == intact.records


def test_choosing_by_distortion_and_split(corpus):
    selected = corpus.select(["white_noise"], ["val"])
    assert {(corpus[int(index)].record.distortion, corpus[int(index)].record.split) for index in selected} == {
        ("white_noise", "val")
    }
    assert len(corpus.select()) == 40
    with pytest.raises(PipelineError, match="has no 'white_nose'; did you mean white_noise"):
        corpus.select(["white_nose"])
    with pytest.raises(PipelineError, match="has no sample of test"):
        corpus.select(splits=["test"])


def test_torch_gives_the_samples_alone_and_in_batches(corpus):
    torch = pytest.importorskip("torch")
    dataset = corpus.to_torch(shuffle_seed=None)
    assert len(dataset) == 40
    assert "in the corpus's order" in repr(dataset)
    assert dataset[7]["pristine"].dtype == torch.uint8
    assert (dataset[7]["sample"], dataset[7]["distortion"]) == (7, "jpeg")
    assert dataset[7]["psnr"] == corpus[7].record.psnr
    same(dataset[7], corpus[7], (2, 0, 1))
    for index, item in zip((30, 2), dataset.__getitems__([30, 2]), strict=True):
        same(item, corpus[index], (2, 0, 1))
    chosen = corpus.to_torch(
        distortions=["white_noise"], labels=(), shuffle_seed=None, transform=lambda item: item["sample"]
    )
    assert [chosen[index] for index in range(len(chosen))] == list(range(20, 40))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torch_workers_read_what_one_process_reads(corpus, start):
    torch = pytest.importorskip("torch")
    dataset = corpus.to_torch()
    dataset[0]  # the store is open, with Zarr's threads, before workers are made
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=6, num_workers=2, shuffle=True, multiprocessing_context=start, timeout=120
    )
    seen = []
    for batch in loader:
        for position, sample in enumerate(batch["sample"].tolist()):
            seen.append(sample)
            same({name: batch[name][position] for name in ("pristine", "distorted")}, corpus[sample], (2, 0, 1))
    assert sorted(seen) == list(range(40))


def test_torch_shuffles_by_chunks_anew_in_each_epoch_and_says_so(corpus, chunks_read):
    torch = pytest.importorskip("torch")
    dataset = pickle.loads(pickle.dumps(corpus.to_torch(shuffle_seed=5)))
    assert repr(dataset).endswith("40 samples, 10 chunks shuffled with seed 5, epoch 0>")
    first = dataset.indices.tolist()
    chunks = np.sort(np.reshape(first, (10, 4)), axis=1)
    assert (chunks[:, 0] % 4 == 0).all()
    assert (np.diff(chunks, axis=1) == 1).all()
    assert sorted(first) == list(range(40)) != first
    chunks_read.clear()
    for _ in torch.utils.data.DataLoader(dataset, batch_size=4):
        pass
    assert len(chunks_read) == 2 * 10  # ten chunks on either side, once each
    dataset.set_epoch(1)
    assert first != dataset.indices.tolist()
    dataset.set_epoch(0)
    assert first == dataset.indices.tolist() == corpus.to_torch(shuffle_seed=5).indices.tolist()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torch_workers_that_outlive_an_epoch_see_the_next(corpus, start):
    torch = pytest.importorskip("torch")
    dataset = corpus.to_torch()
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=8, num_workers=1, persistent_workers=True, multiprocessing_context=start, timeout=120
    )
    for epoch in range(2):
        dataset.set_epoch(epoch)
        samples = [sample for batch in loader for sample in batch["sample"].tolist()]
        assert samples == dataset.indices.tolist()


def test_whole_images_come_one_by_one(small_manifest, models, small_corpus_settings, tmp_path):
    pytest.importorskip("torch")
    from distort_pipeline.config import GenerateConfig
    from distort_pipeline.steps import generate

    settings = {**small_corpus_settings, "whole_images": True, "count": 4}
    generate.run(GenerateConfig(**settings), small_manifest, models, tmp_path / "corpus")
    corpus = open_corpus(tmp_path / "corpus")
    same(corpus.to_torch(shuffle_seed=None)[1], corpus[1], (2, 0, 1))
    same(corpus.to_torch(shuffle_seed=None).__getitems__([3])[0], corpus[3], (2, 0, 1))
    for form in (corpus.to_tf, lambda: corpus.take([0])):
        with pytest.raises(PipelineError, match="read them one by one"):
            form()


def test_tf_data_gives_every_sample_in_order_and_shuffled(corpus):
    dataset = corpus.to_tf()
    assert int(dataset.cardinality()) == 40
    for index, item in enumerate(dataset.as_numpy_iterator()):
        assert (item["sample"], item["distortion"].decode()) == (index, corpus[index].record.distortion)
        assert item["ssim"] == np.float32(corpus[index].record.ssim)
        same(item, corpus[index])
    chosen = corpus.to_tf(distortions=["jpeg"], splits=["train"], shuffle_seed=3)
    epochs = [[int(item["sample"]) for item in chosen.as_numpy_iterator()] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == corpus.select(["jpeg"], ["train"]).tolist()
    assert epochs[0] != epochs[1]


def test_xarray_is_lazy_and_knows_the_records(corpus, chunks_read):
    pytest.importorskip("xarray")
    data = corpus.to_xarray()
    assert dict(data.sizes) == {"sample": 40, "y": 128, "x": 128, "channel": 3}
    assert chunks_read == []
    subset = data.isel(sample=slice(18, 23))
    np.testing.assert_array_equal(subset.distorted.values, corpus[18:23].distorted)
    np.testing.assert_array_equal(subset.pristine.values, corpus[18:23].pristine)
    chunks_read.clear()
    pixel = data.distorted[21, 5, 7].values
    assert {name for name, _ in chunks_read} == {"distorted/white_noise"}
    np.testing.assert_array_equal(pixel, corpus[21].distorted[5, 7])
    noisy = data.where(data.distortion == "white_noise", drop=True)
    assert noisy.sizes["sample"] == 20
    assert data.psnr.values[3] == corpus[3].record.psnr
    assert data.attrs["corpus_digest"] == corpus.metadata.digest


def test_xarray_does_not_read_a_missing_shard_as_black(damaged):
    pytest.importorskip("xarray")
    data = open_corpus(damaged).to_xarray()
    (damaged / "pixels.zarr" / "distorted" / "jpeg" / "c.0.0.0.0").unlink()
    with pytest.raises(PipelineError, match="is missing"):
        np.asarray(data.distorted[2])
    assert np.asarray(data.distorted[9]).any()


def test_a_label_that_records_do_not_have_is_named_at_once(corpus):
    with pytest.raises(PipelineError, match=r"no label 'psrn'; did you mean psnr\?"):
        corpus.to_tf(labels=["psrn"])


def test_severity_and_level_are_labels(corpus):
    pytest.importorskip("tensorflow")
    batch = next(iter(corpus.to_tf(labels=["severity", "level"]).batch(4)))
    assert batch["severity"].numpy().tolist() == [corpus.record(index).severity for index in range(4)]
    assert batch["level"].numpy().tolist() == [corpus.record(index).level for index in range(4)]
