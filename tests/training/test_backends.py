"""TensorFlow and JAX: the same step from the same weights and batch, each in a process of its own."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from distort_pipeline.networks.generator import build_generator, noise_shapes
from distort_pipeline.networks.predictor import Predictor
from distort_pipeline.records import digest
from distort_pipeline.stores.files import sealed, write_json
from distort_pipeline.stores.models import VERSION, WEIGHTS, arrays_digest, read_arrays, write_arrays
from distort_pipeline.trained import load_generator, weights_of
from distort_pipeline.training.validation import summary, validation_tiles

ROOT = Path(__file__).parents[2]
CLOSE = 1e-4  # relative, in L2 norm, float32
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

pytestmark = pytest.mark.skipif(
    find_spec("jax") is None, reason="JAX is not installed: pip install 'distort-pipeline[jax]'"
)


def run_on(backend, *arguments):
    paths = [str(ROOT), str(ROOT / "pipeline"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        **os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": QUICK_COMPILATION, "PYTHONPATH": os.pathsep.join(paths)
    }  # fmt: skip
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def crops(photographs):
    """Four crops of photographs, and their distortion: a tenth less contrast, and a colour cast."""
    crops = [image[y : y + 128, 10:138] for image in list(photographs.values())[:2] for y in (0, 130)]
    pristine = np.stack(crops)
    return pristine, (pristine * 0.9 + np.array([20, 10, 5])).astype(np.uint8)


@pytest.fixture(scope="module")
def stepped(crops, tmp_path_factory):
    """Backend → (losses, state after the step, what was printed)."""
    folder = tmp_path_factory.mktemp("backends")
    rng = np.random.default_rng(0)
    shapes = noise_shapes(128, 128, 1)
    noises = {f"z{scale}": rng.standard_normal((4, *shape), dtype=np.float32) for scale, shape in enumerate(shapes)}
    np.savez(folder / "batch.npz", pristine=crops[0], distorted=crops[1], **noises)
    results = {}
    for backend in ("tensorflow", "jax"):
        printed = run_on(backend, "-m", "tests.training.one_step", str(folder))
        losses = json.loads((folder / f"{backend}.json").read_text(encoding="utf-8"))
        results[backend] = losses, read_arrays(folder / f"{backend}.safetensors")[0], printed
    return results


def distance_of(first, second):
    """The relative L2 distance of two arrays."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return float(np.linalg.norm(first - second) / np.linalg.norm(first))


def before_a_norm(name):
    """Whether a variable of D is a bias that a batch norm takes off again: its gradient is rounding noise, exactly 0
    on paper, and so the same on no two backends."""
    return any(f"block_{block}_conv/bias" in name or f"block_{block}_conv_bias" in name for block in (2, 3, 4))


def test_losses_agree(stepped):
    reference, other = stepped["tensorflow"][0], stepped["jax"][0]
    assert reference.keys() == other.keys()
    for name, loss in reference.items():
        # the gap is a difference of two means that are nearly equal at the start
        assert other[name] == pytest.approx(loss, rel=CLOSE, abs=1e-5 if name == "logit_gap" else 0), name


def test_every_gradient_and_every_weight_after_a_step_of_descent_agrees(stepped):
    reference, other = stepped["tensorflow"][1], stepped["jax"][1]
    assert reference.keys() == other.keys()  # a checkpoint of one is a checkpoint of the other
    gradients = [name for name in reference if name.endswith("_gradient")]
    assert len(gradients) > 50
    compared = [name for name in reference if not before_a_norm(name)]
    assert {
        name: distance for name in compared if (distance := distance_of(reference[name], other[name])) > CLOSE
    } == {}
    for name in set(gradients) - set(compared):
        assert max(np.linalg.norm(state[name]) for state in (reference, other)) < 1e-5


def test_a_step_changes_what_is_compared(stepped):
    after = stepped["jax"][1]
    gradients = [name for name in after if name.endswith("_gradient") and not before_a_norm(name)]
    assert min(np.abs(after[name]).max() for name in gradients) > 1e-6


def test_tensorflow_is_not_imported_with_jax(stepped):
    assert stepped["jax"][2].split("imported:")[1].split() == ["jax"]


GENERATION = """
import sys
import numpy as np
from pathlib import Path
from distort_pipeline.trained import load_generator
folder = Path(sys.argv[1])
images = np.load(folder / "images.npy")
trained = load_generator(folder, batch_size=2)
np.save(folder / "jax.npy", trained.predictor.distort(images, [1, 2, 3, 4]))
assert np.array_equal(trained.predictor.distort_image(images[3], 4), np.load(folder / "jax.npy")[3])
print("tensorflow" in sys.modules)
"""


