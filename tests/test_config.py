import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distort_pipeline.commands.params import SECTIONS, Params, load_params, parse_section, replaced, schema
from distort_pipeline.config import GenerateConfig, PairsConfig, TrainConfig
from distort_pipeline.errors import PipelineError

REPOSITORY = Path(__file__).parents[1]


def params(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_repositorys_parameters_load():
    loaded = load_params(REPOSITORY / "params.yaml")
    assert loaded.pairs.distortions == ("jpeg", "jp2k", "white_noise", "pink_noise", "camera")
    assert loaded != Params()  # the values of the file are in use


def test_the_committed_schema_is_current():
    committed = json.loads((REPOSITORY / "params.schema.json").read_text(encoding="utf-8"))
    assert committed == json.loads(json.dumps(schema())), "make schema"
    assert (REPOSITORY / "params.yaml").read_text().startswith("# yaml-language-server: $schema=params.schema.json\n")


def test_the_schema_has_type_range_and_default_of_each_setting():
    train = schema()["properties"]["train"]["properties"]
    assert train["ema_decay"] == {
        "description": "Decay of the exponential moving average of the generator's weights; 0: none.",
        "default": 0.999,
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
    }
    assert train["codec_prior"]["type"] == ["string", "null"]
    assert train["codec_prior"]["enum"] == ("none", "dct", "dct_integer", "dwt97", None)
    assert schema()["properties"]["pairs"]["properties"]["levels"]["items"] == {"type": "integer", "minimum": 1}


def test_defaults_are_the_papers_where_it_states_them():
    train = TrainConfig()
    assert (train.generator_lr, train.discriminator_lr, train.lambda_l1) == (3e-4, 1e-4, 0.1)
    assert (train.crop_px, train.batch_size) == (256, 16)


def test_sections_are_the_fields_of_params():
    assert set(SECTIONS) == {field.name for field in dataclasses.fields(Params)}


def test_absent_and_empty_sections_are_defaults(tmp_path):
    assert load_params(params(tmp_path, "distort_pipeline: 1\ntrain:\n")) == Params()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("distort_pipeline: 1\ntrian: {}\n", ["unknown section 'trian'", "did you mean train?"]),
        ("distort_pipeline: 1\ntrain: {batchsize: 3}\n", ["train.batchsize", "did you mean batch_size?"]),
        ("distort_pipeline: 1\ntrain: 0\n", ["train must be a mapping", "got 0"]),
        ("distort_pipeline: 1\ntrain: []\n", ["train must be a mapping"]),
        ("distort_pipeline: 1\ntrain: {batch_size: 4.5}\n", ["train.batch_size", "int", "4.5"]),
        (
            "distort_pipeline: 1\ntrain: {batch_size: true}\n",
            ["train.batch_size", "int", "True"],
        ),  # YAML's yes is not 1
        ("distort_pipeline: 1\ntrain: {batch_size: '4'}\n", ["train.batch_size", "int", "'4'"]),
        ("distort_pipeline: 1\ntrain: {generator_lr: .nan}\n", ["train.generator_lr", "finite"]),
        ("distort_pipeline: 1\ntrain: {generator_lr: fast}\n", ["train.generator_lr", "float", "'fast'"]),
        ("distort_pipeline: 1\ntrain: {generator_lr: 1" + 400 * "0" + "}\n", ["train.generator_lr", "finite"]),
        ("distort_pipeline: 1\npairs: {tile_px: 200}\n", ["pairs.tile_px must be a multiple of 128, got 200"]),
        ("distort_pipeline: 1\ngenerate: {target: {ssim: [30]}}\n", ["generate.target", "0 to 1 for ssim"]),
        ("distort_pipeline: 1\npairs: {external: {a: b, a: c}}\n", ["a is given twice"]),
        ("distort_pipeline: 1\npairs: {seed: 1}\npairs: {seed: 2}\n", ["pairs is given twice"]),
        ("distort_pipeline: 1\npairs: {levels: 1}\n", ["pairs.levels must be a list", "1"]),
        ("distort_pipeline: 1\npairs: {levels: [0]}\n", ["pairs.levels", "from 1"]),
        ("distort_pipeline: 1\npairs: {distortions: [jpeg, jpeg]}\n", ["pairs.distortions", "without repeats"]),
        ("distort_pipeline: 1\npairs: {external: {pristine: a}}\n", ["pairs.external", "pristine"]),
        ("distort_pipeline: 1\npairs: {external: {a/b: a}}\n", ["pairs.external", "a/b"]),
        ("distort_pipeline: 1\npairs: {external: {1: a}}\n", ["pairs.external", "str"]),
        ("distort_pipeline: 1\ngenerate: {splits: [vla]}\n", ["generate.splits", "vla"]),
        ("distort_pipeline: 2\n", ["distort_pipeline: 2", "reads 1 only"]),
        ("train: {}\ndistort_pipeline: 1\n", ["first key"]),
        ("", ["first key"]),
        ("a: [1\n", ["not YAML"]),
    ],
)
def test_an_invalid_value_is_named(tmp_path, text, messages):
    with pytest.raises(PipelineError) as caught:
        load_params(params(tmp_path, text))
    assert all(message in str(caught.value) for message in messages), str(caught.value)


