"""Codecs at hand: still images by Pillow, frames of videos by FFmpeg where the package `av` is installed.

Where the unknown distortion *is* one of these codecs, this is it; where it is a relative of one, it is a start with the
right kind of blocks. A codec's quality is the one whose PSNR is the true one; which codec is chosen says the scorer.
Codecs predict across blocks: they are given whole images, tiles are cut afterwards.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from distort_pipeline.errors import PipelineError
from distort_pipeline.networks.resampling import Smaller, find_smaller
from distort_pipeline.records import Json

Pixels = NDArray[np.uint8]  # (H, W, 3), sRGB
Pair = tuple[Pixels, Pixels]  # pristine and distorted

TRIED_IMAGES = 3
RELATED = 1.0  # squared error, in shares of the identity's, below which codecs of one strength are related
PAN_FRAMES, PAN_PX = 4, 4.0  # frames before the image, and their most movement in each direction
FRAMES_PER_SECOND = 25
MOST_COLOURS = 256
PALETTES = {"GIF": Image.Dither.NONE, "GIF, dithered": Image.Dither.FLOYDSTEINBERG}  # of an image's own colours
PILLOW = {  # worst and best quality
    **dict.fromkeys(PALETTES, (2, MOST_COLOURS)),
    **{"JPEG": (1, 95), "WEBP": (0, 100), "AVIF": (0, 100), "JPEG2000": (400, 4)},
}
LOSSLESS = "PNG"  # of what was only smaller
SMALL_CODECS = ("JPEG", "WEBP", "AVIF")  # of images that were stored smaller
FEATURES = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}  # Pillow's names of what may be missing


@dataclass(frozen=True)
class VideoCodec:
    """How FFmpeg is asked for one codec: encoder, decoder, its coarsest and finest quantiser, and options for one."""

    encoder: str
    decoder: str
    coarsest: int
    finest: int
    options: Callable[[int], Mapping[str, str]]


def _mpeg(quantiser: int) -> Mapping[str, str]:
    lagrange = 118  # FFmpeg's FF_QP2LAMBDA
    scale = str(quantiser)
    return {"qmin": scale, "qmax": scale, "flags": "+qscale", "global_quality": str(lagrange * quantiser), "bf": "0"}


VIDEO = {
    "H.264": VideoCodec("libx264", "h264", 51, 10, lambda q: {"crf": str(q), "bf": "0", "threads": "1"}),
    "HEVC": VideoCodec(
        "libx265",
        "hevc",
        51,
        10,
        lambda q: {"crf": str(q), "x265-params": "bframes=0:pools=1:frame-threads=1:log-level=none"},
    ),
    "VP9": VideoCodec(
        "libvpx-vp9",
        "vp9",
        63,
        10,
        lambda q: {"crf": str(q), "b": "0", "lag-in-frames": "0", "cpu-used": "4", "threads": "1"},
    ),
    "MPEG-2": VideoCodec("mpeg2video", "mpeg2video", 31, 2, _mpeg),
    "MPEG-4": VideoCodec("mpeg4", "mpeg4", 31, 2, _mpeg),
}


@dataclass(frozen=True)
class Codec:
    """A codec and its quality: Pillow's 0 to 100, or colours; ratio, quantiser or rate factor, where less is better.

    A `panned` frame follows others of a camera that pans at a speed drawn for the image, as frames of videos do. An
    image may have been stored `smaller`, and scaled back by what shows it.
    """

    name: str
    quality: int
    panned: bool = False
    smaller: Smaller | None = None

    @property
    def described(self) -> str:
        """The codec in words."""
        words = f"{self.name} {self.quality}{' panned' if self.panned else ''}"
        return f"{words} at {self.smaller.described}" if self.smaller else words

    @property
    def random(self) -> bool:
        """Whether two draws give two images."""
        return self.panned or (self.smaller is not None and len(self.smaller.shares) > 1)

    def encode(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Return `image` (H, W, 3) after the encoder and the decoder; `rng` draws its size and the panned movement."""
        if self.smaller is not None:
            codec = replace(self, smaller=None)
            return self.smaller.distort(image, rng, lambda small: codec.encode(small, rng))
        if self.name == LOSSLESS:
            return image
        if self.name in VIDEO:
            speed = rng.uniform(-PAN_PX, PAN_PX, 2) if self.panned else None
            return _last_frame(image, VIDEO[self.name], self.quality, speed)
        if self.name in PALETTES:  # the file would lose no more
            pillow = Image.fromarray(image)
            indexed = pillow.quantize(self.quality)  # by median cut; dithered only to a palette that is given
            if PALETTES[self.name] is not Image.Dither.NONE:
                indexed = pillow.quantize(palette=indexed, dither=PALETTES[self.name])
            return np.asarray(indexed.convert("RGB"))
        buffer = io.BytesIO()
        options: dict[str, Json] = {"quality": self.quality}
        if self.name == "AVIF":
            options["max_threads"] = 1
        elif self.name == "JPEG2000":
            options = {"quality_mode": "rates", "quality_layers": [self.quality], "irreversible": True}
        Image.fromarray(image).save(buffer, self.name, **options)
        with Image.open(buffer) as decoded:
            return np.asarray(decoded.convert("RGB"))


