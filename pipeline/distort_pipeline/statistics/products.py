"""Products of neighbouring MSCN coefficients: the correlation left between neighbours."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Direction: TypeAlias = Literal["H", "V", "D1", "D2"]

DIRECTIONS: tuple[Direction, ...] = ("H", "V", "D1", "D2")

_ALL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
_PARTNERS = {  # (rows, columns) of the pixel, and of its neighbour
    "H": ((_ALL, _HEAD), (_ALL, _TAIL)),
    "V": ((_HEAD, _ALL), (_TAIL, _ALL)),
    "D1": ((_HEAD, _HEAD), (_TAIL, _TAIL)),
    "D2": ((_HEAD, _TAIL), (_TAIL, _HEAD)),
}


def pair_products(field: NDArray[np.floating[Any]], direction: Direction) -> NDArray[np.floating[Any]]:
    """Return the product of each value of `field` (H, W) with its neighbour in `direction`.

    H is to the right, V below, D1 below to the right, D2 below to the left. Pixels without a neighbour are left out
    (no wrap-around): the result is a row shorter, a column shorter, or both.

    >>> field = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> [pair_products(field, direction).ravel().tolist() for direction in DIRECTIONS]
    [[2.0, 15.0], [3.0, 10.0], [5.0], [6.0]]
    """
    pixels, shifted = neighbours(field, direction)
    return pixels * shifted


def neighbours(
    field: NDArray[np.floating[Any]], direction: Direction
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the pixels of `field` with a neighbour in `direction`, and the neighbours: two views of equal shape."""
    pixel, partner = _PARTNERS[direction]
    return field[pixel], field[partner]
