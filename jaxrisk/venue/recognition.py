"""When an unpayable debt is recognised as bad."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.pytree import pytree


@pytree
class AtZeroCollateral:
    """All remaining debt of an account is written off in the call that takes its last collateral.

    Source: Aave v3.3+ (deficit), Morpho Blue (bad debt), Euler v2 (with a minimum).

    Attributes:
        minimum: value of the whole debt before the call, numeraire, below which nothing is
            written off; `None` for no such rule.
    """

    minimum: Float[Array, ""] | None = None

    def write_off(
        self,
        exhausted: Bool[Array, "*rows account"],
        debt_left: Float[Array, "*rows account"],
        total_debt: Float[Array, " account"] | None = None,
    ) -> Float[Array, "*rows account"]:
        """Return the debt written off.

        Args:
            exhausted: whether the call left the account without any collateral.
            debt_left: what it still owes, in any unit.
            total_debt: value of all its debt before the call; needed with a minimum.
        """
        if self.minimum is not None:
            assert total_debt is not None
            large = total_debt >= self.minimum
            exhausted = exhausted & large.reshape((1,) * (exhausted.ndim - 1) + large.shape)
        return jnp.where(exhausted, debt_left, jnp.zeros_like(debt_left))


@pytree
class NeverRecognised:
    """Stranded debt stays on the books and keeps accruing.

    Source: Aave before v3.3, Compound v2.
    """

    def write_off(
        self,
        exhausted: Bool[Array, "*rows account"],
        debt_left: Float[Array, "*rows account"],
        total_debt: Float[Array, " account"] | None = None,
    ) -> Float[Array, "*rows account"]:
        """Return the debt written off: none."""
        del exhausted, total_debt
        return jnp.zeros_like(debt_left)


Recognition = AtZeroCollateral | NeverRecognised
