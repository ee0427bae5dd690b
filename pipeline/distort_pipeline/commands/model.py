"""model export: a trained generator as a Keras file, a SavedModel or an ONNX file that needs none of our code."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.records import Report
from distort_pipeline.reports.exported_model_card import exported_card_text, facts
from distort_pipeline.seeds import make_rng
from distort_pipeline.stores.files import write_bytes
from distort_pipeline.trained import is_multi_level, load_generator

if TYPE_CHECKING:
    import keras

Values = NDArray[np.float32]
TOLERANCE = 1e-4  # of the networks' [-1, 1]: a seventieth of a grey
TRIAL_SIDES_PX = (256, 128)
NAMES = {"keras": "generator.keras", "saved_model": "generator", "onnx": "generator.onnx"}
PACKAGES_HINT = "pip install 'distort-pipeline[onnx]'"


def export_model(folder: Path, out: Path, form: str) -> Report:
    """Write the model of `folder` into the new folder `out` as `form`, with a README that says how to call it.

    What was written is opened again, without our code where that can be, and has to give what the model gives to 1e-4.
    """
    if form not in NAMES:
        raise PipelineError(f"no form of a model is called {form!r}{did_you_mean(form, NAMES)}; {', '.join(NAMES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"{out} already exists; name another place with --out, or delete it first")
    trained = load_generator(folder, batch_size=1, image_stats=False)
    from distort_pipeline.networks.portable import needs_our_layers, portable_generator

    inputs = _trial(trained.card)
    wanted = np.asarray(trained.predictor.model(_call_form(inputs), training=False))
    portable = portable_generator(trained.predictor.model)
    portable(_call_form(inputs))  # Keras exports only what has been called
    work = out.resolve().with_name(f".{out.resolve().name}.building")
    shutil.rmtree(work, ignore_errors=True)  # what a killed export left
    try:
        work.mkdir(parents=True)
        run = _WRITERS[form](portable, work / NAMES[form], trained.card)
        difference = float(np.abs(run(inputs) - wanted).max())
        if not difference <= TOLERANCE:
            raise PipelineError(f"{form} gives other values than the model, by {difference:.2g}: nothing is written")
        own = form == "keras" and needs_our_layers(portable)
        text = exported_card_text(trained.card, form, NAMES[form], own_layers=own)
        write_bytes(work / "README.md", text.encode())
        if out.is_dir():
            out.rmdir()  # empty, or it would have been refused
        work.rename(out)
    except OSError as error:
        raise PipelineError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Report(
        "model export",
        {"difference": difference},
        (f"{out / NAMES[form]}: opened again, it differs from the model by at most {difference:.1e} on [-1, 1]",),
    )


def _call_form(inputs: list[Values]) -> Any:
    """Return `inputs` as a model takes them: a list, or the one there is."""
    return inputs if len(inputs) > 1 else inputs[0]


def _trial(card: dict[str, Any]) -> list[Values]:
    """Return an image of noise, and severities and noise maps where the model takes them: a batch of two."""
    from distort_pipeline.networks.generator import noise_shapes

    rng = make_rng(0)
    image = rng.uniform(-1, 1, (2, *TRIAL_SIDES_PX, 3)).astype(np.float32)
    shapes = noise_shapes(*TRIAL_SIDES_PX, card["network"]["noise_channels"])
    severity = [np.array([[0.3], [1.0]], np.float32)] if is_multi_level(card) else []
    return [image, *severity, *(rng.standard_normal((2, *shape), dtype=np.float32) for shape in shapes)]


Run = Callable[[list[Values]], Values]


def _write_keras(model: keras.Model, place: Path, _: dict[str, Any]) -> Run:
    import keras

    model.save(place)
    again = keras.models.load_model(place, compile=False, safe_mode=True)
    return lambda inputs: np.asarray(again(_call_form(inputs), training=False))


def _write_saved_model(model: keras.Model, place: Path, _: dict[str, Any]) -> Run:
    import tensorflow as tf

    model.export(place, format="tf_saved_model", verbose=False)
    again = tf.saved_model.load(str(place))
    return lambda inputs: np.asarray(again.serve(_call_form(inputs)))


def _write_onnx(model: keras.Model, place: Path, card: dict[str, Any]) -> Run:
    try:
        import onnx
        import onnxruntime
        import tf2onnx  # noqa: F401  what Keras exports with
    except ImportError as error:
        raise PipelineError(f"ONNX needs onnx, onnxruntime and tf2onnx: {PACKAGES_HINT} ({error})") from None
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model.export(place, format="onnx", verbose=False)
    written = onnx.load(place)
    onnx.helper.set_model_props(written, facts(card))
    onnx.checker.check_model(written, full_check=True)
    write_bytes(place, written.SerializeToString())
    session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


_WRITERS = {"keras": _write_keras, "saved_model": _write_saved_model, "onnx": _write_onnx}
