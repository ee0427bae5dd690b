"""No home path and no secret in any output, and no name that runs as a script on a page."""

import gzip
import shutil
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import Workdir
from fault_workdirs import SETTINGS
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
def outputs(tmp_path_factory, sample):
    """A folder in a home, with all outputs of the pipeline for images with hostile names."""
    workdir = Workdir(tmp_path_factory.mktemp("somebodys-home"), QUICK)
    workdir.environment |= {"HOME": str(workdir.folder), "AWS_SECRET_ACCESS_KEY": SECRET, "USER": "somebody-by-name"}
    images = workdir.folder / "images"
    images.mkdir()
    for number, image in enumerate(sorted(sample.glob("*.png"))[:5]):
        shutil.copy(image, images / f"{number}{SCRIPT}.png")
    (images / f"broken{SCRIPT}.png").write_bytes(b"no image")
    workdir.succeed("ingest", "images", "--out", "build/manifest.jsonl")
    workdir.succeed("pairs", "build/manifest.jsonl", "--out", "build/pairs")
    workdir.succeed("train", "build/pairs", "--distortion", "jpeg", "--out", "build/models/jpeg")
    workdir.succeed("evaluate", "build/pairs", "--models", "build/models", "--out", "build/evaluation")
    args = ("--manifest", "build/manifest.jsonl", "--models", "build/models")
    workdir.succeed("generate", *args, "--out", "build/corpus")
    workdir.succeed("export", "build/corpus", "--out", "build/export")
    return workdir


def contents(path):
    """The uncompressed bytes of a file."""
    if path.suffix == ".parquet":
        return repr(pq.read_table(path).to_pylist()).encode() + repr(pq.read_schema(path).metadata).encode()
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            return b"".join(archive.read(name) for name in archive.namelist())
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_no_output_contains_a_home_path_or_a_secret(outputs):
    files = [path for path in (outputs.folder / "build").rglob("*") if path.is_file()]
    secrets = [str(outputs.folder), SECRET, "somebody-by-name", f"{Path.home()}/"]
    leaks = [(path, secret) for path in files for secret in secrets if secret.encode() in contents(path)]
    assert leaks == []
    tally("outputs", files=len(files), with_a_home_path_or_a_secret=0)


def test_pages_escape_every_name(outputs):
    pages = list((outputs.folder / "build").rglob("*.html"))
    assert len(pages) >= 2
    for page in pages:
        assert SCRIPT not in page.read_text(encoding="utf-8")
        assert "<script>alert" not in page.read_text(encoding="utf-8")