def test_a_missing_file_and_a_folder_are_reported(tmp_path):
    with pytest.raises(PipelineError, match="there is no parameter file"):
        load_params(tmp_path / "none.yaml")
    with pytest.raises(PipelineError, match="cannot read the parameter file"):
        load_params(tmp_path)


def test_numbers_as_yaml_reads_them(tmp_path):
    # YAML 1.1 takes 3e-4 for text and 1 for an integer: both are numbers to people
    loaded = load_params(params(tmp_path, "distort_pipeline: 1\ntrain: {generator_lr: 3e-4, discriminator_lr: 1}\n"))
    assert loaded.train.generator_lr == 3e-4
    assert isinstance(loaded.train.discriminator_lr, float)


def test_replaced_checks_what_it_is_given_and_keeps_the_rest():
    changed = replaced(TrainConfig(batch_size=3), steps=7, seed=None)
    assert (changed.batch_size, changed.steps, changed.seed) == (3, 7, 0)
    with pytest.raises(PipelineError, match=r"train\.batch_size must be positive, got 0"):
        replaced(TrainConfig(), batch_size=0)
    with pytest.raises(PipelineError, match=r"train\.steps must be of type int"):
        replaced(TrainConfig(), steps="7")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (TrainConfig, "crop_px", 192),
        (TrainConfig, "crop_align", 4),
        (TrainConfig, "lambda_l1", -0.1),
        (TrainConfig, "beta_1", 1.0),
        (TrainConfig, "precision", "float16"),
        (TrainConfig, "discriminator_input", "sideways"),
        (TrainConfig, "l1_reduction", "median"),
        (TrainConfig, "noise_channels", -1),
        (TrainConfig, "steps", -1),
        (TrainConfig, "codec_prior", "fourier"),
        (TrainConfig, "select_checkpoint", "first"),
        (TrainConfig, "discriminator_warmup_steps", 20_000),  # as many as there are steps
        (PairsConfig, "tiles_per_shard", 50),
        (PairsConfig, "tiles_per_image", 65),
        (PairsConfig, "min_tile_px", 512),
        (PairsConfig, "workers", -1),
        (GenerateConfig, "tile_px", 0),
        (GenerateConfig, "samples_per_shard", 100),
        (GenerateConfig, "on_fail", "shrug"),
    ],
)
def test_values_out_of_range_are_refused(kind, name, value):
    with pytest.raises(PipelineError, match=rf"{kind.section}\.{name} must be .*, got {value!r}"):
        kind(**{name: value})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(min_value=10**300) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", list(SECTIONS.values()), ids=list(SECTIONS))
def test_any_yaml_is_a_section_or_an_error_for_users(kind, data):
    names = st.sampled_from([field.name for field in dataclasses.fields(kind)])
    values = data.draw(anything | st.dictionaries(names, anything, max_size=3))
    try:
        assert isinstance(parse_section(kind, values), kind)
    except PipelineError:
        return
