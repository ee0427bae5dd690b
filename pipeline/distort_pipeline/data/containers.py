"""What lies around the pixels of an image file: PNG chunks, TIFF pages, JPEG scans; and the names of other files.

Decoders are forgiving where a corpus must not be, and strict where pixels are whole. Before decoding, a PNG loses its
metadata, and a TIFF its previews. After decoding, a JPEG is asked for the rest of its data: libjpeg fills lost
data with grey and only warns.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distort_pipeline.errors import PipelineError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"tRNS", b"acTL", b"fcTL", b"fdAT")  # ancillary chunks with an effect on pixels or frames
PNG_MARK = b"tEXtSoftware\0distort-pipeline"
MAX_METADATA_BYTES = 2**26  # of an unpacked ICC profile

TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TIFF_INTEGERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # type → struct's letter
MAX_TIFF_PAGES = 1000
SUBFILE, OLD_SUBFILE, BITS, PHOTOMETRIC, SUB_IFDS, SAMPLE_FORMAT = 254, 255, 258, 262, 330, 339
SEVERAL_PAGES = 2  # bit of NewSubfileType without a meaning for the page itself; all others mark previews and masks
OLD_REDUCED = 2
RAW_PHOTOMETRICS = (32803, 34892)  # CFA, LinearRaw: DNG 1.7, chapter 4
FLOAT_SAMPLES = 3

TAIL_BYTES = 64
GARBAGE = bytes(np.random.default_rng(0).integers(1, 255, TAIL_BYTES, dtype=np.uint8))  # has no marker: no byte 0xFF
FRAMES_WITH_HUFFMAN = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
PROGRESSIVE = 0xC2
BLOCK_PX = 8

RAW = "raw data of a camera; develop it and save it as PNG or TIFF"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
OTHER_FILES: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "a pointer of Git LFS without the image; `git lfs pull` gets the image"),
    (rb"[^\n]{0,200}/annex/objects/", "a pointer of git-annex without the image; `git annex get` gets the image"),
    (rb"(?is)\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)", "a web page (HTML), no image; download it again"),
    (rb"(?is)\s*(<\?xml.{0,1000}?)?<svg", "an SVG drawing; save it as PNG"),
    (rb"(?s)\s*<\?xml", "an XML document and no image"),
    (rb"%PDF", "a PDF document; save its images as PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript document; save it as PNG"),
    (rb"8BPS", "a Photoshop document; save it as PNG or TIFF"),
    (rb"(?s)....ftyp(" + b"|".join(HEIF_BRANDS) + b")", "a HEIC image, not read here; save it as PNG or AVIF"),
    (rb"(?s)....ftypcrx", RAW),
    (rb"(?s)....ftypavi[fs]", "an AVIF image that is damaged or not supported by this Pillow"),
    (rb"(?s)....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video and no image"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL image, not read here; save it as PNG"),
    (rb"FUJIFILMCCD-RAW|IIU\0|II\x1a\0\0\0HEAPCCDR|IIRO|IIRS", RAW),
    (rb"v/1\x01|#\?RADIANCE|#\?RGBE|P[Ff]\n", "its values have no stated range: floats; save it as PNG"),
    (rb"(?s)\0\0[\1\2]\0[^\0]", "an icon or cursor, not read here; save it as PNG"),
    (rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "an archive without an archive's name; unpack it"),
)  # fmt: skip


class InvalidImage(PipelineError):  # noqa: N818 - named after the file
    """A file cannot be used, for `reason`; an ordinary event, recorded by the ingest step."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def describe_file(data: bytes) -> str:
    """Return the name of a file in no format of images that is read here, with the remedy where there is any."""
    if not data.strip(b"\0"):
        return f"holds zeros only, {len(data)} bytes; get it again" if data else "an empty file: 0 bytes; get it again"
    for pattern, name in OTHER_FILES:
        if re.match(pattern, data):
            return name
    if data.startswith(TIFF_HEADS):
        return _tiff_layout(data)
    try:
        start = data[:400].decode() if len(data) <= 400 else data[:400].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        start = ""
    if start and all(letter.isprintable() or letter.isspace() for letter in start) and "\ufffd" not in start:
        return f"text and no image: {' '.join(start.split())[:40]!r}"
    return "not an image in a format that is read here"


