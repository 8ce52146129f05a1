"""How much more auto-deleveraging takes from winners than a deficit needs.

Two definitions are published for one event, and differ by more than ten times. What is realised
when a position is closed was the winner's own: the first counts it as taken, the second does not.

Both published figures follow from tables by shock, and the shocks matter: what one realises beyond
its own deficit pays for no other. The first counts a position less each time that it is closed
again, so it needs every closing in its order; totals by account or by coin only bound it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def realised_overshoot(
    profit: Float[Array, "shock account"], deficit: Float[Array, " shock"]
) -> Float[Array, " shock"]:
    """Return profits realised by closing positions, beyond the deficit, at least 0.

    All profit of a closed position counts as taken, though its owner keeps what the close price
    pays: how far closing reached, not what it cost.

    Source: Chitra, arXiv 2512.01112, queue overshoot in equity dollars: 653.6 million on 10 October
    2025, where a shock is the closings of one coin with less than 5 s between them, and a share `f`
    of a position closed takes its profit times `e^(-8 f)` in later shocks.

    Args:
        profit: of the part closed of each position; losses are left out.
        deficit: what accounts below zero lacked.
    """
    taken = jnp.sum(jnp.where(profit > 0, profit, jnp.zeros_like(profit)), axis=1)
    return jnp.where(taken > deficit, taken - deficit, jnp.zeros_like(taken))


def removed_overshoot(
    kept: Float[Array, "shock account"],
    left: Float[Array, "shock account"],
    needed: Float[Array, " shock"],
) -> Float[Array, " shock"]:
    """Return what closing cost winners beyond what was needed; negative where it cost less.

    What it cost is the equity an account would have had on the same prices without being closed,
    less what it has; accounts that were better off closed are left out.

    Source: Chitra, arXiv 2512.01112v3, and 2602.15182, production overshoot in profit dollars.

    Args:
        kept: equity of each winner had it not been closed.
        left: equity as it is.
        needed: distance of the mark from the close price, times size, over all closed.
    """
    cost = kept - left
    return jnp.sum(jnp.where(cost > 0, cost, jnp.zeros_like(cost)), axis=1) - needed