def test_weights_of_one_backend_generate_the_same_pixels_on_the_other(crops, tmp_path):
    model = build_generator(base_filters=4, noise_channels=1)
    model.get_layer("decoder_7_noise").kernel.assign(10 * model.get_layer("decoder_7_noise").kernel)
    weights = weights_of(model)
    write_arrays(tmp_path / WEIGHTS, weights)
    card = {
        "format": "distort-pipeline/model", "version": VERSION, "distortion": "white_noise",
        "levels": [{"level": 1, "parameters": {}, "severity": 1.0}],
        "network": {"base_filters": 4, "noise_channels": 1}, "weights_digest": arrays_digest(weights),
    }  # fmt: skip
    write_json(tmp_path / "store.json", sealed({**card, "config_hash": digest(card)}))
    np.save(tmp_path / "images.npy", crops[0])
    assert run_on("jax", "-c", GENERATION, str(tmp_path)).split() == ["False"]
    reference = load_generator(tmp_path, batch_size=2).predictor
    assert isinstance(reference, Predictor)
    ours, theirs = reference.distort(crops[0], [1, 2, 3, 4]).astype(int), np.load(tmp_path / "jax.npy").astype(int)
    assert np.abs(ours - crops[0]).mean() > 3  # it does distort
    assert np.abs(ours - theirs).max() <= 1  # a value between two levels may be rounded either way
    assert (ours != theirs).mean() < 1e-3


FITTED_LAYERS = """
import sys
import numpy as np
from pathlib import Path
from distort_pipeline.backend import backend_name
from distort_pipeline.networks.generator import noise_shapes
from distort_pipeline.networks.noise_pyramid import NoisePyramid
from distort_pipeline.networks.coefficient_curves import CoefficientCurves
folder = Path(sys.argv[1])
x = np.load(folder / "images.npy") / np.float32(127.5) - 1
rng = np.random.default_rng(0)
found = {}
severity = np.array([[0.3], [0.8]], np.float32)
for codec_prior, levels in (("dct", 2), ("dwt97", 1)):
    layer = CoefficientCurves(codec_prior, levels)
    layer.build((None, None, None, 3))
    for variable, curves in zip(layer.curves, layer.codec_prior.curves, strict=True):
        knots = curves.spacing * (np.arange(curves.knots) - (curves.knots - 1) / 2)
        heights = rng.uniform(0.5, 1, (variable.shape[0], curves.count, 1))  # about as steep as a codec's
        variable.assign((heights * np.sin(2 * np.pi * knots) / 8).astype(np.float32))
    if layer.codec_prior.scaled:
        layer.log_shares.assign(np.log(np.array([[0.05]], np.float32)))
    else:
        for steps in layer.log_steps:
            steps.assign(np.log(np.array([[8.0], [30.0]], np.float32) * np.ones((1, steps.shape[1]), np.float32)))
    found[codec_prior] = np.asarray(layer([x, severity] if levels > 1 else x))
layer = NoisePyramid(2)
maps = [rng.standard_normal((len(x), *shape), dtype=np.float32) for shape in noise_shapes(*x.shape[1:3], 3)]
layer.build([severity.shape, *(each.shape for each in maps)])
layer.octaves.assign(rng.standard_normal(layer.octaves.shape).astype(np.float32))
found["noise_pyramid"] = np.asarray(layer([severity, *maps]))
np.savez(folder / f"{backend_name()}.npz", **found)
"""


def test_coefficient_curves_and_noise_pyramid_agree(crops, tmp_path):
    np.save(tmp_path / "images.npy", crops[0][:2])
    for backend in ("tensorflow", "jax"):
        run_on(backend, "-c", FITTED_LAYERS, str(tmp_path))
    with np.load(tmp_path / "tensorflow.npz") as reference, np.load(tmp_path / "jax.npz") as other:
        assert set(reference) == set(other) == {"dct", "dwt97", "noise_pyramid"}
        for name in reference:
            assert np.abs(reference[name]).max() > 2 / 255, name  # more than a level: there is something to compare
            # a large coefficient is many steps, and its phase within a step is less precise
            assert distance_of(reference[name], other[name]) < (3 * CLOSE if name == "dwt97" else CLOSE), name
            assert 127.5 * np.abs(reference[name] - other[name]).max() < 0.05, name  # 8-bit levels


@pytest.mark.slow
def test_a_whole_training_on_jax(pair_store, tmp_path):
    command = (
        f"train {pair_store.folder} --distortion jpeg --out {tmp_path / 'jpeg'} --steps 2 --base-filters 2 "
        "--discriminator-filters 2 --crop-px 128 --batch-size 2"
    )
    run_on("jax", "-m", "distort_pipeline", *command.split())
    card = json.loads((tmp_path / "jpeg" / "store.json").read_text(encoding="utf-8"))
    assert card["device"].endswith("JAX")
    assert "jax" in card["packages"]
    # what was validated on JAX is what TensorFlow makes of the weights that lie there
    tiles = validation_tiles(pair_store, "jpeg", 1, severity=1.0, count=8 * 64, seed=0)
    histograms, _ = tiles.histograms(load_generator(tmp_path / "jpeg", batch_size=2).predictor, 0)
    assert card["figures"]["jsd_nss"] == pytest.approx(summary(histograms)["jsd_nss"], abs=1e-4)
