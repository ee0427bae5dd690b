"""The shipped generators run where no TensorFlow, Keras or JAX is installed.

`make test-light` runs this in such an environment. In `make test` an import blocker
stands for it: a `sitecustomize` that child processes load as well.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import change_card

from distort_pipeline import load_generator, open_corpus
from distort_pipeline.commands.inputs import pretrained
from distort_pipeline.data.files import read_json

BLOCKER = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "jax"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that runs Python without TensorFlow in a folder of its own."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "sitecustomize.py").write_text(BLOCKER)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def python(*words):
        return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)

    return python


@pytest.fixture(scope="module")
def corpus(run, small_manifest):
    """The corpus of the four shipped generators, made without TensorFlow in one worker process."""
    options = ("--count", "8", "--severity", "0.5", "--tile-px", "128", "--truth-images", "1", "--workers", "1")
    made = run("-m", "distort_pipeline", "generate", str(small_manifest), "--out", "corpus", *options)
    assert made.returncode == 0, made.stderr
    return Path(run("-c", "import os; print(os.getcwd())").stdout.strip()) / "corpus"


def test_the_blocker_blocks(run):
    assert "No module named 'keras'" in run("-c", "import keras").stderr


def test_a_corpus_is_generated_verified_and_exported(run, corpus):
    for words in (("verify", "corpus"), ("export", "corpus", "--workers", "0", "--out", "files")):
        done = run("-m", "distort_pipeline", *words)
        assert done.returncode == 0, done.stderr
    assert len(open_corpus(corpus)) == 8
    assert "keras" not in open_corpus(corpus).metadata.packages


def test_the_bytes_do_not_depend_on_what_is_installed(run, corpus):
    pristine = open_corpus(corpus)[0].pristine
    np.save(corpus.parent / "tile.npy", pristine)
    code = (
        "import numpy as np; from distort_pipeline import load_generator;"
        "np.save('distorted.npy', load_generator('jpeg')(np.load('tile.npy'), 0.4))"
    )
    assert run("-c", code).returncode == 0
    np.testing.assert_array_equal(np.load(corpus.parent / "distorted.npy"), load_generator("jpeg")(pristine, 0.4))


def test_a_generator_with_a_network_says_what_it_needs(run, corpus):
    folder = corpus.parent / "models" / "net"
    shutil.copytree(pretrained("jpeg"), folder)
    change_card(folder, network={**read_json(folder / "store.json")["network"], "base_filters": 4})
    done = run("-c", "import distort_pipeline as d; d.load_generator('models/net')")
    assert "is not installed; training, evaluation and generators with a network need it" in done.stderr
