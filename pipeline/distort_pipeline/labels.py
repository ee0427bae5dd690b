"""Labels: numbers that are computed for a sample, and which way is better. None of them is anybody's opinion."""

from __future__ import annotations

LOWER_IS_BETTER = {"psnr": False, "ssim": False, "ms_ssim": False, "gmsd": True}  # of the labels in a SampleRecord
COMPUTED = tuple(LOWER_IS_BETTER)


def label_column(name: str, *, lower_better: bool) -> str:
    """Return what a table calls a label: its metric, and which way is better.

    >>> label_column("gmsd", lower_better=True), label_column("ssim", lower_better=False)
    ('gmsd_lower_better', 'ssim_higher_better')
    """
    return f"{name}_{'lower' if lower_better else 'higher'}_better"
