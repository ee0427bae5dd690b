"""Distortions outside the fourteen of benchmarks/unknown: what is kept, and its figures on held-out images.

python studies/learning/others.py PHOTOS [--only pixelated,haze] [--images 30] [--pairs DIR]
PHOTOS is any folder of photographs of 512 px or more; every fifth image is held out. One line a distortion. With
--pairs, distortions are the folders of DIR, each with a folder pristine and a folder distorted (corruptions.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PILImage

from distort_pipeline.networks.codec_bank import Codec
from distort_pipeline.networks.patches import cut_patches
from distort_pipeline.records import Image, make_rng, to_uint8
from distort_pipeline.training.learn import LearnData, LearnSettings, NotBetterThanIdentity, learn
from studies.learning.everyday import EVERYDAY
from studies.learning.kadid import KADID, stored
from studies.learning.trial import load

CROP_PX = 768
PATCHES = 4  # of 384 px of an image
Draw = np.random.Generator
GREY = np.array([0.299, 0.587, 0.114])


def _rescaled(image: Image, factor: int, down: int, up: int) -> Image:
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // factor, height // factor), interpolation=down)
    return cv2.resize(small, (width, height), interpolation=up)


def _noisy(image: Image, rng: Draw, sigma: float) -> Image:
    return to_uint8(image + sigma * rng.standard_normal(image.shape))


def _palette(image: Image, _: Draw) -> Image:
    pillow = PILImage.fromarray(image)
    dithered = pillow.quantize(palette=pillow.quantize(24), dither=PILImage.Dither.FLOYDSTEINBERG)
    return np.asarray(dithered.convert("RGB"))


def _impulses(image: Image, rng: Draw) -> Image:
    out = image.copy()
    struck = rng.random(image.shape[:2]) < 0.02
    out[struck] = 255 * rng.integers(0, 2, (int(struck.sum()), 1))
    return out


def _chroma_blurred(image: Image, _: Draw) -> Image:
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    ycc[..., 1:] = cv2.GaussianBlur(ycc[..., 1:], (0, 0), 6)
    return cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB)


def _less_saturated(image: Image, _: Draw) -> Image:
    grey = (image @ GREY)[..., None]
    return to_uint8(grey + 0.35 * (image - grey))


def _sepia(image: Image, rng: Draw) -> Image:
    share = rng.uniform(0.4, 1.0)
    return to_uint8((1 - share) * image + share * (image @ GREY)[..., None] * np.array([1.07, 0.92, 0.7]))


def _jpeg_drawn(image: Image, rng: Draw) -> Image:
    return stored(image, "JPEG", quality=int(rng.integers(12, 60)))


def _defocus_drawn(image: Image, rng: Draw) -> Image:
    return _noisy(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 3.0)), rng, 3)


def _speckle(image: Image, rng: Draw) -> Image:
    looks = rng.gamma(12.0, 1 / 12.0, image.shape[:2]).astype(np.float32)
    return to_uint8(image * cv2.GaussianBlur(looks, (0, 0), 0.7)[..., None])


def _row_noise(image: Image, rng: Draw) -> Image:
    rows = 5 * rng.standard_normal((image.shape[0], 1, 3))
    return _noisy(to_uint8(image + rows), rng, 4)


def _video_tape(image: Image, rng: Draw) -> Image:
    """Return `image` as from a tape: soft along the line, colour softer and late, jittering lines, streaky noise."""
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    luma = cv2.GaussianBlur(ycc[..., 0], (0, 0), sigmaX=1.5, sigmaY=0.1)
    chroma = np.roll(cv2.GaussianBlur(ycc[..., 1:], (0, 0), sigmaX=5, sigmaY=0.6), 4, axis=1)
    streaks = cv2.GaussianBlur(rng.standard_normal(luma.shape).astype(np.float32), (0, 0), sigmaX=2.5, sigmaY=0.1)
    tape = np.dstack([luma + 14 * streaks, chroma])
    columns, rows = np.meshgrid(np.arange(tape.shape[1], dtype=np.float32), np.arange(tape.shape[0], dtype=np.float32))
    jitter = cv2.GaussianBlur(rng.standard_normal((tape.shape[0], 1)).astype(np.float32), (0, 0), 1.5)
    moved = cv2.remap(tape, columns + 0.8 * jitter, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cv2.cvtColor(to_uint8(moved), cv2.COLOR_YCrCb2RGB)


def _equalised(image: Image, _: Draw) -> Image:
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(3.0, (8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _ordered_dither(image: Image, _: Draw) -> Image:
    matrix = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 - 0.5
    height, width = image.shape[:2]
    tiled = np.tile(matrix, (height // 4 + 1, width // 4 + 1))[:height, :width, None]
    return to_uint8(np.rint(image / 51 + tiled) * 51)


def _night(image: Image, rng: Draw) -> Image:
    """Return `image` underexposed with shot and read noise, brightened, smoothed but at edges, sharpened, as a JPEG."""
    light = (image / 255.0) ** 2.2 * 0.12
    noisy = np.clip(light + np.sqrt(4e-4 * light + 4e-6) * rng.standard_normal(image.shape), 0, None) / 0.12
    bright = to_uint8(255 * np.clip(noisy, 0, 1) ** (1 / 2.2))
    smooth = cv2.bilateralFilter(bright, 7, 30, 3)
    sharp = to_uint8(smooth + 0.8 * (smooth.astype(np.float32) - cv2.GaussianBlur(smooth, (0, 0), 1.5)))
    return stored(sharp, "JPEG", quality=80)


def _shrunk_jpeg(image: Image, rng: Draw) -> Image:
    height, width = image.shape[:2]
    share = rng.uniform(0.4, 0.7)
    small = cv2.resize(image, (int(width * share), int(height * share)), interpolation=cv2.INTER_AREA)
    return cv2.resize(stored(small, "JPEG", quality=40), (width, height), interpolation=cv2.INTER_CUBIC)


OTHERS: Mapping[str, Callable[[Image, Draw], Image]] = {
    "jp2k": lambda x, _: stored(x, "JPEG2000", quality_mode="rates", quality_layers=[70], irreversible=True),
    "pixelated": lambda x, _: _rescaled(x, 4, cv2.INTER_AREA, cv2.INTER_NEAREST),
    "thirds": lambda x, _: _rescaled(x, 3, cv2.INTER_AREA, cv2.INTER_CUBIC),
    "blur_noise": lambda x, rng: _noisy(cv2.GaussianBlur(x, (0, 0), 1.4), rng, 9),
    "noise_webp": lambda x, rng: stored(_noisy(x, rng, 12), "WEBP", quality=30),
    "blur_h264": lambda x, rng: Codec("H.264", 34).encode(cv2.GaussianBlur(x, (0, 0), 1.0), rng),
    "palette": _palette,
    "impulses": _impulses,
    "haze": lambda x, _: to_uint8(0.55 * x + 95.0),
    "chroma_blur": _chroma_blurred,
    "less_saturated": _less_saturated,
    "sepia": _sepia,
    "median": lambda x, _: cv2.medianBlur(x, 5),
    "bilateral": lambda x, _: cv2.bilateralFilter(x, 9, 40, 4),
    "twice_jpeg": lambda x, _: np.roll(
        stored(np.roll(stored(x, "JPEG", quality=25), 3, (0, 1)), "JPEG", quality=60), -3, (0, 1)
    ),
    "jpeg_drawn": _jpeg_drawn,
    "defocus_drawn": _defocus_drawn,
    "speckle": _speckle,
    "row_noise": _row_noise,
    "video_tape": _video_tape,
    "equalised": _equalised,
    "ordered_dither": _ordered_dither,
    "night": _night,
    "shrunk_jpeg": _shrunk_jpeg,
    **EVERYDAY,
    **{f"kadid_{name}": distort for name, distort in KADID.items()},
}


def _photographs(folder: Path, count: int) -> list[Image]:
    """Return `count` photographs of `folder`, evenly spread over their names, cut to CROP_PX."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".tif"))
    chosen = [paths[n] for n in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]
    return [np.asarray(PILImage.open(path).convert("RGB"))[:CROP_PX, :CROP_PX] for path in chosen]