def available() -> list[Codec]:
    """Return the codecs that are installed here, each at its worst quality."""
    stills = [
        Codec(name, ends[0]) for name, ends in PILLOW.items() if name not in FEATURES or features.check(FEATURES[name])
    ]
    video = [
        Codec(name, codec.coarsest, panned) for name, codec in VIDEO.items() if _has(codec) for panned in (False, True)
    ]
    return stills + video


def related_codecs(pairs: Sequence[Pair]) -> Iterator[tuple[Codec, float]]:
    """Yield installed codecs that explain some of the distortion of whole images, each with its mean squared error.

    Each has the quality at which its mean PSNR to the pristine images is nearest to the true one. What two codecs of
    one strength take away is alike; noise of the same strength would leave twice the identity's error.
    """
    few = [pairs[n] for n in np.unique(np.linspace(0, len(pairs) - 1, TRIED_IMAGES).astype(int))]
    identity = float(np.mean([_mse(x, y) for x, y in few]))
    if identity == 0:
        return
    colours = max(len(np.unique(y.reshape(-1, 3), axis=0)) for _, y in few)
    for family in available():
        if family.name in PALETTES:
            if colours > MOST_COLOURS:
                continue
            codec = replace(family, quality=max(colours, 2))
        else:
            codec = _at_strength(family, few)
        error = float(np.mean([_mse(_encoded(codec, x, n), y) for n, (x, y) in enumerate(few)]))
        if error < RELATED * identity:
            yield codec, error
        elif codec.name == "JPEG" and error > 1.5 * identity:
            return  # not the kind of thing that codecs do


def smaller_codecs(pairs: Sequence[Pair]) -> Iterator[Codec]:
    """Yield codecs of images that were stored smaller, and none, where the distorted images show that they were."""
    smaller = find_smaller(pairs)
    if smaller is None:
        return
    yield Codec(LOSSLESS, 0, smaller=smaller)
    for family in available():
        if family.name in SMALL_CODECS:
            yield _at_strength(replace(family, smaller=smaller), pairs)  # of all: shares are drawn


def _at_strength(family: Codec, pairs: Sequence[Pair]) -> Codec:
    """Return `family` at the quality whose mean PSNR to pristine is nearest to that of the distorted images."""
    true = np.mean([_log_mse(x, y) for x, y in pairs])

    @cache
    def excess(quality: int) -> float:
        codec = replace(family, quality=quality)
        return float(np.mean([_log_mse(x, _encoded(codec, x, n)) for n, (x, _) in enumerate(pairs)]) - true)

    if family.name in VIDEO:
        worst, best = VIDEO[family.name].coarsest, VIDEO[family.name].finest
    else:
        worst, best = PILLOW[family.name]
    while abs(worst - best) > 1:
        middle = (worst + best) // 2
        worst, best = (middle, best) if excess(middle) > 0 else (worst, middle)
    return replace(family, quality=min((worst, best), key=lambda quality: abs(excess(quality))))


def _encoded(codec: Codec, image: Pixels, seed: int) -> Pixels:
    return codec.encode(image, np.random.Generator(np.random.PCG64(seed)))


def _has(codec: VideoCodec) -> bool:
    """Return whether FFmpeg's libraries are here, and have this codec."""
    if importlib.util.find_spec("av") is None:
        return False
    import av

    return codec.encoder in av.codecs_available and codec.decoder in av.codecs_available


def _last_frame(image: Pixels, codec: VideoCodec, quality: int, speed: NDArray[np.float64] | None) -> Pixels:
    """Return `image` as the only frame of a video or, at `speed` pixels a frame, as the last of a panning camera's."""
    if importlib.util.find_spec("av") is None:
        raise PipelineError(
            f"this model codes frames of videos with FFmpeg's {codec.encoder}, by the package av: "
            "pip install '.[video]' in a clone of distort-pipeline"
        )
    import av

    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    encoder = av.CodecContext.create(codec.encoder, "w")
    encoder.width, encoder.height, encoder.pix_fmt = even.shape[1], even.shape[0], "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FRAMES_PER_SECOND), Fraction(FRAMES_PER_SECOND)
    encoder.options = {"g": "250", **codec.options(quality)}
    packets = []
    for number, frame in enumerate(_frames(even, speed)):
        coded = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format="yuv420p")
        coded.pts = number
        packets += encoder.encode(coded)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(codec.decoder, "r")
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    return np.ascontiguousarray(decoded[-1].to_ndarray(format="rgb24")[:height, :width])


def _frames(image: Pixels, speed: NDArray[np.float64] | None) -> Iterator[Pixels]:
    """Yield PAN_FRAMES moved versions of `image` if there is a speed, then `image`."""
    for ahead in range(PAN_FRAMES if speed is not None else 0, 0, -1):
        assert speed is not None
        move = np.array([[1, 0, -ahead * speed[0]], [0, 1, -ahead * speed[1]]])
        size = image.shape[1], image.shape[0]
        yield cv2.warpAffine(image, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    yield image


def _mse(x: Pixels, y: Pixels) -> float:
    return float(np.square(x.astype(np.float32) - y).mean())


def _log_mse(x: Pixels, y: Pixels) -> float:
    return float(np.log(_mse(x, y) + 0.1))
