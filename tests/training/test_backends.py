"""TensorFlow and JAX: the same step from the same weights and batch, each in a process of its own."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import one_step
import pytest
from small_models import card_of, write_card

from distort_pipeline.models.card import NetworkCard
from distort_pipeline.models.store import WEIGHTS, load_generator, read_arrays, weights_of, write_arrays
from distort_pipeline.networks.generator import Architecture, build_generator
from distort_pipeline.networks.inputs import noise_shapes
from distort_pipeline.training.validation import figures_of, validation_tiles

ROOT = Path(__file__).parents[2]
CLOSE = 1e-4  # relative, in L2 norm, float32
QUICK_COMPILATION = (  # most of the time is compilation: without these emitters it takes half of it
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)

pytestmark = [
    pytest.mark.skipif(
        find_spec("jax") is None, reason="JAX is not installed: pip install '.[jax]' in a clone of distort-pipeline"
    ),
    pytest.mark.usefixtures("eager"),
]


def run_on(backend, *arguments):
    paths = [str(ROOT), str(ROOT / "pipeline"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        **os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": QUICK_COMPILATION, "PYTHONPATH": os.pathsep.join(paths)
    }  # fmt: skip
    completed = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


@pytest.fixture(scope="module")
def crops(sample_images):
    """Four crops of photographs, and their distortion: a tenth less contrast, and a colour cast."""
    crops = [image[y : y + 128, 10:138] for image in list(sample_images.values())[:2] for y in (0, 130)]
    pristine = np.stack(crops)
    return pristine, (pristine * 0.9 + np.array([20, 10, 5])).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(crops, tmp_path_factory):
    """The results of both backends."""
    folder = tmp_path_factory.mktemp("backends")
    rng = np.random.default_rng(0)
    shapes = noise_shapes(128, 128, 1)
    noises = {f"z{scale}": rng.standard_normal((4, *shape), dtype=np.float32) for scale, shape in enumerate(shapes)}
    np.savez(folder / "batch.npz", pristine=crops[0], distorted=crops[1], **noises)
    np.save(folder / "images.npy", crops[0])
    write_random_model(folder / "model")
    for write in (one_step.step, one_step.layers, one_step.generate, one_step.compact_steps):
        write(folder)
    (folder / "printed").write_text(run_on("jax", "-m", "tests.training.one_step", str(folder)), encoding="utf-8")
    return folder


def write_random_model(folder):
    model = build_generator(Architecture(base_filters=4, noise_channels=1))
    model.get_layer("decoder_7_noise").kernel.assign(10 * model.get_layer("decoder_7_noise").kernel)
    weights = weights_of(model)
    write_arrays(folder / WEIGHTS, weights)
    write_card(folder, card_of("white_noise", [{"sigma_8bit": 19}], NetworkCard(4, 1), weights))


@pytest.fixture(scope="module")
def stepped(folder):
    """Backend → (losses, state after the step)."""
    return {
        backend: (
            json.loads((folder / f"{backend}.json").read_text(encoding="utf-8")),
            read_arrays(folder / f"{backend}.safetensors")[0],
        )
        for backend in ("tensorflow", "jax")
    }


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


def test_learning_from_pairs_takes_the_same_steps(folder):
    reference, other = (
        json.loads((folder / f"{backend}-compact.json").read_text(encoding="utf-8"))
        for backend in ("tensorflow", "jax")
    )
    assert all(losses["generator_moves"] for losses in reference)
    for losses, others in zip(reference, other, strict=True):
        assert losses == pytest.approx(others, rel=0.02, abs=1e-4)  # Adam makes a full step of rounding noise too
    first, after, by_jax = (
        read_arrays(folder / f"{name}-compact.safetensors")[0] for name in ("first", "tensorflow", "jax")
    )
    names = [name for name in after if name.startswith("network/")]
    of_all = [np.concatenate([state[name].ravel() for name in names]) for state in (first, after, by_jax)]
    change, difference = (np.linalg.norm(state - of_all[1]) for state in (of_all[0], of_all[2]))
    assert difference <= 0.25 * change


def test_tensorflow_is_not_imported_with_jax(folder):
    assert (folder / "printed").read_text(encoding="utf-8").split("imported:")[1].split() == ["jax"]


def test_weights_of_one_backend_generate_the_same_pixels_on_the_other(crops, folder):
    by_tensorflow, by_jax = (np.load(folder / f"{backend}.npy").astype(int) for backend in ("tensorflow", "jax"))
    assert np.abs(by_tensorflow - crops[0]).mean() > 3  # it does distort
    assert np.abs(by_tensorflow - by_jax).max() <= 1  # a value between two levels may be rounded either way
    assert (by_tensorflow != by_jax).mean() < 1e-3


def test_coefficient_curves_and_noise_pyramid_agree(folder):
    with np.load(folder / "tensorflow.npz") as reference, np.load(folder / "jax.npz") as other:
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
    tiles = validation_tiles(pair_store, "jpeg", 1, severity=0.5, count=8 * 64, seed=0)
    histograms, _ = tiles.histograms(load_generator(tmp_path / "jpeg", batch_size=2).predictor, 0)
    assert card["figures"]["jsd_nss"] == pytest.approx(figures_of(histograms, delta_psnr_db=0.0).jsd_nss, abs=1e-4)
