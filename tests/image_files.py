"""Image files of many kinds, written by hand or by Pillow."""

import io
import struct
import zlib

import numpy as np
from PIL import Image as PILImage


def saved(pixels, kind, mode=None, **options):
    opened = PILImage.fromarray(pixels)
    file = io.BytesIO()
    (opened if mode is None else opened.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png16(values, colour_type, extra=b""):
    """A 16-bit PNG written by hand: independent of the library under test."""
    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def tiff16(values, *, photometric=2, orientation=1, extra=None, bits=16):
    """An uncompressed 16-bit TIFF written by hand."""
    height, width, samples = values.shape
    pixels = values.astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 274: orientation, 277: samples}
    tags |= {278: height, 279: len(pixels)} | ({} if extra is None else {338: extra})
    after = 8 + 2 + 12 * len(tags) + 4
    depths = struct.pack(f"<{samples}H", *[bits] * samples)
    tags[273] = after + len(depths)
    file = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, value in sorted(tags.items()):
        count = samples if tag == 258 else 1
        long = tag in (257, 256, 273, 278, 279) or count > 2
        file += struct.pack("<HHI", tag, 3 if tag == 258 else (4 if long else 3), count)
        file += struct.pack("<I", after if count > 2 else value)
    return file + struct.pack("<I", 0) + depths + pixels


def bmp_bitfields(pixels, bits, masks):
    """A BMP with BI_BITFIELDS and three or four masks, rows from the bottom, written by hand."""
    height, width = pixels.shape[:2]
    values = np.zeros((height, width), np.uint32)
    for channel, mask in enumerate(masks):
        low = (mask & -mask).bit_length() - 1
        depth = mask.bit_length() - low
        values |= (pixels[..., channel].astype(np.uint32) >> (8 - depth)) << low
    rows = b"".join(line.astype("<u2" if bits == 16 else "<u4").tobytes().ljust(-(-width * bits // 32) * 4, b"\0")
                    for line in values[::-1])  # fmt: skip
    size = 40 if len(masks) == 3 else 56  # the fourth mask belongs to a later, longer header
    info = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, 3, len(rows), 2835, 2835, 0, 0)
    head = struct.pack("<2sIHHI", b"BM", 54 + 4 * len(masks) + len(rows), 0, 0, 54 + 4 * len(masks))
    return head + info + struct.pack(f"<{len(masks)}I", *masks) + rows


def icc_profile(space, curves, colorants=(), gamma=1.0):
    """A minimal ICC version 2 profile: matrix and gamma for RGB, gamma alone for grey."""
    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256)) + b"\0\0"
    tags = dict.fromkeys(curves, curve)
    xyz_tags = {b"wtpt": (0.9642, 1.0, 0.8249)} | dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=False))
    for name, xyz in xyz_tags.items():
        tags[name] = struct.pack(">4sI3i", b"XYZ ", 0, *[round(value * 65536) for value in xyz])
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *[round(value * 65536) for value in (0.9642, 1.0, 0.8249)])
    return head.ljust(128, b"\0") + table + body


def tiff_pages(pages, inner=()):
    """An uncompressed 8-bit RGB TIFF of `pages`, (pixels, tags) each, with `inner` as SubIFDs of the first page."""
    file = bytearray(b"II*\0" + bytes(4))

    def page(pixels, tags):
        height, width = pixels.shape[:2]
        start = len(file)
        file.extend(pixels.tobytes() + struct.pack("<3H", *[tags.get(258, 8)] * 3) + b"\0" * (pixels.size % 2))
        values = {256: width, 257: height, 259: 1, 262: 2, 273: start, 277: 3, 278: height, 279: pixels.size, **tags}
        values[258] = start + pixels.size
        offset = len(file)
        file.extend(struct.pack("<H", len(values)))
        for tag, value in sorted(values.items()):
            file.extend(struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value))
        file.extend(bytes(4))
        return offset

    link = 4
    offsets = [page(*item) for item in inner]
    for number, (pixels, tags) in enumerate(pages):
        offset = page(pixels, {**tags, 330: offsets[0]} if offsets and not number else tags)
        file[link : link + 4] = struct.pack("<I", offset)
        link = len(file) - 4
    return bytes(file)
