"""Metrics computed for every sample of a corpus, and their better directions."""

from __future__ import annotations

LOWER_IS_BETTER = {"psnr": False, "ssim": False, "ms_ssim": False, "gmsd": True}  # the metrics in a SampleRecord
COMPUTED = tuple(LOWER_IS_BETTER)


def label_column(name: str, *, lower_better: bool) -> str:
    """Return the column name of a label in tables: the metric and its better direction.

    >>> label_column("gmsd", lower_better=True), label_column("ssim", lower_better=False)
    ('gmsd_lower_better', 'ssim_higher_better')
    """
    return f"{name}_{'lower' if lower_better else 'higher'}_better"
