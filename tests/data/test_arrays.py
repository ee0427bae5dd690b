import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from distort_pipeline.data.arrays import (
    PIXELS,
    create_group,
    create_tiles,
    open_group,
    pixel_digest,
    read_image,
    write_image,
    write_shard,
)
from distort_pipeline.errors import PipelineError


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def store(tmp_path):
    create_tiles(create_group(tmp_path), "train/a", levels=2, slots=8, tile_px=32, per_shard=4, per_chunk=2)
    return tmp_path


def shard_files(store):
    return sorted(path.relative_to(store / PIXELS).as_posix() for path in (store / PIXELS).rglob("c.*"))


def test_shards_go_to_their_slots_and_partial_shards_end_in_black(store):
    array = create_group(store)["train/a"]
    full, short = noise(1, 4, 32, 32, 3), noise(2, 3, 32, 32, 3)
    write_shard(store, array, (0, 4), full)
    write_shard(store, array, (1, 0), short)
    pixels = open_group(store)["train/a"][:]
    assert np.array_equal(pixels[0, 4:], full)
    assert np.array_equal(pixels[1, :3], short)
    assert not pixels[1, 3].any()
    assert not pixels[0, :4].any()
    assert not pixels[1, 4:].any()


def test_a_shard_is_a_file_and_an_all_black_shard_is_written_too(store):
    assert shard_files(store) == []
    write_shard(store, create_group(store)["train/a"], (1, 4), np.zeros((4, 32, 32, 3), np.uint8))
    assert shard_files(store) == ["train/a/c.1.1.0.0.0"]
    write_image(store, "val/black/pristine", np.zeros((20, 30, 3), np.uint8))
    assert (store / PIXELS / "val/black/pristine/c.0.0.0").is_file()


def test_the_settings_of_zarr_change_no_store(store, tmp_path):
    plain = {path.name: path.read_bytes() for path in (store / PIXELS).rglob("zarr.json")}
    with zarr.config.set({"default_zarr_format": 2, "json_indent": 0, "array.order": "F"}):
        create_tiles(create_group(tmp_path / "b"), "train/a", levels=2, slots=8, tile_px=32, per_shard=4, per_chunk=2)
        image = noise(7, 12, 17, 3)
        write_image(tmp_path / "b", "val/x", image)
        assert np.array_equal(open_group(tmp_path / "b")["val/x"][:], image)
    assert {path.name: path.read_bytes() for path in (tmp_path / "b" / PIXELS / "train").rglob("zarr.json")} == plain


def test_existing_arrays_are_kept(store):
    write_shard(store, create_group(store)["train/a"], (0, 0), noise(3, 4, 32, 32, 3))
    create_tiles(create_group(store), "train/a", levels=2, slots=8, tile_px=32, per_shard=4, per_chunk=2)
    assert open_group(store)["train/a"][0, :4].any()


def test_a_flipped_bit_is_an_error_and_not_another_image(store):
    write_shard(store, create_group(store)["train/a"], (0, 0), noise(4, 4, 32, 32, 3))
    path = store / PIXELS / "train/a/c.0.0.0.0.0"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises((RuntimeError, ValueError)):
        open_group(store)["train/a"][0, :2]


def test_whole_images_of_any_size_are_replaced_whole(store):
    write_image(store, "val/x/jpeg-1", noise(5, 40, 50, 3))
    replacement = noise(6, 30, 61, 3)
    write_image(store, "val/x/jpeg-1", replacement)
    assert np.array_equal(open_group(store)["val/x/jpeg-1"][:], replacement)
    assert np.array_equal(read_image(store, "val/x/jpeg-1"), replacement)


def test_the_files_of_an_image_are_those_that_zarr_writes(store, tmp_path):
    image = noise(7, 40, 50, 3)
    write_image(store, "val/x/jpeg-1", image, zstd=3)
    zarr_array = create_group(tmp_path / "theirs").create_array(
        "val/x/jpeg-1",
        shape=image.shape,
        chunks=image.shape,
        dtype="uint8",
        compressors=ZstdCodec(level=3, checksum=True),
        fill_value=0,
        dimension_names=("y", "x", "channel"),
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    zarr_array[:] = image
    ours, others = (
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (store / PIXELS / "val", tmp_path / "theirs" / PIXELS / "val")
    )
    assert ours == others


def test_a_store_without_pixels_says_so(tmp_path):
    with pytest.raises(PipelineError, match="missing or damaged"):
        open_group(tmp_path)


def test_the_digest_is_of_pixels_shapes_and_order():
    a, b = noise(7, 4, 6, 3), noise(8, 4, 6, 3)
    digests = {
        pixel_digest([a, b]),
        pixel_digest([b, a]),
        pixel_digest([a]),
        pixel_digest([a.reshape(6, 4, 3), b]),
        pixel_digest([np.concatenate([a, b])]),
    }
    assert len(digests) == 5
    assert pixel_digest([np.asfortranarray(a), b[::-1][::-1]]) == pixel_digest([a, b])
