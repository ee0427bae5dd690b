"""Small facts that the repository's files have to agree on."""

import dataclasses
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

from distort_pipeline.cli import main
from distort_pipeline.params import SECTIONS, load_params
from distort_pipeline.reports.residual_plots import PLOTS

ROOT = Path(__file__).parents[1]
WORDS = ("ingest", "pairs", "train", "evaluate", "generate", "export")
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
CODE = DVC["vars"][0]["code"]

# Modules that a step imports though they decide none of its bytes: settings are tracked as parameters, one by one.
RUNTIME_ONLY = {
    "ahead",
    "backend",
    "config",
    "errors",
    "execution",
    "interrupts",
    "memory",
    "progress",
    "registry",
    "scratch",
    "stores.builds",
    "stores.files",
    "stores.leases",
    "stores.remote",
    "stores.tensorflow_corpus",
    "stores.torch_corpus",
    "stores.xarray_corpus",
    "versions",
}
# Training is dear: what carries its pairs is left out, as another pair store means training again anyway, and so is
# what words the model card or lays out side_by_side. Labels are added to corpora that are there.
CARRIES = {
    "generate": {"stores.ratings", "stores.labels"},
    "train": {
        "planning", "records", "reports.model_card", "reports.side_by_side", "stores.arrays",
        "stores.inner_chunks", "stores.pairs", "stores.images", "stores.tables",
    },
}  # fmt: skip
# Settings that decide no byte either.
RUNTIME_ONLY = {"workers", "threads_per_worker", "on_fail"}


def repository_files():
    """Every file that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for path in (ROOT / name for name in listed.stdout.decode().split("\0") if name) if path.is_file()]


def templated(stage):
    """The body of a stage: what stands under `do` for one that is a loop."""
    return DVC["stages"][stage].get("do", DVC["stages"][stage])


def dependencies(stage):
    return [dep.replace("${code}", CODE) for dep in templated(stage)["deps"] if not dep.startswith("${ingest")]


@pytest.mark.parametrize("word", WORDS)
def test_each_word_has_its_step_stage_section_command_and_test(word):
    assert (ROOT / "pipeline" / "distort_pipeline" / "steps" / f"{word}.py").is_file()
    assert (ROOT / "stages" / f"{word}.py").is_file()
    assert (ROOT / "tests" / "steps" / f"test_{word}.py").is_file()
    assert word in yaml.safe_load((ROOT / "params.yaml").read_text())
    assert templated(word)["cmd"].startswith(f"python -m stages.{word}")
    assert word in main.commands


def test_the_path_has_one_order_everywhere():
    assert tuple(name for name in DVC["stages"] if name in WORDS) == WORDS
    assert tuple(yaml.safe_load((ROOT / "params.yaml").read_text()))[1:] == WORDS
    assert tuple(SECTIONS) == WORDS
    assert tuple(name for name in main.commands if name in WORDS) == WORDS


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
        wanted = Requirement(text)
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert name in pinned, f"{text}: run make lock"
        assert wanted.specifier.contains(pinned[name]), f"{text}, but {pinned[name]} is pinned: run make lock"


def test_ci_can_be_run():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert "make test" in script.read_text()


@pytest.mark.parametrize("word", WORDS)
def test_a_stage_depends_on_the_modules_that_decide_its_bytes(word):
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("distort_pipeline", exclude_type_checking_imports=True, cache_dir=None)
    found = {
        module.removeprefix("distort_pipeline.")
        for module in graph.find_upstream_modules(f"distort_pipeline.steps.{word}") | {f"distort_pipeline.steps.{word}"}
    }
    deciding = found - RUNTIME_ONLY - CARRIES.get(word, set())
    covered = [
        dep.removeprefix(f"{CODE}/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for dep in dependencies(word)
    ]
    missing = {
        module for module in deciding if not any(module == place or module.startswith(f"{place}.") for place in covered)
    }
    assert not missing


def test_stages_depend_on_files_that_exist():
    for stage in DVC["stages"]:
        for dep in dependencies(stage):
            assert dep.startswith("build/") or (ROOT / dep).exists(), f"{stage}: {dep}"


@pytest.mark.parametrize("word", WORDS)
def test_a_stage_depends_on_each_default_of_its_settings(word):
    kind = SECTIONS[word]
    (defaults,) = [entry for entry in templated(word)["params"] if isinstance(entry, dict)]
    (names,) = defaults.values()
    assert word in templated(word)["params"]
    has_tuples = any(isinstance(field.default, tuple) for field in dataclasses.fields(kind))
    if names == [kind.__name__]:
        assert not has_tuples, "DVC takes a class that holds a tuple for changed, always: list its settings"
        return
    constants = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    assert {name.removeprefix(f"{kind.__name__}.") for name in names} == constants - RUNTIME_ONLY


def test_each_distortion_of_the_sample_has_its_plots():
    text = yaml.safe_dump(DVC["plots"])
    for name in load_params(ROOT / "params.yaml").pairs.distortions:
        assert f"build/models/{name}/live/plots/metrics/jsd_nss.tsv" in text
        for plot in ("histogram", "spectrum", "grid", *PLOTS):
            assert f"build/evaluation/plots/{plot}_{name}.csv" in text


@pytest.fixture
def place(tmp_path):
    """A folder with params.yaml and the profiles."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


def apply_profile(place, name):
    pytest.importorskip("ruamel.yaml")
    command = [sys.executable, "-m", "profiles.apply", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline")}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


def test_the_paper_profile_is_the_papers_setting(place):
    assert apply_profile(place, "paper").returncode == 0
    params = load_params(place / "params.yaml")
    assert (params.train.base_filters, params.train.batch, params.train.crop_px) == (64, 16, 256)
    assert (params.train.generator_lr, params.train.discriminator_lr) == (3e-4, 1e-4)
    assert params.train.lambda_l1 == 0.1
    assert params.ingest.val_count == 44
    assert params.generate.count == 100_000


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
def test_a_profile_keeps_comments_and_changes_nothing_the_second_time(place, name):
    assert apply_profile(place, name).returncode == 0
    once = (place / "params.yaml").read_text()
    assert "says that this file is ours" in once
    apply_profile(place, name)
    assert (place / "params.yaml").read_text() == once


def test_an_unknown_profile_is_named_and_nothing_changes(place):
    before = (place / "params.yaml").read_bytes()
    done = apply_profile(place, "papre")
    assert (done.returncode, done.stderr) == (2, "profile: no profile is called 'papre'; did you mean paper?\n")
    assert (place / "params.yaml").read_bytes() == before


def test_an_unfit_profile_changes_nothing(place):
    before = (place / "params.yaml").read_bytes()
    (place / "profiles" / "odd.yaml").write_text("train:\n  stepps: 3\n")
    done = apply_profile(place, "odd")
    assert done.returncode == 2
    assert "stepps" in done.stderr
    assert (place / "params.yaml").read_bytes() == before
