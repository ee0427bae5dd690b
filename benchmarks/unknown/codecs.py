"""Codecs of others: WebP and AVIF by Pillow; H.264, HEVC and MPEG-2 by FFmpeg, a P frame after moving ones."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction

import cv2
import numpy as np
import PIL.Image

from benchmarks.unknown.pixels import Image, Rng

FRAMES = 5  # an I frame and four P frames, of which the last shows the image itself
FASTEST_PX = 5.0  # a frame, in either direction: the camera pans at a speed that is drawn for each image
WEBP_QUALITY, AVIF_QUALITY = 5, 15
H264 = {"crf": "36", "preset": "medium", "bf": "0", "g": "100", "threads": "1"}
HEVC = {"crf": "38", "preset": "medium", "x265-params": "bframes=0:keyint=100:pools=1:frame-threads=1:log-level=none"}
DECODERS = {"libx264": "h264", "libx265": "hevc", "mpeg2video": "mpeg2video"}
MPEG2 = {"qmin": "31", "qmax": "31", "bf": "0", "g": "100", "flags": "+qscale", "global_quality": str(31 * 118)}


def webp(image: Image, rng: Rng) -> Image:  # noqa: ARG001 - each maker takes both
    """Return `image` after WebP of quality 5."""
    return _through_pillow(image, "WEBP", quality=WEBP_QUALITY)


def avif(image: Image, rng: Rng) -> Image:  # noqa: ARG001 - each maker takes both
    """Return `image` after AVIF of quality 15."""
    return _through_pillow(image, "AVIF", quality=AVIF_QUALITY, max_threads=1)


def h264(image: Image, rng: Rng) -> Image:
    """Return `image` as the last frame of an H.264 video of constant rate factor 36 (x264)."""
    return _last_frame(_panned(image, rng), "libx264", H264)


def hevc(image: Image, rng: Rng) -> Image:
    """Return `image` as the last frame of an HEVC video of constant rate factor 38 (x265)."""
    return _last_frame(_panned(image, rng), "libx265", HEVC)


def mpeg2(image: Image, rng: Rng) -> Image:
    """Return `image` as the last frame of an MPEG-2 video at quantiser scale 31, the coarsest."""
    return _last_frame(_panned(image, rng), "mpeg2video", MPEG2)


def _through_pillow(image: Image, kind: str, **options: int) -> Image:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, kind, **options)
    with PIL.Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB"))


def _panned(image: Image, rng: Rng) -> list[Image]:
    """Return FRAMES images: `image` as a panning camera sees it, last of all in its own place."""
    speed = rng.uniform(-FASTEST_PX, FASTEST_PX, size=2)
    size = image.shape[1], image.shape[0]
    frames = []
    for frame in range(FRAMES):
        x, y = speed * (frame - FRAMES + 1)
        by = np.array([[1, 0, x], [0, 1, y]])
        frames.append(cv2.warpAffine(image, by, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))
    return frames


def _last_frame(frames: Sequence[Image], codec: str, options: Mapping[str, str]) -> Image:
    """Return the last of `frames`, whose sides are even, as FFmpeg's `codec` leaves it, with chroma 4:2:0."""
    import av  # in the extra `unknown`

    height, width = frames[0].shape[:2]
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, 25), Fraction(25), dict(options)
    packets = []
    for number, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    if len(decoded) != len(frames):
        raise RuntimeError(f"{codec} gave {len(decoded)} frames of {len(frames)}")
    return np.asarray(decoded[-1].to_ndarray(format="rgb24"))
