"""Composed generators as arrays and descriptions: what its model folder stores, without code that runs.

Arrays are named "part.field", such as "noise.kernels" or "linear_0.kernels"; the network's under its variables' paths
behind "body/"; those of the second level and further ones behind "level_2/" and so on. The description is JSON: which
parts there are, and their few words and numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.codec_bank import Codec
from distort_pipeline.networks.colour import ColourMatrix, Integers, PhaseTone, RankTone, Tone
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.diffusion import Diffusion
from distort_pipeline.networks.displacement import Displacement
from distort_pipeline.networks.earlier_jpeg import EarlierJpeg
from distort_pipeline.networks.filters import FieldFilters, Filters, PhaseFilters
from distort_pipeline.networks.impulses import Impulses
from distort_pipeline.networks.jpeg_stage import JpegStage
from distort_pipeline.networks.lookup import ColourTable
from distort_pipeline.networks.overlays import Overlays
from distort_pipeline.networks.regions import Regions
from distort_pipeline.networks.resampling import Smaller
from distort_pipeline.networks.shrinkage import Median, Shrinkage
from distort_pipeline.networks.signal_noise import SignalNoise
from distort_pipeline.networks.wide import Blurs, LocalTone
from distort_pipeline.records import Json

Arrays = dict[str, NDArray[Any]]
Descriptions = Sequence[Mapping[str, Any]]  # of each level, weakest first
BODY = "body/"
LINEAR: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        Tone,
        PhaseTone,
        RankTone,
        ColourMatrix,
        ColourTable,
        Integers,
        Filters,
        PhaseFilters,
        FieldFilters,
        EarlierJpeg,
        Shrinkage,
        Median,
        Diffusion,
        Blurs,
        LocalTone,
    )
}
REGION_ARRAYS = ("boxes", "masks", "values", "moves")
NOISE_FIELDS = tuple(field.name for field in dataclasses.fields(SignalNoise))


def levels_arrays(levels: Sequence[ComposedGenerator]) -> tuple[Arrays, list[dict[str, Json]]]:
    """Return the arrays of the generators of all `levels` and a description of each; `composed_levels` inverts it."""
    arrays: Arrays = {}
    described = []
    for number, generator in enumerate(levels, start=1):
        own, description = composed_arrays(generator)
        arrays.update({_prefix(number) + name: array for name, array in own.items()})
        described.append(description)
    return arrays, described


def composed_levels(arrays: Mapping[str, NDArray[Any]], described: Descriptions) -> tuple[ComposedGenerator, ...]:
    """Return the generators of `levels_arrays`."""
    levels = []
    for number, description in enumerate(described, start=1):
        prefix = _prefix(number)
        own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        levels.append(composed_generator(own, description))
    return tuple(levels)


def _prefix(level: int) -> str:
    return "" if level == 1 else f"level_{level}/"


def composed_arrays(generator: ComposedGenerator) -> tuple[Arrays, dict[str, Json]]:
    """Return the arrays of `generator` and its description; `composed_generator` makes it of them again."""
    arrays: Arrays = {"choices": np.array(generator.choices, np.int32)}
    linear: list[Json] = []
    described: dict[str, Json] = {"linear": linear}
    for number, model in enumerate(generator.linear):
        name = f"linear_{number}"
        fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
        numbers = {key: value for key, value in fields.items() if not isinstance(value, np.ndarray)}
        arrays.update({f"{name}.{key}": value for key, value in fields.items() if key not in numbers})
        linear.append({"kind": type(model).__name__, **numbers})
    if generator.codec is not None:
        described["codec"] = dataclasses.asdict(generator.codec)
    if generator.noise is not None:
        for name in NOISE_FIELDS:
            arrays[f"noise.{name}"] = getattr(generator.noise, name)
    if generator.overlays is not None:
        arrays["overlays.layers"], arrays["overlays.images"] = generator.overlays.layers, generator.overlays.images
        described["overlays"] = len(generator.overlays.layers)
    if generator.displacement is not None:
        described["displacement"] = dataclasses.asdict(generator.displacement)
    if generator.impulses is not None:
        arrays["impulses.values"] = generator.impulses.values
        described["impulses"] = {"rate": generator.impulses.rate}
    if generator.regions is not None:
        arrays.update({f"regions.{name}": getattr(generator.regions, name) for name in REGION_ARRAYS})
        described["regions"] = {"kind": generator.regions.kind, "density": generator.regions.density}
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
        prefix = f"linear_{number}."
        fields = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        numbers = {key: value for key, value in model.items() if key != "kind"}
        linear.append(LINEAR[model["kind"]](**fields, **numbers))
    noise = overlays = displacement = impulses = regions = jpeg = codec = body = None
    if "noise.kernels" in arrays:
        if "noise.stripes" not in arrays:
            raise PipelineError(
                "the model's noise is of an earlier version, without edges, activity or stripes; train it again"
            )
        noise = SignalNoise(*(arrays[f"noise.{name}"] for name in NOISE_FIELDS))
    if "overlays" in described:
        overlays = Overlays(arrays["overlays.layers"], arrays["overlays.images"])
    if "displacement" in described:
        displacement = Displacement(**described["displacement"])
    if "impulses" in described:
        impulses = Impulses(arrays["impulses.values"], described["impulses"]["rate"])
    if "regions" in described:
        region_arrays: dict[str, Any] = {name: arrays[f"regions.{name}"] for name in REGION_ARRAYS}
        regions = Regions(**region_arrays, **described["regions"])
    if "jpeg" in described:
        luma, chroma = (arrays[name].astype(np.int64) for name in ("jpeg.luma", "jpeg.chroma"))
        jpeg = JpegStage(luma, chroma, described["jpeg"]["subsampling"])
    if "codec" in described:
        codec = _codec(**described["codec"])
    if "body" in described:
        from distort_pipeline.networks.compact import CompactBody, new_body

        network = new_body()
        for variable in network.variables:
            variable.assign(arrays[BODY + variable.path])
        body = CompactBody(network, **described["body"])
    return ComposedGenerator(
        choices=tuple(int(choice) for choice in arrays["choices"]),
        codec=codec,
        linear=tuple(linear),
        displacement=displacement,
        body=body,
        noise=noise,
        overlays=overlays,
        impulses=impulses,
        regions=regions,
        jpeg=jpeg,
    )


def _codec(*, smaller: Mapping[str, Any] | None = None, **fields: Any) -> Codec:
    """Return the codec of a description; earlier versions have none of images that were stored smaller."""
    if smaller is None:
        return Codec(**fields)
    return Codec(**fields, smaller=Smaller(**{**smaller, "shares": tuple(smaller["shares"])}))
