"""Image files as 8-bit sRGB pixels, by one rule; near copies, and traces of heavy compression.

The rule, in this order:

1. Pillow opens the bytes: PNG, JPEG, JPEG 2000, TIFF, WebP, AVIF, BMP, GIF or PPM. Number of frames and size are
   checked in the file header, before decoding. More than one frame is rejected, except in a JPEG with further images
   after its own (MPO: previews, depth, gain maps), read as its first image. Reduced pages and masks of a TIFF
   (NewSubfileType) are no frames. Damaged metadata of whole pixels are ignored; a JPEG with lost data is rejected.
2. 16 bits become 8 as round(value * 255 / 65535) (12-bit grey TIFF: / 4095). Pillow would cut 16-bit colour to its
   upper bytes, so OpenCV reads such PNG and TIFF, and both must agree on the upper bytes. Pillow scales JPEG 2000,
   AVIF and PPM colour of more than 8 bits. Values without a stated range (floats, 32 bits) are rejected.
3. Palette and YCbCr become RGB; grey becomes three equal channels.
4. An ICC profile other than sRGB is converted to sRGB (perceptual intent); a damaged profile, or a profile for other
   channels than the image's, is ignored, as in browsers. CMYK without a profile takes Pillow's plain
   conversion. PNG's gAMA, cHRM and cICP chunks are ignored.
5. Alpha, also a transparent palette entry or colour, is composited over white, the background of most viewers;
   opaque images are unchanged. A fourth channel of a BMP with zeros only is padding, not alpha.
6. The EXIF orientation is applied.
"""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageCms, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag
from PIL.TiffTags import TAGS_V2 as _TIFF_TAGS

from distort_pipeline.data.containers import (
    PNG_SIGNATURE,
    TIFF_HEADS,
    InvalidImage,
    describe_file,
    jpeg_fault,
    mark_png,
    png_pixels,
    read_jpeg,
    tiff_image,
)
from distort_pipeline.records import Image, canonical

# Pillow's other readers are excluded: EPS starts a program, TGA and others accept any bytes.
FORMATS = ("PNG", "JPEG", "MPO", "JPEG2000", "TIFF", "WEBP", "AVIF", "BMP", "DIB", "GIF", "PPM")
BITS_PER_SAMPLE = next(tag for tag, info in _TIFF_TAGS.items() if info.name == "BitsPerSample")
PHOTOMETRIC = next(tag for tag, info in _TIFF_TAGS.items() if info.name == "PhotometricInterpretation")
PNG_DEPTH_AT = 24  # offset of the bit depth in a PNG: 8 bytes of signature, 8 of chunk head, 8 of sides
MIN_ZEROS = 1024  # at the end of a compressed file; files cut short by a copy end like this
BLOCK_BYTES = 4096  # of file systems: zeros for lost data begin with a block, black pixels where they like
SRGB_TOLERANCE = 2  # 8-bit levels: sRGB profiles of other makers stay within, Display P3 and Adobe RGB exceed it by far

# raised by Pillow on broken bytes, see test_damage_is_a_reason_not_a_crash
BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, MemoryError),
    *(RuntimeError, struct.error, zlib.error, PILImage.DecompressionBombError),
)

UPRIGHT = {  # EXIF orientation → transpose to upright
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_270,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_90,
}

_opening = threading.Lock()  # MAX_IMAGE_PIXELS is one global for all threads


