"""Work on chosen columns: the same as on all of them with the others left out, and so backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.numerics.chosen import choose, total_over, with_changed
from tests.helpers import assert_close

# Around the size of a chunk, and more than one of them.
COLUMNS = (3, 320, 321, 700)


def inputs(seed, columns, share):
    rng = np.random.default_rng(seed)
    mask = jnp.asarray(rng.random(columns) < share)
    shared = jnp.asarray(rng.normal(size=3))
    units = jnp.asarray(rng.normal(size=(3, columns)))
    return mask, shared, jnp.asarray(rng.random((1, columns))), units


def moved(shared, columns):
    fraction, units = columns
    return jnp.sum(fraction[0] ** 2 * (shared @ units)), jnp.sum(units * fraction, axis=1)


def after(shared, columns):
    fraction, units = columns
    return (fraction * jnp.cos(shared @ units)[None, :],)


def sparse(mask, shared, fraction, units):
    chosen = choose(mask)
    (total, seized), columns = total_over(moved, shared, (fraction, units), chosen)
    (left,) = with_changed(after, shared * total, columns, chosen)
    return jnp.sum(jnp.sin(left)) + jnp.sum(seized**2)


def dense(mask, shared, fraction, units):
    total, seized = moved(shared, (jnp.where(mask[None, :], fraction, 0.0), units))
    (changed,) = after(shared * total, (fraction, units))
    left = jnp.where(mask[None, :], changed, fraction)
    return jnp.sum(jnp.sin(left)) + jnp.sum(seized**2)


@pytest.mark.parametrize("columns", COLUMNS)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.0, 1.0))
def test_the_chosen_are_those_of_the_mask_in_order(columns, seed, share):
    mask, *_ = inputs(seed, columns, share)
    chosen = jax.jit(choose)(mask)
    found = np.asarray(chosen.indices)[: int(chosen.count)]
    np.testing.assert_array_equal(found, np.flatnonzero(mask))


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("columns", COLUMNS)
def test_values_and_cotangents_are_those_of_all_columns_with_the_others_left_out(columns, share):
    given_ = inputs(7, columns, share)
    pairs = [jax.jit(jax.value_and_grad(of, argnums=(1, 2, 3)))(*given_) for of in (sparse, dense)]
    for found, expected in zip(*map(jax.tree.leaves, pairs), strict=True):
        scale = float(np.max(np.abs(expected), initial=1.0))
        assert_close(found, expected, rtol=1e-10, atol=1e-12 * scale)


def test_what_is_not_differentiated_has_no_cotangent():
    """Work that has no derivative in the units is not asked for one."""
    mask, shared, fraction, units = inputs(3, 321, 0.3)

    @jax.custom_jvp
    def opaque(x):
        return x

    @opaque.defjvp
    def _(primals, tangents):
        raise AssertionError("differentiated")

    def work(shared, columns):
        return moved(shared, (columns[0], opaque(columns[1])))

    def loss(shared):
        (total, _), _ = total_over(work, shared, (fraction, units), choose(mask))
        return total

    assert np.isfinite(jax.grad(loss)(shared)).all()
    with pytest.raises(AssertionError, match="differentiated"):
        jax.grad(lambda u: total_over(work, shared, (fraction, u), choose(mask))[0][0])(units)
