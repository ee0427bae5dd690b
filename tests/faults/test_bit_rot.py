"""Random flipped bits, truncations and deletions: `verify` finds each one, names the file, and `--repair` undoes it."""

import os
import random
import shutil
from collections import Counter

import pytest
from commands import metadata
from corpus_fixtures import lenient
from tally import tally

from distort_pipeline.commands.repair import Inputs, rebuilder, repair
from distort_pipeline.commands.verify import verify
from distort_pipeline.config import ExportConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.steps import export

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures"]

DAMAGES = int(os.environ.get("FAULTS_DAMAGES", "200"))
REPAIRS = 12  # of a pair store, a corpus and an export each, with several damages
OUTSIDE = ("run.json",)  # depends on the run, in no digest
KINDS = ("bit", "truncation", "deletion")


@pytest.fixture(scope="module")
def stores(pair_store, finished_corpus, models, small_manifest, tmp_path_factory):
    """Name → folder of a copy of a store of each kind, with the manifest and its images."""
    folder = tmp_path_factory.mktemp("rot")
    exported = folder / "exported"
    export.run(ExportConfig(workers=0), finished_corpus, exported)
    originals = {
        "pairs": pair_store.folder,
        "corpus": finished_corpus,
        "model": models / "jpeg",
        "export": exported,
        "images": small_manifest.parent,
    }
    return {name: shutil.copytree(path, folder / name) for name, path in originals.items()}


def damage(path, kind, rng):
    """Damage the file at `path` and return its original bytes."""
    before = path.read_bytes()
    if kind == "deletion":
        path.unlink()
    elif kind == "truncation":
        path.write_bytes(before[: rng.randrange(len(before))])
    else:
        offset = rng.randrange(len(before))
        path.write_bytes(before[:offset] + bytes([before[offset] ^ 1 << rng.randrange(8)]) + before[offset + 1 :])
    return before


def files_of(store):
    return sorted(path for path in store.rglob("*") if path.is_file() and path.name not in OUTSIDE)


def kind_of(path):
    """The kind of a file of a store, for the table: its folder's name, or its own."""
    return path.parts[0] if len(path.parts) > 1 else path.name


def test_verify_finds_every_damage_and_names_the_file(stores):
    rng = random.Random(6)
    kinds, hit = Counter(), Counter()
    targets = {name: store / "manifest.jsonl" if name == "images" else store for name, store in stores.items()}
    for number in range(DAMAGES):
        name, kind = list(stores)[number % len(stores)], KINDS[number // len(stores) % len(KINDS)]
        path = rng.choice(files_of(stores[name]))
        before = damage(path, kind, rng)
        try:
            problems = verify(targets[name]).problems
        except PipelineError as error:  # of a deleted manifest
            problems = (str(error),)
        assert any(path.name in problem for problem in problems), (kind, path, problems)
        path.write_bytes(before)
        kinds[kind] += 1
        hit[f"{name}: {kind_of(path.relative_to(stores[name]))}"] += 1
    for target in targets.values():
        assert verify(target).problems == ()
    tally("bit-rot", damages=DAMAGES, found=kinds.total(), kinds=kinds, files=hit)


def test_repair_makes_the_damaged_shards_again_and_no_others(stores, small_manifest, models, faded):
    rng = random.Random(7)
    inputs = Inputs(small_manifest, models, stores["corpus"], external={"faded": str(faded)})
    damages = made_again = kept = 0
    for _ in range(REPAIRS):
        for name in ("export", "corpus", "pairs"):
            store = stores[name]
            digest = metadata(store)["digest"]
            chosen = rng.sample([path for path in files_of(store) if path.name != "store.json"], rng.randint(1, 4))
            before = {path: path.stat().st_mtime_ns for path in files_of(store) if path.suffix in (".parquet", ".png")}
            for path in chosen:
                damage(path, rng.choice(KINDS), rng)
            findings = verify(store)
            with lenient():
                repair(store, findings.kind, findings.changed, rebuilder(store, inputs, Workers()))
            assert verify(store).problems == ()
            assert metadata(store)["digest"] == digest
            rebuilt = {path for path, written in before.items() if path.stat().st_mtime_ns != written}
            assert rebuilt <= set(chosen)
            damages += len(chosen)
            made_again += len(rebuilt)
            kept += len(before) - len(rebuilt)
    tally(
        "repair",
        repairs=3 * REPAIRS,
        damages=damages,
        files_made_again=made_again,
        files_kept=kept,
        same_digest=3 * REPAIRS,
    )