def decode(data: bytes, *, max_megapixels: float | None = None, min_side_px: int = 1) -> tuple[Image, str]:
    """Return the image in a file's bytes, and Pillow's name of the file's mode (with ';16' for 16-bit colour).

    InvalidImage if the bytes are not one complete image, or if the image has more than `max_megapixels` (10^6 pixels)
    or a side below `min_side_px`.
    """
    icc = exif = None
    if data.startswith(PNG_SIGNATURE):
        data, icc, exif = png_pixels(data)
    elif data.startswith(TIFF_HEADS):
        data = tiff_image(data)
    opened, mode = _loaded(data, max_megapixels, min_side_px)
    orientation = _orientation(opened, exif)
    wide = _sixteen_bit_colour(opened, data)
    eight = _eight_bits(opened) if wide is None else PILImage.fromarray(_scaled(wide, 65535))
    pixels = _pixels(eight, opened, orientation, icc or opened.info.get("icc_profile"))
    return pixels, mode if wide is None else f"{mode};16"


def image_digest(image: Image) -> str:
    """Return the SHA-256 over the shape and the pixels of `image`: its identity, independent of the file format."""
    sha = hashlib.sha256(canonical(list(image.shape)).encode())
    sha.update(np.ascontiguousarray(image).data)
    return sha.hexdigest()


def encode_png(image: Image) -> bytes:
    """Return `image` as the bytes of a PNG file: in a sixth of Pillow's time, 14 % larger."""
    import cv2

    success, data = cv2.imencode(".png", image[..., ::-1])
    if not success:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape}")
    return data.tobytes()


def marked_png(image: Image) -> bytes:
    """Return `image` as a PNG file with the mark of this program."""
    return mark_png(encode_png(image))


def encode_webp(image: Image) -> bytes:
    """Return `image` as the bytes of a lossless WebP file, a third smaller than a PNG file."""
    file = io.BytesIO()
    PILImage.fromarray(image).save(file, "WEBP", lossless=True, quality=50, method=2)
    return file.getvalue()


def _loaded(data: bytes, max_megapixels: float | None, min_side_px: int) -> tuple[PILImage.Image, str]:
    """Return the decoded image, and the mode of its file."""
    try:
        opened = _open(data)
        _check_header(opened, max_megapixels, min_side_px)
        mode = opened.mode
        opened.load()
    except UnidentifiedImageError:
        raise InvalidImage(describe_file(data)) from None
    except BROKEN as error:
        raise InvalidImage(f"broken image: {str(error) or type(error).__name__}") from None
    if opened.format in ("JPEG", "MPO") and (fault := jpeg_fault(data, lambda other: _has_pixels(other, opened))):
        raise InvalidImage(f"broken image: {fault}")
    if lost := _lost_bytes(data, opened.format):
        raise InvalidImage(f"broken image: its last {lost} bytes are zeros, data were lost")
    return opened, mode


def _lost_bytes(data: bytes, image_format: str | None) -> int:
    """Return the number of zeros at the end of a file in place of lost data, in formats that decode them as pixels."""
    zeros = len(data) - len(data.rstrip(b"\0"))
    if image_format in ("WEBP", "AVIF"):
        return zeros if zeros >= MIN_ZEROS else 0
    begins_a_block = zeros >= BLOCK_BYTES and (len(data) - zeros) % BLOCK_BYTES == 0
    return zeros if image_format in ("BMP", "DIB", "PPM", "TIFF") and begins_a_block else 0


def _has_pixels(data: bytes, expected: PILImage.Image) -> bool:
    """Return whether the JPEG file `data` decodes to the pixels of `expected`."""
    try:
        return np.array_equal(np.asarray(_open(data)), np.asarray(expected))
    except BROKEN:
        return False


def _orientation(opened: PILImage.Image, exif: bytes | None) -> int:
    """Return the EXIF orientation to be applied, 1 if absent or damaged; TIFF: applied by load already."""
    try:
        tags = opened.getexif()
        if exif is not None:
            tags.load(exif)
        orientation: int = tags.get(ExifTag.Orientation, 1)
        return orientation
    except BROKEN:
        return 1


