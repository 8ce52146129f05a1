"""How much backing is asked: what every margin rule returns.

A requirement has two rows, initial (needed to open or enlarge) and maintenance (needed to be left
alone). Its surplus is what an account has beyond it, and liquidation begins where the maintenance
row is negative.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.pytree import pytree

INITIAL, MAINTENANCE = 0, 1


@pytree
class MarginState:
    """What a margin rule says of accounts, in the numeraire.

    Attributes:
        surplus: `(2, account)` value as backing less requirement, initial and maintenance.
        value: `(account,)` mark-to-market value of everything held, cash included.
        binding: `(row, account)` what decided the requirement: the worst scenario, the block that
            asked least, as the rule says.
    """

    surplus: Float[Array, "2 account"]
    value: Float[Array, " account"]
    binding: Int[Array, "row account"]


@pytree
class Exposure:
    """What a margin rule looks at in positions; every leaf is `(position, account)`, at least 0.

    Attributes:
        count: contracts held.
        face: contracts times their multiplier: units of the underlying, or units of the currency of
            the quote where a contract is inverse.
        notional: in the settlement currency.
        inverse: `(position, 1)` whether a contract pays by the inverse of its price.
    """

    count: Float[Array, "position account"]
    face: Float[Array, "position account"]
    notional: Float[Array, "position account"]
    inverse: Bool[Array, "position 1"]

    @property
    def units(self) -> Float[Array, "position account"]:
        """Units of the underlying."""
        return jnp.where(self.inverse, self.notional, self.face)


@pytree
class Lines:
    """A requirement as a function of price, of positions whose size is given.

    It is `max_k(rate_k f x - deduction_k) + curvature x^2` with face `f`, and `x` the price, or the
    inverse of the price where a contract is inverse.

    Attributes:
        rate: `(line, position, account or 1)`.
        deduction: as `rate`.
        curvature: `(position, account)`; `None` for none.
    """

    rate: Float[Array, "line position _"]
    deduction: Float[Array, "line position _"]
    curvature: Float[Array, "position account"] | None = None
