"""Leverage and debt-to-equity of layers that hold claims on each other."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.measure.solvency import BalanceSheet
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.system.claims import ClaimGraph, look_through, value_claims


def layer_balance_sheets(graph: ClaimGraph, price: Float[Array, " asset"]) -> BalanceSheet:
    """Return what each layer holds, claims at their worth, and owes; leaves `(layer,)`.

    Args:
        graph: layers and claims.
        price: `(asset,)` in the numeraire.
    """
    found = value_claims(graph, price)
    return BalanceSheet(assets=found.assets, debt=found.liabilities)


def layer_debt_to_equity_delta(
    graph: ClaimGraph, price: Float[Array, " asset"]
) -> Float[Array, "layer asset"]:
    """Return the derivative of each layer's debt-to-equity in each log price, through all claims.

    -L (L - 1) for a layer whose leverage is L and whose assets move as one price. A layer that
    holds claims on leveraged layers moves by more: by L (L - 1) times the elasticity of what it
    holds. NaN where there is no positive equity.

    Args:
        graph: layers and claims.
        price: `(asset,)` in the numeraire.
    """
    ratio = lambda log_price: layer_balance_sheets(graph, jnp.exp(log_price)).debt_to_equity
    delta = jax.jacfwd(ratio)(jnp.log(price))
    solvent = layer_balance_sheets(graph, price).equity > 0
    return jnp.where(solvent[:, None], delta, jnp.full_like(delta, jnp.nan))


def effective_leverage(graph: ClaimGraph, price: Float[Array, " asset"]) -> Float[Array, " layer"]:
    """Return what each layer is long of, seen through all claims, over its equity.

    The sum of positive entries of `look_through`; assets that a layer holds and owes are netted.
    Infinite where a layer is long of something and has no equity, 0 where of nothing.

    Args:
        graph: layers and claims.
        price: `(asset,)` in the numeraire.
    """
    exposure = look_through(graph, price)
    long = jnp.sum(jnp.where(exposure > 0, exposure, jnp.zeros_like(exposure)), axis=1)
    equity = value_claims(graph, price).equity
    without = jnp.where(long > 0, jnp.full_like(long, jnp.inf), jnp.zeros_like(long))
    return jnp.where(equity > 0, long / positive_or_one(equity), without)
