"""model export: exported files agree with the model and need none of our code."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from small_models import card_of, write_card

from distort_pipeline.commands.model import NAMES, export_model
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import LearningReport, NetworkCard
from distort_pipeline.models.readme import exported_readme
from distort_pipeline.models.store import WEIGHTS, load_generator, read_arrays, write_arrays
from distort_pipeline.networks.compact import CompactBody, new_body
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.filters import Filters
from distort_pipeline.networks.jpeg_stage import JpegStage, standard_tables
from distort_pipeline.networks.predictor import noise_maps
from distort_pipeline.networks.saved import composed_arrays

pytest_plugins = ["corpus_fixtures"]


@pytest.fixture
def model_format(request):
    if request.param == "onnx":
        for name in ("onnx", "onnxruntime", "tf2onnx"):
            pytest.importorskip(name)
    return request.param


@pytest.mark.parametrize("model_format", NAMES, indirect=True)
@pytest.mark.parametrize("name", ["jpeg", "white_noise"])
def test_the_readme_of_an_export_works_and_agrees_with_the_model(
    model_format, name, models, sample_images, tmp_path, monkeypatch
):
    out = tmp_path / "exported"
    report = export_model(models / name, out, model_format)
    assert 0 <= report.counts["difference"] < 1e-4
    trained = load_generator(models / name, batch_size=1)
    image = np.ascontiguousarray(sample_images["wren"][:256, :384])
    maps = noise_maps([11], 256, 384, trained.card.network.noise_channels, 1)
    expected = trained.predictor.distort_image(image, 11)
    drawn = iter(maps)
    monkeypatch.setattr(np.random, "standard_normal", lambda shape: next(drawn).reshape(shape))
    (code,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(out)
    variables = {"image": image}
    exec(code, variables)
    error = np.abs(variables["distorted"].astype(int) - expected)
    assert error.max() <= 1  # a value at the boundary of two 8-bit levels
    assert (error > 0).mean() < 1e-3


def test_a_keras_file_opens_without_our_package(models, tmp_path):
    export_model(models / "jpeg", tmp_path / "out", "keras")
    code = (
        "import sys, keras; model = keras.models.load_model('generator.keras', safe_mode=True);"
        "print({type(layer).__module__.split('.')[0] for layer in model.layers}, 'distort_pipeline' in sys.modules)"
    )
    command = [sys.executable, "-I", "-X", f"pycache_prefix={sys.pycache_prefix or ''}", "-c", code]
    completed = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "{'keras'} False"


def test_fitted_layers_are_plain_operations_in_a_graph_and_named_in_a_keras_file():
    from distort_pipeline.commands.model import needs_our_layers, portable_generator
    from distort_pipeline.networks.generator import Architecture, build_generator

    plain = build_generator(Architecture(base_filters=1), fused=True)
    fitted = build_generator(Architecture(base_filters=1, codec_prior="dct"), fused=True)
    assert [needs_our_layers(portable_generator(generator)) for generator in (plain, fitted)] == [False, True]
    text = exported_readme(card_of("jpeg", [{"quality": 12}]), "keras", "generator.keras", own_layers=True)
    assert "import distort_pipeline.networks.generator" in text
    assert "built-in layers" not in text


def test_an_onnx_file_has_metadata(models, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    export_model(models / "jpeg", tmp_path / "out", "onnx")
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "out" / "generator.onnx").metadata_props}
    assert properties["distortion"] == "jpeg"
    assert properties["weights_digest"] == load_generator(models / "jpeg", batch_size=1).digest


def test_an_export_that_differs_from_the_model_is_not_kept(models, tmp_path, monkeypatch):
    monkeypatch.setattr("distort_pipeline.commands.model.TOLERANCE", -1.0)
    with pytest.raises(PipelineError, match="the keras file differs from the model"):
        export_model(models / "jpeg", tmp_path / "out", "keras")
    assert list(tmp_path.iterdir()) == []


def test_a_users_mistakes_are_named(models, tmp_path):
    with pytest.raises(PipelineError, match="holds no model"):
        export_model(tmp_path, tmp_path / "out", "keras")
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(PipelineError, match="holds files that this program has not made"):
        export_model(models / "jpeg", tmp_path, "keras")
    assert (tmp_path / "kept").read_text() == "mine"


@pytest.fixture
def composed(tmp_path):
    """A function that writes the model folder of a composed generator, with or without a network."""

    def write(*, network):
        luma, chroma = standard_tables(90)
        body = CompactBody(new_body(), noise_scale=4.0, stochastic=True) if network else None
        kernels = np.full((1, 3, 3, 3), 0.01, np.float32)
        filters = Filters(kernels, np.zeros((1, 3), np.float32))
        generator = ComposedGenerator(linear=(filters,), body=body, jpeg=JpegStage(luma, chroma, "4:2:0"))
        arrays, parts = composed_arrays(generator)
        folder = tmp_path / "camera"
        folder.mkdir()
        card = card_of("camera", [{}], NetworkCard(0, 0, kind="composed", parts=(parts,)), arrays, external=True)
        write_arrays(folder / WEIGHTS, arrays)
        learning = LearningReport((), "fitted", better_than_identity=True, parts=("filter 3 px, levels",))
        write_card(folder, dataclasses.replace(card, learning=(learning,)))
        return folder

    return write


@pytest.mark.parametrize("model_format", NAMES, indirect=True)
def test_a_composed_generator_is_exported_as_its_parts(model_format, composed, tmp_path):
    report = export_model(composed(network=True), tmp_path / "out", model_format)
    assert 0 <= report.counts["difference"] < 1e-4
    parts = json.loads((tmp_path / "out" / "generator.json").read_text())
    assert parts["jpeg"]["luma"] == standard_tables(90)[0].tolist()
    arrays, _ = read_arrays(tmp_path / "out" / "parts.safetensors")
    np.testing.assert_array_equal(arrays["linear_0.kernels"], 0.01 * np.ones((1, 3, 3, 3), np.float32))
    text = (tmp_path / "out" / "README.md").read_text()
    assert "filter 3 px, levels, then a compact network" in text
    assert "then libjpeg with the files' tables, 4:2:0" in text
    assert (tmp_path / "out" / NAMES[model_format]).exists()


def test_without_a_network_the_parts_are_all(composed, tmp_path):
    report = export_model(composed(network=False), tmp_path / "out", "onnx")
    assert "there is no network" in report.lines[0]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "generator.json", "parts.safetensors"}
