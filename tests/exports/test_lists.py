"""The tables of each format, with the columns expected by its readers."""

import csv
import dataclasses
import pickle

import pytest
import yaml
from damage import change_json

from distort_pipeline.commands.label import by_table
from distort_pipeline.config import ExportConfig
from distort_pipeline.data.arrays import read_records, write_table
from distort_pipeline.exports import ExportSource
from distort_pipeline.exports.kadid import sample_name
from distort_pipeline.exports.ranked import ordered_pairs
from distort_pipeline.records import SampleRecord, digest_rows
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures"]


def exported(corpus, out, name, **changes):
    export.run(ExportConfig(format=name, workers=0, **changes), corpus, out)
    return out


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def val_jpeg(corpus):
    return [r for r in corpus.records if (r.distortion, r.split) == ("jpeg", "val")]


def test_pyiqa_pairs_are_read_by_position(finished_corpus, corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "pyiqa_fr")
    head, *rows = table(out / "meta_info.csv")
    assert head == ["ref_name", "dist_name", "ssim_higher_better", "official_split", "distortion", "level", "image"]
    assert [name for name in head if "split" in name] == ["official_split"]  # pyiqa takes any such column for a split
    assert rows[21][:4] == [
        "pristine/00000001.png", "distorted/white_noise/00000021.png", str(corpus.records[21].ssim),
        corpus.records[21].split,
    ]  # fmt: skip
    splits = pickle.loads((out / "splits.pkl").read_bytes())
    assert list(splits) == [1]
    assert sorted(index for indices in splits[1].values() for index in indices) == list(range(40))
    for phase, indices in splits[1].items():
        assert {rows[index][3] for index in indices} == ({phase} if indices else set())


def test_pyiqa_single_images_are_read_by_position(finished_corpus, corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "pyiqa_nr", label="gmsd")
    head, *rows = table(out / "meta_info.csv")
    assert head[:3] == ["img_name", "gmsd_lower_better", "official_split"]
    assert rows[3][:2] == ["distorted/jpeg/00000003.png", str(corpus.records[3].gmsd)]
    options = yaml.safe_load((out / "options.yml").read_text())["datasets"]
    assert list(options) == ["train", "val"]
    assert options["val"]["type"] == "GeneralNRDataset"
    assert options["val"]["lower_better"] is True


def test_iqadataset_has_its_four_columns_and_a_table_for_each_split(finished_corpus, corpus, tmp_path, val_jpeg):
    out = exported(finished_corpus, tmp_path / "e", "iqadataset", distortions=("jpeg",))
    head, *rows = table(out / "iqadataset.csv")
    assert head == ["dis_img_path", "dis_type", "ref_img_path", "score"]
    assert rows[2] == ["distorted/jpeg/00000002.png", "jpeg", "pristine/00000002.png", str(corpus.records[2].ssim)]
    assert len(rows) == 20
    assert [row[0] for row in table(out / "iqadataset_val.csv")[1:]] == [
        f"distorted/jpeg/{record.sample:08d}.png" for record in val_jpeg
    ]
    assert not (out / "iqadataset_test.csv").exists()


