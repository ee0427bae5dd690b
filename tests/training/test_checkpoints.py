import numpy as np
import pytest

from distort_pipeline.training.loop import load_checkpoint, save_checkpoint


def state(value):
    return {"kernel": np.full((3, 4), value, np.float32), "step": np.asarray(value, np.int64)}


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "checkpoints") is None


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (5, 20, 100):
        save_checkpoint(tmp_path, step, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000020.safetensors", "00000100.safetensors"]
    step, loaded = load_checkpoint(tmp_path)
    assert step == 100
    assert loaded["step"].shape == ()
    assert all(np.array_equal(loaded[name], array) for name, array in state(100).items())


def flipped(data):
    data = bytearray(data)
    data[-20] ^= 1
    return bytes(data)


@pytest.mark.parametrize("damage", [flipped, lambda data: data[:-10], lambda _: b"", lambda _: b"\0" * 300])
def test_a_damaged_newest_one_leaves_the_one_before(tmp_path, damage):
    save_checkpoint(tmp_path, 10, state(10))
    save_checkpoint(tmp_path, 20, state(20))
    newest = tmp_path / "00000020.safetensors"
    newest.write_bytes(damage(newest.read_bytes()))
    step, loaded = load_checkpoint(tmp_path)
    assert step == 10
    assert loaded["kernel"][0, 0] == 10
    save_checkpoint(tmp_path, 20, state(21))  # reached again
    assert load_checkpoint(tmp_path)[1]["kernel"][0, 0] == 21


def test_what_a_killed_save_leaves_is_not_read(tmp_path):
    save_checkpoint(tmp_path, 10, state(10))
    (tmp_path / ".00000020.safetensors.0123.partial").write_bytes(b"half")
    assert load_checkpoint(tmp_path)[0] == 10
