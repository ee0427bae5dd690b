"""Shared fixtures: the sample photographs, and a small pair store of their crops."""

import hashlib
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # studies/gpu/run.py has another default, for its machine
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in workers: on a busy machine its threads wait for each other

from distort_pipeline.config import PairsConfig
from distort_pipeline.data.images import encode_png, image_digest
from distort_pipeline.data.manifests import write_manifest
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.records import ImageRecord
from distort_pipeline.steps import pairs as pairs_step

threadpool_limits(int(os.environ["OPENBLAS_NUM_THREADS"]), user_api="blas")  # plugins have imported NumPy before this

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
SMALL = {  # name → (photograph, height, width, split); the third is smaller than a tile of 256 px
    "wren": ("budgie-backgrounds__canyon-wren.png", 320, 400, "train"),
    "osprey": ("budgie-backgrounds__perched-osprey.png", 288, 304, "train"),
    "flower": ("enlightenment-data__Yellow-Flower.png", 200, 272, "train"),
    "maple": ("enlightenment-data__Red-Maple.png", 272, 288, "val"),
    "hills": ("enlightenment-data__Sunset-Hills.png", 260, 264, "val"),
}


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Ctrl-C interrupts the tests and their child processes: shells let background commands ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def eager():
    """TensorFlow's functions run uncompiled: of a training of a few steps, compiling takes most of the time."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def sample():
    """The folder of the built-in photographs."""
    return SAMPLE


@pytest.fixture(scope="session")
def small_sizes():
    """Name → (height, width) of the small photographs."""
    return {name: (height, width) for name, (_, height, width, _) in SMALL.items()}


@pytest.fixture(scope="session")
def sample_images():
    """Name → crop of a sample photograph, 8-bit RGB."""
    crops = {}
    for name, (file, height, width, _) in SMALL.items():
        image = cv2.cvtColor(cv2.imread(str(SAMPLE / file)), cv2.COLOR_BGR2RGB)
        crops[name] = np.ascontiguousarray(image[40 : 40 + height, 60 : 60 + width])
    return crops


@pytest.fixture(scope="session")
def make_manifest():
    """A function that writes images, name → (pixels, split), into a folder and returns their manifest's path."""

    def make(folder, images):
        records = []
        for name, (image, split) in images.items():
            data = encode_png(image)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.png").write_bytes(data)
            height, width = image.shape[:2]
            records.append(
                ImageRecord(
                    id=f"{name}-1",
                    path=f"{name}.png",
                    image_digest=image_digest(image),
                    file_digest=hashlib.sha256(data).hexdigest(),
                    width=width,
                    height=height,
                    mode="RGB",
                    licence="CC0-1.0",
                    source="tests",
                    split=split,
                )
            )
        write_manifest(folder / "manifest.jsonl", records, folder)
        return folder / "manifest.jsonl"

    return make


@pytest.fixture(scope="session")
def small_manifest(tmp_path_factory, sample_images, make_manifest):
    """The manifest of the small photographs: three for training, two for validation."""
    folder = tmp_path_factory.mktemp("images")
    return make_manifest(folder, {name: (sample_images[name], SMALL[name][3]) for name in SMALL})


@pytest.fixture(scope="session")
def faded(tmp_path_factory, sample_images):
    """A folder of external distorted images: the small photographs with less contrast."""
    folder = tmp_path_factory.mktemp("faded")
    for name, image in sample_images.items():
        (folder / f"{name}.png").write_bytes(encode_png(image // 2 + 100))
    return folder


@pytest.fixture(scope="session")
def small_settings():
    """Settings for pairs of the small photographs."""
    return {
        "distortions": ("jpeg", "white_noise"),
        "tile_px": 256,
        "min_tile_px": 128,
        "tiles_per_image": 3,
        "tiles_per_shard": 4,
        "tiles_per_chunk": 2,
        "workers": 0,
    }


@pytest.fixture(scope="session")
def pair_store(tmp_path_factory, small_manifest, small_settings, faded):
    """A finished pair store: JPEG, white noise and the external pairs `faded`."""
    out = tmp_path_factory.mktemp("pairs") / "pairs"
    pairs_step.run(PairsConfig(**small_settings, external={"faded": str(faded)}), small_manifest, out)
    return open_pairs(out)


@pytest.fixture(scope="session")
def make_trainer():
    """A function that makes a small trainer of 128 px crops, two in a batch, with one noise channel."""

    def make(**changes):
        from distort_pipeline.training.gan import GANConfig
        from distort_pipeline.training.tensorflow_step import TensorflowTrainer

        plain = {
            "base_filters": 2,
            "discriminator_filters": 2,
            "noise_channels": 1,
            "discriminator_input": "scaled_residual",
            "precision": "float32",
            "crop_px": 128,
            "batch_size": 2,
            "generator_lr": 1e-3,
            "discriminator_lr": 1e-3,
            "beta_1": 0.5,
            "beta_2": 0.999,
            "lambda_l1": 0.1,
            "l1_scale": 255.0,
            "l1_reduction": "mean",
            "ema_decay": 0.9,
            "seed": 3,
        }
        return TensorflowTrainer(GANConfig(**{**plain, **changes}))

    return make


@pytest.fixture(scope="session")
def _trainer_and_state(make_trainer):
    trainer = make_trainer()
    return trainer, trainer.state()


@pytest.fixture
def trainer(_trainer_and_state):
    """The small trainer in its first state."""
    trainer, first = _trainer_and_state
    trainer.restore(first)
    return trainer
