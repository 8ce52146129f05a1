"""Who gets to sell: more capacity first, equals alike, and equal to rounding is equal."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.system.ration import rations
from tests.helpers import assert_close

EXACT = {"rtol": 1e-12, "atol": 0.0}


def shares(demand, capacity, dtype: type = np.float64):
    """Return the rations of classes that sell one asset."""
    column = lambda x: jnp.asarray(x, dtype)[:, None]
    return np.asarray(rations(column(demand), column(capacity)))


def test_the_larger_capacity_goes_first_and_the_next_gets_the_rest_of_its_own():
    assert_close(shares([3.0, 6.0, 5.0], [8.0, 10.0, 4.0]), [2.0 / 3.0, 1.0, 0.0], **EXACT)


def test_equal_classes_share_the_room_in_proportion_to_what_they_want():
    assert_close(shares([3.0, 9.0], [4.0, 4.0]), [1.0 / 3.0, 1.0 / 3.0], **EXACT)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-3)])
@pytest.mark.parametrize("roundings", [-200, -1, 1, 200])
def test_capacities_equal_but_for_rounding_are_equal(dtype, rtol, roundings):
    """Two venues of one bonus; in which order they were summed must not say who sells first."""
    off = 4.0 * (1.0 + roundings * np.finfo(dtype).eps)
    assert_close(shares([3.0, 9.0], [4.0, off], dtype), [1.0 / 3.0] * 2, rtol=rtol, atol=0.0)


def test_the_scarcest_asset_decides_and_what_is_not_wanted_does_not():
    demand = jnp.array([[2.0, 1.0], [0.0, 1.0]])
    capacity = jnp.array([[1.0, 9.0], [0.5, 8.0]])
    assert_close(rations(demand, capacity), [0.5, 1.0], **EXACT)
