"""Collateral of accounts on margin in other assets than the settlement currency.

It backs positions for less than it is worth. Profits and losses are in the settlement currency
alone; where an account owes of that, the venue sells what it has posted.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.haircut import TieredHaircut

PerAccount = Float[Array, " account"]
Holdings = Float[Array, "asset account"]


@pytree
class PostedCollateral:
    """What other assets count for, and when they are sold: the same share of all of an account's.

    Once an account owes more than an allowance, so much is sold at the market that it owes nothing,
    with a buffer for what the sale costs. What it then has too much stays in its balance.

    Source: multi-asset margin of Binance (auto-exchange of negative balances), unified accounts of
    Bybit and OKX (repayment of borrowings).

    Attributes:
        haircut: over the other assets; bounds in the settlement currency, or in units.
        allowance: what an account may owe before anything is sold, settlement currency.
        buffer: sold beyond what is owed, as a fraction of it.
    """

    haircut: TieredHaircut
    allowance: Float[Array, ""]
    buffer: Float[Array, ""]

    def counted(self, units: Holdings, price: Float[Array, " asset"]) -> PerAccount:
        """Return what holdings back, settlement currency.

        Args:
            units: held, at least 0.
            price: settlement currency per unit.
        """
        return jnp.sum(self.haircut.value(units, price)[0], axis=0)

    def sold(
        self, balance: PerAccount, units: Holdings, price: Float[Array, " asset"]
    ) -> PerAccount:
        """Return the share of all other assets of each account that is sold, in [0, 1].

        Args:
            balance: of the settlement currency, negative where owed.
            units: of the other assets.
            price: settlement currency per unit.
        """
        worth = jnp.sum(units * price[:, None], axis=0)
        zero = jnp.zeros_like(worth)
        owed = jnp.where(balance < -self.allowance, -balance, zero)
        share = smaller(owed * (1.0 + self.buffer) / positive_or_one(worth), jnp.ones_like(worth))
        return jnp.where(worth > 0, share, zero)
