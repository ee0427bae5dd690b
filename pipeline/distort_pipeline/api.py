"""The Python API: generators and distortions of single images, scores, and the steps of the pipeline.

Images are (H, W, 3) or (N, H, W, 3), uint8, sRGB in RGB order. `import distort_pipeline` offers all names of this file,
and imports TensorFlow, Dask and pyarrow only where a call needs them. Mistakes in arguments are a `PipelineError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.commands.inputs import generator_folder, known_models, models_for, pretrained, resolve_inputs
from distort_pipeline.commands.params import parse_section
from distort_pipeline.config import EvaluateConfig, ExportConfig, GenerateConfig, IngestConfig, PairsConfig, TrainConfig
from distort_pipeline.distortions.presets import PRESETS, levels_of
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.full_reference import MEASURES, each_image, require_images
from distort_pipeline.models.card import ModelCard, read_card
from distort_pipeline.records import Image, Report, make_rng

if TYPE_CHECKING:
    from distort_pipeline.distortions import SeverityScale
    from distort_pipeline.models.store import TrainedGenerator

BATCH_SIZE = 16  # images per call of a network
LEAST_PX = {"generator": 16, "distortion": 8, "psnr": 1, "ssim": 11, "ms_ssim": 176, "gmsd": 2, "jsd_nss": 7}
LEAST_PX["nss_features"] = 2 * LEAST_PX["jsd_nss"]  # the window has to fit into the half-size image too


class Generator:
    """A trained generator of `load_generator`: `g(image, severity=0.5, seed=0)` returns `image` distorted.

    `image` is uint8, (H, W, 3) or (N, H, W, 3), sides of 16 px or more; so is the result. `severity` is on the scale of
    the distortion, from 0, the pristine image, to the last of `levels`; None is the default level. A `seed` gives the
    same output again; image k of several has the seed `seed + k`. Both may be sequences, a number for each image.
    PipelineError for images or severities that are not allowed.

    The method is that of Chen, Bampis, Li and Bovik, IEEE Signal Processing Letters 27, 2020.
    """

    def __init__(self, name: str, trained: TrainedGenerator) -> None:
        self.name = name
        self._trained = trained

    @property
    def card(self) -> ModelCard:
        """The model card: training data, figures on validation images, architecture."""
        return self._trained.card

    @property
    def levels(self) -> dict[float, dict[str, float]]:
        """Severity → parameters of the true distortion, of each learned level; {} as parameters of external pairs."""
        return {level.severity: dict(level.parameters) for level in self.card.levels}

    @property
    def severity_scale(self) -> SeverityScale | None:
        """The severity scale of the true distortion, the same for every model of it; None if unknown."""
        return self.card.scale.scale

    def __call__(
        self, image: NDArray[np.uint8], severity: float | Sequence[float] | None = None, seed: int | Sequence[int] = 0
    ) -> NDArray[np.uint8]:
        """Return `image` distorted."""
        images = require_images(image, LEAST_PX["generator"])
        batch = images if images.ndim == 4 else images[None]
        default = self.card.default_level.severity
        severities = _one_for_each(default if severity is None else severity, len(batch), "severity")
        highest = self.card.highest_severity
        if not all(0 <= value <= highest for value in severities):
            raise PipelineError(
                f"severity must be from 0 to {highest:g}, the last level of {self.name}, got {severity!r}"
            )
        seeds = [seed + k for k in range(len(batch))] if isinstance(seed, int) else list(seed)
        distorted = self._trained.predictor.distort(batch, _one_for_each(seeds, len(batch), "seed"), severities)
        return distorted if images.ndim == 4 else distorted[0]

    def __repr__(self) -> str:
        severities = ", ".join(f"{severity:g}" for severity in self.levels)
        return f"<Generator {self.name}: {self.card.origin}; severity of its levels: {severities}>"


def load_generator(name_or_path: str | Path) -> Generator:
    """Return a trained generator: a model folder, the name of a model in the folder `models`, or a shipped one.

    PipelineError for an unknown name, and for a damaged model.

    >>> g = load_generator("jpeg")
    >>> image = np.full((64, 96, 3), 128, np.uint8)
    >>> g(image, severity=0.5, seed=0).shape, g.levels[0.5]
    ((64, 96, 3), {'quality': 12})
    >>> g(image, severity=2)
    Traceback (most recent call last):
    distort_pipeline.errors.PipelineError: severity must be from 0 to 0.716, the last level of jpeg, got 2
    """
    from distort_pipeline.models.store import load_generator as load

    folder = generator_folder(name_or_path)
    return Generator(folder.name, load(folder, batch_size=BATCH_SIZE))


def distort(name: str, image: NDArray[np.uint8], *, seed: int = 0, **parameters: float) -> Image:
    """Return `image` (H, W, 3), uint8, under the true distortion `name`: the codec or the algorithm itself.

    `parameters` are those in `list_distortions`; `presets` has published values. A random distortion draws from `seed`.
    PipelineError for an unknown name or parameter, a value that is not allowed, and an unusable image.

    >>> image = np.full((64, 96, 3), 128, np.uint8)
    >>> distort("jpeg", image, quality=12).shape
    (64, 96, 3)
    >>> distort("jpeg", image, qality=12)
    Traceback (most recent call last):
    distort_pipeline.errors.PipelineError: the distortion jpeg has no parameter 'qality'; did you mean quality?
    """
    from distort_pipeline.distortions import apply

    pixels = require_images(image, LEAST_PX["distortion"], several=False)
    return apply(name, pixels, parameters, make_rng(seed)).image


@dataclass(frozen=True)
class DistortionInfo:
    """A true distortion."""

    about: str
    parameters: tuple[str, ...]  # of `distort`
    random: bool  # whether it draws from a seed
    presets: tuple[str, ...]  # with levels of it


def list_distortions() -> dict[str, DistortionInfo]:
    """Return name → parameters, randomness and presets of every true distortion, sorted by name.

    >>> list_distortions()["jpeg"].parameters
    ('quality',)
    """
    from distort_pipeline.distortions import DISTORTIONS, is_random

    listed = {}
    for name in DISTORTIONS.names():
        function = DISTORTIONS.get(name)
        declared = inspect.signature(function).parameters.values()
        parameters = [item.name for item in declared if item.kind is item.KEYWORD_ONLY and item.name != "rng"]
        about = (inspect.getdoc(function) or "").partition("\n")[0]
        known = [preset for preset in PRESETS if levels_of(preset, name)]
        listed[name] = DistortionInfo(about, tuple(parameters), is_random(name), tuple(known))
    return listed


@dataclass(frozen=True)
class GeneratorInfo:
    """A trained generator in its folder."""

    folder: Path
    origin: str  # how it was made
    levels: Mapping[float, Mapping[str, float]]  # severity → parameters of the true distortion
    jsd_nss: float  # bits, on validation images: generated against true
    identity: float  # bits: pristine against true

    @property
    def verdict(self) -> str:
        """Whether the generator is nearer to the truth than the pristine image."""
        better = "better" if self.jsd_nss < self.identity else "no better"
        return f"{better} than the pristine image: JSD_NSS {self.jsd_nss:.4f} bits, of that image {self.identity:.4f}"


def list_generators(models: str | Path | None = None) -> dict[str, GeneratorInfo]:
    """Return name → facts of every trained generator: the shipped ones, and those in `models` (default: ./models).

    >>> sorted(list_generators())
    ['jp2k', 'jpeg', 'pink_noise', 'white_noise']
    """
    cards = {name: (folder, read_card(folder)) for name, folder in known_models(_path(models)).items()}
    return {
        name: GeneratorInfo(
            folder,
            card.origin,
            {level.severity: level.parameters for level in card.levels},
            card.figures.jsd_nss,
            card.figures.jsd_nss_pristine,
        )
        for name, (folder, card) in cards.items()
    }


def presets() -> dict[str, dict[str, tuple[dict[str, float], ...]]]:
    """Return preset → distortion → parameters of level 1, 2, …; sources are in `distortions/presets.py`.

    >>> presets()["kadid"]["jpeg"][2]
    {'quality': 24}
    """
    from distort_pipeline.distortions import DISTORTIONS

    return {
        preset: {
            name: tuple(dict(level) for level in levels)
            for name in DISTORTIONS.names()
            if (levels := levels_of(preset, name))
        }
        for preset in PRESETS
    }


def jsd_nss(
    a: NDArray[np.uint8], b: NDArray[np.uint8], *, bins: int = 101, value_range: tuple[float, float] = (-2.0, 2.0)
) -> float:
    """Return JSD_NSS in bits, from 0 (identical statistics) to 1, between images `a` and `b`; both are exchangeable.

    Both are uint8, (H, W, 3) or (N, H, W, 3), whose histograms are pooled; sides of 7 px or more, sizes may differ.
    The histograms of diagonal MSCN products have `bins` equal bins over `value_range` and an overflow bin at each end;
    the paper states neither, and other values give other figures. Chen et al. 2020, see `Generator`.

    >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> jsd_nss(image, image), 0 < jsd_nss(image, image // 2, bins=51, value_range=(-3, 3)) < 1
    (0.0, True)
    """
    from distort_pipeline.metrics.jsd_nss import binned_products, jsd_bits

    low, high = value_range
    if bins < 1 or not low < high:
        raise PipelineError(
            f"bins must be 1 or more and value_range ascending, got bins={bins!r}, value_range={value_range!r}"
        )
    pooled = [
        np.sum([binned_products(image, bins, low, high) for image in each_image(images, LEAST_PX["jsd_nss"])], axis=0)
        for images in (a, b)
    ]
    return jsd_bits(*pooled)


def nss_features(image: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    """Return the twelve NSS features: name → histogram (103,), counts in 101 bins over [-2, 2] and two overflow bins.

    `image` is uint8, (H, W, 3) or (N, H, W, 3), whose histograms are pooled; sides of 14 px or more. MSCN coefficients
    and their products in four directions at two scales (Mittal, Moorthy and Bovik, IEEE TIP 21(12), 2012), and diagonal
    products of Cb and Cr; `d1_1` is the histogram of JSD_NSS.

    >>> features = nss_features(np.zeros((32, 32, 3), np.uint8))
    >>> len(features), features["d1_1"].sum()
    (12, np.int64(961))
    """
    from distort_pipeline.metrics.jsd_nss import NSS_FEATURES, nss_histograms

    pooled = np.sum([nss_histograms(one) for one in each_image(image, LEAST_PX["nss_features"])], axis=0)
    return dict(zip(NSS_FEATURES, pooled, strict=True))


def psnr(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; inf for identical images.

    Both are (H, W, 3), uint8.

    >>> round(psnr(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)), 2)
    48.13
    """
    return _measured("psnr", reference, distorted)


def ssim(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the structural similarity, 1 for identical images, at least -1; mean over the channels.

    Both are (H, W, 3), uint8, sides of 11 px or more. Wang et al., IEEE TIP 13(4), 2004.

    >>> ssim(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8))
    1.0
    """
    return _measured("ssim", reference, distorted)


def ms_ssim(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the multi-scale structural similarity, 1 for identical images, at least 0; mean over the channels.

    Both are (H, W, 3), uint8, sides of 176 px or more. Wang, Simoncelli and Bovik, Asilomar 2003.

    >>> ms_ssim(np.zeros((176, 176, 3), np.uint8), np.zeros((176, 176, 3), np.uint8))
    1.0
    """
    return _measured("ms_ssim", reference, distorted)


def gmsd(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the gradient magnitude similarity deviation, 0 for identical images; lower is better.

    Both are (H, W, 3), uint8. Xue, Zhang, Mou and Bovik, IEEE TIP 23(2), 2014.

    >>> gmsd(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8))
    0.0
    """
    return _measured("gmsd", reference, distorted)


def _measured(metric: str, reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    x, y = (require_images(image, LEAST_PX[metric], several=False) for image in (reference, distorted))
    if x.shape != y.shape:
        raise PipelineError(f"{metric} needs two images of one shape, got {x.shape} and {y.shape}")
    value = MEASURES[metric](x, y)
    assert value is not None  # sides are checked above
    return value


def _one_for_each(values: Any, count: int, name: str) -> list[Any]:
    if not isinstance(values, Sequence | np.ndarray):
        return [values] * count
    if len(values) != count:
        raise PipelineError(f"{name} must be one number, or one for each of the {count} images, got {len(values)}")
    return list(values)


def ingest(source: str | Path, out: str | Path = "manifest.jsonl", **settings: Any) -> Report:
    """Write the manifest `out` of the usable images in `source`, a folder, archive or list; return the counts.

    `settings` are those of the section `ingest` of params.yaml, here and likewise below.

    >>> from tempfile import mkdtemp
    >>> from distort_pipeline.commands.inputs import SAMPLE
    >>> ingest(SAMPLE, Path(mkdtemp()) / "manifest.jsonl", val_count=4).counts["accepted"]
    20
    """
    from distort_pipeline.steps import ingest as step

    return step.run(_section(IngestConfig, {**settings, "source": str(source)}), Path(out))


def make_pairs(manifest: str | Path, out: str | Path = "pairs", **settings: Any) -> Report:
    """Write the pair store `out` of the images in `manifest`: pristine tiles beside distorted ones."""
    from distort_pipeline.steps import pairs as step

    if settings.get("external"):
        settings.setdefault("distortions", ())  # external pairs alone, as on the command line
    return step.run(_section(PairsConfig, settings), Path(manifest), Path(out))


def train(
    pairs: str | Path, distortion: str, out: str | Path | None = None, *, init_from: str | None = None, **settings: Any
) -> Report:
    """Write the generator of `distortion`, learned from the store `pairs`, to `out` (default: models/DISTORTION).

    `init_from` is a model folder, or "pretrained" for the shipped model.
    """
    from distort_pipeline.steps import train as step

    if "steps" in settings:
        settings.setdefault("external_steps", settings["steps"])
    start = pretrained(distortion) if init_from == "pretrained" else Path(init_from) if init_from else None
    folder = Path(out) if out is not None else Path("models") / distortion
    return step.run(_section(TrainConfig, settings), Path(pairs), folder, distortion=distortion, init_from=start)


def evaluate(
    pairs: str | Path, models: str | Path = "models", out: str | Path = "evaluation", **settings: Any
) -> Report:
    """Write figures and page of all generators in `models`, on the validation images of the store `pairs`, to `out`."""
    from distort_pipeline.steps import evaluate as step

    return step.run(_section(EvaluateConfig, settings), Path(pairs), Path(models), Path(out))


def generate(
    images: str | Path | None = None,
    out: str | Path = "corpus",
    *,
    models: str | Path | None = None,
    **settings: Any,
) -> Report:
    """Write the corpus `out` of distorted tiles of `images` (default: manifest.jsonl here, else the built-in ones).

    `models` is a folder of generators; the shipped ones are known beside them.
    """
    from distort_pipeline.steps import generate as step

    config, target = _section(GenerateConfig, settings), Path(out)
    manifest, summary = resolve_inputs(_path(images), target, IngestConfig())
    report = step.run(config, manifest, models_for(config.model_names, _path(models)), target)
    return Report(report.step, report.counts, (*summary, *report.lines))


def export(corpus: str | Path, out: str | Path = "export", **settings: Any) -> Report:
    """Write the finished `corpus` to the folder `out` as files for other tools, such as `format="parquet"`."""
    from distort_pipeline.steps import export as step

    return step.run(_section(ExportConfig, settings), Path(corpus), Path(out))


def _section(kind: Any, settings: Mapping[str, Any]) -> Any:
    return parse_section(kind, settings, where="settings")


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
