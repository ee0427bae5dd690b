import pytest

from distort_pipeline.backend import start_backend
from distort_pipeline.errors import PipelineError


@pytest.mark.parametrize(
    ("name", "said"),
    [("torch", "KERAS_BACKEND is 'torch'; known are: jax, tensorflow"), ("jaxx", r"'jaxx'; did you mean jax\?")],
)
def test_an_unknown_backend_is_reported(monkeypatch, name, said):
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(PipelineError, match=said):
        start_backend()
