"""NumPy under the names of `keras.ops`: `xp` of the fitted models is this module, or `keras.ops` for tensors.

So a generator without a network runs without a backend, and its bytes do not depend on the installed one.
"""
# ruff: noqa: F401

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import (
    abs,
    arange,
    clip,
    concatenate,
    exp,
    floor,
    log,
    log2,
    max,
    maximum,
    mean,
    minimum,
    pad,
    reshape,
    roll,
    shape,
    sign,
    stack,
    sum,
    take,
    where,
)


def cast(values: Any, dtype: str) -> Any:
    """Return `values` in another type."""
    return np.asarray(values).astype(dtype)


def einsum(subscripts: str, *operands: Any) -> Any:
    """Return Einstein's sum, by matrix products where possible."""
    return np.einsum(subscripts, *operands, optimize=True)


def matmul(a: Any, b: Any) -> Any:
    """Return the product of matrices; in one piece for a single `b`, as NumPy multiplies stacks one by one."""
    if b.size == b.shape[-2] * b.shape[-1] and b.ndim <= a.ndim:
        return (a.reshape(-1, a.shape[-1]) @ b.reshape(b.shape[-2:])).reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(a, b)
