"""Which image trains and which one judges: decided by the image's own digest, not by its place in a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from distort_pipeline.errors import PipelineError
from distort_pipeline.seeds import derive_seed

SEED_SPAN = 2**63  # derive_seed gives 63 bits


def assign_splits(
    digests: Sequence[str],
    *,
    val_fraction: float,
    val_count: int | None = None,
    salt: str = "",
    given: Mapping[str, str] | None = None,
    for_training: bool = True,
) -> dict[str, str]:
    """Return the split of each image digest; those `given` (digest → split) keep theirs.

    Every other digest is hashed with `salt` to a place in [0, 1) and belongs to val below `val_fraction`: further
    images never move earlier ones. With `val_count` the images nearest to 0 fill val up to that many, those given
    as val included. PipelineError if train or val comes out empty, unless nothing is to be trained on them.

    >>> splits = assign_splits(["a", "b", "c"], val_fraction=0.1, val_count=1, given={"c": "val"})
    >>> splits
    {'a': 'train', 'b': 'train', 'c': 'val'}
    """
    given = given or {}
    free = sorted(
        {digest for digest in digests if digest not in given}, key=lambda digest: (place(digest, salt), digest)
    )
    if val_count is None:
        val = {digest for digest in free if place(digest, salt) < val_fraction}
    else:
        wanted = val_count - sum(given.get(digest) == "val" for digest in set(digests))
        val = set(free[: max(wanted, 0)])
    splits = {digest: given.get(digest, "val" if digest in val else "train") for digest in digests}
    if for_training:
        _require_both(splits, val_fraction, val_count)
    return splits


def place(digest: str, salt: str) -> float:
    """Return where `digest` falls in [0, 1) under `salt`, evenly over all digests."""
    return derive_seed("split", salt, digest) / SEED_SPAN


def _require_both(splits: Mapping[str, str], val_fraction: float, val_count: int | None) -> None:
    sizes = Counter(splits.values())
    rule = f"ingest.val_fraction {val_fraction:g}" if val_count is None else f"ingest.val_count {val_count}"
    if not sizes["val"]:
        raise PipelineError(
            f"none of {len(splits)} images is in the val split ({rule}): set ingest.val_count to 1 or more, "
            "or name val images in the split column of a list"
        )
    if not sizes["train"]:
        raise PipelineError(
            f"none of {len(splits)} images is in the train split ({rule}): bring more images, "
            "set ingest.val_count to fewer, or name train images in the split column of a list"
        )
