"""Mutated images, hostile archives and bombs: ingest accepts or lists each, in bounded memory, in its own folder."""

import csv
import io
import os
import random
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections import Counter

import pytest
from commands import Workdir
from mutations import mutated, seeds
from tally import tally

from distort_pipeline.data.manifests import read_manifest

pytestmark = pytest.mark.slow

MANIFEST_FILES = ("manifest.jsonl", "manifest.rejected.csv", "manifest.remarks.csv")
IMAGES = int(os.environ.get("FAULTS_IMAGES", "2000"))
SECONDS = 600
MAX_MEGAPIXELS = 4
MEMORY_MB = 600  # for two images at a time of at most MAX_MEGAPIXELS: 40 bytes a pixel, and the program itself
# Runs a command and records its peak memory, through a small process: a process inherits the peak of its parent, large
# after other tests with TensorFlow.
PEAK = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
with open("peak-kilobytes", "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
SETTINGS = {"ingest": {"min_side_px": 8, "max_megapixels": MAX_MEGAPIXELS, "val_count": 2, "workers": 2}}


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "workdir", SETTINGS)


def ingest(workdir, source):
    """Run ingest on `source`; return path → outcome for each file, the peak memory in MB, and the seconds."""
    around = set(workdir.folder.parent.rglob("*"))
    began = time.monotonic()
    code, _ = workdir.run(
        "ingest", source, "--out", "manifest.jsonl", before=[sys.executable, "-c", PEAK], seconds=SECONDS
    )
    peak = workdir.folder / "peak-kilobytes"
    memory = int(peak.read_text(encoding="utf-8")) / 1024
    peak.unlink()
    written = set(workdir.folder.parent.rglob("*")) - around
    allowed = {workdir.folder / name for name in ("output.txt", *MANIFEST_FILES)}
    assert written <= allowed
    fate = {}
    if (workdir.folder / "manifest.jsonl").exists():
        fate |= {record.path: "accepted" for record in read_manifest(workdir.folder / "manifest.jsonl").records}
    with (workdir.folder / "manifest.rejected.csv").open(newline="", encoding="utf-8") as file:
        fate |= {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert code in (0, 2), workdir.output()
    assert "Traceback" not in workdir.output()
    return fate, memory, time.monotonic() - began


def test_each_mutated_image_is_accepted_or_listed_with_a_reason(workdir):
    rng = random.Random(2)
    sound = seeds()
    folder = workdir.folder / "images"
    folder.mkdir()
    mutations = Counter()
    for number in range(IMAGES):
        name = list(sound)[number % len(sound)]
        mutation, data = mutated(sound[name], rng.choice(list(sound.values())), rng)
        mutations[mutation] += 1
        (folder / f"{number:04d}.{name.partition('-')[0]}").write_bytes(data)
    for name, data in sound.items():
        (folder / f"sound-{name}.{name.partition('-')[0]}").write_bytes(data)
    fate, memory, seconds = ingest(workdir, folder)
    assert set(fate) == {path.name for path in folder.iterdir()}
    assert all(fate.values())
    assert [
        path
        for path, reason in fate.items()
        if path.startswith("sound") and "accepted" not in reason and "duplicate" not in reason
    ] == []
    assert memory < MEMORY_MB
    accepted = sum(reason == "accepted" for reason in fate.values())
    tally(
        "hostile-images",
        images=IMAGES,
        formats=len({name.partition("-")[0] for name in sound}),
        mutations=mutations,
        accepted=accepted - len(sound),
        rejected=len(fate) - accepted,
        crashes=0,
        peak_memory_mb=round(memory),
        memory_limit_mb=MEMORY_MB,
        seconds=round(seconds),
    )


def png_of(width, height, data=b""):
    """A PNG with `width` x `height` in its file header."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def bombs():
    """Name → bytes of images with an enormous size in the file header only."""
    sound = seeds()
    huge = 100_000
    jpeg = bytearray(sound["jpeg-progressive"])
    frame = jpeg.index(b"\xff\xc2")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    bmp = bytearray(sound["bmp"])
    bmp[18:26] = struct.pack("<ii", huge, huge)
    gif = bytearray(sound["gif"])
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    jp2 = bytearray(sound["jpeg2000"])
    head = jp2.index(b"ihdr")
    jp2[head + 4 : head + 12] = struct.pack(">II", huge, huge)
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<IB3x", 10, 0) + b"\xff\x3f\x00" * 2
    tiff = io.BytesIO()
    tags = [
        (256, 4, huge),
        (257, 4, huge),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, huge),
        (279, 4, 1),
    ]
    tiff.write(b"II*\0" + struct.pack("<IH", 8, len(tags)))
    for tag, kind, value in tags:
        tiff.write(struct.pack("<HHII", tag, kind, 1, value))
    tiff.write(bytes(4))
    return {
        "huge.png": png_of(huge, huge),
        "huge.jpg": bytes(jpeg),
        "huge.bmp": bytes(bmp),
        "huge.gif": bytes(gif),
        "huge.jp2": bytes(jp2),
        "huge.webp": webp,
        "huge.tiff": tiff.getvalue(),
        "packed.png": png_of(30_000, 30_000, bytes(30_000 * 1000)),
        "text.png": png_of(16, 16)[:33] + _text_bomb() + png_of(16, 16)[33:],
    }


def _text_bomb():
    """A PNG comment that unpacks to a thousand times its size."""
    body = b"Comment\0\0" + zlib.compress(bytes(64 * 2**20), 9)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))


def test_bombs_cost_no_memory(workdir):
    folder = workdir.folder / "bombs"
    folder.mkdir()
    images = bombs()
    for name, data in images.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "thousandfold.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.bmp", bytes(400 * 2**20))
    with tarfile.open(folder / "thousandfold.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("b.bmp")
        info.size = 400 * 2**20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    for name, data in seeds().items():
        (folder / f"sound-{name}").write_bytes(data)
    fate, memory, seconds = ingest(workdir, folder)
    refused = {path: reason for path, reason in fate.items() if not path.startswith("sound")}
    assert len(refused) == len(images) + 2
    assert "accepted" not in refused.values()
    assert "too large" in refused["huge.png"]
    assert "100000" in refused["huge.png"] or "10000 megapixels" in refused["huge.png"]
    assert "times its size" in refused["thousandfold.zip/a.bmp"]
    assert "times its size" in refused["thousandfold.tar.gz"]
    assert memory < MEMORY_MB
    tally(
        "hostile-bombs",
        bombs=len(refused),
        accepted=0,
        peak_memory_mb=round(memory),
        memory_limit_mb=MEMORY_MB,
        seconds=round(seconds),
    )


def test_archives_write_nothing_outside(workdir):
    image = seeds()["png-alpha"]
    others = [png_of(16, 16, bytes((16 * 3 + 1) * 16 - 1) + bytes([shade])) for shade in range(4)]
    folder = workdir.folder / "archives"
    folder.mkdir()
    hostile = ["../up.png", "../../way/up.png", "/absolute.png", "a/../../b.png", "..", "C:/../../x.png"]
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for name in hostile:
            info = zipfile.ZipInfo("placeholder.png")
            info.filename = name
            archive.writestr(info, image)
        for number, data in enumerate(others[:2]):
            archive.writestr(f"fine/{number}.png", data)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with tarfile.open(folder / "t.tar", "w") as archive:
        for name in hostile[:5]:
            info = tarfile.TarInfo(name)
            info.size = len(image)
            archive.addfile(info, io.BytesIO(image))
        for number, data in enumerate(others[2:]):
            info = tarfile.TarInfo(f"fine/{number}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"special-{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    rng = random.Random(4)
    intact = {name: (folder / name).read_bytes() for name in ("z.zip", "t.tar")}
    for number in range(60):
        name = rng.choice(sorted(intact))
        _, data = mutated(intact[name], image, rng)
        (folder / f"zz-mutated-{number}{name[1:]}").write_bytes(data)
    fate, memory, _ = ingest(workdir, folder)
    assert {path for path, reason in fate.items() if reason == "accepted" and not path.startswith("zz-mutated")} == {
        *(f"z.zip/fine/{number}.png" for number in range(2)),
        *(f"t.tar/fine/{number}.png" for number in range(2)),
    }
    assert sum("leads out of the archive" in reason for path, reason in fate.items() if path.startswith("z.zip")) >= 5
    assert sum("a link" in reason for path, reason in fate.items() if not path.startswith("zz-mutated")) == 5
    assert memory < MEMORY_MB
    tally("hostile-archives", archives=62, members=len(fate), written_outside=0, peak_memory_mb=round(memory))
