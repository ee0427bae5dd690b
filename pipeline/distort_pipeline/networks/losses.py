"""The losses (section II-B), over patch logits of D and images in [-1, 1]."""

from __future__ import annotations

from typing import Any

from keras import ops

RANGE_SPAN = 2.0  # white minus black on the networks' scale


def discriminator_hinge(real: Any, fake: Any) -> Any:
    """Return the hinge loss of D, equation 4, over the patch logits `real` = D(x, y) and `fake` = D(x, G(x)).

    The paper prints its signs the other way round, unbounded below and not adversarial. The hinge loss of its citation
    pushes D(x, y) above 1 and D(x, G(x)) below -1; so does this loss.
    """
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


def generator_adversarial(fake: Any) -> Any:
    """Return -E[D(x, G(x))], equation 2, over the patch logits `fake`."""
    return -ops.mean(fake)


def l1_loss(distorted: Any, pristine: Any, *, span: float, reduction: str) -> Any:
    """Return E‖G(x) - x‖₁, equation 3, with white - black = `span`: a mean over values, or a sum over each image.

    The paper states neither the scale nor the reduction; for a 256 x 256 crop sum and mean differ by 196,608 times.
    """
    absolute = ops.abs(distorted - pristine) * (span / RANGE_SPAN)
    if reduction == "mean":
        return ops.mean(absolute)
    return ops.mean(ops.sum(absolute, axis=(1, 2, 3)))


def pixel_distance(distorted: Any, true: Any, *, norm: str, span: float = 255.0) -> Any:
    """Return the mean of |G(x) - y| ("l1") or of its square ("l2"), with white - black = `span`.

    Not part of the paper's loss: alone it is the comparison of the paper's figure 4; beside the adversarial loss it
    helps.
    """
    difference = (distorted - true) * (span / RANGE_SPAN)
    return ops.mean(ops.abs(difference) if norm == "l1" else ops.square(difference))
