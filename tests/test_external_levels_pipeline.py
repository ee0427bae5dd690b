"""External pairs at several levels, from the pairs to ranked exports, by the command line."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from distort_pipeline import load_generator, open_corpus
from distort_pipeline.cli import main
from distort_pipeline.data.files import read_json
from distort_pipeline.data.images import decode, encode_png
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.card import read_card
from distort_pipeline.training import compose_fit, learn

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
IMAGES = 8
SIGMAS = (0.8, 1.6, 3.2)  # of the blur at levels 1 to 3


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with photographs, blurred at three levels, and all outputs of the pipeline."""
    folder = tmp_path_factory.mktemp("levels")
    rows = ["pristine,distorted,level,sigma"]
    for path in sorted(SAMPLE.glob("*.png"))[:IMAGES]:
        image = decode(path.read_bytes())[0][:256, :256]
        for level, sigma in enumerate((0.0, *SIGMAS)):
            name = f"level-{level}/{path.name}"
            blurred = cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(encode_png(blurred))
            rows += [f"{path.name},{name},{level},{sigma}"] if sigma else []
    (folder / "blurs.csv").write_text("\n".join(rows))
    (folder / "params.yaml").write_text("distort_pipeline: 1\nevaluate: {c2st_steps: 0}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        filters = [
            each for each in compose_fit._candidates() if each.name in ("filter 7 px, levels", "filter 25 px, levels")
        ]
        assert filters
        patch.setattr(compose_fit, "_candidates", lambda: filters)  # others take minutes
        for codecs in ("related_codecs", "smaller_codecs"):
            patch.setattr(learn, codecs, lambda _: [])
        for command in (
            "ingest level-0 --val-count 2",
            "pairs manifest.jsonl --external-pairs lens=level-1,level-2,level-3 --tile-px 256 --workers 0",
            "pairs manifest.jsonl --out listed --external-pairs lens=blurs.csv --tile-px 256 --workers 0",
            "train listed --distortion lens --steps 0 --keep-anyway",
            "evaluate listed --side-by-side 1",
            "generate --count 12 --tile-px 128 --workers 0",
            "generate --out varied --count 6 --tile-px 128 --workers 0 --severity 0.2:0.9",
            "generate --out targeted --count 6 --tile-px 128 --workers 0 --target ssim=0.8:0.9",
            "generate --out held --splits val --count 6 --tile-px 128 --workers 0",
            "export held --out true --with-truth --pairs listed --manifest manifest.jsonl --workers 0 --allow-flagged",
            "export corpus --format ranked --out ranked --allow-flagged --workers 0",
        ):
            completed = CliRunner().invoke(main, command.split(), catch_exceptions=False)
            assert completed.exit_code == 0, f"{command}\n{completed.output}"
    return folder


def test_folders_in_order_and_a_list_with_levels_are_the_same_pairs(workplace):
    by_folder, listed = (read_json(workplace / name / "store.json") for name in ("pairs", "listed"))
    assert [recipe["level"] for recipe in by_folder["recipes"]] == [1, 2, 3]
    assert [recipe["parameters"] for recipe in by_folder["recipes"]] == [{}, {}, {}]
    assert [recipe["parameters"] for recipe in listed["recipes"]] == [{"sigma": sigma} for sigma in SIGMAS]
    assert by_folder["counts"] == listed["counts"]


def test_the_card_names_the_levels_and_a_scale_of_their_own(workplace):
    card = read_card(workplace / "models" / "lens")
    assert [level.severity for level in card.levels] == [1 / 3, 2 / 3, 1]
    assert [dict(level.parameters) for level in card.levels] == [{"sigma": sigma} for sigma in SIGMAS]
    text = (workplace / "models" / "lens" / "README.md").read_text()
    assert "| 2 | sigma 1.6 | 0.666667 |" in text
    assert "3 levels of one distortion" in text


def test_a_corpus_has_every_level_and_any_severity_between(workplace):
    corpus = open_corpus(workplace / "corpus")
    assert sorted({record.severity for record in corpus.records}) == pytest.approx([1 / 3, 2 / 3, 1])
    parameters = {record.level: json.loads(record.parameters) for record in corpus.records}
    assert parameters == {level: {"sigma": sigma} for level, sigma in enumerate(SIGMAS, start=1)}
    psnr = {level: [r.psnr for r in corpus.records if r.level == level] for level in (1, 2, 3)}
    assert min(psnr[1]) - max(psnr[1]) < 0 < sum(psnr[1]) - sum(psnr[2])
    assert sum(psnr[2]) > sum(psnr[3])
    varied = open_corpus(workplace / "varied").records
    assert len({record.severity for record in varied}) == 6
    errors = [abs(r.ssim - r.target) for r in open_corpus(workplace / "targeted").records if 0 < r.severity < 1]
    assert max(errors) < 0.02


def test_a_mildly_distorted_tile_is_ranked_above_a_severe_one(workplace):
    with (workplace / "ranked" / "ranked.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["evidence"] != "pristine"]
    assert rows
    assert all(int(row["level_better"]) < int(row["level_worse"]) for row in rows)


def test_the_generator_takes_any_severity(workplace):
    lens = load_generator(workplace / "models" / "lens")
    image = decode(next((workplace / "level-0").glob("*.png")).read_bytes())[0]
    errors = [((lens(image, severity).astype(float) - image) ** 2).mean() for severity in (0, 0.2, 1 / 3, 0.5, 0.8, 1)]
    assert errors == sorted(errors)
    assert errors[0] == 0


def test_validation_pairs_are_the_truth_beside_the_generated(workplace):
    corpus = open_corpus(workplace / "held", manifest=workplace / "manifest.jsonl", pairs=workplace / "listed")
    for sample in (corpus[0], corpus[5]):
        record = sample.record
        name = next((workplace / "level-0").glob(f"{record.image.rpartition('-')[0]}*")).name
        true = decode((workplace / f"level-{record.level}" / name).read_bytes())[0]
        tile = (slice(record.y, record.y + record.height), slice(record.x, record.x + record.width))
        np.testing.assert_array_equal(sample.true, true[tile])
    assert len(list((workplace / "true").rglob("true/**/*.png"))) == 6
    trained_on = open_corpus(workplace / "corpus", manifest=workplace / "manifest.jsonl", pairs=workplace / "listed")
    sample = next(each for each in map(trained_on.__getitem__, range(12)) if each.record.split == "train")
    with pytest.raises(PipelineError, match=r"is no validation image of .*choose those with --select split=val"):
        sample.true  # noqa: B018
    with pytest.raises(PipelineError, match="without the pairs of lens: name their store"):
        open_corpus(workplace / "held", manifest=workplace / "manifest.jsonl")[0].true  # noqa: B018


def test_all_outputs_are_verified(workplace):
    result = CliRunner().invoke(main, ["verify", str(workplace)])
    assert result.exit_code == 0, result.output
