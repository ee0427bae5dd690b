import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.steps.ingest import assign_splits, split_position

DIGESTS = [f"{number:064x}" for number in range(2000)]


def test_added_images_never_change_earlier_splits():
    few = assign_splits(DIGESTS[:500], val_fraction=0.1)
    many = assign_splits(DIGESTS, val_fraction=0.1)
    assert all(many[digest] == split for digest, split in few.items())


def test_order_does_not_matter():
    for settings in ({"val_fraction": 0.1}, {"val_fraction": 0.1, "val_count": 44}):
        assert assign_splits(DIGESTS[::-1], **settings) == assign_splits(DIGESTS, **settings)


def test_the_fraction_is_met_within_chance():
    val = list(assign_splits(DIGESTS, val_fraction=0.1).values()).count("val")
    assert abs(val - 200) < 5 * (2000 * 0.1 * 0.9) ** 0.5


def test_another_salt_gives_another_split():
    assert assign_splits(DIGESTS, val_fraction=0.1) != assign_splits(DIGESTS, val_fraction=0.1, salt="b")


@pytest.mark.parametrize("count", [1, 44, 1999])
def test_a_count_is_met_exactly_by_the_smallest_positions(count):
    splits = assign_splits(DIGESTS, val_fraction=0.1, val_count=count, salt="s")
    val = [split_position(digest, "s") for digest in DIGESTS if splits[digest] == "val"]
    train = [split_position(digest, "s") for digest in DIGESTS if splits[digest] == "train"]
    assert len(val) == count
    assert max(val) < min(train)


def test_given_splits_win_and_count():
    fixed = {DIGESTS[0]: "val", DIGESTS[1]: "test", DIGESTS[2]: "train"}
    splits = assign_splits(DIGESTS[:50], val_fraction=0.5, val_count=3, given=fixed)
    assert [splits[digest] for digest in DIGESTS[:3]] == ["val", "test", "train"]
    assert list(splits.values()).count("val") == 3
    other = assign_splits(DIGESTS[:50], val_fraction=0.5, given=fixed)
    assert [other[digest] for digest in DIGESTS[:3]] == ["val", "test", "train"]


def test_a_golden_position():
    # derive_seed hashes b'["split","","a"]' with SHA-256; the first 8 bytes, 63 bits of them, over 2^63
    assert split_position("a", "") == pytest.approx(GOLDEN, abs=1e-15)


GOLDEN = 0.16334587691113042


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"val_fraction": 1e-9}, "none of 5 images is in the val split .*set ingest.val_count to 1"),
        ({"val_fraction": 0.1, "val_count": 5}, "none of 5 images is in the train split .*val_count 5.*fewer"),
        ({"val_fraction": 0.5, "given": dict.fromkeys(DIGESTS[:5], "train")}, "split column"),
    ],
)
def test_an_empty_split_names_the_remedy(settings, remedy):
    with pytest.raises(PipelineError, match=remedy):
        assign_splits(DIGESTS[:5], **settings)
