"""Small facts that the repository's files have to agree on."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from distort_pipeline import steps
from distort_pipeline.cli import main
from distort_pipeline.commands.params import SECTIONS, load_params

ROOT = Path(__file__).parents[1]
STEPS = ("ingest", "pairs", "train", "evaluate", "generate", "export")
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
CODE = DVC["vars"][0]["code"]


def repository_files():
    """Every file that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for path in (ROOT / name for name in listed.stdout.decode().split("\0") if name) if path.is_file()]


@pytest.mark.parametrize("step", STEPS)
def test_each_step_has_its_module_stage_section_command_and_test(step):
    assert (ROOT / "pipeline" / "distort_pipeline" / "steps" / f"{step}.py").is_file()
    assert (ROOT / "stages" / f"{step}.py").is_file()
    assert (ROOT / "tests" / "steps" / f"test_{step}.py").is_file()
    assert step in yaml.safe_load((ROOT / "params.yaml").read_text())
    assert DVC["stages"][step]["cmd"].startswith(f"python -m stages.{step}")
    assert step in main.commands


def test_the_steps_have_one_order_everywhere():
    assert tuple(name for name in DVC["stages"] if name in STEPS) == STEPS
    assert tuple(yaml.safe_load((ROOT / "params.yaml").read_text()))[1:] == STEPS
    assert tuple(SECTIONS) == STEPS
    assert tuple(name for name in main.commands if name in STEPS) == STEPS


def test_stages_are_short():
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 30, path


def test_no_file_names_a_package_index():
    hosts = [
        "py" + "pi.org",
        "python" + "hosted.org",
        *(f"--{option}" for option in ("index" + "-url", "extra-index" + "-url", "find" + "-links")),
    ]
    for path in repository_files():
        data = path.read_bytes()
        assert [host for host in hosts if host.encode() in data] == [], path


def test_every_pin_has_a_hash():
    for name in ("requirements.lock", "requirements-build.lock"):
        pins = re.split(r"\n(?=\S)", (ROOT / name).read_text())
        pins = [pin for pin in pins if not pin.startswith("#")]
        assert pins
        for pin in pins:
            assert re.match(r"[a-z0-9-]+==\S+", pin), pin
            assert "--hash=sha256:" in pin, pin


def test_pins_are_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for text in (
        *project["build-system"]["requires"], *project["project"]["dependencies"], *extras["dvc"], *extras["dev"]
    ):  # fmt: skip
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pinned, f"{text}: run make lock"
        assert requirement.specifier.contains(pinned[name]), f"{text}, but {pinned[name]} is pinned: run make lock"


def test_the_recipe_without_tensorflow_names_every_other_dependency():
    recipe = (ROOT / "docs" / "usage.md").read_text().split("pip install --no-deps .\npip install ")[1].split("```")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {Requirement(text).name for text in project["dependencies"]}
    assert set(recipe.replace("\\", "").split()) == needed - {"keras", "tensorflow"}


def test_ci_can_be_run():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert "make test" in script.read_text()


def test_dvc_yaml_is_short_and_no_stage_depends_on_single_modules():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 100
    code = {dep for stage in DVC["stages"].values() for dep in stage.get("deps", ()) if dep.startswith("${code}")}
    assert code == {"${code}/networks", "${code}/training"}  # of what decides weights
    assert all((ROOT / dep.replace("${code}", CODE)).is_dir() for dep in code)


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_its_section_and_on_its_version(step):
    section, version = DVC["stages"][step]["params"]
    assert (section, version) == (step, {"${code}/steps/__init__.py": [step.upper()]})
    assert getattr(steps, step.upper()) >= 1


def test_params_yaml_states_every_setting():
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, section in SECTIONS.items():
        assert list(document[name]) == [field.name for field in dataclasses.fields(section)]


def test_a_lock_and_metrics_are_committed_for_a_fresh_clone():
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())
    assert {name.partition("@")[0] for name in lock["stages"]} == set(DVC["stages"])
    metrics = json.loads((ROOT / "metrics.json").read_text())
    assert set(metrics["table"]) == set(load_params(ROOT / "params.yaml").pairs.distortions)
    (out,) = [out for out in lock["stages"]["evaluate"]["outs"] if out["path"] == "metrics.json"]
    assert out["md5"] == hashlib.md5((ROOT / "metrics.json").read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def checkout(tmp_path):
    """A folder with params.yaml and the profiles."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


def apply_profile(checkout, name):
    pytest.importorskip("ruamel.yaml")
    command = [sys.executable, "-m", "profiles.apply", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline")}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


def test_the_paper_profile_is_the_papers_setting(checkout):
    assert apply_profile(checkout, "paper").returncode == 0
    params = load_params(checkout / "params.yaml")
    assert (params.train.base_filters, params.train.batch_size, params.train.crop_px) == (64, 16, 256)
    assert (params.train.generator_lr, params.train.discriminator_lr) == (3e-4, 1e-4)
    assert params.train.lambda_l1 == 0.1
    assert params.ingest.val_count == 44
    assert params.generate.count == 100_000


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
def test_a_profile_keeps_comments_and_changes_nothing_the_second_time(checkout, name):
    assert apply_profile(checkout, name).returncode == 0
    once = (checkout / "params.yaml").read_text()
    assert "marks the file as ours" in once
    apply_profile(checkout, name)
    assert (checkout / "params.yaml").read_text() == once


def test_an_unknown_profile_is_named_and_nothing_changes(checkout):
    before = (checkout / "params.yaml").read_bytes()
    completed = apply_profile(checkout, "papre")
    assert (completed.returncode, completed.stderr) == (
        2,
        "profile: no profile is called 'papre'; did you mean paper?\n",
    )
    assert (checkout / "params.yaml").read_bytes() == before


def test_an_unfit_profile_changes_nothing(checkout):
    before = (checkout / "params.yaml").read_bytes()
    (checkout / "profiles" / "odd.yaml").write_text("train:\n  stepps: 3\n")
    completed = apply_profile(checkout, "odd")
    assert completed.returncode == 2
    assert "stepps" in completed.stderr
    assert (checkout / "params.yaml").read_bytes() == before
