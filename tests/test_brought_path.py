"""The whole path with pairs that no distortion of ours made, typed as a user would type it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from distort_pipeline import open_corpus
from distort_pipeline.cli import main
from distort_pipeline.stores.files import read_json
from distort_pipeline.stores.images import decode, encode_png

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
IMAGES = 5


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with photographs, the same ones through a warm and soft lens, and all that the path makes of them."""
    place = tmp_path_factory.mktemp("external")
    (place / "clean").mkdir()
    (place / "worn").mkdir()
    for photograph in sorted(SAMPLE.glob("*.png"))[:IMAGES]:
        image = decode(photograph.read_bytes())[0][:256, :256]
        worn = cv2.GaussianBlur(image, (0, 0), 1.5) * np.array([1.0, 0.9, 0.8])
        (place / "clean" / photograph.name).write_bytes(encode_png(image))
        (place / "worn" / photograph.name).write_bytes(encode_png(worn.astype(np.uint8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in (
            "ingest clean --val-count 1",
            "pairs manifest.jsonl --distortions= --external-pairs lens=worn --tile-px 256 --workers 0",
            "train pairs --distortion lens --base-filters 2 --crop-px 128 --batch-size 2 --steps 2",
            "evaluate pairs --side-by-side 1",
            "generate --count 6 --tile-px 128 --workers 0",
            "export corpus --workers 0 --allow-flagged",  # bounds of one image say little of another
        ):
            done = CliRunner().invoke(main, command.split(), catch_exceptions=False)
            assert done.exit_code == 0, f"{command}\n{done.output}"
    return place


def test_all_of_it_is_verified(workplace):
    whole = CliRunner().invoke(main, ["verify", str(workplace)])
    assert whole.exit_code == 0, whole.output


def test_the_table_has_one_row_and_doing_nothing(workplace):
    table = (workplace / "evaluation" / "table.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["lens", "pristine"]


def test_batches_are_judged_by_the_true_images_that_the_model_has_seen(workplace):
    corpus = open_corpus(workplace / "corpus")
    (report,) = corpus.reports()
    assert report["paired"] is None
    assert report["judged_by"] == "unpaired"
    assert 0 <= report["unpaired"]["jsd_bits"] <= 1
    assert len(corpus) == 6


def test_the_card_says_that_the_pairs_were_brought(workplace):
    assert read_json(workplace / "models" / "lens" / "store.json")["external"] is True
    assert "brought pairs" in (workplace / "models" / "lens" / "README.md").read_text()
