"""Margin from risk arrays: what one unit of each contract gains in scenarios that others priced."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.scenario_grid import WorstScenario, worst_scenario


def scan_risk(
    arrays: Float[Array, "scenario contract"], size: Float[Array, "contract account"]
) -> WorstScenario:
    """Return the worst loss of each account over the scenarios, and which it is.

    Source: SPAN, scanning risk of a combined commodity.

    Args:
        arrays: what a long position of one unit gains in each scenario, shares of extreme moves
            that count taken already.
        size: units held, negative where short.
    """
    return worst_scenario(full_matmul(arrays, size))


@pytree
class ScanMargin:
    """Scanning risk with what is charged and credited on top, and a minimum on short options.

    `R = max(max(scan, 0) + charges - credit, minimum x short options)`.

    Source: SPAN.

    Attributes:
        minimum: least requirement of one short option.
    """

    minimum: Float[Array, ""]

    def required(
        self,
        scan: WorstScenario,
        *,
        charges: Float[Array, " account"],
        credit: Float[Array, " account"],
        short_options: Float[Array, " account"],
    ) -> Float[Array, " account"]:
        """Return the requirement.

        Args:
            scan: from `scan_risk`.
            charges: for spreads between months and for delivery, numeraire.
            credit: for spreads between commodities, numeraire.
            short_options: number of short options, at least 0.
        """
        loss = jnp.where(scan.loss > 0, scan.loss, jnp.zeros_like(scan.loss))
        asked, least = loss + charges - credit, self.minimum * short_options
        return jnp.where(asked > least, asked, least)
