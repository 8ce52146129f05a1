"""A surcharge on interest for the riskiness of the collateral behind a debt.

The premium rate of an account is the mean risk of its collateral, least risky first, up to the
debt. Its premium debt is the interest on a shadow number of shares, drawn shares x premium rate,
that were never lent: `premium debt = premium shares x index - offset`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to


def risk_premium(
    collateral: Float[Array, "asset account"],
    risk: Float[Array, "asset #account"],
    debt: Float[Array, " account"],
    *,
    unit: Float[Array, ""] | None = None,
) -> Float[Array, " account"]:
    """Return the premium rate of accounts, `(account,)`, as a fraction of the base rate.

    With collateral ordered by risk, `q_i = clip(D - sum_{j<i} C_j, 0, C_i)` is what each covers of
    the debt, and the rate is `sum q_i k_i / sum q_i`; 0 where there is no debt or no collateral.

    Source: Aave v4 Spoke `_processUserAccountData`.

    Args:
        collateral: value of each collateral, numeraire.
        risk: risk `k` of each collateral; with one column for all accounts it is sorted once.
        debt: value of all debt, numeraire.
        unit: the rate is rounded up to multiples of it (basis points in the contract); `None` for
            real values.
    """
    order = jnp.argsort(risk, axis=0, stable=True)
    held = jnp.take_along_axis(collateral, order, axis=0)
    ordered_risk = jnp.take_along_axis(risk, order, axis=0)
    uncovered = debt[None, :] - (jnp.cumsum(held, axis=0) - held)
    some = jnp.where(uncovered < held, uncovered, held)
    covered = jnp.where(uncovered > 0, some, jnp.zeros_like(held))
    total = jnp.sum(covered, axis=0)
    rate = jnp.sum(covered * ordered_risk, axis=0) / positive_or_one(total)
    return ceil_to(rate, unit)


@pytree
class Premium:
    """The premium debt of positions or of a whole reserve; each leaf has the same shape.

    Attributes:
        shares: shadow shares that accrue interest but were never lent.
        offset: what their worth is counted from, in asset amounts; negative while premium that
            accrued under an earlier rate is still owed.
    """

    shares: Float[Array, "..."]
    offset: Float[Array, "..."]

    def debt(self, index: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the premium owed at a debt index: `shares * index - offset`, never negative."""
        owed = self.shares * index - self.offset
        return jnp.where(owed > 0, owed, jnp.zeros_like(owed))


def premium_at(
    drawn_shares: Float[Array, "..."],
    rate: Float[Array, "..."],
    index: Float[Array, "..."],
    owed: Float[Array, "..."],
    *,
    unit: Float[Array, ""] | None = None,
) -> Premium:
    """Return the premium position that owes `owed` now and accrues at `rate` from now on.

    Source: Aave v4 `calculatePremiumDelta` (premium shares are rounded up).

    Args:
        drawn_shares: debt shares the premium is charged on.
        rate: premium rate, a fraction of the base rate.
        index: debt index, asset amount a share.
        owed: premium owed now, asset amount.
        unit: smallest number of shares; `None` for real values.
    """
    shares = ceil_to(drawn_shares * rate, unit)
    return Premium(shares=shares, offset=shares * index - owed)
