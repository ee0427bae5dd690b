import numpy as np
import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.exports.source import matching, plan_parts

COLUMNS = {
    "distortion": np.array(["jpeg"] * 5 + ["noise"] * 4),
    "conditions": np.array(["jpeg"] * 5 + ["noise"] * 4),
    "batch": np.array([0, 0, 1, 1, 2, 0, 0, 1, 1]),
    "tile": np.array([0, 1, 2, 3, 4, 0, 1, 2, 3]),
    "split": np.array(["train", "val", "train", "val", "train", "train", "val", "train", "val"]),
}
NAMES = ("jpeg", "noise")
ALL = np.ones(9, bool)


def plan(mask=ALL, limit=None):
    return [(part.batch, part.rows, part.new_tiles) for part in plan_parts(COLUMNS, NAMES, mask, limit)]


def test_everything_is_planned_once_and_a_tile_comes_with_its_first_part():
    assert plan() == [
        ("jpeg-00000", (0, 1), (0, 1)),
        ("jpeg-00001", (0, 1), (2, 3)),
        ("jpeg-00002", (0,), (4,)),
        ("noise-00000", (0, 1), ()),
        ("noise-00001", (0, 1), ()),
    ]


def test_a_selection_keeps_indices_in_the_batch_and_omits_empty_batches():
    mask = matching(COLUMNS, {"split": ["val"], "distortion": []})
    assert plan(mask) == [
        ("jpeg-00000", (1,), (1,)),
        ("jpeg-00001", (1,), (3,)),
        ("noise-00000", (1,), ()),
        ("noise-00001", (1,), ()),
    ]
    assert [batch for batch, *_ in plan(matching(COLUMNS, {"distortion": ["noise"]}))] == ["noise-00000", "noise-00001"]


def test_a_limit_is_shared_by_the_selected_distortions():
    assert [(batch, rows) for batch, rows, _ in plan(limit=5)] == [
        ("jpeg-00000", (0,)),
        ("jpeg-00001", (0,)),
        ("jpeg-00002", (0,)),
        ("noise-00000", (0,)),
        ("noise-00001", (0,)),
    ]
    assert plan(limit=100) == plan()
    assert [batch for batch, *_ in plan(COLUMNS["distortion"] == "noise", limit=2)] == ["noise-00000", "noise-00001"]


def test_a_limit_takes_tiles_from_all_over_the_corpus_and_the_same_in_all_conditions():
    tiles = np.concatenate([np.arange(90), np.arange(90), np.repeat(np.arange(45), 2)])
    columns = {
        "conditions": np.repeat(["jpeg", "jp2k", "noise"], 90),
        "batch": np.tile(np.arange(90) // 16, 3),
        "tile": tiles,
    }
    for limit in (3, 30, 96):
        parts = plan_parts(columns, ("jpeg", "jp2k", "noise"), np.ones(270, bool), limit)
        exported = {name: [] for name in ("jpeg", "jp2k", "noise")}
        for part in parts:
            in_batch = (columns["conditions"] == part.condition) & (columns["batch"] == int(part.batch[-5:]))
            exported[part.condition] += tiles[np.flatnonzero(in_batch)[list(part.rows)]].tolist()
        assert sum(map(len, exported.values())) == limit
        assert exported["jpeg"] == exported["jp2k"] == sorted(set(exported["jpeg"]))
        assert np.diff([0, *exported["jpeg"], 90]).max() <= 3 * 90 / (limit / 3 + 1)
        if limit < 135:
            assert len(set(exported["noise"])) == len(exported["noise"])  # another draw of a tile comes last


def test_selections_are_joined_and_unknown_values_are_named():
    mask = matching(COLUMNS, {"split": ["train"], "distortion": ["noise"]})
    assert np.flatnonzero(mask).tolist() == [5, 7]
    with pytest.raises(PipelineError, match=r"no sample has the distortion 'jepg'; did you mean jpeg\?"):
        matching(COLUMNS, {"distortion": ["jepg"]})
    with pytest.raises(PipelineError, match="no sample has the batch 9; known are: 0, 1, 2"):
        matching(COLUMNS, {"batch": [9]})