def main() -> None:
    """Learn the named distortions, or all, and print what was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="not looked at with --pairs")
    parser.add_argument("--only")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--minutes", type=float, help="with a network, for so long")
    options = parser.parse_args()
    images = [] if options.pairs else _photographs(options.photos, options.images)
    settings = LearnSettings(minutes=options.minutes)
    if options.minutes is None:
        settings = LearnSettings(minutes=None, mean_steps=0, adversarial_steps=0)
    known = sorted(path.name for path in options.pairs.iterdir()) if options.pairs else OTHERS
    for name in options.only.split(",") if options.only else known:
        started = time.process_time()
        if options.pairs:
            pairs, _ = load(options.pairs / name)
        else:
            pairs = [(x, OTHERS[name](x, make_rng(n))) for n, x in enumerate(images)]
        held, train = pairs[::5], [pair for n, pair in enumerate(pairs) if n % 5]
        fitted = [p for n in range(len(train)) for p in [q for q in cut_patches(train, 384) if q.image == n][:PATCHES]]
        with tempfile.TemporaryDirectory() as folder:
            try:
                _, report = learn(LearnData(fitted, cut_patches(held, 384), held), settings, Path(folder))
                scores = next(stage.scores for stage in report.stages if stage.stage == report.kept)
                figures = " ".join(f"{name} {value:.4g}" for name, value in dataclasses.asdict(scores).items())
                found = f"{report.kept} ({', '.join(report.parts)}): {figures}"
            except NotBetterThanIdentity as error:
                found = f"refused: {error}"
        print(f"{name}: {found}; {time.process_time() - started:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
