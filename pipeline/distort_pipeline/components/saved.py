"""A composed generator as arrays and a description: what its model folder stores, without code that runs.

Arrays are named "part.field", such as "noise.roots" or "linear_0.kernels"; the network's under its variables' paths
behind "body/". The description is JSON: which parts there are, and their few words and numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.components.codec_bank import Codec
from distort_pipeline.components.composed import ComposedGenerator
from distort_pipeline.components.field_filters import FieldFilters
from distort_pipeline.components.filters import Filters
from distort_pipeline.components.jpeg_stage import JpegStage
from distort_pipeline.components.signal_noise import SignalNoise
from distort_pipeline.components.tone import Tone

Arrays = dict[str, NDArray[Any]]
BODY = "body/"
NOISE_FIELDS = tuple(field.name for field in dataclasses.fields(SignalNoise))


def composed_arrays(generator: ComposedGenerator) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of `generator` and its description; `composed_generator` makes it of them again."""
    arrays: Arrays = {"choices": np.array(generator.choices, np.int32)}
    described: dict[str, Any] = {"noise_gain": generator.noise_gain, "linear": []}
    for number, model in enumerate(generator.linear):
        name = f"linear_{number}"
        if isinstance(model, Tone):
            arrays[f"{name}.curves"] = model.curves
            described["linear"].append({"kind": "tone"})
        elif isinstance(model, Filters):
            arrays[f"{name}.kernels"], arrays[f"{name}.offsets"] = model.kernels, model.offsets
            described["linear"].append({"kind": "filters", "linear": model.linear})
        else:
            arrays[f"{name}.kernels"] = model.kernels
            described["linear"].append({"kind": "field_filters", "linear": model.linear})
    if generator.codec is not None:
        described["codec"] = dataclasses.asdict(generator.codec)
    if generator.noise is not None:
        for name in NOISE_FIELDS:
            arrays[f"noise.{name}"] = getattr(generator.noise, name)
    if generator.jpeg is not None:
        arrays["jpeg.luma"], arrays["jpeg.chroma"] = (
            table.astype(np.int32) for table in (generator.jpeg.luma, generator.jpeg.chroma)
        )
        described["jpeg"] = {"subsampling": generator.jpeg.subsampling}
    if generator.body is not None:
        body: Any = generator.body
        described["body"] = {"noise_scale": body.noise_scale, "stochastic": body.stochastic}
        arrays.update({BODY + variable.path: np.asarray(variable) for variable in body.network.variables})
    return arrays, described


def composed_generator(arrays: Mapping[str, NDArray[Any]], described: Mapping[str, Any]) -> ComposedGenerator:
    """Return the generator of `composed_arrays`; Keras is imported only if it has a network."""
    linear: list[Any] = []
    for number, model in enumerate(described["linear"]):
        fields = {
            name.split(".", 1)[1]: array for name, array in arrays.items() if name.startswith(f"linear_{number}.")
        }
        if model["kind"] == "tone":
            linear.append(Tone(fields["curves"]))
        elif model["kind"] == "filters":
            linear.append(Filters(fields["kernels"], fields["offsets"], model["linear"]))
        else:
            linear.append(FieldFilters(fields["kernels"], model["linear"]))
    noise = jpeg = codec = body = None
    if "noise.roots" in arrays:
        noise = SignalNoise(*(arrays[f"noise.{name}"] for name in NOISE_FIELDS))
    if "jpeg" in described:
        luma, chroma = (arrays[name].astype(np.int64) for name in ("jpeg.luma", "jpeg.chroma"))
        jpeg = JpegStage(luma, chroma, described["jpeg"]["subsampling"])
    if "codec" in described:
        codec = Codec(**described["codec"])
    if "body" in described:
        from distort_pipeline.networks.compact_body import CompactBody, new_body

        network = new_body()
        for variable in network.variables:
            variable.assign(arrays[BODY + variable.path])
        body = CompactBody(network, **described["body"])
    return ComposedGenerator(
        choices=tuple(int(choice) for choice in arrays["choices"]),
        codec=codec,
        linear=tuple(linear),
        body=body,
        noise=noise,
        noise_gain=described["noise_gain"],
        jpeg=jpeg,
    )
