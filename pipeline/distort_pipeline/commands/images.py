"""distort, list and score: single images and folders of images, without a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from distort_pipeline.api import LEAST_PX, Generator, distort, list_distortions, list_generators, load_generator
from distort_pipeline.commands.inputs import known_models
from distort_pipeline.commands.options import JSON, MODEL, PATH, examples, parameters_in, show, show_json
from distort_pipeline.data.files import write_bytes
from distort_pipeline.data.images import decode, encode_png, image_digest
from distort_pipeline.data.lists import Entry, is_archive
from distort_pipeline.data.sources import Source, open_source, read_bytes
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.metrics.full_reference import each_image
from distort_pipeline.metrics.jsd_nss import JSD_NSS, NSS_FEATURES, feature_divergences, nss_histograms
from distort_pipeline.process import track
from distort_pipeline.records import Image, Json, Report, derive_seed


def distort_files(
    source: Path,
    out: Path,
    name: str,
    *,
    severity: float | None = None,
    seed: int = 0,
    parameters: Mapping[str, float] | None = None,
    models: Path | None = None,
) -> Report:
    """Write the images of `source`, a file, folder or archive, distorted to `out`, as PNG files under the same names.

    By the generator `name`; with `parameters` by the true distortion. The seed of an image depends on `seed` and its
    pixels. No file is replaced.
    """
    change = _change(name, severity, parameters, models)
    found = find_images(source)
    targets = _targets(found, out)
    for target in targets.values():
        if target.exists():
            raise PipelineError(f"{target} exists; choose another folder or file for the distorted images")
    unusable: list[str] = []
    images = _usable(found, unusable)
    for path, image in track(images, total=len(targets), label="distort", unit="images"):
        write_bytes(targets[path], encode_png(change(image, derive_seed(seed, image_digest(image)))))
    done = len(targets) - len(unusable)
    if not done:
        raise PipelineError(f"no image of {source} can be used; the first is {unusable[0]}")
    return Report("distort", {"images": done, "unusable": len(unusable)}, (*unusable, f"{done} images: {out}"))


def _change(
    name: str, severity: float | None, parameters: Mapping[str, float] | None, models: Path | None
) -> Callable[[Image, int], Image]:
    """Return the function of an image and a seed."""
    if parameters:
        if severity is not None:
            raise PipelineError("--severity is of generators, --set of true distortions: give one of them")
        return lambda image, seed: distort(name, image, seed=seed, **parameters)
    known = known_models(models)
    if name not in known and not Path(name).is_dir():
        raise PipelineError(f"--with: no generator is called {name!r}{did_you_mean(name, known)}")
    generator: Generator = load_generator(known.get(name, name))
    return lambda image, seed: np.asarray(generator(image, severity, seed))


def find_images(path: Path) -> Source:
    """Return the images at `path`: one file, or a source of `ingest`; PipelineError if there are none."""
    is_image = path.is_file() and not is_archive(path.name) and path.suffix.lower() not in (".csv", ".jsonl")
    source = Source(path.parent, (Entry(path.name),), ()) if is_image else open_source(path)
    if not source.listed:
        raise PipelineError(f"{path} holds no image")
    return source


def _targets(source: Source, out: Path) -> dict[str, Path]:
    """Return path → PNG file to write: `out` itself for one image if it ends in .png, else a file in `out`."""
    paths = [entry.path for entry in source.listed]
    if out.suffix.lower() == ".png":
        if len(paths) > 1:
            raise PipelineError(f"{len(paths)} images cannot be written to the one file {out}; name a folder")
        return {paths[0]: out}
    targets = {path: out / Path(path).with_suffix(".png") for path in paths}
    by_target = {target: path for path, target in targets.items()}
    for path, target in targets.items():
        if by_target[target] != path:
            raise PipelineError(f"{path} and {by_target[target]} would both become {target}; rename one")
    return targets


def _usable(source: Source, unusable: list[str]) -> Iterator[tuple[str, Image]]:
    """Yield path and pixels of the usable images of a source; the others become lines of `unusable`."""
    for entry in source.listed:
        try:
            image = decode(read_bytes(source.root, entry.path))[0]
        except PipelineError as error:
            unusable.append(f"{entry.path} left out: {error}")
        else:
            yield entry.path, image


def score_folders(a: Path, b: Path) -> tuple[Report, dict[str, Json]]:
    """Return JSD_NSS and the divergence of each NSS feature in bits, between all images of `a` and all of `b`."""
    pooled, lines, counts = [], [], []
    for source in (a, b):
        unusable: list[str] = []
        found = find_images(source)
        images = track(_usable(found, unusable), total=len(found.listed), label=str(source), unit="images")
        histograms = [
            np.sum([nss_histograms(one) for one in each_image(image, LEAST_PX["nss_features"])], axis=0)
            for _, image in images
        ]
        if not histograms:
            raise PipelineError(f"no image of {source} can be used; the first is {unusable[0]}")
        pooled.append(np.sum(histograms, axis=0))
        counts.append(len(histograms))
        lines += unusable
    bits = feature_divergences(pooled[0], pooled[1])
    values: dict[str, Json] = {"images": counts, "jsd_nss": bits[JSD_NSS], "features": bits}
    lines.append(f"JSD_NSS {bits[JSD_NSS]:.5f} bits between {counts[0]} images of {a} and {counts[1]} of {b}")
    lines += [f"  {name:8} {bits[name]:.5f}" for name in NSS_FEATURES]
    return Report("score", {"jsd_nss": bits[JSD_NSS]}, tuple(lines)), values


def listed(models: Path | None = None) -> tuple[Report, dict[str, Json]]:
    """Return the true distortions with parameters and presets, and the generators with levels, origin and verdict."""
    distortions, generators = list_distortions(), list_generators(models)
    lines = ["distortions: the codec or algorithm itself"]
    for name, about in distortions.items():
        parameters = ", ".join(about.parameters) + (", at random" if about.random else "")
        lines.append(f"  {name}: {parameters}; presets {', '.join(about.presets) or 'none'}")
    lines.append("generators: learned")
    for name, generator in generators.items():
        levels = ", ".join(
            f"{severity:g} {' '.join(f'{key} {value:g}' for key, value in parameters.items())}".strip()
            for severity, parameters in generator.levels.items()
        )
        lines += [
            f"  {name}: severity {levels}",
            f"    {generator.origin}",
            f"    {generator.verdict}; in {generator.folder}",
        ]
    values: dict[str, Json] = {
        "distortions": {name: asdict(about) for name, about in distortions.items()},
        "generators": {
            name: {**asdict(generator), "folder": str(generator.folder), "verdict": generator.verdict}
            for name, generator in generators.items()
        },
    }
    return Report("list", {}, tuple(lines)), values


@click.command(
    "distort",
    epilog=examples(
        "distort photo.png distorted.png --with jpeg --severity 0.5",
        "distort photos/ distorted/ --with models/camera --seed 7",
        "distort photos/ distorted/ --with jpeg --set quality=12",
    ),
)
@click.argument("source", metavar="IN", type=PATH)
@click.argument("out", type=PATH)
@click.option("--with", "name", type=MODEL, required=True, help="Generator by name or folder; see `list`.")
@click.option("--severity", type=click.FloatRange(0, 1), help="From 0 to 1.  [default: the generator's default level]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random distortions.")
@click.option(
    "--set", "parameters", multiple=True, metavar="NAME=VALUE", help="The true distortion with this parameter."
)
@click.option("--models", type=PATH, help="Folder of models.  [default: models]")
def distort_command(source: Path, out: Path, name: str, parameters: tuple[str, ...], **options: Any) -> None:
    """Distort images by a generator or a true distortion.

    IN is an image, a folder or an archive; OUT is a folder, or a .png file for one image. Nothing is replaced.
    """
    show(distort_files(source, out, name, parameters=parameters_in(parameters), **options))


@click.command("list", epilog=examples("list", "list --json"))
@click.option("--models", type=PATH, help="Folder of models.  [default: models]")
@JSON
def list_command(models: Path | None, as_json: bool) -> None:
    """List the distortions and the generators."""
    report, values = listed(models)
    show_json(values) if as_json else show(report)


@click.command("score", epilog=examples("score pristine/ distorted/", "score true/ generated/ --json"))
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@JSON
def score_command(a: Path, b: Path, as_json: bool) -> None:
    """Compare the statistics of two folders of images.

    JSD_NSS and the divergence of each of the twelve NSS features, in bits, between all images of A and all of B.
    """
    report, values = score_folders(a, b)
    show_json(values) if as_json else show(report)