def _open(data: bytes) -> PILImage.Image:
    """Return the opened, not yet decoded image; `_check_header` replaces Pillow's own size limit."""
    PILImage.init()
    formats = [name for name in FORMATS if name in PILImage.OPEN]  # AVIF came with Pillow 11.3
    with _opening:
        guard, PILImage.MAX_IMAGE_PIXELS = PILImage.MAX_IMAGE_PIXELS, None
        try:
            return PILImage.open(io.BytesIO(data), formats=formats)
        finally:
            PILImage.MAX_IMAGE_PIXELS = guard


def _check_header(opened: PILImage.Image, max_megapixels: float | None, min_side_px: int) -> None:
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format not in ("MPO", "TIFF"):  # of a TIFF, `tiff_image` knows the pages
        raise InvalidImage(f"animated, or of several pages: {frames} frames")
    megapixels = opened.width * opened.height / 1e6
    if max_megapixels is not None and megapixels > max_megapixels:
        raise InvalidImage(f"too large: {megapixels:g} megapixels, at most {max_megapixels:g}")
    if min(opened.size) < min_side_px:
        raise InvalidImage(f"too small: {opened.width}x{opened.height}, a side needs {min_side_px} px")
    if opened.mode == "F" or (opened.mode == "I" and opened.format not in ("PNG", "PPM")):
        raise InvalidImage(f"its values have no stated range: mode {opened.mode}")


def _sixteen_bit_colour(opened: PILImage.Image, data: bytes) -> NDArray[np.uint16] | None:
    """Return the 16-bit RGB or RGBA (H, W, 3 or 4) of a 16-bit PNG or TIFF, None for other files."""
    if opened.mode not in ("RGB", "RGBA", "LA"):
        return None
    if opened.format == "PNG":
        depth = data[PNG_DEPTH_AT]
    elif opened.format == "TIFF":
        depth = max(opened.tag_v2.get(BITS_PER_SAMPLE, (8,)))  # type: ignore[attr-defined]
    else:
        return None
    if depth != 16:
        return None
    import cv2  # imported only for 16-bit colour

    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InvalidImage(f"broken image: {error.err}") from None
    if bgr is None or bgr.dtype != np.uint16 or bgr.ndim != 3 or bgr.shape[2] < 3:
        raise InvalidImage("OpenCV does not read its 16-bit colour")
    wide: NDArray[np.uint16] = np.ascontiguousarray(bgr[..., [2, 1, 0]])
    # checked against Pillow's upper bytes: layouts misread by OpenCV, or premultiplied alpha, differ
    if not np.array_equal((wide >> 8).astype(np.uint8), np.asarray(opened.convert("RGBA"))[..., :3]):
        raise InvalidImage("a 16-bit layout on which Pillow and OpenCV disagree; save it as PNG")
    has_alpha = opened.mode in ("RGBA", "LA") or "transparency" in opened.info
    return np.concatenate([wide, bgr[..., 3:]], axis=2) if has_alpha and bgr.shape[2] == 4 else wide


