import dataclasses

import numpy as np
import pytest
import yaml
from small_models import card_of

from distort_pipeline.commands.inputs import PRETRAINED
from distort_pipeline.data.files import arrays_digest, read_json, write_json
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import VERSION, LearningReport, NetworkCard, read_card
from distort_pipeline.models.readme import readme
from distort_pipeline.models.store import (
    HISTOGRAMS,
    ValidationHistograms,
    model_folders,
    read_arrays,
    read_histograms,
    write_arrays,
    write_histograms,
)

ARRAYS = {
    "b/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "a/count": np.asarray(7, np.int64),  # like an optimiser's step count: without axes
    "c/empty": np.zeros((0, 3), np.float32),
}


def test_arrays_come_back_with_their_shapes_types_and_metadata(tmp_path):
    write_arrays(tmp_path / "x.safetensors", ARRAYS, {"step": "12"})
    arrays, metadata = read_arrays(tmp_path / "x.safetensors")
    assert metadata == {"step": "12"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].shape == array.shape
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
    assert arrays_digest(arrays) == arrays_digest(ARRAYS)


def test_the_digest_is_of_names_shapes_types_and_values():
    a = np.arange(6, dtype=np.float32)
    variants = [{"a": a}, {"b": a}, {"a": a.reshape(2, 3)}, {"a": a.view(np.int32)}, {"a": a + 1}, {}]
    assert len({arrays_digest(arrays) for arrays in variants}) == len(variants)
    assert arrays_digest({"a": a, "b": a + 1}) == arrays_digest({"b": a + 1, "a": a})


def test_missing_and_damaged_files_are_errors_for_people(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(PipelineError, match="there is no file"):
        read_arrays(path)
    write_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PipelineError, match="is damaged"):
        read_arrays(path)


def histograms():
    rng = np.random.default_rng(0)
    counts = [rng.integers(0, 1000, (5, 103)) for _ in range(3)]
    return ValidationHistograms(*counts, np.array([0, 0, 1, 1, 2]), 256)


def test_histograms_come_back(tmp_path):
    write_histograms(tmp_path, [histograms()])
    (read,) = read_histograms(tmp_path)
    for name in ("pristine", "true", "generated", "images"):
        assert np.array_equal(getattr(read, name), getattr(histograms(), name))
    assert read.tile_px == 256


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda _: b"PK\x03\x04", lambda _: b"", None])
def test_damaged_histograms_are_errors_for_people(tmp_path, damage):
    write_histograms(tmp_path, [histograms()])
    path = tmp_path / HISTOGRAMS
    if damage is None:
        data = bytearray(path.read_bytes())
        data[200] ^= 255
        path.write_bytes(data)
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PipelineError, match="missing or damaged"):
        read_histograms(tmp_path)


def test_models_are_the_finished_folders(tmp_path):
    with pytest.raises(PipelineError, match="there is no folder of models"):
        model_folders(tmp_path / "models")
    (tmp_path / "models" / ".jp2k.0123.building").mkdir(parents=True)
    with pytest.raises(PipelineError, match="no finished model"):
        model_folders(tmp_path / "models")
    for name in ("white_noise", "jpeg"):
        write_json(tmp_path / "models" / name / "store.json", {"format": "distort-pipeline/model", "version": VERSION})
    assert list(model_folders(tmp_path / "models")) == ["jpeg", "white_noise"]


def within(shipped, loaded):
    """Whether every field of `shipped` is in `loaded`; cards of earlier trainings lack some fields of today's."""
    if isinstance(shipped, dict):
        return all(within(value, loaded[name]) for name, value in shipped.items())
    return shipped == loaded


@pytest.mark.parametrize("folder", sorted(PRETRAINED.iterdir()), ids=lambda folder: folder.name)
def test_a_shipped_card_is_read_and_written_without_loss(folder):
    stored = read_json(folder / "store.json")
    of_the_store = {name: stored.pop(name) for name in ("files", "seal", "config_hash")}
    assert all(of_the_store.values())
    assert within(stored, read_card(folder).metadata())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.pop("weights_digest"), "weights_digest is missing"),
        (lambda card: card["levels"][1]["figures"].pop("jsd_nss"), r"levels\[1\]\.figures\.jsd_nss is missing"),
        (lambda card: card["network"].update(base_filters="4"), "network.base_filters is '4', and no int"),
        (lambda card: card["data"].update(grey=1), "data.grey is 1, and no bool"),
        (lambda card: card.update(levels={}), "levels is {}, and no tuple"),
    ],
)
def test_a_damaged_card_is_named_by_its_field(tmp_path, change, message):
    card = read_json(PRETRAINED / "jpeg" / "store.json")
    change(card)
    write_json(tmp_path / "store.json", card)
    with pytest.raises(PipelineError, match=f"store.json: {message}"):
        read_card(tmp_path)


def test_the_levels_that_enclose_a_severity():
    card = card_of("jpeg", [{"quality": 43}, {"quality": 12}])
    assert [card.level_at(severities) for severities in ([0.2779], [0.5, 0.5], [0.4], [0.2779, 0.5])] == [
        0,
        1,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("network", "changes", "origin"),
    [
        (NetworkCard(0, 0, codec_prior="dct"), {}, "least-squares fit of coefficient curves (dct)"),
        (
            NetworkCard(0, 3, noise_pyramid=True),
            {"steps": 300},
            "noise pyramid; 0 of 300 adversarial steps kept",
        ),
        (
            NetworkCard(16, 0),
            {"steps": 9, "kept_step": 7},
            "U-Net of 16 base filters; 7 of 9 adversarial steps kept",
        ),
        (
            NetworkCard(0, 0, parts=({"linear": [1], "jpeg": {"subsampling": "4:2:0"}},)),
            {},
            "filter, then libjpeg with",
        ),
    ],
)
def test_a_card_says_how_its_model_was_made(network, changes, origin):
    card = card_of("jpeg", [{"quality": 12}], network)
    report = LearningReport((), "fitted", better_than_identity=True, parts=("filter",))
    card = dataclasses.replace(card, learning=(report,) if network.parts else (), **changes)
    assert origin in card.origin


def test_a_readme_has_the_head_of_a_model_on_the_hub():
    card = read_card(PRETRAINED / "jpeg")
    _, head, text = readme(card).split("---\n", 2)
    fields = yaml.safe_load(head)
    (result,) = fields["model-index"][0]["results"]
    assert fields["library_name"] == "distort-pipeline"
    assert {row["type"]: row["value"] for row in result["metrics"]}["jsd_nss"] == round(card.figures.jsd_nss, 5)
    assert text.startswith(f"\n# Generator: {card.distortion}\n")


@pytest.mark.parametrize("name", ["jp2k", "jpeg", "pink_noise", "white_noise"])
def test_the_readme_of_a_pretrained_generator_is_that_of_its_card(name):
    folder = PRETRAINED / name
    assert (folder / "README.md").read_text(encoding="utf-8") == readme(read_card(folder))
