"""Images of every supported format, and mutations."""

import io

import numpy as np
from PIL import Image as PILImage
from PIL import ImageCms

HEADER_BYTES = 96
EXTREMES = (0, 1, 0x7FFF, 0xFFFF, 100_000, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds():
    """Return name → bytes of valid images: every format, with features difficult for readers."""
    rng = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(48), np.arange(64))[..., None] * np.array([1, 2, 3])
    rgb = (ramp % 256 + rng.integers(0, 20, (48, 64, 3))).clip(0, 255).astype(np.uint8)
    colour, grey = PILImage.fromarray(rgb), PILImage.fromarray(rgb[..., 0])
    clear = PILImage.fromarray(np.dstack([rgb, 255 - rgb[..., 1]]))
    wide = PILImage.fromarray(rgb[..., 0].astype(np.uint16) * 257)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = PILImage.Exif()
    exif[0x0112] = 6
    images = {
        "png": _saved(colour, "PNG", icc_profile=profile, exif=exif),
        "png-palette": _saved(colour.quantize(32), "PNG", transparency=3),
        "png-alpha": _saved(clear, "PNG"),
        "png-16": _saved(wide, "PNG"),
        "jpeg": _saved(colour, "JPEG", quality=80, icc_profile=profile, exif=exif),
        "jpeg-progressive": _saved(colour, "JPEG", progressive=True),
        "jpeg-cmyk": _saved(colour.convert("CMYK"), "JPEG"),
        "jpeg2000": _saved(colour, "JPEG2000"),
        "jpeg2000-tiles": _saved(clear, "JPEG2000", tile_size=(32, 32)),
        "tiff": _saved(colour, "TIFF", icc_profile=profile),
        "tiff-lzw": _saved(clear, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": _saved(colour, "TIFF", compression="jpeg"),
        "tiff-16": _saved(wide, "TIFF"),
        "webp": _saved(colour, "WEBP", exif=exif),
        "webp-lossless": _saved(clear, "WEBP", lossless=True),
        "bmp": _saved(colour, "BMP"),
        "bmp-palette": _saved(grey, "BMP"),
        "gif": _saved(colour.quantize(64), "GIF"),
    }
    import cv2

    for name in ("png", "tiff"):  # 16-bit colour, not written by Pillow
        images[f"{name}-16-colour"] = cv2.imencode(f".{name}", rgb.astype(np.uint16) * 257)[1].tobytes()
    return images


def _saved(opened, kind, **options):
    file = io.BytesIO()
    opened.save(file, kind, **options)
    return file.getvalue()


def mutated(data, other, rng):
    """Return the name of a random mutation, and `data` mutated; `other` is an image to splice with."""
    name = rng.choice(sorted(MUTATIONS))
    return name, bytes(MUTATIONS[name](bytearray(data), other, rng))


def _flip(data, _, rng):
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _truncate(data, _, rng):
    return data[: rng.randrange(len(data))]


def _edit_header(data, _, rng):
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(min(HEADER_BYTES, len(data)))] = rng.randrange(256)
    return data


def _set_number(data, _, rng):
    size = rng.choice((2, 4))
    offset = rng.randrange(min(HEADER_BYTES, len(data) - size))
    number = rng.choice(EXTREMES) % (1 << 8 * size)
    data[offset : offset + size] = number.to_bytes(size, rng.choice(("big", "little")))
    return data


def _repeat(data, _, rng):
    start = rng.randrange(len(data))
    block = data[start : start + rng.randint(1, 400)]
    return data[:start] + block * rng.randint(2, 40) + data[start:]


def _cut_out(data, _, rng):
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 400)]
    return data


def _splice(data, other, rng):
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


MUTATIONS = {
    "flipped bits": _flip,
    "truncation": _truncate,
    "header bytes": _edit_header,
    "extreme numbers": _set_number,
    "repeated blocks": _repeat,
    "missing blocks": _cut_out,
    "splices": _splice,
}
