"""One shock to a sorted book in closed form: no scenarios, no noise, derivatives of all orders.

One normal price factor moves, accounts of one collateral fall in the order of their triggers, and
what they sell moves the price once and for all (`jaxrisk.system.avalanche`). Then the accounts that
fall are the first n of the book, n is a step function of the shock, and the expected loss is a sum
of put payoffs between neighbouring thresholds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.gradient.estimate import Estimate, Parameters, point_of, silent
from jaxrisk.market.impact import ImpactLaw
from jaxrisk.numerics.crossing import Crossing, Hard
from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.normal import normal_cdf
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.avalanche import Triggers, log_drops
from jaxrisk.system.ladder import Ladder, LadderMarket

ASSUMES = (
    "one normal shock to one price; accounts are closed whole, sell an amount that does not depend "
    "on the price, and settle at the price after all sales"
)

_HARD = Hard()


@pytree
class SortedLoans:
    """Loans in the order in which a falling price closes them; arrays are `(account,)`.

    Attributes:
        triggers: the prices at which they fall and what they sell.
        recovered: what each one's collateral brings per unit of its price, less costs; positive.
        owed: debt of each; positive.
    """

    triggers: Triggers
    recovered: Float[Array, " account"]
    owed: Float[Array, " account"]

    @classmethod
    def of(
        cls,
        log_trigger: Float[Array, " account"],
        sold: Float[Array, " account"],
        recovered: Float[Array, " account"],
        owed: Float[Array, " account"],
    ) -> "SortedLoans":
        """Return the loans of accounts in any order.

        Args:
            log_trigger: log price strictly below which each is closed.
            sold: what each sells then, in the unit of depth.
            recovered: what its collateral brings per unit of price.
            owed: its debt.
        """
        # As the triggers are sorted, so that the rows stay together.
        order = jnp.argsort(-log_trigger, stable=True)
        return cls(
            triggers=Triggers.of(log_trigger, sold),
            recovered=recovered[order],
            owed=owed[order],
        )

    @classmethod
    def of_ladder(cls, ladder: Ladder, market: LadderMarket) -> "SortedLoans":
        """Return the loans of a ladder, in the numeraire; all its accounts must owe and hold.

        A keeper repays what the collateral pays for at the bonus: `price * collateral / credit`.
        """
        held, owed = jnp.diff(ladder.sums, axis=0).T
        return cls(
            triggers=Triggers.of_ladder(ladder, market),
            recovered=held / ladder.credit,
            owed=owed * market.debt_price,
        )


def expected_loss(
    loans: SortedLoans,
    law: ImpactLaw,
    depth: Float[Array, ""],
    *,
    mean: Float[Array, ""],
    deviation: Float[Array, ""],
) -> Float[Array, ""]:
    """Return the expectation of what fallen loans leave unpaid at the price after all sales.

    With thresholds w and drops I, `n` loans fall where the shocked log price x is in
    (w_(n+1), w_n], and loan j <= n leaves `(owed_j - recovered_j exp(x - I_n))+`. Time and memory
    grow with the square of the number of accounts.

    Args:
        loans: the book.
        law: impact law with one asset.
        depth: of that asset.
        mean: of the log price after the shock, before sales.
        deviation: its standard deviation, positive.
    """
    falls = loans.triggers.thresholds(law, depth)
    drop = log_drops(law, loans.triggers.sold[1:], depth)
    standard = lambda x: (x - mean) / deviation
    high = standard(falls)
    low = jnp.concatenate([high[1:], jnp.full_like(high[:1], -jnp.inf)])
    # Rows are how many have fallen, columns the loans.
    kink = standard(jnp.log(loans.owed / loans.recovered)[None, :] + drop[:, None])
    top = smaller(high[:, None], kink)
    bottom = smaller(low[:, None], top)
    safe = jnp.where(jnp.isfinite(bottom), bottom, -40.0)
    chance = normal_cdf(top) - normal_cdf(safe)
    shifted = normal_cdf(top - deviation) - normal_cdf(safe - deviation)
    forward = jnp.exp(mean + 0.5 * deviation**2 - drop)[:, None] * loans.recovered[None, :]
    count = loans.owed.shape[0]
    fallen = jnp.arange(count)[None, :] <= jnp.arange(count)[:, None]
    return jnp.sum(jnp.where(fallen, loans.owed[None, :] * chance - forward * shifted, 0.0))


def loss_at(
    loans: SortedLoans,
    law: ImpactLaw,
    depth: Float[Array, ""],
    log_price: Float[Array, ""],
    crossing: Crossing = _HARD,
) -> Float[Array, ""]:
    """Return what fallen loans leave unpaid at the price after all sales, for one shock.

    Args:
        loans: the book.
        law: impact law with one asset.
        depth: of that asset.
        log_price: after the shock, before sales.
        crossing: asked who falls.
    """
    fallen = crossing.gate(loans.triggers.thresholds(law, depth) - log_price)
    # What all of the fallen sell, though the table has running totals.
    sold = jnp.sum(jnp.diff(loans.triggers.sold) * fallen)
    price = jnp.exp(log_price - log_drops(law, sold, depth))
    return jnp.sum(fallen * jnp.maximum(loans.owed - loans.recovered * price, 0.0))


def closed_form(
    expectation: Callable[[Any], Float[Array, ""]],
    parameters: Parameters,
    *,
    second: bool = False,
    assumes: str = ASSUMES,
) -> Estimate:
    """Return the derivatives of an expectation that is known, without error.

    Args:
        expectation: from parameters to the expected loss, such as one made of `expected_loss`.
        parameters: where to differentiate.
        second: also second derivatives.
        assumes: what must hold for the expectation to be the right one.

    Raises:
        ValueError: a parameter is no floating-point number, or the result is not finite.
    """
    at = point_of(parameters)
    of = jax.jit(lambda v: expectation(at.unravel(v)))
    value, slope = jax.value_and_grad(of)(at.values)
    none = np.zeros(len(at.names))
    slope = np.asarray(slope, np.float64)
    if not (np.isfinite(slope).all() and np.isfinite(float(value))):
        raise ValueError(
            f"the expectation or its derivative is not finite: {float(value)}, {slope}"
        )
    return Estimate(
        estimator="closed form",
        assumes=assumes,
        parameters=at.names,
        point=np.asarray(at.values, np.float64),
        value=float(value),
        value_error=0.0,
        derivative=slope,
        standard_error=none,
        scenarios=0,
        second=np.asarray(jax.hessian(of)(at.values), np.float64) if second else None,
        second_error=np.zeros((none.size, none.size)) if second else None,
        notes=silent(at.names, slope, none),
    )
