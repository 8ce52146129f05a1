"""Assertions shared by the tests."""

from typing import Any

import numpy as np


def assert_close(actual: Any, expected: Any, *, rtol: float, atol: float) -> None:
    """Fail unless |actual - expected| <= atol + rtol |expected| everywhere, shapes being equal.

    Both tolerances are required, so that every test says what it considers the same; NaN is never
    close to anything, infinity only to itself, and nothing is broadcast.

    Args:
        actual: array-like computed by the code under test.
        expected: array-like it should equal.
        rtol: relative tolerance.
        atol: absolute tolerance, in the unit of the values.

    Raises:
        AssertionError: naming the shapes, or the worst element and how many are off.
    """
    left, right = np.asarray(actual), np.asarray(expected)
    assert left.shape == right.shape, f"shape {left.shape}, expected {right.shape}"
    with np.errstate(invalid="ignore"):
        difference = abs(left - right)
        within = difference <= atol + rtol * abs(right)
    close = (within & np.isfinite(right)) | (left == right)
    if close.all():
        return
    error = np.where(close, -1.0, np.nan_to_num(difference, nan=np.inf))
    worst = np.unravel_index(np.argmax(error), error.shape)
    raise AssertionError(
        f"{(~close).sum()} of {close.size} values are off; worst at {tuple(map(int, worst))}: "
        f"{left[worst]!r}, expected {right[worst]!r} (rtol {rtol:g}, atol {atol:g})"
    )
