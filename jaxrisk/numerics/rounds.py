"""Bounded rounds that stop when nothing new happens."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

Carry = TypeVar("Carry")


def bounded_rounds(
    body: Callable[[Carry], tuple[Carry, Bool[Array, ""]]],
    carry: Carry,
    *,
    limit: int,
    differentiable: bool,
) -> tuple[Carry, Bool[Array, ""]]:
    """Return the carry after at most `limit` rounds, and whether a further round is still wanted.

    Args:
        body: one round; returns the new carry and whether anything happened in it.
        carry: the state before the first round.
        limit: largest number of rounds, at least 1.
        differentiable: use a loop that reverse mode can pass through.

    A forward-only loop leaves as soon as a round changes nothing. Reverse mode needs a fixed trip
    count, so there the remaining rounds are skipped by a conditional. The meaning is the same.
    """
    if limit == 1:
        return body(carry)
    # One copy of the body, so that a cascade is compiled once however many rounds it may take.
    start = jnp.ones((), bool)
    if differentiable:

        def skip_or_run(state: tuple, _: None) -> tuple:
            return lax.cond(state[1], body, lambda c: (c, state[1]), state[0]), None

        (carry, active), _ = lax.scan(skip_or_run, (carry, start), None, length=limit)
        return carry, active

    def more(state: tuple) -> jax.Array:
        return state[2] & (state[0] < limit)

    _, carry, active = lax.while_loop(more, lambda s: (s[0] + 1, *body(s[1])), (0, carry, start))
    return carry, active
