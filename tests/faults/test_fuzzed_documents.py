"""Parameter files, manifests, lists, metadata and records of any content: valid, or one clear error."""

import json
import os
import shutil
from collections import Counter

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tally import tally

from distort_pipeline.commands.params import SECTIONS, Params, load_params
from distort_pipeline.commands.verify import verify
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.manifests import Manifest, read_manifest
from distort_pipeline.data.sources import Source, open_source
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.store import read_arrays, read_histograms

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures"]

EXAMPLES = int(os.environ.get("FAULTS_EXAMPLES", "300"))  # of each kind
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
NAMES = [name for kind in SECTIONS.values() for name in kind.__dataclass_fields__]
SECTION = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), VALUES, max_size=4)
DOCUMENT = st.dictionaries(st.sampled_from([*SECTIONS]) | st.text(max_size=8), SECTION | VALUES, max_size=4)
FATES = Counter()


def outcome(kind, read, *arguments):
    """Return the result of `read`, or None for a PipelineError, and count; other exceptions fail the test."""
    try:
        result = read(*arguments)
    except PipelineError:
        FATES[f"{kind}: one clear error"] += 1
        return None
    FATES[f"{kind}: read"] += 1
    return result


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    tally("fuzzed-documents", documents=sum(FATES.values()), fates=FATES)


@FUZZ
@given(DOCUMENT, st.booleans())
def test_parameter_files(tmp_path, document, ours):
    path = tmp_path / "params.yaml"
    path.write_text(
        yaml.safe_dump({"distort_pipeline": 1, **document} if ours else document, sort_keys=False), encoding="utf-8"
    )
    params = outcome("params.yaml", load_params, path)
    assert params is None or isinstance(params, Params)


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_parameter_files_of_any_bytes(tmp_path, data):
    (tmp_path / "params.yaml").write_bytes(b"distort_pipeline: 1\n" + data)
    outcome("params.yaml", load_params, tmp_path / "params.yaml")


@st.composite
def edits(draw):
    """A function that edits bytes in a random way."""
    start, length = draw(st.floats(0, 1)), draw(st.integers(0, 40))
    new = draw(
        st.binary(max_size=20) | st.sampled_from([b"null", b"-1", b"1e999", b"[]", b"{}", b'"\\ud800"', b"\xff"])
    )

    def change(data):
        offset = int(start * len(data))
        return data[:offset] + new + data[offset + length :]

    return change


@FUZZ
@given(edits())
def test_manifests(small_manifest, tmp_path, change):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(change(small_manifest.read_bytes()))
    manifest = outcome("manifest", read_manifest, path)
    assert manifest is None or isinstance(manifest, Manifest)
    source = outcome("source", open_source, path)
    assert source is None or isinstance(source, Source)


@FUZZ
@given(
    st.lists(st.dictionaries(st.sampled_from(["path", "split", "licence"]) | st.text(max_size=5), VALUES, max_size=4))
)
def test_lists(tmp_path, rows):
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(json.dumps(row, default=str) for row in rows), encoding="utf-8")
    outcome("list", open_source, path)


@FUZZ
@given(edits(), st.data())
def test_files_of_a_corpus(finished_corpus, tmp_path_factory, change, data):
    """Metadata, ledgers, records, reports, array metadata and truths: neither verify nor readers crash."""
    files = sorted(path.relative_to(finished_corpus) for path in finished_corpus.rglob("*") if path.suffix in KINDS)
    copy = _copy(finished_corpus, tmp_path_factory)
    path = copy / data.draw(st.sampled_from(files))
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        assert verify(copy).problems or path.read_bytes() == before or path.name == "run.json"
        corpus = outcome("corpus", open_corpus, copy)
        if corpus is not None:
            outcome(
                "corpus", lambda: [corpus[0], corpus[len(corpus) - 1], corpus.table(), corpus.reports(), corpus.tiles()]
            )
    finally:
        path.write_bytes(before)


KINDS = (".json", ".parquet", ".npz")


def _copy(store, tmp_path_factory, copies={}):  # noqa: B006 - one copy for all examples
    if store not in copies:
        copies[store] = shutil.copytree(store, tmp_path_factory.mktemp("fuzzed") / store.name)
    return copies[store]


@FUZZ
@given(edits())
def test_weights_and_histograms(models, tmp_path_factory, change):
    model = _copy(models / "jpeg", tmp_path_factory)
    for name, read in (
        ("generator.safetensors", lambda: read_arrays(model / "generator.safetensors")),
        ("validation_histograms.npz", lambda: read_histograms(model)),
    ):
        before = (model / name).read_bytes()
        (model / name).write_bytes(change(before))
        try:
            outcome(name, read)
        finally:
            (model / name).write_bytes(before)


def test_arrays_that_hide_code_are_not_loaded(models, tmp_path):
    """A pickle in an .npz runs code when it is loaded: here it is an error."""
    import numpy as np

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    model = shutil.copytree(models / "jpeg", tmp_path / "jpeg")
    np.savez(model / "validation_histograms.npz", pristine=np.array([Bomb()], dtype=object))
    with pytest.raises(PipelineError, match="is missing or damaged"):
        read_histograms(model)
    import pickle

    (model / "generator.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(PipelineError, match="is damaged"):
        read_arrays(model / "generator.safetensors")
    assert not (tmp_path / "boom").exists()
