"""The indexed search counts what NumPy counts, whatever its buckets."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.numerics.sorted_search import SortedSearch
from tests import ladders

below = jax.jit(jax.vmap(lambda search, x: search.below(x), (None, 0)))
at_most = jax.jit(jax.vmap(lambda search, x: search.below(x, equal=True), (None, 0)))


@pytest.mark.parametrize("buckets", [None, 1, 7, 64])
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-3, 1.0, 1e9]))
def test_it_counts_what_is_below(buckets, seed, scale):
    rng = np.random.default_rng(seed)
    values = np.sort(rng.normal(0.0, scale, 24) ** 3)
    values[5:9] = values[5]
    values[-2:] = np.inf
    values[0] = -np.inf
    search = SortedSearch.of(ladders.array(values))
    if buckets is not None:
        search = search.indexed(buckets)
    finite = values[1:-2]
    asked = np.concatenate([finite, rng.normal(0.0, scale, 20) ** 3, [-1e30, 1e30, -np.inf]])
    less, no_more = below(search, ladders.array(asked)), at_most(search, ladders.array(asked))
    assert (np.asarray(less) == np.searchsorted(values, asked, side="left")).all()
    assert (np.asarray(no_more) == np.searchsorted(values, asked, side="right")).all()


def test_an_index_leaves_fewer_steps():
    search = SortedSearch.of(ladders.array(np.linspace(0.0, 1.0, 1000)))
    assert (search.steps, search.indexed(1000).steps) == (10, 1)


def test_equal_values_need_no_index():
    search = SortedSearch.of(ladders.array(np.ones(5))).indexed(8)
    assert [int(search.below(ladders.array(x))) for x in (0.5, 1.0, 2.0)] == [0, 0, 5]


def test_infinite_values_cost_no_steps():
    values = np.concatenate([np.linspace(0.0, 1.0, 100), np.full(50, np.inf)])
    search = SortedSearch.of(ladders.array(values)).indexed(100)
    assert search.steps == 1
    assert (np.asarray(search.values) == values).all()
    assert int(search.below(ladders.array(1e9))) == 100
