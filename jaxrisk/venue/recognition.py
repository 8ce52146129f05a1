"""When an unpayable debt is recognised as bad."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.call import Call


@pytree
class AtZeroCollateral:
    """All remaining debt of an account is written off in the call that takes its last collateral.

    Source: Aave v3.3+ (deficit), Morpho Blue (bad debt).
    """

    def write_off(self, call: Call, debt_left: Float[Array, " account"]) -> Float[Array, " account"]:
        """Return the debt written off, in the units of `debt_left`."""
        return jnp.where(call.exhausts, debt_left, jnp.zeros_like(debt_left))


@pytree
class NeverRecognised:
    """Stranded debt stays on the books and keeps accruing.

    Source: Aave before v3.3, Compound v2.
    """

    def write_off(self, call: Call, debt_left: Float[Array, " account"]) -> Float[Array, " account"]:
        """Return the debt written off: none."""
        del call
        return jnp.zeros_like(debt_left)


Recognition = AtZeroCollateral | NeverRecognised