def test_kadid_names_and_dmos_only_with_ratings(damaged, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("sample,score\n1,4\n1,5\n21,2\n")
    by_table(damaged, scores, name="rating")
    out = exported(damaged, tmp_path / "e", "kadid", label="rating")
    head, *rows = table(out / "dmos.csv")
    assert head[:4] == ["dist_img", "ref_img", "dmos", "var"]
    assert rows[1][:3] == ["I00000001_10_01.png", "I00000001.png", "4.5"]
    assert float(rows[1][3]) == pytest.approx(0.5)  # the variance of 4 and 5
    assert rows[21][:4] == ["I00000001_11_01.png", "I00000001.png", "2.0", "nan"]
    assert rows[0][2:4] == ["nan", "nan"]
    assert table(out / "types.csv")[1:] == [["10", "jpeg"], ["11", "white_noise"]]
    computed = exported(damaged, tmp_path / "computed", "kadid", label="ssim")
    assert {tuple(row[2:4]) for row in table(computed / "dmos.csv")[1:]} == {("nan", "nan")}


def test_ratings_where_lower_is_better_are_no_dmos_of_kadid(damaged, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("sample,score\n1,4\n")
    by_table(damaged, scores, name="hurt", lower_better=True)
    head, *rows = table(exported(damaged, tmp_path / "e", "kadid", label="hurt") / "dmos.csv")
    assert rows[1][2:4] == ["nan", "nan"]
    assert rows[1][head.index("hurt_mean_lower_better")] == "4.0"


def test_choices_are_no_opinion_scores(damaged, tmp_path):
    choices = tmp_path / "choices.csv"
    choices.write_text("left_sample,right_sample,choice\n0,1,left\n")
    by_table(damaged, choices, name="chosen")
    out = exported(damaged, tmp_path / "e", "kadid", label="chosen")
    head, *rows = table(out / "dmos.csv")
    assert {tuple(row[2:4]) for row in rows} == {("nan", "nan")}
    assert [row[head.index("chosen_mean_higher_better")] for row in rows[:2]] == ["1.0", "0.0"]


def test_kadid_names_of_a_further_draw_and_of_a_new_type(finished_corpus):
    import dataclasses

    source = ExportSource(finished_corpus, "ssim")
    parts, _ = export.plan(ExportConfig(), source, scored=False)
    sample = source.samples(parts[-1])[0]
    redraw = dataclasses.replace(sample.record, draw=3)
    assert sample_name(dataclasses.replace(sample, record=redraw)) == "I00000016_11_01_03.png"
    camera = dataclasses.replace(sample.record, distortion="camera")
    assert sample_name(dataclasses.replace(sample, record=camera)) == "I00000016_27_01.png"


def test_ranked_pairs_have_the_better_one_first(finished_corpus, corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "ranked")
    head, *rows = table(out / "ranked.csv")
    assert head[:4] == ["reference", "better", "worse", "evidence"]
    assert len(rows) == 40 + 20  # each sample below its reference tile, and the two samples of each tile
    ssim = {f"distorted/{r.distortion}/{r.sample:08d}.png": r.ssim for r in corpus.records}
    for reference, better, worse, evidence, *_ in rows:
        if evidence == "pristine":
            assert better == reference
        else:
            assert evidence == "ssim_higher_better"
            assert ssim[better] > ssim[worse]
            assert {better.split("/")[1], worse.split("/")[1]} == {"jpeg", "white_noise"}
    assert len(table(out / "ranked_train.csv")) + len(table(out / "ranked_val.csv")) == 60 + 2


def test_equal_scores_are_no_order_and_lower_can_be_better(finished_corpus):
    import dataclasses

    source = ExportSource(finished_corpus, "ssim")
    parts, _ = export.plan(ExportConfig(), source, scored=False)
    first, second, third, unscored = (
        dataclasses.replace(source.samples(parts[0])[0], score=score) for score in (1.0, 2.0, 2.0, None)
    )
    assert list(ordered_pairs([first, second, third, unscored], lower_better=True)) == [(first, second), (first, third)]
    assert list(ordered_pairs([first, second], lower_better=False)) == [(second, first)]


def test_imagefolder_names_both_images_from_the_split_s_folder(finished_corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "imagefolder")
    for split in ("train", "val"):
        head, *rows = table(out / split / "metadata.csv")
        assert head[:2] == ["distorted_file_name", "reference_file_name"]
        for distorted, reference, *_ in rows:
            assert (out / split / distorted).is_file()
            assert (out / split / reference).is_file()
    tiles = [{path.name for path in (out / split / "pristine").iterdir()} for split in ("train", "val")]
    assert not tiles[0] & tiles[1]


def test_a_study_shows_images_under_anonymous_names(finished_corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "study", study_sessions=4, study_trials=20)
    assert len(list((out / "stimuli").iterdir())) == 40 + 20
    head, *rows = table(out / "acr_trials.csv")
    assert head == ["session", "position", "kind", "stimulus", "sample", "score"]
    assert {row[0] for row in rows} == {"0", "1", "2", "3"}
    for _, _, kind, stimulus, sample, score in rows:
        assert (out / stimulus).is_file()
        assert (sample == "") == (kind == "anchor")
        assert score == ""
        assert sample.zfill(8) not in stimulus
    repeated = exported(finished_corpus, tmp_path / "again", "study", study_sessions=4, study_trials=20)
    other = exported(finished_corpus, tmp_path / "other", "study", study_sessions=4, study_trials=20, seed=1)
    for name in ("acr_trials.csv", "pairwise_trials.csv"):
        assert (repeated / name).read_bytes() == (out / name).read_bytes()
        assert (other / name).read_bytes() != (out / name).read_bytes()


def test_anchors_are_the_most_damaged_sample_of_a_tile_and_its_reference(finished_corpus, corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "study", study_sessions=6, study_trials=20)
    shown = {row[5] or row[6] for row in table(out / "pairwise_trials.csv")[1:] if row[2] == "anchor"}
    assert shown
    for number in map(int, shown):
        anchor = corpus.records[number]
        assert anchor.ssim == min(record.ssim for record in corpus.records if record.tile == anchor.tile)


def test_an_unchanged_sample_is_neither_worse_nor_an_anchor(damaged, tmp_path):
    path = damaged / "records" / "jpeg-00000.parquet"
    first, *others = read_records([path], SampleRecord)
    unchanged = [dataclasses.replace(first, psnr=None, ssim=1.0), *others]
    write_table(path, unchanged, SampleRecord)
    change_json(damaged / "ledger" / "jpeg-00000.json", records=digest_rows(unchanged))
    rows = table(exported(damaged, tmp_path / "r", "ranked") / "ranked.csv")[1:]
    by_reference = [row[2] for row in rows if row[3] == "pristine"]
    assert len(by_reference) == 39
    assert f"distorted/jpeg/{first.sample:08d}.png" not in by_reference
    out = exported(damaged, tmp_path / "s", "study", study_sessions=20, study_trials=20)
    anchors = [row for row in table(out / "pairwise_trials.csv")[1:] if row[2] == "anchor"]
    assert str(first.sample) not in {row[5] or row[6] for row in anchors}


def test_pairs_of_a_study_are_of_the_same_tile_with_swapped_sides(finished_corpus, corpus, tmp_path):
    out = exported(finished_corpus, tmp_path / "e", "study", study_sessions=6, study_trials=20)
    head, *rows = table(out / "pairwise_trials.csv")
    assert head[3:] == ["left", "right", "left_sample", "right_sample", "choice"]
    first, sides = {}, []
    for session, _, kind, left, right, left_sample, right_sample, _ in rows:
        assert (out / left).is_file()
        assert (out / right).is_file()
        assert left != right
        numbers = [int(number) for number in (left_sample, right_sample) if number]
        assert (len(numbers) == 1) == (kind == "anchor")
        if kind == "anchor":
            continue
        assert len({corpus.records[number].tile for number in numbers}) == 1
        sides.append(numbers[0] < numbers[1])
        key = (session, *sorted(numbers))
        if kind == "repeat":
            assert first[key] != numbers  # with the sides swapped
        first[key] = numbers
    assert 0.35 < sum(sides) / len(sides) < 0.65