# PNG


def mark_png(png: bytes) -> bytes:
    """Return a PNG file with the name of this program in it, so that `ingest` takes no sheet for a photograph."""
    end = len(PNG_SIGNATURE) + 25  # of IHDR
    length = struct.pack(">I", len(PNG_MARK) - 4)
    return png[:end] + length + PNG_MARK + struct.pack(">I", zlib.crc32(PNG_MARK)) + png[end:]


def is_marked_png(data: bytes) -> bool:
    """Return whether this program wrote the PNG file."""
    return data.startswith(PNG_SIGNATURE) and PNG_MARK in data[: data.find(b"IDAT")]


def png_pixels(data: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """Return a PNG file without its metadata; its ICC profile and EXIF data, or None if absent or damaged."""
    kept, icc, exif = [PNG_SIGNATURE], None, None
    for kind, body, chunk in _png_chunks(data):
        if not kind[0] & 0x20 or kind in PNG_KEPT:  # a capital first letter: critical
            kept.append(chunk)
        elif zlib.crc32(kind + body) != int.from_bytes(chunk[-4:], "big"):
            continue
        elif kind == b"iCCP":
            icc = _unpacked(body.partition(b"\0")[2][1:])
        elif kind == b"eXIf":
            exif = body
    return b"".join(kept), icc, exif


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, body and all bytes of each chunk, the last perhaps cut off."""
    start = len(PNG_SIGNATURE)
    while len(data) - start >= 8:
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], data[start + 8 : end - 4], data[start:end]
        start = end


def _unpacked(packed: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(packed, MAX_METADATA_BYTES)
    except zlib.error:
        return None


# TIFF


@dataclass(frozen=True)
class TiffPage:
    """An image file directory: its offset, and the integers of its tags."""

    offset: int
    tags: dict[int, tuple[int, ...]]

    def is_full(self) -> bool:
        """Return whether the page is an image of its own, no preview, mask or depth map."""
        if SUBFILE in self.tags:
            return not self.tags[SUBFILE][0] & ~SEVERAL_PAGES
        return self.tags.get(OLD_SUBFILE) != (OLD_REDUCED,)

    def is_raw(self) -> bool:
        """Return whether the page has the values of a camera's sensor."""
        return self.tags.get(PHOTOMETRIC, (0,))[0] in RAW_PHOTOMETRICS


def tiff_image(data: bytes) -> bytes:
    """Return a TIFF file with its single full image as the first page; InvalidImage if several, raw, or none."""
    pages, inner = _tiff_pages(data)
    if any(page.is_raw() for page in pages + inner):
        raise InvalidImage(RAW)
    full = [page for page in pages if page.is_full()] or [page for page in inner if page.is_full()]
    if len(full) > 1:
        raise InvalidImage(f"of several pages: {len(full)} frames")
    if pages and not full:
        raise InvalidImage("a TIFF of previews and masks alone, without the full image")
    if not full:
        return data
    at, width, order = _tiff_head(data)
    first = full[0].offset.to_bytes(width, order)
    return data if data[at : at + width] == first else data[:at] + first + data[at + width :]


def _tiff_head(data: bytes) -> tuple[int, int, Literal["little", "big"]]:
    """Return place and width of the first page's offset, and the byte order."""
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    return (8, 8, order) if b"+" in data[:4] else (4, 4, order)


def _tiff_pages(data: bytes) -> tuple[list[TiffPage], list[TiffPage]]:
    """Return the pages of a TIFF file, and the pages inside pages (SubIFDs); none of damaged directories."""
    at, width, order = _tiff_head(data)
    letter, long = ("<" if order == "little" else ">"), ("Q" if width == 8 else "I")
    seen: set[int] = set()

    def chain(offset: int) -> Iterator[TiffPage]:
        while offset and offset not in seen and len(seen) < MAX_TIFF_PAGES:
            seen.add(offset)
            (count,) = struct.unpack_from(letter + ("Q" if width == 8 else "H"), data, offset)
            start = offset + (8 if width == 8 else 2)
            size = 4 + 2 * width
            tags = {}
            for entry in range(start, start + min(count, 4096) * size, size):
                tag, kind, number = struct.unpack_from(letter + "HH" + long, data, entry)
                if kind not in TIFF_INTEGERS or not 0 < number <= 64:
                    continue
                values = f"{letter}{number}{TIFF_INTEGERS[kind]}"
                where = entry + 4 + width
                if struct.calcsize(values) > width:
                    (where,) = struct.unpack_from(letter + long, data, where)
                tags[tag] = struct.unpack_from(values, data, where)
            yield TiffPage(offset, tags)
            (offset,) = struct.unpack_from(letter + long, data, start + count * size)

    pages: list[TiffPage] = []
    inner: list[TiffPage] = []
    try:
        pages += chain(struct.unpack_from(letter + long, data, at)[0])
        for page in pages:
            for offset in page.tags.get(SUB_IFDS, ()):
                inner += chain(offset)
    except (struct.error, OverflowError):
        return pages, inner  # Pillow says what is broken
    return pages, inner


def _tiff_layout(data: bytes) -> str:
    """Return the reason for which Pillow does not read a TIFF file."""
    pages, _ = _tiff_pages(data)
    if not pages:
        return "broken image: a TIFF without a readable page"
    tags = pages[0].tags
    bits, formats = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    if FLOAT_SAMPLES in formats:
        return f"its values have no stated range: floats of {max(bits)} bits; save it as PNG or as TIFF of 8 or 16 bits"
    if max(bits) > 16:
        return f"its values have no stated range: {max(bits)} bits; save it as PNG or as TIFF of 8 or 16 bits"
    return f"a TIFF layout that is not read here: {len(bits)} channels of {max(bits)} bits; save it as PNG"


# JPEG


@dataclass(frozen=True)
class JpegScan:
    """A scan: its components, its band of coefficients, and the range of its data in the file."""

    components: tuple[int, ...]
    band: range
    low_bit: int
    start: int
    end: int
    restart_interval: int


@dataclass(frozen=True)
class Jpeg:
    """The markers of the first image in a JPEG file."""

    frame: int  # marker of the frame header
    height: int
    width: int
    sampling: dict[int, tuple[int, int]]  # component → horizontal and vertical factor
    tables: dict[int, tuple[int, ...]]  # number → quantisation table, in zigzag order
    luma_table: int
    scans: tuple[JpegScan, ...]

    def restarts(self, scan: JpegScan) -> int:
        """Return the number of restart markers in a whole `scan`."""
        if not scan.restart_interval:
            return 0
        most_h, most_v = (max(factors) for factors in zip(*self.sampling.values(), strict=True))
        h, v = self.sampling[scan.components[0]] if len(scan.components) == 1 else (1, 1)
        if len(scan.components) == 1:
            columns, rows = -(-self.width * h // most_h), -(-self.height * v // most_v)
            units = -(-columns // BLOCK_PX) * -(-rows // BLOCK_PX)
        else:
            units = -(-self.width // (BLOCK_PX * most_h)) * -(-self.height // (BLOCK_PX * most_v))
        return -(-units // scan.restart_interval) - 1


def read_jpeg(data: bytes) -> Jpeg | None:
    """Return the markers of a JPEG file; None if damaged, or of a kind without Huffman codes."""
    try:
        return _read_jpeg(data)
    except (IndexError, struct.error, KeyError):
        return None


def jpeg_fault(data: bytes, same_pixels: Callable[[bytes], bool]) -> str | None:
    """Return the damage that libjpeg only warns of, or None for a whole image.

    Bytes appended to whole scans change no pixel; after lost data they are taken for image data. Bytes in place of the
    last ones change pixels, unless the data of the image end before. `same_pixels` decodes and compares a changed file.
    """
    jpeg = read_jpeg(data)
    if jpeg is None:
        return None
    for scan in jpeg.scans:
        markers = [number[0] & 7 for number in re.findall(rb"\xff([\xd0-\xd7])", data[scan.start : scan.end])]
        if len(markers) != jpeg.restarts(scan) or markers != [number & 7 for number in range(len(markers))]:
            return "restart markers are missing: data were lost"
    if jpeg.frame == PROGRESSIVE and not _is_complete(jpeg):
        return "its last scans are missing"
    appended, last = [], 0
    for scan in jpeg.scans:
        for restart in re.finditer(rb"\xff[\xd0-\xd7]", data[scan.start : scan.end]):
            appended += [data[last : scan.start + restart.start()], GARBAGE]
            last = scan.start + restart.start()
        appended += [data[last : scan.end], GARBAGE]
        last = scan.end
    if not same_pixels(b"".join([*appended, data[last:]])):
        return "premature end of data segment"
    if len(jpeg.scans) > 1:
        return None
    (scan,) = jpeg.scans
    tail = data[max(scan.end - TAIL_BYTES, scan.start) : scan.end]
    tail = tail[re.search(rb"(?:.*\xff[\xd0-\xd7])?", tail, re.DOTALL).end() :]  # type: ignore[union-attr]
    padded = len(set(tail)) < 2 or not tail.strip(b"\0") or len(tail) < TAIL_BYTES // 4
    if not padded and same_pixels(data[: scan.end - len(tail)] + GARBAGE[: len(tail)] + data[scan.end :]):
        return "data are left over after the last pixel: data before were damaged"
    return None


def _read_jpeg(data: bytes) -> Jpeg | None:
    frame = height = width = interval = 0
    sampling: dict[int, tuple[int, int]] = {}
    tables: dict[int, tuple[int, ...]] = {}
    luma_table = 0
    scans: list[JpegScan] = []
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:  # bytes between segments, and fill bytes, are skipped as by libjpeg
            at += 1
            continue
        if marker == 0xD9:
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : end]
        if marker == 0xDB:
            tables.update(_quantisation(body))
        elif marker == 0xDD:
            interval = int.from_bytes(body[:2], "big")
        elif marker in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)):
            frame, height, width = marker, *struct.unpack(">HH", body[1:5])
            sampling = {body[i]: (body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, 6 + 3 * body[5], 3)}
            luma_table = body[8]
        elif marker == 0xDA:
            count = body[0]
            components = tuple(body[1 + 2 * i] for i in range(count))
            first, last, bits = body[1 + 2 * count : 4 + 2 * count]
            after = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]").search(data, end)
            stop = len(data) if after is None else after.start()
            scans.append(JpegScan(components, range(first, last + 1), bits & 15, end, stop, interval))
            end = stop
        at = end
    if frame not in FRAMES_WITH_HUFFMAN or not scans or not height:
        return None
    return Jpeg(frame, height, width, sampling, tables, luma_table, tuple(scans))


def _quantisation(body: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 15
        size = 128 if wide else 64
        yield number, struct.unpack_from(">64H" if wide else ">64B", body, at + 1)
        at += 1 + size


def _is_complete(jpeg: Jpeg) -> bool:
    """Return whether the scans carry every coefficient of every component to its last bit."""
    sent = {(c, k) for scan in jpeg.scans if not scan.low_bit for c in scan.components for k in scan.band}
    return all((component, k) in sent for component in jpeg.sampling for k in range(64))
