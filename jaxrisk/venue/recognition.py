"""When an unpayable debt is recognised as bad."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.pytree import pytree


@pytree
class AtZeroCollateral:
    """All remaining debt of an account is written off in the call that takes its last collateral.

    Source: Aave v3.3+ (deficit), Morpho Blue (bad debt).
    """

    def write_off(
        self, exhausted: Bool[Array, "*rows account"], debt_left: Float[Array, "*rows account"]
    ) -> Float[Array, "*rows account"]:
        """Return the debt written off.

        Args:
            exhausted: whether the call left the account without any collateral.
            debt_left: what it still owes, in any unit.
        """
        return jnp.where(exhausted, debt_left, jnp.zeros_like(debt_left))


@pytree
class NeverRecognised:
    """Stranded debt stays on the books and keeps accruing.

    Source: Aave before v3.3, Compound v2.
    """

    def write_off(
        self, exhausted: Bool[Array, "*rows account"], debt_left: Float[Array, "*rows account"]
    ) -> Float[Array, "*rows account"]:
        """Return the debt written off: none."""
        del exhausted
        return jnp.zeros_like(debt_left)


Recognition = AtZeroCollateral | NeverRecognised
