"""Collateral behind written options as vaults hold it: by formula, whatever their market price is.

A vault is solvent by what it holds in its own asset. That is set against equity at market prices in
the step, so what options are worth is added to what is asked.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.contract import Contracts, Quotes, mark_price, settlement_value
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.spread_margin import spread_margin
from jaxrisk.venue.upper_bound_margin import ShortOption, UpperBoundMargin

PerContract = Float[Array, "contract account"]
Asked = Float[Array, "2 account"]


@pytree
class NakedVaultMargin:
    """Every written option by an upper bound of its value after a shock; none held backs another.

    Puts are settled in the currency of their strike, calls in kind.

    Source: Opyn Gamma MarginCalculator, see `UpperBoundMargin`.

    Attributes:
        bound: of one option by time to expiry.
    """

    bound: UpperBoundMargin

    def required(self, size: PerContract, contracts: Contracts, quotes: Quotes) -> Asked:
        """Return what is asked twice, initial and maintenance, in units of `quotes.settlement`."""
        units = size * contracts.multiplier[:, None]
        written = ShortOption(
            strike=contracts.strike,
            size=jnp.where(units < 0, -units, jnp.zeros_like(units)),
            years=contracts.expiry - quotes.time,
            is_put=contracts.option < 0,
        )
        asked = jax.vmap(self.bound.margin)(written, quotes.forward).required
        return _twice(jnp.sum(asked, axis=0), size, contracts, quotes)


@pytree
class SpreadVaultMargin:
    """The most that options of one expiry and kind can lose, whatever the price then is.

    Source: Opyn Gamma MarginCalculator, see `spread_margin`.

    Attributes:
        groups: contracts of one underlying, expiry and kind.
    """

    groups: tuple[tuple[int, ...], ...] = static()

    def required(self, size: PerContract, contracts: Contracts, quotes: Quotes) -> Asked:
        """Return what is asked twice, initial and maintenance, in units of `quotes.settlement`."""
        units = size * contracts.multiplier[:, None]
        total = jnp.zeros_like(size[0])
        for group in self.groups:
            rows = np.asarray(group)
            strike = jnp.broadcast_to(contracts.strike[rows, None], units[rows].shape)
            is_put = jnp.broadcast_to(contracts.option[rows[0]] < 0, total.shape)
            total = total + spread_margin(strike, units[rows], is_put).required
        return _twice(total, size, contracts, quotes)


def _twice(
    asked: Float[Array, " account"], size: PerContract, contracts: Contracts, quotes: Quotes
) -> Asked:
    """Return what is asked beside what options are worth, for both rows."""
    worth = settlement_value(contracts, mark_price(contracts, quotes))
    total = (asked + jnp.sum(size * worth[:, None], axis=0)) * quotes.settlement[0]
    return jnp.stack([total, total])
