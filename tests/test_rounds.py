"""Bounded rounds: they stop early, say when they were cut off, and agree in both forms."""

import jax
import jax.numpy as jnp
import pytest

from jaxrisk.numerics.rounds import bounded_rounds
from tests.helpers import assert_close


def countdown(carry):
    """Take one off until nothing is left; count the rounds in which something happened."""
    left, played = carry
    active = left > 0
    step = active.astype(left.dtype)
    return (left - step, played + step), active


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("start", [0.0, 1.0, 4.0, 5.0, 9.0])
def test_rounds_stop_when_nothing_happens_or_at_the_limit(start, limit, differentiable):
    carry = (jnp.array(start), jnp.array(0.0))
    (left, played), wanted = bounded_rounds(
        countdown, carry, limit=limit, differentiable=differentiable
    )
    assert float(played) == min(start, limit)
    assert float(left) == start - min(start, limit)
    # The last round allowed was still active: a further one may be wanted.
    assert bool(wanted) == (start >= limit)


@pytest.mark.parametrize("differentiable", [False, True])
def test_a_round_that_changes_nothing_is_not_played_again(differentiable):
    def body(carry):
        return carry + 1.0, carry < 2.0

    end, wanted = bounded_rounds(body, jnp.array(0.0), limit=10, differentiable=differentiable)
    # Rounds with 0 and 1 are active; the one with 2 says that nothing happened, and is the last.
    assert (float(end), bool(wanted)) == (3.0, False)


def test_reverse_mode_passes_through_the_differentiable_form():
    def squared_thrice(x):
        def body(carry):
            return carry**2, carry < 1e9

        return bounded_rounds(body, x, limit=3, differentiable=True)[0]

    assert_close(jax.grad(squared_thrice)(jnp.array(1.1)), 8 * 1.1**7, rtol=1e-12, atol=0.0)
    with pytest.raises(ValueError, match="while_loop"):
        jax.grad(
            lambda x: bounded_rounds(lambda c: (c**2, c < 1e9), x, limit=3, differentiable=False)[0]
        )(jnp.array(1.1))


def test_rounds_are_batched_element_by_element():
    starts = jnp.array([0.0, 2.0, 7.0])

    def play(start, differentiable):
        return bounded_rounds(
            countdown, (start, jnp.zeros(())), limit=4, differentiable=differentiable
        )

    for differentiable in (False, True):
        (left, played), wanted = jax.vmap(lambda s, d=differentiable: play(s, d))(starts)
        assert left.tolist() == [0.0, 0.0, 3.0]
        assert played.tolist() == [0.0, 2.0, 4.0]
        assert wanted.tolist() == [False, False, True]
