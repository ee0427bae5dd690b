"""The contract of every export format."""

import csv
import json
import re
import subprocess

import pytest
import yaml

from distort_pipeline.commands.options import EXPORT_FORMATS, LOGGER_NAMES, PRESET_NAMES
from distort_pipeline.config import ExportConfig
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.exports import EXPORTS
from distort_pipeline.steps import export
from distort_pipeline.training.loop import LOGGERS

pytest_plugins = ["corpus_fixtures"]

FORMATS = EXPORTS.names()


@pytest.fixture(scope="module", params=FORMATS)
def exported(request, finished_corpus, tmp_path_factory):
    """The format's name, and an export in it."""
    out = tmp_path_factory.mktemp(request.param) / "export"
    export.run(ExportConfig(format=request.param, date="2026-11-30", workers=0), finished_corpus, out)
    return request.param, out


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_command_line_names_every_format_and_logger():
    assert sorted(EXPORT_FORMATS) == sorted(FORMATS)
    assert sorted(LOGGER_NAMES) == sorted(LOGGERS.names())
    assert list(PRESET_NAMES) == sorted(PRESETS, key=PRESET_NAMES.index)


def test_the_table_has_every_sample_once_with_its_split_and_path(exported, corpus):
    name, out = exported
    rows = rows_of(out / EXPORTS.get(name).table)
    assert [int(row["sample"]) for row in rows] == list(range(40))
    assert [row["split"] for row in rows] == [record.split for record in corpus.records]
    for row in rows:
        assert (out / row.get("file_name", row.get("shard"))).is_file()
    images = {(row["image"], row["split"]) for row in rows}
    assert len(images) == len({image for image, _ in images}) == 5  # none in two splits


def test_nothing_computed_is_called_an_opinion(exported):
    name, out = exported
    for path in out.rglob("*.csv"):
        for column in path.read_text(encoding="utf-8").split("\n", 1)[0].split(","):
            assert not re.search("mos|opinion", column) or column == "dmos", path
    if name == "kadid":
        assert {row["dmos"] for row in rows_of(out / "dmos.csv")} == {"nan"}


def test_the_card_has_a_head_for_tools_and_the_headings_of_a_datasheet(exported, corpus):
    name, out = exported
    text = (out / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields["license"] == "cc0-1.0"
    assert fields["size_categories"] == ["n<1K"]
    assert re.findall("^## (.*)", body, re.MULTILINE) == [
        "There are no human scores here", "Opening it", "Motivation", "Composition", "Collection process",
        "Preprocessing and labelling", "Uses", "Distribution", "Maintenance",
    ]  # fmt: skip
    assert corpus.metadata.digest in body
    assert "- CC0-1.0: 5" in body
    assert "| jpeg | 20 | quality 12 | no fit, U-Net of 4 base filters |" in body
    assert f"`{name}`" in body
    assert ("The score that this format carries is `ssim_higher_better`" in body) == EXPORTS.get(name).scored
    assert max(map(len, body.split("\n"))) < 180


def test_every_photograph_is_attributed(exported):
    _, out = exported
    rows = rows_of(out / "attributions.csv")
    assert [row["image"] for row in rows] == ["flower-1", "hills-1", "maple-1", "osprey-1", "wren-1"]
    assert {(row["licence"], row["source"]) for row in rows} == {("CC0-1.0", "tests")}


def test_croissant_describes_every_column_and_the_synthetic_origin(exported, corpus):
    name, out = exported
    document = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    assert document["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert document["datePublished"] == "2026-11-30"
    assert document["prov:wasDerivedFrom"]["@id"].endswith(corpus.metadata.manifest_digest)
    for model in corpus.metadata.models.values():
        assert model.digest[:16] in document["prov:wasGeneratedBy"]["prov:label"]
    assert {key for key in document if key.startswith("rai:")} >= {"rai:dataCollection", "rai:dataSocialImpact"}
    columns = [field["source"]["extract"]["column"] for field in document["recordSet"][0]["field"]]
    table, images = document["distribution"]
    assert columns == list(rows_of(out / table["contentUrl"])[0])
    assert list(out.glob(images["includes"])), name


def test_checksums_are_those_of_all_files(exported):
    _, out = exported
    completed = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, capture_output=True, text=True
    )
    assert (completed.returncode, completed.stdout) == (0, "")
    listed = {line.split("  ", 1)[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files - listed == {
        "SHA256SUMS",
        "files.json",
        "store.json",
        "run.json",
        *(n for n in files if n.startswith("ledger/")),
    }


def test_no_file_contains_a_path_of_this_machine(exported, finished_corpus):
    _, out = exported
    for path in out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert str(finished_corpus.parents[1]).encode() not in data, path


def test_a_part_written_again_gives_the_same_bytes(exported, finished_corpus, tmp_path):
    name, out = exported
    source, format_ = export.ExportSource(finished_corpus, "ssim"), EXPORTS.get(name)()
    parts, _ = export.plan(ExportConfig(format=name), source, scored=format_.scored)
    for part in parts[1:4]:
        for path in format_.write_part(source, part, tmp_path):
            assert path.read_bytes() == (out / path.relative_to(tmp_path)).read_bytes(), path


def test_whole_images_can_be_exported(exported, whole_corpus, tmp_path):
    name, _ = exported
    report = export.run(ExportConfig(format=name, workers=0), whole_corpus, tmp_path / "out")
    assert report.counts["samples"] == 2
