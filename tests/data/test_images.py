"""Every kind of file is decoded by the rule in data/images.py, or rejected with a reason."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from image_files import bmp_bitfields, chunk, icc_profile, png16, saved, tiff16, tiff_pages
from PIL import Image as PILImage
from PIL import ImageCms

from distort_pipeline.data.containers import InvalidImage, is_marked_png, mark_png
from distort_pipeline.data.images import decode, encode_png, image_digest

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RGB[..., 0]
WIDE = RNG.integers(0, 65536, (20, 30, 4)).astype(np.uint16)
SMOOTH = np.stack(np.meshgrid(np.arange(64) * 3, np.arange(48) * 4), -1).astype(np.uint8)
SMOOTH = np.dstack([SMOOTH, np.full((48, 64), 90, np.uint8)])


# colorants of Adobe RGB (1998) and of sRGB, both adapted to D50
ADOBE_D50 = np.array([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]])
SRGB_D50 = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])
ADOBE = icc_profile(b"RGB ", (b"rTRC", b"gTRC", b"bTRC"), ADOBE_D50, gamma=2.19921875)
LINEAR_GREY = icc_profile(b"GRAY", (b"kTRC",))


def srgb_encoded(linear):
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("data", "expected", "mode"),
    [
        pytest.param(saved(RGB, "PNG"), RGB, "RGB", id="png"),
        pytest.param(saved(RGB, "BMP"), RGB, "RGB", id="bmp"),
        pytest.param(saved(RGB, "TIFF", compression="tiff_lzw"), RGB, "RGB", id="tiff"),
        pytest.param(saved(RGB, "WEBP", lossless=True), RGB, "RGB", id="webp"),
        pytest.param(saved(RGB, "JPEG2000", irreversible=False), RGB, "RGB", id="jp2"),
        pytest.param(saved(RGB, "PPM"), RGB, "RGB", id="ppm"),
        pytest.param(saved(GREY, "PNG"), np.dstack([GREY] * 3), "L", id="grey"),
        pytest.param(
            saved(GREY, "PNG", "1"),
            np.dstack([np.asarray(PILImage.fromarray(GREY).convert("1").convert("L"))] * 3),
            "1",
            id="bilevel",
        ),
        pytest.param(
            saved(RGB, "PNG", "P"), np.asarray(PILImage.fromarray(RGB).convert("P").convert("RGB")), "P", id="palette"
        ),
    ],
)
def test_lossless_files_keep_their_pixels(data, expected, mode):
    image, decoded_mode = decode(data)
    assert decoded_mode == mode
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, expected)


def rounded(values, white=65535):
    return np.floor(values.astype(float) * 255 / white + 0.5).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "values", "mode"),
    [
        pytest.param(png16(WIDE[..., :3], 2), WIDE[..., :3], "RGB;16", id="png-colour"),
        pytest.param(tiff16(WIDE[..., :3]), WIDE[..., :3], "RGB;16", id="tiff-colour"),
        pytest.param(tiff16(WIDE, extra=0), WIDE[..., :3], "RGB;16", id="tiff-fourth-channel-means-nothing"),
        pytest.param(png16(WIDE[..., :1], 0), WIDE[..., [0, 0, 0]], "I;16", id="png-grey"),
        pytest.param(tiff16(WIDE[..., :1], photometric=1), WIDE[..., [0, 0, 0]], "I;16", id="tiff-grey"),
        pytest.param(tiff16(65535 - WIDE[..., :1], photometric=0), WIDE[..., [0, 0, 0]], "I;16", id="white-is-zero"),
    ],
)
def test_sixteen_bits_are_rounded_not_cut(data, values, mode):
    image, decoded_mode = decode(data)
    assert decoded_mode == mode
    np.testing.assert_array_equal(image, rounded(values))


def test_wide_alpha_is_composited_over_white():
    image, mode = decode(png16(WIDE, 6))
    colour, alpha = rounded(WIDE[..., :3]).astype(float), rounded(WIDE[..., 3:]).astype(float)
    assert mode == "RGBA;16"
    np.testing.assert_allclose(image, (colour * alpha + 255 * (255 - alpha)) / 255, atol=1)


def test_premultiplied_wide_alpha_is_refused_rather_than_misread():
    with pytest.raises(InvalidImage, match="disagree"):
        decode(tiff16(WIDE, extra=1))


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_transparent_wide_colour_becomes_white(colour_type):
    values = WIDE[..., : 1 if colour_type == 0 else 3].copy()
    values[values == values[0, 0]] -= 1  # so only one pixel has the colour
    values[3, 4] = 0x1234
    image, _ = decode(png16(values, colour_type, chunk(b"tRNS", values[3, 4].astype(">u2").tobytes())))
    assert image[3, 4].tolist() == [255, 255, 255]
    assert image[3, 5, 0] == rounded(values)[3, 5, 0]


def test_alpha_is_composited_over_white_and_opaque_alpha_changes_nothing():
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 128
    image, mode = decode(saved(np.dstack([RGB, alpha]), "PNG"))
    assert mode == "RGBA"
    assert image[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(image[0, 1], (RGB[0, 1] * 128.0 + 255 * 127) / 255, atol=1)
    np.testing.assert_array_equal(image[1:], RGB[1:])


def test_transparent_palette_entries_and_grey_alpha_become_white():
    levels = (np.arange(600).reshape(20, 30) % 4).astype(np.uint8)
    opened = PILImage.fromarray(levels)
    opened.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    file = io.BytesIO()
    opened.save(file, "PNG", transparency=1)
    image, _ = decode(file.getvalue())
    assert image[0, :4].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90], [1, 2, 3]]
    grey, mode = decode(saved(np.dstack([GREY, np.zeros_like(GREY)]), "PNG"))
    assert mode == "LA"
    assert grey.min() == 255


@pytest.mark.parametrize(
    ("bits", "masks"),
    [(16, (0xF800, 0x07E0, 0x001F)), (16, (0x7C00, 0x03E0, 0x001F)), (32, (0xFF0000, 0xFF00, 0xFF))],
)
def test_bitfield_bmps_are_read(bits, masks):
    image, mode = decode(bmp_bitfields(RGB, bits, masks))
    depths = np.array([bin(mask).count("1") for mask in masks])
    kept = (RGB >> (8 - depths)).astype(float)
    assert mode == "RGB"
    np.testing.assert_allclose(image, kept * 255 / (2**depths - 1), atol=1)


def test_alpha_of_a_bitfield_bmp_counts_unless_it_is_padding():
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    padded, _ = decode(bmp_bitfields(np.dstack([RGB, np.zeros_like(GREY)]), 32, masks))
    np.testing.assert_array_equal(padded, RGB)
    alpha = np.full_like(GREY, 255)
    alpha[2, 3] = 0
    image, mode = decode(bmp_bitfields(np.dstack([RGB, alpha]), 32, masks))
    assert mode == "RGBA"
    assert image[2, 3].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(image[3:], RGB[3:])


UPRIGHT = {  # EXIF 2.32, table 6: where row 0 and column 0 of the stored pixels are seen
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p.swapaxes(0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_once(orientation):
    exif = PILImage.Exif()
    exif[274] = orientation
    seen = UPRIGHT[orientation](RGB)
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        np.testing.assert_array_equal(decode(saved(RGB, kind, exif=exif, **options))[0], seen, err_msg=kind)
    wide = UPRIGHT[orientation](rounded(WIDE[..., :3]))
    np.testing.assert_array_equal(decode(tiff16(WIDE[..., :3], orientation=orientation))[0], wide)
    wide_png = png16(WIDE[..., :3], 2, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    np.testing.assert_array_equal(decode(wide_png)[0], wide)


def test_an_adobe_rgb_profile_is_converted_to_srgb():
    colours = np.array([[[128, 128, 128], [150, 120, 100], [90, 140, 110], [255, 255, 255]]], np.uint8)
    linear = (colours / 255) ** 2.19921875 @ ADOBE_D50 @ np.linalg.inv(SRGB_D50)
    for kind in ("PNG", "TIFF"):
        image, _ = decode(saved(colours, kind, icc_profile=ADOBE))
        np.testing.assert_allclose(image, srgb_encoded(linear), atol=1.5)
    assert np.abs(image.astype(int) - colours)[0, 1:3].max() > 10  # else the profile was ignored


def test_a_profile_is_applied_to_sixteen_bits_too():
    colours = np.array([[[150, 120, 100], [90, 140, 110]]], np.uint8)
    wide = png16(colours.astype(np.uint16) * 257, 2, chunk(b"iCCP", b"x\0\0" + zlib.compress(ADOBE)))
    np.testing.assert_array_equal(decode(wide)[0], decode(saved(colours, "PNG", icc_profile=ADOBE))[0])


def test_a_grey_profile_is_converted():
    grey = np.array([[0, 13, 55, 128, 255]], np.uint8)
    image, _ = decode(saved(grey, "PNG", icc_profile=LINEAR_GREY))
    np.testing.assert_allclose(image[0, :, 0], srgb_encoded(grey[0] / 255), atol=1.5)


def test_an_srgb_profile_and_an_unfit_one_leave_pixels_alone():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, LINEAR_GREY, b"no profile at all"):
        np.testing.assert_array_equal(decode(saved(RGB, "PNG", icc_profile=profile))[0], RGB)


def test_cmyk_without_a_profile_takes_the_plain_conversion():
    cmyk = PILImage.fromarray(SMOOTH).convert("CMYK")
    file = io.BytesIO()
    cmyk.save(file, "TIFF")
    image, mode = decode(file.getvalue())
    assert mode == "CMYK"
    np.testing.assert_array_equal(image, SMOOTH)  # without black ink, 255 - (255 - value)
    jpeg = io.BytesIO()
    cmyk.save(jpeg, "JPEG", quality=98)
    np.testing.assert_allclose(decode(jpeg.getvalue())[0].astype(int), SMOOTH, atol=12)


def test_the_first_image_of_a_jpeg_with_annexes_counts():
    annex = PILImage.fromarray(SMOOTH[::2, ::2])
    data = saved(SMOOTH, "MPO", save_all=True, append_images=[annex], quality=98)
    image, _ = decode(data)
    assert image.shape == SMOOTH.shape
    np.testing.assert_allclose(image.astype(int), SMOOTH, atol=12)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind):
    data = saved(RGB, kind, save_all=True, append_images=[PILImage.fromarray(255 - RGB)])
    with pytest.raises(InvalidImage, match="2 frames"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file: 0 bytes"),
        (bytes(500), "zeros only, 500 bytes"),
        (bytes(range(1, 256)), "not an image in a format that is read here"),
        (b"only text\n", "text and no image: 'only text'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n", "pointer of Git LFS"),
        (b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page"),
        (b"<?xml version='1.0'?><svg width='3'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "PostScript"),  # would start Ghostscript
        (saved(RGB, "PNG")[:900], "broken image"),
        (saved(SMOOTH, "JPEG")[:-200], "broken image"),
        *((saved(RGB, kind, quality=90)[:600] + bytes(1100), "broken image") for kind in ("WEBP", "AVIF")),
        (saved(RGB, "TGA"), "not an image in a format that is read here"),
        (png16(WIDE, 6)[:-900], "broken image"),
        (saved(GREY.astype(np.float32), "TIFF"), "no stated range"),
        (saved(GREY.astype(np.int32), "TIFF"), "no stated range"),
        (tiff_pages([(RGB, {339: 3, 258: 32})]), "no stated range: floats"),
        (tiff_pages([(RGB, {254: 1}), (SMOOTH, {262: 32803})]), "raw data of a camera"),
        (tiff_pages([(RGB, {254: 1})]), "previews and masks alone"),
    ],
)
def test_incomplete_images_are_refused_with_a_reason(data, reason):
    with pytest.raises(InvalidImage, match=reason) as refusal:
        decode(data)
    assert "0x" not in refusal.value.reason  # an address would make every list of rejected files another one


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TIFF"])
def test_lost_blocks_of_an_uncompressed_image_are_no_black_pixels(kind):
    data = saved(np.full((80, 90, 3), 77, np.uint8), kind)
    with pytest.raises(InvalidImage, match=f"its last {len(data) - 8192} bytes are zeros, data were lost"):
        decode(data[:8192] + bytes(len(data) - 8192))
    assert decode(data[:8200] + bytes(len(data) - 8200))[0].shape == (80, 90, 3)  # black pixels begin anywhere


JPEG_KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 1},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
    "grey": {"mode": "L"},
    "optimised, 4:4:4": {"optimize": True, "subsampling": 0, "quality": 95},
}


@pytest.mark.parametrize("kind", JPEG_KINDS)
def test_a_jpeg_with_lost_data_is_refused_though_its_decoder_only_warns(kind):
    grain = np.random.default_rng(0).normal(0, 9, (96, 120, 3))
    data = saved(np.clip(np.kron(SMOOTH, np.ones((3, 3, 1)))[:96, :120] + grain, 0, 255).astype(np.uint8), "JPEG",
                 **JPEG_KINDS[kind])  # fmt: skip
    shape = decode(data)[0].shape
    for complete in (data[:-2] + bytes(40) + data[-2:], data + b"trailer", data[:-2] + b"\xff" * 9 + data[-2:]):
        assert decode(complete)[0].shape == shape
    middle = data.index(b"\xff\xda") + (len(data) - data.index(b"\xff\xda")) // 2
    closed = data[:middle] + b"\xff\xd9"
    zeros = data[:middle] + bytes(len(data) - middle - 2) + b"\xff\xd9"
    hole = data[:middle] + data[middle + 300 :]
    for damaged in (closed, zeros, hole, data[:-40] + b"\xff\xd9"):
        with pytest.raises(InvalidImage, match="broken image"):
            decode(damaged)


def test_a_flat_grey_jpeg_is_whole():
    assert decode(saved(np.full((64, 64, 3), 128, np.uint8), "JPEG"))[0].shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_damaged_metadata_of_whole_pixels_are_ignored(kind):
    PILImage.init()
    if kind not in PILImage.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    lossless = {"WEBP": {"lossless": True}}.get(kind, {})
    expected, _ = decode(saved(SMOOTH, kind, **lossless))
    for metadata in ({"exif": b"Exif\0\0" + b"no TIFF at all"}, {"icc_profile": b"no profile" * 9}):
        image, _ = decode(saved(SMOOTH, kind, **lossless, **metadata))
        np.testing.assert_array_equal(image, expected)


def test_long_and_damaged_chunks_of_a_png_are_ignored():
    png = saved(RGB, "PNG")
    text = chunk(b"zTXt", b"history\0\0" + zlib.compress(bytes(3_000_000)))
    wrong = chunk(b"iTXt", b"a")[:-1] + b"?"
    for extra in (text, wrong, chunk(b"eXIf", b"nonsense"), chunk(b"iCCP", b"name\0\0no zlib"), chunk(b"tIME", b"")):
        np.testing.assert_array_equal(decode(png[:33] + extra + png[33:])[0], RGB)


def test_reduced_pages_of_a_tiff_are_no_pages():
    small = RGB[::2, ::2].copy()
    for pages in ([(RGB, {}), (small, {254: 1})], [(small, {254: 1}), (RGB, {254: 0})], [(small, {255: 2}), (RGB, {})]):
        np.testing.assert_array_equal(decode(tiff_pages(pages))[0], RGB)
    np.testing.assert_array_equal(decode(tiff_pages([(small, {254: 1})], inner=[(RGB, {254: 0})]))[0], RGB)
    with pytest.raises(InvalidImage, match="of several pages: 2 frames"):
        decode(tiff_pages([(RGB, {254: 2}), (RGB, {254: 2}), (small, {254: 1})]))


def test_images_of_this_program_carry_a_mark_that_changes_no_pixel():
    marked = mark_png(encode_png(RGB))
    assert is_marked_png(marked)
    assert not is_marked_png(encode_png(RGB))
    np.testing.assert_array_equal(decode(marked)[0], RGB)


def test_size_is_checked_before_decoding():
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"never looked at") + chunk(b"IEND", b"")
    with pytest.raises(InvalidImage, match=r"too large: 10000 megapixels, at most 200"):
        decode(bomb, max_megapixels=200)
    with pytest.raises(InvalidImage, match="too small: 30x20, a side needs 21 px"):
        decode(saved(RGB, "PNG"), min_side_px=21)
    assert decode(saved(RGB, "PNG"), min_side_px=20, max_megapixels=0.0006)[0].shape == (20, 30, 3)


def test_pillows_own_limit_neither_stops_us_nor_is_lost(monkeypatch):
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 100)
    assert decode(saved(RGB, "PNG"))[0].shape == (20, 30, 3)
    assert PILImage.MAX_IMAGE_PIXELS == 100


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on the damage too
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG2000", "TIFF", "WEBP", "AVIF", "BMP", "GIF", "PPM", "PNG16"])
def test_damage_is_a_reason_not_a_crash(kind):
    PILImage.init()
    if kind not in PILImage.SAVE and kind != "PNG16":
        pytest.skip(f"this Pillow does not write {kind}")
    data = png16(WIDE, 6) if kind == "PNG16" else saved(SMOOTH, kind)
    draw = random.Random(kind)
    refused = 0
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 5, 20])):
            damaged[draw.randrange(min(len(damaged), draw.choice([60, 400, 10**6])))] = draw.randrange(256)
        try:
            image, _ = decode(bytes(damaged), max_megapixels=5)
        except InvalidImage:
            refused += 1
        else:
            assert image.ndim == 3
            assert image.shape[2] == 3
    assert refused


def test_the_digest_knows_pixels_and_shape_but_not_files():
    png, _ = decode(saved(RGB, "PNG"))
    tiff, _ = decode(saved(RGB, "TIFF"))
    assert image_digest(png) == image_digest(tiff)
    assert image_digest(RGB.reshape(30, 20, 3)) != image_digest(RGB)
    assert image_digest(np.asfortranarray(RGB)) == image_digest(RGB)
    assert image_digest(np.arange(6, dtype=np.uint8).reshape(1, 2, 3)) == GOLDEN


# printf '[1,2,3]\\x00\\x01\\x02\\x03\\x04\\x05' | sha256sum: the shape, then the bytes 0 to 5
GOLDEN = "499c2c1a3a8e5b6fa0e8bb1db531e4c16dee8e1e804801a78ed57d871982a145"


def test_png_keeps_every_pixel():
    np.testing.assert_array_equal(decode(encode_png(RGB))[0], RGB)
