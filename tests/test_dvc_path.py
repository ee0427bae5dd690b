"""The whole pipeline through the real dvc.yaml and params.yaml, with the quick profile, in a copy.

The copy has five of the sample's photographs, trains one of the distortions, and has shorter settings: the stages are
the same.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("dvc")

ROOT = Path(__file__).parents[1]
DISTORTIONS = {"jpeg", "jp2k", "white_noise", "pink_noise", "camera"}  # of the committed results
TRAINED = ("jpeg",)
PHOTOGRAPHS = ("Bamboo", "Red-Maple", "Yellow-Flower", "Sunset-Hills", "canyon-wren")
HERE = {  # shorter than the quick profile, and in one process, as each other one would import TensorFlow
    "distortions": f"[{', '.join(TRAINED)}]", "external": "{}", "workers": 0, "val_count": 2,
    "codec_prior": "none", "base_filters": 2, "discriminator_filters": 2, "steps": 2, "validate_every": 2,
    "c2st_steps": 0, "draws": 1,
}  # fmt: skip


class Checkout:
    """A copy of this checkout, with a history of its own."""

    def __init__(self, root):
        self.root = root
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "PYTHON"))},
            **({"PYTHONPYCACHEPREFIX": sys.pycache_prefix} if sys.pycache_prefix else {}),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root / "pipeline"),  # the copy's package, not the installed one
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root.parent / "dvc-site"),
        }

    def run(self, *command):
        completed = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert completed.returncode == 0, f"{' '.join(command)}\n{completed.stdout[-4000:]}\n{completed.stderr[-4000:]}"
        return completed.stdout

    def git(self, *arguments):
        return self.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments)

    def dvc(self, *arguments):
        return self.run(sys.executable, "-m", "dvc", *arguments)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The copy as a fresh clone has it: committed, without a cache."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    copy = Checkout(tmp_path_factory.mktemp("path") / "checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        in_sample = name.startswith("data/sample/") and name.endswith(".png")
        if (ROOT / name).is_file() and not (in_sample and not any(photo in name for photo in PHOTOGRAPHS)):
            (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy.root / name)
    copy.git("init", "--quiet")
    copy.git("config", "user.name", "test")  # DVC commits experiments
    copy.git("config", "user.email", "test@localhost")
    copy.git("add", "--all")
    copy.git("commit", "--quiet", "--message", "copy")
    committed = json.loads(copy.dvc("metrics", "show", "--json"))
    copy.committed = committed
    return copy


@pytest.fixture(scope="module")
def checkout(fresh):
    """The copy after `dvc repro` with the quick profile."""
    fresh.run(sys.executable, "-m", "profiles.apply", "quick")
    params = fresh.root / "params.yaml"
    text = params.read_text()
    for name, here in HERE.items():
        text, found = re.subn(rf"(?m)^  {name}:(?! \[\])[^#\n]*", f"  {name}: {here} ", text)
        assert found, name
    params.write_text(text)
    fresh.dvc("repro")
    # bytecode beside the code on which stages depend, as Python leaves it unless it is told not to, changes nothing
    code = [f"pipeline/distort_pipeline/{folder}" for folder in ("networks", "training")]
    fresh.run(sys.executable, "-X", "pycache_prefix=", "-m", "compileall", "-q", *code)
    assert all((fresh.root / folder / "__pycache__").is_dir() for folder in code)
    return fresh


def test_a_fresh_clone_has_a_baseline(fresh):
    committed = fresh.committed
    assert set(committed[""]["data"]["metrics.json"]["data"]["table"]) == DISTORTIONS


def test_a_run_leaves_settings_lock_and_metrics_changed_and_nothing_else(checkout):
    changed = {line.split()[1] for line in checkout.git("status", "--short").splitlines()}
    assert changed == {"dvc.lock", "metrics.json", "params.yaml"}


def test_what_was_made_is_as_it_was_made(checkout):
    build = "build"
    models = sorted(f"{build}/models/{path.name}" for path in (checkout.root / build / "models").iterdir())
    assert len(models) == len(TRAINED)
    stores = [f"{build}/manifest.jsonl", f"{build}/pairs", *models, f"{build}/corpus", f"{build}/export"]
    checkout.run(sys.executable, "-m", "distort_pipeline", "verify", *stores)


def test_the_summary_shows_the_table_and_where_the_corpus_and_its_report_lie(checkout):
    lines = checkout.run(sys.executable, "-m", "stages.summary").splitlines()
    for name in (*TRAINED, "pristine"):
        (row,) = [line for line in lines if line.startswith(name)]
        assert len(row.split()) == 1 + len(TRAINED)
    for path in ("build/corpus", "build/corpus/index.html", "build/evaluation/index.html"):
        assert any(line.endswith(f" {path}") for line in lines)
        assert (checkout.root / path).exists()


def test_a_second_run_runs_nothing_but_the_list_of_external_files(checkout):
    lock = (checkout.root / "dvc.lock").read_bytes()
    ran = [line for line in checkout.dvc("repro").splitlines() if line.startswith("Running stage")]
    assert [line.split("'")[1] for line in ran] == ["external"]
    assert (checkout.root / "dvc.lock").read_bytes() == lock


def test_metrics_are_compared_with_the_commit_and_plots_are_shown(checkout):
    difference = json.loads(checkout.dvc("metrics", "diff", "--json"))["metrics.json"]
    assert any(name.startswith("table.jpeg.") for name in difference)
    plots = json.loads(checkout.dvc("plots", "show", "--json"))
    assert not plots.get("errors")
    shown = {Path(name).name for name in plots["data"]}
    assert {f"histogram_{name}.svg" for name in TRAINED} <= shown
    assert {f"training_{name}.svg" for name in TRAINED} <= shown


def test_what_dvc_keeps_takes_no_second_place_on_the_disk(checkout):
    stores = [path for path in (checkout.root / "build").rglob("*") if path.is_file() and path.stat().st_size > 4096]
    assert stores
    assert [path for path in stores if path.name != "run.json" and path.stat().st_nlink < 2] == []


def test_code_that_decides_no_bytes_runs_nothing_again(checkout):
    exporter = checkout.root / "pipeline" / "distort_pipeline" / "steps" / "export.py"
    before = exporter.read_bytes()
    exporter.write_bytes(before + b"\n# touched\n")
    stages = yaml.safe_load(checkout.dvc("status", "--json"))
    exporter.write_bytes(before)
    assert set(stages) <= {"external"}


def test_changed_files_of_external_pairs_run_pairs_again(checkout):
    params, listing = checkout.root / "params.yaml", checkout.root / "build" / "external.json"
    degraded = checkout.root / "degraded"
    shutil.copytree(checkout.root / "data" / "sample", degraded, ignore=shutil.ignore_patterns("*.csv"))
    before = params.read_text()
    params.write_text(before.replace("external: {}", "external: {camera: degraded}"))
    checkout.dvc("repro", "external")
    listed = listing.read_bytes()
    (degraded / "enlightenment-data__Bamboo.png").write_bytes(
        (degraded / "enlightenment-data__Red-Maple.png").read_bytes()
    )
    checkout.dvc("repro", "external")
    stale = yaml.safe_load(checkout.dvc("status", "--json"))["pairs"]
    params.write_text(before)
    assert listing.read_bytes() != listed
    assert any("build/external.json" in str(change) for change in stale)


def test_an_experiment_is_recorded_with_its_metrics(checkout):
    ran = checkout.dvc("exp", "run", "--name", "fewer", "--set-param", "export.limit=4")
    assert "Running stage 'train" not in ran
    assert "Running stage 'export'" in ran
    rows = [line for line in checkout.dvc("exp", "show", "--csv").splitlines() if line.startswith("fewer,")]
    metrics = json.loads((checkout.root / "metrics.json").read_text())
    assert len(rows) == 1
    assert f",{metrics['table']['jpeg']['jpeg']}," in rows[0]
