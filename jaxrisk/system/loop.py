"""Loops and stacks: positions whose debt bought more of their own collateral, per unit of equity.

A loop deposits 1, borrows the part l of it, swaps at a cost of κ and deposits again, n times:

    collateral L = (1 - a^(n+1)) / (1 - a)      debt B = l (1 - a^n) / (1 - a)      a = l (1 - κ)

so L = 1 + (1 - κ) B, and with n without end L = 1 / (1 - a). Rounds need not be whole here, and
every argument may be differentiated. Arguments may be arrays of one shape: each entry is a position
of its own.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.claims import ClaimGraph

Number = Float[Array, "..."]


@pytree
class Strategy:
    """What a position holds and owes, valued at its opening; leaves have one shape.

    Prices of collateral and perpetual move together; debt and margin are in the numeraire.

    Attributes:
        collateral: value deposited.
        debt: value owed.
        perpetual: notional of a perpetual, negative where sold.
        margin: value posted behind it.
        cost: value spent on swaps to get there.
    """

    collateral: Number
    debt: Number
    perpetual: Number
    margin: Number
    cost: Number

    @property
    def equity(self) -> Number:
        """Collateral and margin less debt."""
        return self.collateral + self.margin - self.debt

    @property
    def leverage(self) -> Number:
        """All that is held over equity, the notional of the perpetual included."""
        return (self.collateral + jnp.abs(self.perpetual)) / self.equity

    @property
    def exposure(self) -> Number:
        """Change of equity for a rise of the price by its whole, over equity: 0 if hedged."""
        return (self.collateral + self.perpetual) / self.equity


def looped(loan_to_value: Number, rounds: Number, swap_cost: Number) -> Strategy:
    """Return the loop of equity 1 after `rounds` rounds of borrowing.

    Args:
        loan_to_value: part l of each deposit that is borrowed, in [0, 1).
        rounds: n, at least 0; infinite for the limit.
        swap_cost: part κ of each swap that is lost, in [0, 1).
    """
    passed = loan_to_value * (1.0 - swap_cost)
    # The power of an infinite exponent is 0, its derivative in the base is not a number.
    ends = jnp.isfinite(rounds)
    power = passed ** jnp.where(ends, rounds, jnp.ones_like(rounds))
    left = jnp.where(ends, power, jnp.zeros_like(power))
    debt = loan_to_value * (1.0 - left) / (1.0 - passed)
    return _spot(1.0 + (1.0 - swap_cost) * debt, debt, swap_cost)


def flash_built(leverage: Number, swap_cost: Number) -> Strategy:
    """Return the position that one flash loan builds from equity 1 up to `leverage` in collateral.

    Debt is (L - 1) / (1 - κ). A loan to value l allows any L up to the limit 1 / (1 - l (1 - κ)) of
    the loop.

    Args:
        leverage: L, collateral over the equity put in, at least 1.
        swap_cost: part κ of the swap that is lost, in [0, 1).
    """
    return _spot(leverage, (leverage - 1.0) / (1.0 - swap_cost), swap_cost)


def rehypothecated(loan_to_value: Float[Array, " layer"], swap_cost: Number) -> Strategy:
    """Return deposits of equity 1 whose loan is deposited with the next venue, and so on.

    Deposits are 1, a1, a1 a2, ..., one more than there are loans: leverage is their sum. A loop
    that goes round several venues lists them as it meets them.

    Args:
        loan_to_value: `(layer,)` part of the deposit borrowed from each venue in turn.
        swap_cost: part of each swap that is lost; one number.

    Returns:
        Leaves `(layer + 1,)`; nothing is borrowed from the last.
    """
    passed = jnp.cumprod(loan_to_value * (1.0 - swap_cost))
    first, none = jnp.ones(1, passed.dtype), jnp.zeros(1, passed.dtype)
    deposits = jnp.concatenate([first, passed])
    return _spot(deposits, jnp.concatenate([loan_to_value * deposits[:-1], none]), swap_cost)


def nested(leverage: Float[Array, " layer"]) -> Strategy:
    """Return layers of equity 1 in all, each a loop whose collateral is equity of the one below.

    The lowest layer holds the asset. Leverage multiplies: the lowest collateral is the product.

    Args:
        leverage: `(layer,)` collateral over equity of each layer, lowest first.
    """
    # A layer's equity is what the layer above holds of it: the product of all leverage above.
    above = jnp.cumprod(leverage[::-1])[::-1]
    equity = jnp.concatenate([above[1:], jnp.ones(1, above.dtype)])
    return _spot(above, above - equity, jnp.zeros_like(above))


def nested_claims(
    leverage: Sequence[float], *, asset: str, debt_asset: str, price: float, debt_price: float
) -> ClaimGraph:
    """Return `nested` as a graph of claims: shares of each layer held by the next, loans by others.

    Layer k (from 1) issues "share k", worth 1 at these prices and quoted in the debt asset, and
    "loan k"; the last layer's one share is held by nobody in the graph.

    Args:
        leverage: collateral over equity of each layer, lowest first; each more than 1.
        asset: what the lowest layer holds.
        debt_asset: what is owed.
        price: of the asset, numeraire.
        debt_price: of the debt asset, numeraire.

    Raises:
        ValueError: no layer, or a leverage of 1 or less.
    """
    if not leverage or min(leverage) <= 1.0:
        raise ValueError(f"leverage {list(leverage)}: give at least one layer, each above 1")
    names = [str(k + 1) for k in range(len(leverage))]
    equity = [1.0]
    for multiple in reversed(leverage[1:]):
        equity.insert(0, multiple * equity[0])
    loans = [e * (m - 1.0) / debt_price for e, m in zip(equity, leverage, strict=True)]
    held = [(leverage[0] * equity[0] / price, asset)]
    held += [(equity[k], f"share {names[k]}") for k in range(len(leverage) - 1)]
    kinds = [("share", equity), ("loan", loans)]
    return ClaimGraph.from_table(
        {
            "claim": [f"{kind} {n}" for kind, _ in kinds for n in names],
            "issuer": [f"layer {n}" for _ in kinds for n in names],
            "kind": [k for k in ("share", "promise") for _ in names],
            "amount": [amount for _, amounts in kinds for amount in amounts],
        },
        {
            "claim": [f"{kind} {n}" for kind, _ in kinds for n in names],
            "instrument": [debt_asset] * (2 * len(names)),
            "amount": [1.0 / debt_price] * len(names) + [1.0] * len(names),
        },
        {
            "layer": [f"layer {n}" for n in names],
            "instrument": [instrument for _, instrument in held],
            "amount": [amount for amount, _ in held],
        },
        assets=(asset, debt_asset),
    )


def with_perpetual(strategy: Strategy, borrowed: Number, notional: Number) -> Strategy:
    """Return the strategy with more borrowed on its collateral, as margin of a perpetual.

    A short of the size of the collateral is a basis trade: no exposure, funding received.

    Args:
        strategy: what is there.
        borrowed: value borrowed and posted.
        notional: of the perpetual, negative where sold; added to what is there.
    """
    return Strategy(
        collateral=strategy.collateral,
        debt=strategy.debt + borrowed,
        perpetual=strategy.perpetual + notional,
        margin=strategy.margin + borrowed,
        cost=strategy.cost,
    )


def unwound(
    strategy: Strategy, loan_to_value: Number, swap_cost: Number, *, rounds: int
) -> Strategy:
    """Return the strategy after rounds of withdrawing what is free, swapping it and repaying.

    A round withdraws `C - D / l`, at most what repays everything; nothing where no collateral is
    free.

    Args:
        strategy: what is there.
        loan_to_value: l, up to which collateral may be withdrawn, in (0, 1).
        swap_cost: part of each swap that is lost.
        rounds: how many.
    """
    kept = 1.0 - swap_cost

    def withdraw(_: int, state: tuple) -> tuple:
        collateral, debt, cost = state
        free = jnp.clip(collateral - debt / loan_to_value, 0.0, debt / kept)
        return collateral - free, debt - kept * free, cost + swap_cost * free

    opening = (strategy.collateral, strategy.debt, strategy.cost)
    collateral, debt, cost = lax.fori_loop(0, rounds, withdraw, opening)
    return Strategy(
        collateral=collateral,
        debt=debt,
        perpetual=strategy.perpetual,
        margin=strategy.margin,
        cost=cost,
    )


def rounds_to_unwind(leverage: Number, loan_to_value: Number) -> Number:
    """Return how many rounds of `unwound` repay all debt where swaps cost nothing.

    Collateral C of equity 1 goes to (C - 1) / l, so its distance to L* = 1 / (1 - l) grows by 1 / l
    a round, until C = 1: n = ln((L* - 1) / (L* - L)) / ln(1 / l), to be rounded up. Infinite at L*
    and beyond, where no collateral is free.

    Args:
        leverage: L at the start, at least 1.
        loan_to_value: l in (0, 1).
    """
    most = 1.0 / (1.0 - loan_to_value)
    room = most - leverage
    free = room > 0
    rounds = jnp.log((most - 1.0) / jnp.where(free, room, jnp.ones_like(room))) / -jnp.log(
        loan_to_value
    )
    return jnp.where(free, rounds, jnp.full_like(rounds, jnp.inf))


def _spot(collateral: Number, debt: Number, swap_cost: Number) -> Strategy:
    """Return a strategy without a perpetual."""
    none = jnp.zeros_like(collateral)
    return Strategy(
        collateral=collateral, debt=debt, perpetual=none, margin=none, cost=swap_cost * debt
    )
