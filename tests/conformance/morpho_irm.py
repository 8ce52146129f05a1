"""Morpho's adaptive curve: average rates and target rates, as recorded from the contract."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.interest import utilisation
from jaxrisk.venue.presets.morpho_adaptive_curve import adaptive_curve
from tests.conformance.comparison import Replay

YEAR = 365.0 * 86400.0


def adaptive_curve_irm(header: dict, cases: list[dict]) -> Replay:
    """Replay `borrowRate`: the average over the elapsed time and the new rate at target."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([float(c[name]) for c in cases])
    rule = adaptive_curve(jnp.float64, as_contract=True)
    debt, supply = column("totalBorrowAssets"), column("totalSupplyAssets")

    @jax.jit
    def run(debt: jax.Array, cash: jax.Array, rate: jax.Array, years: jax.Array) -> tuple:
        return rule.borrow_rate(utilisation(debt, cash), rate, years)

    average, end = run(
        jnp.asarray(debt),
        jnp.asarray(supply - debt),
        jnp.asarray(column("rateAtTargetBefore") / 1e18 * YEAR),
        jnp.asarray(column("elapsed") / YEAR),
    )
    indices = np.arange(len(cases))
    for what, rate in (("avgBorrowRate", average), ("rateAtTargetAfter", end)):
        replay.compare(what, indices, np.asarray(rate) / YEAR * 1e18, column(what))
    return replay


ADAPTERS = {"morpho_adaptive_curve_irm": adaptive_curve_irm}
