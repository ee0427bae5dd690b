"""No home path and no secret in any output, and no name that runs as a script on a page."""

import gzip
import shutil
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import PathType
from fault_places import SETTINGS
from tally import tally

pytestmark = pytest.mark.slow

SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY"
SCRIPT = "<script>alert(1)<script>&\"'"
QUICK = {
    **SETTINGS,
    "ingest": {"val_count": 2, "licence": SCRIPT, "workers": 0},
    "pairs": {**SETTINGS["pairs"], "distortions": ["jpeg"], "workers": 0},
    "train": {**SETTINGS["train"], "steps": 2},
    "generate": {**SETTINGS["generate"], "count": 16, "workers": 0},
    "export": {"workers": 0},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample):
    """A folder in somebody's home, with everything that the path makes of images with hostile names."""
    place = PathType(tmp_path_factory.mktemp("somebodys-home"), QUICK)
    place.environment |= {"HOME": str(place.folder), "AWS_SECRET_ACCESS_KEY": SECRET, "USER": "somebody-by-name"}
    images = place.folder / "images"
    images.mkdir()
    for number, image in enumerate(sorted(sample.glob("*.png"))[:5]):
        shutil.copy(image, images / f"{number}{SCRIPT}.png")
    (images / f"broken{SCRIPT}.png").write_bytes(b"no image")
    place.made("ingest", "images", "--out", "build/manifest.jsonl")
    place.made("pairs", "build/manifest.jsonl", "--out", "build/pairs")
    place.made("train", "build/pairs", "--distortion", "jpeg", "--out", "build/models/jpeg")
    place.made("evaluate", "build/pairs", "--models", "build/models", "--out", "build/evaluation")
    words = ("--manifest", "build/manifest.jsonl", "--models", "build/models")
    place.made("generate", *words, "--out", "build/corpus")
    place.made("export", "build/corpus", "--out", "build/export")
    return place


def contents(path):
    """The bytes of a file, unpacked where it is packed."""
    if path.suffix == ".parquet":
        return repr(pq.read_table(path).to_pylist()).encode() + repr(pq.read_schema(path).metadata).encode()
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            return b"".join(archive.read(name) for name in archive.namelist())
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_no_output_tells_where_it_was_made_or_a_secret(made):
    files = [path for path in (made.folder / "build").rglob("*") if path.is_file()]
    words = [str(made.folder), SECRET, "somebody-by-name", f"{Path.home()}/"]
    told = [(path, word) for path in files for word in words if word.encode() in contents(path)]
    assert told == []
    tally("outputs", files=len(files), with_a_home_path_or_a_secret=0)


def test_pages_escape_every_name(made):
    pages = list((made.folder / "build").rglob("*.html"))
    assert len(pages) >= 2
    for page in pages:
        assert SCRIPT not in page.read_text(encoding="utf-8")
        assert "<script>alert" not in page.read_text(encoding="utf-8")