def _eight_bits(opened: PILImage.Image) -> PILImage.Image:
    """Return `opened`, or its 16-bit grey as 8-bit grey, with alpha if one grey value is transparent."""
    if not opened.mode.startswith("I"):
        return opened
    values = np.asarray(opened).astype(np.int64)
    white = 65535
    if opened.format == "TIFF":
        tags = opened.tag_v2  # type: ignore[attr-defined]
        white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
        if tags.get(PHOTOMETRIC) == 0:  # white is zero: Pillow inverts 8-bit values only
            values = white - values
    grey = PILImage.fromarray(_scaled(values, white))
    key = opened.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(PILImage.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _scaled(values: NDArray[np.uint16] | NDArray[np.int64], white: int) -> NDArray[np.uint8]:
    """Return round(values * 255 / white) for values in 0 to `white`, exactly (integer arithmetic)."""
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _pixels(eight: PILImage.Image, opened: PILImage.Image, orientation: int, icc: bytes | None) -> Image:
    """Return the 8-bit image `eight` of the file `opened` as sRGB by the profile `icc`, opaque and upright."""
    colour, alpha = _split(eight)
    rgb = _to_srgb(colour, icc)
    if alpha is not None and not (opened.format == "BMP" and alpha.getextrema() == (0, 0)):
        rgb = PILImage.composite(rgb, PILImage.new("RGB", rgb.size, "white"), alpha)
    transposition = UPRIGHT.get(orientation)
    return np.array(rgb if transposition is None else rgb.transpose(transposition))


def _split(eight: PILImage.Image) -> tuple[PILImage.Image, PILImage.Image | None]:
    """Return colours (mode L, RGB, CMYK or LAB) and alpha (mode L, or None)."""
    grey = eight.mode in ("1", "L", "LA", "La")
    if eight.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in eight.info:
        full = eight.convert("RGBA")
        return (full.getchannel("R") if grey else full.convert("RGB")), full.getchannel("A")
    if grey:
        return eight.convert("L"), None
    return (eight if eight.mode in ("CMYK", "LAB") else eight.convert("RGB")), None


def _to_srgb(colour: PILImage.Image, icc: bytes | None) -> PILImage.Image:
    """Return `colour` (mode L, RGB, CMYK or LAB) as sRGB in mode RGB, through the ICC profile if present."""
    if colour.mode == "LAB":
        return _converted(colour, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    plain = colour.convert("RGB")
    if not icc:
        return plain
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if colour.mode == "CMYK":
            return _converted(colour, profile)
        return plain if _is_srgb(profile, colour.mode) else _converted(colour, profile)
    except (ImageCms.PyCMSError, OSError):  # damaged, or for other channels
        return plain


def _is_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """Return whether `profile` maps a lattice of colours to itself, as names such as 'linear sRGB' are misleading."""
    steps = np.linspace(0, 255, 18 if mode == "RGB" else 256).astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 18, 3) if mode == "RGB" else steps[None]
    probe = PILImage.fromarray(lattice)
    shift = np.asarray(_converted(probe, profile)).astype(int) - np.asarray(probe.convert("RGB"))
    return int(abs(shift).max()) <= SRGB_TOLERANCE


def _converted(colour: PILImage.Image, profile: ImageCms.ImageCmsProfile) -> PILImage.Image:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    transform = ImageCms.buildTransform(profile, srgb, colour.mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    converted = ImageCms.applyTransform(colour, transform)
    assert converted is not None  # None only for in-place conversion
    return converted


HASH_SIDE = 8  # a difference hash (Krawetz 2013, dHash) along rows and one along columns: 128 bits
THUMBNAIL_SIDE = 24
# Of 278 photographs: copies at another size differ in 8 bits at most, after JPEG at quality 10 in 12, after noise of 40
# levels in 9; the most similar other photographs in 11 bits with a correlation of 0.90.
MAX_BITS = 14
MIN_CORRELATION = 0.95
MIN_DEVIATION = 2.0  # 8-bit levels: a flat thumbnail shows no scene
ROWS_AT_ONCE = 256

LUMINANCE_STEPS = 3688  # sum of Annex K.1 of ITU-T T.81, libjpeg's table at quality 50
MIN_QUALITY = 60  # of libjpeg: coarser tables count as heavy compression
BLOCK_PX = 8
CENTRE_PX = 512
MIN_BLOCKING_PX = 64
# Of 278 photographs at most 0.44 levels; ten after JPEG at quality 30 at least 1.29, at quality 90 at most 0.46.
BLOCKING_8BIT, BLOCKING_SHARE = 1.2, 0.1


@dataclass(frozen=True)
class Fingerprint:
    """The difference hash of an image, and its thumbnail for the check of a match."""

    bits: bytes
    thumbnail: bytes


def fingerprint(image: Image) -> Fingerprint:
    """Return the fingerprint of `image`."""
    grey = PILImage.fromarray(image).convert("L")
    wide = np.asarray(grey.resize((HASH_SIDE + 1, HASH_SIDE), PILImage.Resampling.BOX), np.int16)
    high = np.asarray(grey.resize((HASH_SIDE, HASH_SIDE + 1), PILImage.Resampling.BOX), np.int16)
    bits = np.concatenate([(np.diff(wide, axis=1) < 0).ravel(), (np.diff(high, axis=0) < 0).ravel()])
    thumbnail = grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), PILImage.Resampling.BOX)
    return Fingerprint(np.packbits(bits).tobytes(), thumbnail.tobytes())


