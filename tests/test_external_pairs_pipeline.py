"""The whole pipeline with external pairs, by the command line."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from distort_pipeline import open_corpus
from distort_pipeline.cli import main
from distort_pipeline.data.files import read_json
from distort_pipeline.data.images import decode, encode_png
from distort_pipeline.training import compose_fit, learn

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
IMAGES = 5
PARTS = (  # one of each kind is tried: all sizes, in light as well as in levels, take most of the time
    "tone", "colour matrix, levels", "filters of 7 px by position, levels", "filter 7 px, levels",
    "filter by phase of 2 px, levels", "shrinkage of detail",
)  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with photographs, their versions through a warm and soft lens, and all outputs of the pipeline."""
    folder = tmp_path_factory.mktemp("external")
    (folder / "clean").mkdir()
    (folder / "worn").mkdir()
    for path in sorted(SAMPLE.glob("*.png"))[:IMAGES]:
        image = decode(path.read_bytes())[0][:256, :256]
        worn = cv2.GaussianBlur(image, (0, 0), 1.5) * np.array([1.0, 0.9, 0.8])
        (folder / "clean" / path.name).write_bytes(encode_png(image))
        (folder / "worn" / path.name).write_bytes(encode_png(worn.astype(np.uint8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tried = [each for each in compose_fit._candidates() if each.name in PARTS]
        assert len(tried) == len(PARTS)
        patch.setattr(compose_fit, "_candidates", lambda: tried)
        patch.setattr(learn, "smaller_codecs", lambda _: [])
        for command in (
            "ingest clean --val-count 1",
            "pairs manifest.jsonl --external-pairs lens=worn --tile-px 256 --workers 0",
            "train pairs --distortion lens --steps 2",
            "evaluate pairs --side-by-side 1",
            "generate --count 6 --tile-px 128 --workers 0",
            "export corpus --workers 0",
        ):
            completed = CliRunner().invoke(main, command.split(), catch_exceptions=False)
            assert completed.exit_code == 0, f"{command}\n{completed.output}"
    return folder


def test_all_outputs_are_verified(workplace):
    result = CliRunner().invoke(main, ["verify", str(workplace)])
    assert result.exit_code == 0, result.output


def test_the_table_has_a_row_and_the_identity_baseline(workplace):
    with (workplace / "evaluation" / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = [row for row in rows if row["component"] == "d1_1" and row["statistic"] == "jsd"]
    table = [row for row in table if row["compared_with"] == "true"]
    assert [(row["generator"], row["measured"]) for row in table] == [("lens", "generated"), ("", "pristine")]


def test_batches_are_compared_with_true_images_of_validation(workplace):
    corpus = open_corpus(workplace / "corpus")
    (report,) = corpus.reports()
    assert (report.comparison, report.accepted) == ("none", None)  # a single validation image judges no other
    assert 0 <= report.divergence.jsd_bits <= 1
    assert len(corpus) == 6


def test_the_corpus_carries_the_evaluation_of_its_model(workplace):
    verdict = open_corpus(workplace / "corpus").metadata.models["lens"].evaluation
    assert (verdict.nearest, verdict.images) == ("lens", 1)
    page = (workplace / "corpus" / "index.html").read_text()
    assert "Evaluation of the models" in page
    assert (verdict.state == "bad") == ('class="verdict bad"' in page)
    assert verdict.objections.split(",")[0] in page


def test_the_card_names_external_pairs(workplace):
    assert read_json(workplace / "models" / "lens" / "store.json")["external"] is True
    assert "external pairs" in (workplace / "models" / "lens" / "README.md").read_text()
