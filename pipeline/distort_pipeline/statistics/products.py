"""Products of neighbouring MSCN coefficients: how much neighbours still resemble each other."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Direction: TypeAlias = Literal["H", "V", "D1", "D2"]

DIRECTIONS: tuple[Direction, ...] = ("H", "V", "D1", "D2")

_ALL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
_PARTNERS = {  # (rows, columns) of the one pixel, and of its neighbour
    "H": ((_ALL, _HEAD), (_ALL, _TAIL)),
    "V": ((_HEAD, _ALL), (_TAIL, _ALL)),
    "D1": ((_HEAD, _HEAD), (_TAIL, _TAIL)),
    "D2": ((_HEAD, _TAIL), (_TAIL, _HEAD)),
}


def pair_products(field: NDArray[np.floating[Any]], direction: Direction) -> NDArray[np.floating[Any]]:
    """Return the product of each value of `field` (H, W) with its neighbour in `direction`.

    H is to the right, V below, D1 below to the right, D2 below to the left. Pixels without a neighbour are left out,
    never wrapped around, so the result is a row shorter, a column shorter, or both.

    >>> field = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> [pair_products(field, direction).ravel().tolist() for direction in DIRECTIONS]
    [[2.0, 15.0], [3.0, 10.0], [5.0], [6.0]]
    """
    one, other = neighbours(field, direction)
    return one * other


def neighbours(
    field: NDArray[np.floating[Any]], direction: Direction
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the pixels of `field` that have a neighbour in `direction`, and those neighbours: two views, one shape."""
    one, other = _PARTNERS[direction]
    return field[one], field[other]
