"""Who is deleveraged first: rankings of opposite positions as a slot of a venue."""

from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.auto_deleverage import (
    leveraged_profit,
    levered_gain,
    margin_profit,
    random_order,
)

Positions = Float[Array, "contract account"]


@pytree
class RankedPositions:
    """What a ranking looks at, settlement currency; leaves are `(contract, account)`.

    Attributes:
        size: signed.
        mark: mark price, as quoted.
        entry: mean entry price, as quoted.
        value: signed worth of the position at the mark price.
        profit: unrealised.
        equity: of the account.
        requirement: maintenance margin of the account.
    """

    size: Positions
    mark: Positions
    entry: Positions
    value: Positions
    profit: Positions
    equity: Positions
    requirement: Positions


class Ranking(Protocol):
    """The order in which opposite positions are closed."""

    def score(self, held: RankedPositions) -> Positions:
        """Return scores; within a contract the highest goes first."""
        ...


@pytree
class LeveredGain:
    """Price over entry times value over equity, see `levered_gain`."""

    def score(self, held: RankedPositions) -> Positions:
        """Return scores; within a contract the highest goes first."""
        return levered_gain(held.size, held.mark, held.entry, held.equity)


@pytree
class LeveragedProfit:
    """Relative profit times effective leverage, see `leveraged_profit`.

    In cross margin a position may lose all equity of its account.
    """

    def score(self, held: RankedPositions) -> Positions:
        """Return scores; within a contract the highest goes first."""
        entered = held.value - held.profit
        return leveraged_profit(held.value, entered, held.value - held.equity)


@pytree
class MarginProfit:
    """Profit over collateral times margin over equity, see `margin_profit`.

    In cross margin collateral is what the account has without the profit of the position.
    """

    def score(self, held: RankedPositions) -> Positions:
        """Return scores; within a contract the highest goes first."""
        return margin_profit(held.profit, held.equity - held.profit, held.requirement)


@pytree
class DrawnOrder:
    """An order drawn once, that says nothing about the accounts.

    Attributes:
        seed: of the draw.
    """

    seed: Int[Array, ""]

    def score(self, held: RankedPositions) -> Positions:
        """Return scores; within a contract the highest goes first."""
        contracts, accounts = held.size.shape
        order = random_order(jax.random.key(self.seed), accounts).astype(held.size.dtype)
        return jnp.broadcast_to(order, (contracts, accounts))
