import os

import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.backend import start_backend


@pytest.mark.parametrize(
    ("name", "said"),
    [("torch", "KERAS_BACKEND is 'torch'; known are: jax, tensorflow"), ("jaxx", r"'jaxx'; did you mean jax\?")],
)
def test_an_unknown_backend_is_reported(monkeypatch, name, said):
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(PipelineError, match=said):
        start_backend()


def test_the_networks_do_not_take_the_settings_of_keras_json(monkeypatch, tmp_path):
    import keras

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    start_backend()
    assert (keras.config.floatx(), keras.config.image_data_format()) == ("float32", "channels_last")
    assert os.environ["KERAS_HOME"] == str(tmp_path)
