import json
import shutil

from damage import change_json, flip, only_problem, problems
from small_models import write_model

from distort_pipeline.commands.verify import verify
from distort_pipeline.records import digest
from distort_pipeline.stores.files import sealed, write_json
from distort_pipeline.stores.images import encode_png

pytest_plugins = ["corpus_fixtures", "store_copies"]


def test_a_damaged_model_is_found(model):
    flip(model / "generator.safetensors", -100)
    assert "the digest of the weights differs from store.json" in only_problem(model)
    flip(model / "generator.safetensors", -100)
    metadata = json.loads((model / "store.json").read_text())
    write_json(model / "store.json", {**metadata, "figures": {**metadata["figures"], "jsd_nss": 0.0}})
    assert "store.json has jsd_nss 0.0, the histograms give" in only_problem(model)
    write_json(model / "store.json", {**metadata, "settings": {**metadata["settings"], "distortion": "jp2k"}})
    assert "its config_hash differs from the digest of its settings" in only_problem(model)
    write_json(model / "store.json", metadata)
    good = (model / "validation_histograms.npz").read_bytes()
    for index in (0, 28, 300, -1, -30):
        flip(model / "validation_histograms.npz", index)
        text = problems(model)
        assert index in (-1, -30) or "histograms" in text, index
        (model / "validation_histograms.npz").write_bytes(good)
    (model / "generator.safetensors").write_bytes(b"short")
    (model / "validation_histograms.npz").unlink()
    (model / "README.md").unlink()
    assert len(verify(model).problems) == 3


def test_histograms_of_another_number_of_values_are_found(tmp_path, histograms_of, truly):
    exact = histograms_of(truly("jpeg"), truly("jpeg"))
    exact.true[3, 50] += 1
    write_model(tmp_path / "m", "jpeg", exact)
    assert only_problem(tmp_path / "m") == "the histograms are not of 20 tiles of 128 px, 16129 values each"


def test_a_damaged_export_is_found(exported):
    sample = next(path for path in sorted((exported / "distorted" / "jpeg").iterdir()))
    flip(sample, 100)
    lost = min((exported / "pristine").iterdir())
    lost.unlink()
    with (exported / "metadata.csv").open("a") as file:
        file.write("\n")
    (exported / "pristine" / "extra.png").write_bytes(b"")
    change_json(exported / "store.json", digest="0")
    found_problems = verify(exported).problems
    assert len(found_problems) == 5
    for message in (
        f"{sample.name} was changed",
        f"{lost.name} cannot be read",
        "metadata.csv was changed",
        "extra.png belongs to nothing",
        "its digest differs",
    ):
        assert message in "\n".join(found_problems)


def test_changed_images_of_a_manifest_are_found(small_manifest, tmp_path, photographs):
    folder = shutil.copytree(small_manifest.parent, tmp_path / "p")
    (folder / "wren.png").write_bytes(encode_png(photographs["osprey"]))
    (folder / "hills.png").unlink()
    flip(folder / "maple.png", 500)
    text = problems(folder / "manifest.jsonl")
    assert "wren.png: its file was changed" in text
    assert "wren.png has other pixels" in text
    assert "hills.png cannot be used any more: there is no such file" in text
    assert "maple.png" in text
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    (folder / "manifest.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert "the rows do not match the digest" in only_problem(folder / "manifest.jsonl")
    (tmp_path / "elsewhere").mkdir()
    copied = shutil.copy(small_manifest, tmp_path / "elsewhere" / "m.jsonl")
    copied.write_text(copied.read_text().replace('"root": "."', '"root": "gone"', 1))
    assert "its images were not checked: " in only_problem(copied)


def test_figures_of_an_evaluation_match_its_metadata(tmp_path):
    settings, figures = {"format": "evaluation"}, {"jsd_nss": 0.25, "models": {}}
    metadata = {
        "format": "distort-pipeline/evaluation",
        "version": 1,
        "settings": settings,
        "config_hash": digest(settings),
    }
    write_json(tmp_path / "store.json", sealed({**metadata, "digest": digest(figures)}))
    write_json(tmp_path / "metrics.json", figures)
    (tmp_path / "index.html").write_text("<html></html>\n")
    assert verify(tmp_path).problems == ()
    write_json(tmp_path / "metrics.json", {**figures, "jsd_nss": 0.24})
    assert "metrics.json was changed" in only_problem(tmp_path)
