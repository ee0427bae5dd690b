"""Train and val splits, assigned by the digest of each image and not by its position in a list."""

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
    scenes: Mapping[str, str] | None = None,
    for_training: bool = True,
) -> dict[str, str]:
    """Return the split of each image digest; splits in `given` (digest → split) stay.

    Every other digest is hashed with `salt` to a position in [0, 1) and belongs to val below `val_fraction`: added
    images never change the split of earlier images. With `val_count`, the images nearest to 0 fill val up to this
    count, given val images included. Near copies in `scenes` (digest → digest of the first image of the scene) have the
    given split of another image of their scene, or else the position of the first. PipelineError if train or val is
    empty, unless `for_training` is false.

    >>> splits = assign_splits(["a", "b", "c"], val_fraction=0.1, val_count=1, given={"c": "val"})
    >>> splits
    {'a': 'train', 'b': 'train', 'c': 'val'}
    """
    given, scenes = dict(given or {}), scenes or {}
    members: dict[str, list[str]] = {}
    for digest in dict.fromkeys(digests):
        members.setdefault(scenes.get(digest, digest), []).append(digest)
    for scene in members.values():
        known = [given[digest] for digest in scene if digest in given]
        given.update({digest: known[0] for digest in scene if known and digest not in given})
    free = sorted(
        (scene for scene, (digest, *_) in members.items() if digest not in given),
        key=lambda scene: (split_position(scene, salt), scene),
    )
    if val_count is None:
        val = {scene for scene in free if split_position(scene, salt) < val_fraction}
    else:
        val = _first_fitting(
            {scene: len(members[scene]) for scene in free},
            val_count - sum(given.get(digest) == "val" for digest in set(digests)),
        )
    splits = {digest: given.get(digest, "val" if scenes.get(digest, digest) in val else "train") for digest in digests}
    if for_training:
        _require_both(splits, val_fraction, val_count)
    return splits


def split_position(digest: str, salt: str) -> float:
    """Return the position of `digest` in [0, 1) under `salt`, uniform over all digests."""
    return derive_seed("split", salt, digest) / SEED_SPAN


def _first_fitting(sizes: Mapping[str, int], count: int) -> set[str]:
    """Return the first scenes with `count` images together, without scenes too large for the rest; one at least."""
    fitting: list[str] = []
    for scene, size in sizes.items():
        if size <= count:
            fitting.append(scene)
            count -= size
    if not fitting and count > 0:
        fitting = list(sizes)[:1]
    return set(fitting)


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
            f"none of {len(splits)} images is in the train split ({rule}): add images, "
            "set ingest.val_count to fewer, or name train images in the split column of a list"
        )
