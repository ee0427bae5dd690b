import numpy as np
import pytest

from distort_pipeline.data.files import write_json
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.store import (
    HISTOGRAMS,
    VERSION,
    ValidationHistograms,
    arrays_digest,
    model_folders,
    read_arrays,
    read_card,
    read_histograms,
    write_arrays,
    write_histograms,
)

ARRAYS = {
    "b/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "a/count": np.asarray(7, np.int64),  # like an optimiser's step count: without axes
    "c/empty": np.zeros((0, 3), np.float32),
}


def test_arrays_come_back_with_their_shapes_types_and_metadata(tmp_path):
    write_arrays(tmp_path / "x.safetensors", ARRAYS, {"step": "12"})
    arrays, metadata = read_arrays(tmp_path / "x.safetensors")
    assert metadata == {"step": "12"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].shape == array.shape
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
    assert arrays_digest(arrays) == arrays_digest(ARRAYS)


def test_the_digest_is_of_names_shapes_types_and_values():
    a = np.arange(6, dtype=np.float32)
    variants = [{"a": a}, {"b": a}, {"a": a.reshape(2, 3)}, {"a": a.view(np.int32)}, {"a": a + 1}, {}]
    assert len({arrays_digest(arrays) for arrays in variants}) == len(variants)
    assert arrays_digest({"a": a, "b": a + 1}) == arrays_digest({"b": a + 1, "a": a})


def test_missing_and_damaged_files_are_errors_for_people(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(PipelineError, match="there is no file"):
        read_arrays(path)
    write_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PipelineError, match="is damaged"):
        read_arrays(path)


def histograms():
    rng = np.random.default_rng(0)
    counts = [rng.integers(0, 1000, (5, 103)) for _ in range(3)]
    return ValidationHistograms(*counts, np.array([0, 0, 1, 1, 2]), 256)


def test_histograms_come_back(tmp_path):
    write_histograms(tmp_path, [histograms()])
    (read,) = read_histograms(tmp_path)
    for name in ("pristine", "true", "generated", "images"):
        assert np.array_equal(getattr(read, name), getattr(histograms(), name))
    assert read.tile_px == 256


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda _: b"PK\x03\x04", lambda _: b"", None])
def test_damaged_histograms_are_errors_for_people(tmp_path, damage):
    write_histograms(tmp_path, [histograms()])
    path = tmp_path / HISTOGRAMS
    if damage is None:
        data = bytearray(path.read_bytes())
        data[200] ^= 255
        path.write_bytes(data)
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PipelineError, match="missing or damaged"):
        read_histograms(tmp_path)


def test_models_are_the_finished_folders(tmp_path):
    with pytest.raises(PipelineError, match="there is no folder of models"):
        model_folders(tmp_path / "models")
    (tmp_path / "models" / ".jp2k.0123.building").mkdir(parents=True)
    with pytest.raises(PipelineError, match="no finished model"):
        model_folders(tmp_path / "models")
    for name in ("white_noise", "jpeg"):
        write_json(tmp_path / "models" / name / "store.json", {"format": "distort-pipeline/model", "version": VERSION})
    assert list(model_folders(tmp_path / "models")) == ["jpeg", "white_noise"]
    assert read_card(model_folders(tmp_path / "models")["jpeg"])["version"] == VERSION
