"""The whole path through the real dvc.yaml and params.yaml on the sample, with the quick profile, in a copy."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("dvc")

ROOT = Path(__file__).parents[1]


class Checkout:
    """A copy of this checkout, with a history of its own."""

    def __init__(self, root):
        self.root = root
        self.environment = {
            # with bytecode beside the code, as Python leaves it unless it is told not to
            **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "PYTHON"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root / "pipeline"),  # the copy's package, not the installed one
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root.parent / "dvc-site"),
        }

    def run(self, *command):
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def git(self, *words):
        return self.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", *words)

    def dvc(self, *words):
        return self.run(sys.executable, "-m", "dvc", *words)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The copy, committed with the quick profile, after `dvc repro` as the Makefile runs it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    copy = Checkout(tmp_path_factory.mktemp("path") / "checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy.root / name)
    (copy.root / "dvc.lock").write_text("schema: '2.0'\n")  # ours may be filled already
    copy.run(sys.executable, "-m", "profiles.apply", "quick")
    copy.git("init", "--quiet")
    copy.git("config", "user.name", "test")  # DVC commits experiments
    copy.git("config", "user.email", "test@localhost")
    copy.git("add", "--all")
    copy.git("commit", "--quiet", "--message", "copy")
    copy.git("update-index", "--skip-worktree", "dvc.lock")
    copy.dvc("repro")
    return copy


def test_a_whole_run_leaves_the_checkout_clean(checkout):
    assert checkout.git("status", "--short") == ""


def test_all_that_was_made_is_whole(checkout):
    build = "build"
    models = sorted(f"{build}/models/{path.name}" for path in (checkout.root / build / "models").iterdir())
    assert len(models) == 4
    places = [f"{build}/manifest.jsonl", f"{build}/pairs", *models, f"{build}/corpus", f"{build}/export"]
    checkout.run(sys.executable, "-m", "distort_pipeline", "verify", *places)


def test_the_summary_shows_the_table_and_where_the_corpus_and_its_report_lie(checkout):
    lines = checkout.run(sys.executable, "-m", "stages.summary").splitlines()
    for name in ("jpeg", "jp2k", "white_noise", "pink_noise", "pristine"):
        (row,) = [line for line in lines if line.startswith(name)]
        assert len(row.split()) == 5
    for place in ("build/corpus", "build/corpus/index.html", "build/evaluation/index.html"):
        assert any(line.endswith(f" {place}") for line in lines)
        assert (checkout.root / place).exists()


def test_a_second_run_has_nothing_to_do(checkout):
    lock = (checkout.root / "dvc.lock").read_bytes()
    assert "Running stage" not in checkout.dvc("repro")
    assert (checkout.root / "dvc.lock").read_bytes() == lock


def test_metrics_and_plots_are_shown(checkout):
    metrics = json.loads(checkout.dvc("metrics", "show", "--json"))[""]["data"]["build/evaluation/metrics.json"]["data"]
    assert set(metrics["table"]) == {"jpeg", "jp2k", "white_noise", "pink_noise"}
    plots = json.loads(checkout.dvc("plots", "show", "--json"))
    assert not plots.get("errors")
    values = plots["data"]["products of jpeg"][0]["content"]["data"]["values"]
    assert {row["field"] for row in values} == {"pristine", "true", "generated"}


def test_what_dvc_keeps_takes_no_second_place_on_the_disk(checkout):
    stores = [path for path in (checkout.root / "build").rglob("*") if path.is_file() and path.stat().st_size > 4096]
    assert stores
    assert [path for path in stores if path.name != "run.json" and path.stat().st_nlink < 2] == []


def test_touching_the_exporter_does_not_train_again(checkout):
    exporter = checkout.root / "pipeline" / "distort_pipeline" / "steps" / "export.py"
    before = exporter.read_bytes()
    exporter.write_bytes(before + b"\n# touched\n")
    stages = yaml.safe_load(checkout.dvc("status", "--json"))
    exporter.write_bytes(before)
    assert set(stages) == {"export"}


def test_an_experiment_is_recorded_with_its_metrics(checkout):
    ran = checkout.dvc("exp", "run", "--name", "fewer", "--set-param", "export.limit=4")
    assert "Running stage 'train" not in ran
    assert "Running stage 'export'" in ran
    rows = [line for line in checkout.dvc("exp", "show", "--csv").splitlines() if line.startswith("fewer,")]
    metrics = json.loads((checkout.root / "build" / "evaluation" / "metrics.json").read_text())
    assert len(rows) == 1
    assert f",{metrics['table']['jpeg']['jpeg']}," in rows[0]