def near_copies(prints: Sequence[Fingerprint]) -> dict[int, int]:
    """Return index → index of the first image of the same scene, for every image with an earlier near copy."""
    if not prints:
        return {}
    bits = np.frombuffer(b"".join(item.bits for item in prints), np.uint64).reshape(len(prints), -1)
    first = list(range(len(prints)))

    def root(index: int) -> int:
        while first[index] != index:
            index = first[index]
        return index

    for start in range(0, len(prints), ROWS_AT_ONCE):
        rows = bits[start : start + ROWS_AT_ONCE]
        distances = sum(np.bitwise_count(rows[:, None, k] ^ bits[None, :, k]) for k in range(bits.shape[1]))
        for row, column in np.argwhere(np.asarray(distances) <= MAX_BITS):
            scene, other_scene = root(start + int(row)), root(int(column))
            if column > start + row and scene != other_scene and _correlated(prints[start + row], prints[column]):
                first[max(scene, other_scene)] = min(scene, other_scene)
    return {index: root(index) for index in range(len(prints)) if root(index) != index}


def jpeg_quality(data: bytes) -> int | None:
    """Return libjpeg's quality of a JPEG file's luminance table, by its sum; None for other files."""
    jpeg = read_jpeg(data) if data[:2] == b"\xff\xd8" else None
    if jpeg is None or jpeg.luma_table not in jpeg.tables:
        return None
    percent = 100 * sum(jpeg.tables[jpeg.luma_table]) / LUMINANCE_STEPS
    return max(round(5000 / percent if percent > 100 else 100 - percent / 2), 1)


def has_blocks(image: Image) -> bool:
    """Return whether pixels step along a grid of 8 px, in rows and in columns, at any offset."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_BLOCKING_PX:
        return False
    y, x = max((height - CENTRE_PX) // 2, 0), max((width - CENTRE_PX) // 2, 0)
    grey = np.asarray(PILImage.fromarray(image[y : y + CENTRE_PX, x : x + CENTRE_PX]).convert("L"), np.float32)
    return _steps_in_rows(grey) and _steps_in_rows(grey.T)


def heavy_compression(data: bytes, image: Image) -> str | None:
    """Return the trace of heavy compression in a file, or in its pixels; None for high quality."""
    quality = jpeg_quality(data)
    if quality is not None and quality < MIN_QUALITY:
        return f"a JPEG of quality {quality}"
    return "has the 8 px blocks of an earlier JPEG" if has_blocks(image) else None


def _correlated(first: Fingerprint, second: Fingerprint) -> bool:
    a, b = (np.frombuffer(item.thumbnail, np.uint8).astype(float) for item in (first, second))
    return min(a.std(), b.std()) >= MIN_DEVIATION and np.corrcoef(a, b)[0, 1] >= MIN_CORRELATION


def _steps_in_rows(grey: NDArray[np.float32]) -> bool:
    """Return whether most 8th steps along the rows are larger than both neighbours, by level and by share."""
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    excess = steps - (np.roll(steps, 1) + np.roll(steps, -1)) / 2
    groups = len(steps) // BLOCK_PX
    by_offset = np.median(excess[: groups * BLOCK_PX].reshape(groups, BLOCK_PX), axis=0)
    return bool(by_offset.max() > max(BLOCKING_8BIT, BLOCKING_SHARE * steps.mean()))
