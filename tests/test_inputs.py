import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from distort_pipeline.commands.inputs import (
    PRETRAINED,
    SAMPLE,
    generator_folder,
    models_for,
    pretrained,
    resolve_inputs,
)
from distort_pipeline.config import IngestConfig
from distort_pipeline.data.images import decode
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.distortions import apply
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.jsd_nss import jsd_bits, product_histogram
from distort_pipeline.models.card import read_card
from distort_pipeline.models.store import load_generator


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_ingested_beside_the_corpus(elsewhere):
    (elsewhere / "photos").mkdir()
    for path in sorted(SAMPLE.glob("*.png"))[:3]:
        shutil.copy(path, elsewhere / "photos")
    (elsewhere / "photos" / "broken.png").write_bytes(b"no image")
    (elsewhere / "photos" / "SOURCES.csv").write_text("file,licence\nmissing.png,CC0-1.0\n")
    for _ in range(2):
        manifest, summary = resolve_inputs(elsewhere / "photos", elsewhere / "corpus", IngestConfig())
        assert manifest == elsewhere / "corpus.manifest.jsonl"
        assert len(read_manifest(manifest).records) == 3
        said = "\n".join(summary)
        assert "3 of 4 files accepted (2 train, 1 val), 1 rejected" in said
        assert "rejected broken.png: " in said
        assert "warning: 1 rows of SOURCES.csv name no file" in said


def test_a_refused_command_keeps_the_manifest_of_a_finished_corpus(elsewhere):
    manifest, _ = resolve_inputs(SAMPLE, elsewhere / "corpus", IngestConfig())
    before = manifest.read_bytes()
    (elsewhere / "corpus").mkdir()
    (elsewhere / "corpus" / "store.json").write_text(json.dumps({"manifest_digest": read_manifest(manifest).digest}))
    (elsewhere / "photos").mkdir()
    shutil.copy(min(SAMPLE.glob("*.png")), elsewhere / "photos")
    with pytest.raises(PipelineError, match="corpus already exists and was made of other images"):
        resolve_inputs(elsewhere / "photos", elsewhere / "corpus", IngestConfig())
    assert manifest.read_bytes() == before
    assert not list(elsewhere.glob(".corpus*"))
    same_images, _ = resolve_inputs(SAMPLE, elsewhere / "corpus", IngestConfig())
    assert same_images == manifest


def test_a_single_image_is_enough_to_distort(elsewhere):
    (elsewhere / "photos").mkdir()
    shutil.copy(min(SAMPLE.glob("*.png")), elsewhere / "photos")
    manifest, _ = resolve_inputs(elsewhere / "photos", elsewhere / "corpus", IngestConfig())
    assert len(read_manifest(manifest).records) == 1


def test_a_manifest_is_used_as_it_is_and_the_manifest_in_this_folder_by_default(elsewhere):
    manifest = elsewhere / "manifest.jsonl"
    resolve_inputs(SAMPLE, elsewhere / "first", IngestConfig())[0].rename(manifest)
    assert resolve_inputs(manifest, elsewhere / "corpus", IngestConfig()) == (manifest, ())
    assert resolve_inputs(None, elsewhere / "corpus", IngestConfig())[0].resolve() == manifest


def test_the_built_in_photographs_are_the_default(elsewhere, capsys):
    manifest, _ = resolve_inputs(None, elsewhere / "corpus", IngestConfig())
    assert len(read_manifest(manifest).records) == 20
    assert "the built-in sample" in capsys.readouterr().err


def test_pretrained_generators_replace_missing_models(elsewhere, capsys):
    assert models_for(()) == {folder.name: folder for folder in sorted(PRETRAINED.iterdir())}
    assert "pretrained generators" in capsys.readouterr().err
    (elsewhere / "models").mkdir()
    shutil.copytree(pretrained("jpeg"), elsewhere / "models" / "mine")
    assert models_for(()) == {"mine": Path("models/mine")}
    assert "from the folder models here" in capsys.readouterr().err


def test_models_of_ones_own_and_pretrained_ones_are_known_by_name_side_by_side(elsewhere):
    (elsewhere / "models").mkdir()
    for name in ("camera", "jp2k"):
        shutil.copytree(pretrained("jpeg"), elsewhere / "models" / name)
    known = models_for(["camera", "jpeg"])
    assert sorted(known) == ["camera", "jp2k", "jpeg", "pink_noise", "white_noise"]
    assert known["jp2k"] == Path("models/jp2k")  # one's own come first
    assert generator_folder("jpeg") == pretrained("jpeg")
    (elsewhere / "models").rename(elsewhere / "others")
    assert models_for(["camera"], elsewhere / "others")["camera"] == elsewhere / "others" / "camera"
    with pytest.raises(PipelineError, match="no generator is called 'camra'"):
        generator_folder("camra")


@pytest.mark.parametrize("content", ["", "{}", '{"format": "another project"}', "[1]"])
def test_a_folder_called_models_without_a_model_does_not_hide_the_pretrained_generators(elsewhere, capsys, content):
    (elsewhere / "models" / "resnet").mkdir(parents=True)
    (elsewhere / "models" / "resnet" / ("store.json" if content else "config.json")).write_text(content)
    assert "jpeg" in models_for(())
    assert "the folder models here holds no trained model" in capsys.readouterr().err


def test_a_damaged_model_here_is_not_passed_over(elsewhere):
    (elsewhere / "models" / "jpeg").mkdir(parents=True)
    (elsewhere / "models" / "jpeg" / "store.json").write_text('{"format": "distort-pip')
    assert models_for(()) == {"jpeg": Path("models/jpeg")}


def test_a_manifest_of_another_project_does_not_hide_the_built_in_photographs(elsewhere):
    (elsewhere / "manifest.jsonl").write_text('{"image": "a.png"}\n')
    assert resolve_inputs(None, elsewhere / "corpus", IngestConfig())[0].name == "corpus.manifest.jsonl"


def test_a_missing_pretrained_generator_is_reported():
    with pytest.raises(PipelineError, match="no pretrained generator of sepia"):
        pretrained("sepia")


# median over the twenty photographs of the sample, measured 2026-11-24, times 2; here over every seventh photograph.
# Table I of the paper has on its diagonal 0.0107, 0.0031, 0.0008 and 0.0062 as means over larger photographs
@pytest.mark.parametrize(
    ("distortion", "bits"), [("jpeg", 0.002), ("jp2k", 0.0031), ("white_noise", 0.0004), ("pink_noise", 0.0024)]
)
def test_a_pretrained_generator_is_close_to_the_truth_on_unseen_photographs(distortion, bits):
    generator = load_generator(pretrained(distortion), batch_size=1)
    level = generator.card.levels[2]  # the level of paper_like
    scores = []
    for seed, path in enumerate(sorted(SAMPLE.glob("*.png"))[::7]):
        image = decode(path.read_bytes())[0]
        true = apply(distortion, image, level.parameters, np.random.default_rng(seed)).image
        generated = generator.predictor.distort_image(image, seed, level.severity)
        scores.append(jsd_bits(product_histogram(true), product_histogram(generated)))
    assert np.median(scores) < bits


def test_pretrained_generators_hold_arrays_only_and_name_their_data():
    for folder in sorted(PRETRAINED.iterdir()):
        assert {path.name for path in folder.iterdir()} == {
            *("store.json", "files.json", "README.md", "generator.safetensors", "validation_histograms.npz")
        }
        assert "wallpaper" in read_card(folder).data.photographs
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()) < 21e6
