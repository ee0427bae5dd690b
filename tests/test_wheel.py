"""The built wheel, without the repository: it says what it is, and makes a corpus of its own photographs."""

import email
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "LICENSE", "LICENSES", "docs/package.md", "data/sample", "pipeline")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the contents of the wheel, as `pip install --target` leaves them."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in NEEDED:  # a build writes beside the sources
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / "source" / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info")
            )
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, folder / "source"]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(folder / "source")
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-compile", "--target", folder / "site", wheel], check=True
    )
    return folder / "site"


def test_its_metadata_are_whole_and_its_long_description_needs_no_repository(installed):
    (info,) = installed.glob("distort_pipeline-*.dist-info")
    metadata = email.message_from_string((info / "METADATA").read_text(encoding="utf-8"))
    assert metadata["License-Expression"] == "Apache-2.0 AND CC0-1.0 AND BSD-2-Clause"
    assert metadata["Author"] == "distort-pipeline developers"
    assert {"LICENSE", "LICENSES/BSD-2-Clause.txt", "data/sample/SOURCES.csv"} == set(metadata.get_all("License-File"))
    links = [link.partition(")")[0] for link in metadata.get_payload().split("](")[1:]]
    assert links
    assert all(link.startswith("https://") for link in links)
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert (installed / "distort_pipeline" / "py.typed").is_file()


def test_it_makes_a_corpus_of_its_photographs_where_there_is_no_repository(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    few = ["--count", "8", "--tile-px", "128", "--truth-images", "1", "--workers", "0"]
    command = [sys.executable, "-m", "distort_pipeline", "generate", *few]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "import distort_pipeline as d; print(d.__file__, len(d.open_corpus('corpus')))"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout == f"{installed / 'distort_pipeline' / '__init__.py'} 8\n"
