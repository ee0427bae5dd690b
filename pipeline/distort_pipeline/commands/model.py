"""model export: writes a trained generator as a Keras file, a SavedModel or an ONNX file, independent of our code.

A composed generator is exported as its parts: arrays, settings of the last stage, and its network, if it has one.

Layers are Keras's own as far as possible: opening a file needs none of our code. Coefficient curves and the noise
pyramid stay layers of ours: plain operations in a SavedModel or an ONNX file; a Keras file names their classes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.commands.inputs import generator_folder
from distort_pipeline.commands.options import MODEL, MODEL_FORMATS, PATH, examples, show
from distort_pipeline.data.builds import move_in, require_new_folder, staging_folder
from distort_pipeline.data.files import write_bytes, write_json
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import ModelCard, read_card
from distort_pipeline.models.readme import exported_parts_readme, exported_readme, facts
from distort_pipeline.models.store import load_generator, load_network, write_arrays
from distort_pipeline.networks import backend
from distort_pipeline.records import Report, make_rng

if TYPE_CHECKING:
    from distort_pipeline.networks.backend import keras


def portable_generator(generator: keras.Model) -> keras.Model:
    """Return a model equivalent to the fused `generator`: convolutions, LeakyReLU and sums, float32."""
    copy = backend.keras.models.clone_model(generator, clone_function=_plain_layer)
    copy.set_weights(generator.get_weights())
    return copy


def needs_our_layers(model: keras.Model) -> bool:
    """Return whether a Keras file of `model` opens only where this package is imported."""
    return any(type(layer).__module__.startswith("distort_pipeline") for layer in model.layers)


def _plain_layer(layer: keras.layers.Layer) -> Any:
    from distort_pipeline.networks.layers import SubpixelConv2DTranspose

    own = isinstance(layer, SubpixelConv2DTranspose)
    plain = backend.keras.layers.Conv2DTranspose if own else layer.__class__
    return plain.from_config(layer.get_config())


Values = NDArray[np.float32]
TOLERANCE = 1e-4  # on the networks' [-1, 1]: 1/80 of an 8-bit level
TEST_SIDES_PX = (256, 128)
NAMES = {"keras": "generator.keras", "saved_model": "generator", "onnx": "generator.onnx"}
PACKAGES_HINT = "pip install '.[onnx]' in a clone of distort-pipeline"


def export_model(folder: Path, out: Path, model_format: str) -> Report:
    """Write the model of `folder` into the new folder `out` in `model_format`, with a README on its use.

    The written file is opened again, without our code where possible, and has to agree with the model to 1e-4.
    """
    destination = require_new_folder(out)
    card = read_card(folder)
    composed = card.network.parts is not None
    write, model = (_write_parts, _parts(folder)) if composed else (_write_network, load_network(folder))
    work = staging_folder(destination, "model")
    shutil.rmtree(work, ignore_errors=True)  # left of a killed export
    try:
        work.mkdir(parents=True)
        difference = write(model, card, work, model_format)
        move_in(work, destination)
    except OSError as error:
        raise PipelineError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if difference is None:
        return Report("model export", {}, (f"{out}: fitted parts; there is no network to write as {model_format}",))
    return Report(
        "model export",
        {"difference": difference},
        (f"{out / NAMES[model_format]}: reopened; differs from the model by at most {difference:.1e} on [-1, 1]",),
    )


def _parts(folder: Path) -> Any:
    """Return the composed generators of a model folder, one a level."""
    predictor: Any = load_generator(folder, batch_size=1).predictor
    return predictor.levels


def _write_network(generator: keras.Model, card: ModelCard, work: Path, model_format: str) -> float:
    """Write the one network of a generator and its README into `work`; return the difference of the reopened file."""
    inputs = _test_inputs(card)
    portable = portable_generator(generator)
    difference = _write_checked(generator, portable, inputs, work / NAMES[model_format], card)
    own_layers = model_format == "keras" and needs_our_layers(portable)
    text = exported_readme(card, model_format, NAMES[model_format], own_layers=own_layers)
    write_bytes(work / "README.md", text.encode())
    return difference


def _write_parts(levels: Sequence[Any], card: ModelCard, work: Path, model_format: str) -> float | None:
    """Write the parts of composed generators into `work`, a folder for each of several levels.

    Return the difference of their networks, None without one.
    """
    folders = [work / f"level-{level.level}" if card.is_multi_level else work for level in card.levels]
    differences = [
        _write_level(generator, card, folder, model_format) for generator, folder in zip(levels, folders, strict=True)
    ]
    write_bytes(work / "README.md", exported_parts_readme(card, NAMES[model_format]).encode())
    return max((difference for difference in differences if difference is not None), default=None)


def _write_level(generator: Any, card: ModelCard, work: Path, model_format: str) -> float | None:
    """Write the parts of one composed generator into `work`; return the difference of its network, None without one."""
    from distort_pipeline.networks.saved import BODY, composed_arrays

    arrays, described = composed_arrays(generator)
    if generator.jpeg is not None:
        tables = {"luma": generator.jpeg.luma.tolist(), "chroma": generator.jpeg.chroma.tolist()}
        described["jpeg"] = {"subsampling": generator.jpeg.subsampling, **tables}
    write_json(work / "generator.json", {"distortion": card.distortion, **described})
    write_arrays(work / "parts.safetensors", {k: array for k, array in arrays.items() if not k.startswith(BODY)})
    if generator.body is None:
        return None
    network, inputs = generator.body.network, _compact_inputs(generator.body.noise_scale)
    return _write_checked(network, network, inputs, work / NAMES[model_format], card)


def _write_checked(
    model: keras.Model, portable: keras.Model, inputs: list[Values], path: Path, card: ModelCard
) -> float:
    """Write `portable` to `path`; return how far its reopened file is from `model`, PipelineError if too far."""
    expected = np.asarray(model(_call_argument(inputs), training=False))
    portable(_call_argument(inputs))  # Keras exports only models that have been called
    model_format = next(form for form, name in NAMES.items() if name == path.name)
    run = _WRITERS[model_format](portable, path, card)
    difference = float(np.abs(run(inputs) - expected).max())
    if not difference <= TOLERANCE:
        raise PipelineError(f"the {model_format} file differs from the model by {difference:.2g}: nothing is written")
    return difference


def _call_argument(inputs: list[Values]) -> Any:
    """Return the call argument of a model: the list `inputs`, or its only entry."""
    return inputs if len(inputs) > 1 else inputs[0]


def _test_inputs(card: ModelCard) -> list[Values]:
    """Return a batch of two noise images, with severities and noise maps if the model takes these."""
    from distort_pipeline.networks.inputs import noise_shapes

    rng = make_rng(0)
    image = rng.uniform(-1, 1, (2, *TEST_SIDES_PX, 3)).astype(np.float32)
    shapes = noise_shapes(*TEST_SIDES_PX, card.network.noise_channels)
    severity = [np.array([[0.3], [1.0]], np.float32)] if card.is_multi_level else []
    return [image, *severity, *(rng.standard_normal((2, *shape), dtype=np.float32) for shape in shapes)]


def _compact_inputs(noise_scale: float) -> list[Values]:
    """Return a batch of two noise images for the network of a composed generator."""
    from distort_pipeline.networks.compact import NetworkBatch, network_inputs
    from distort_pipeline.networks.patches import FREE_CHANNELS, LATENTS

    rng = make_rng(0)
    pristine, base = rng.uniform(0, 255, (2, 2, *TEST_SIDES_PX, 3)).astype(np.float32)
    noise, free = (rng.standard_normal((2, *TEST_SIDES_PX, n), dtype=np.float32) for n in (3, FREE_CHANNELS))
    latent = rng.standard_normal((2, LATENTS), dtype=np.float32)
    offsets, sizes = np.zeros((2, 2), np.float32), np.full((2, 2), 512, np.float32)
    inputs = network_inputs(NetworkBatch(pristine, base, noise, free, latent, offsets, sizes), noise_scale)
    return [np.asarray(values) for values in inputs]


Run = Callable[[list[Values]], Values]


def _write_keras(model: keras.Model, path: Path, _: ModelCard) -> Run:
    model.save(path)
    reopened = backend.keras.models.load_model(path, compile=False, safe_mode=True)
    return lambda inputs: np.asarray(reopened(_call_argument(inputs), training=False))


def _write_saved_model(model: keras.Model, path: Path, _: ModelCard) -> Run:
    import tensorflow as tf

    model.export(path, format="tf_saved_model", verbose=False)
    reopened = tf.saved_model.load(str(path))
    return lambda inputs: np.asarray(reopened.serve(_call_argument(inputs)))


def _write_onnx(model: keras.Model, path: Path, card: ModelCard) -> Run:
    try:
        import onnx
        import onnxruntime
        import tf2onnx  # noqa: F401  used by Keras
    except ImportError as error:
        raise PipelineError(f"ONNX needs onnx, onnxruntime and tf2onnx: {PACKAGES_HINT} ({error})") from None
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model.export(path, format="onnx", verbose=False)
    written = onnx.load(path)
    onnx.helper.set_model_props(written, facts(card))
    onnx.checker.check_model(written, full_check=True)
    write_bytes(path, written.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


_WRITERS = {"keras": _write_keras, "saved_model": _write_saved_model, "onnx": _write_onnx}


@click.group("model", epilog=examples("model export models/jpeg --format onnx"))
def model_command() -> None:
    """Export trained generators for other programs."""


@model_command.command(
    "export", epilog=examples("model export jpeg --format onnx", "model export models/mine --format keras")
)
@click.argument("name", metavar="MODEL", type=MODEL)
@click.option("--format", "model_format", type=click.Choice(MODEL_FORMATS), required=True, help="Format of the file.")
@click.option("--out", type=PATH, help="Folder to write.  [default: MODEL's name-FORMAT]")
def export_command(name: str, model_format: str, out: Path | None) -> None:
    """Write a generator as a Keras file, SavedModel or ONNX file.

    MODEL is a name in the folder `models`, a pretrained one, or a model folder. In float32, with fused batch norms,
    checked against the model.
    """
    folder = generator_folder(name)
    show(export_model(folder, out or Path(f"{folder.resolve().name}-{model_format}"), model_format))
