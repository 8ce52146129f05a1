"""Claims between layers: what one layer issues is an asset of the next.

A layer is whoever has a balance sheet: a pool, a vault, an issuer, an account. It holds units of
assets and of claims, and issues claims of two kinds:

- a *promise* is owed: units of assets or of other claims (a receipt of a deposit, a loan, a staked
  token). All promises of a layer rank equally. What is worth more than it owes pays in full; else
  each promise is paid in the proportion r = a / p of what is there to what is owed.
- a *share* is owed nothing and has what promises leave (a vault share, an LP token, equity).

A claim's rate is what it is worth in units of what it promises, or is quoted in. With q the prices
of claims, x those of assets, for layer i:

    a_i = held_i . x + claims_i . q       p_i = sum of issued c * (underlying_c . (x, q)), promises
    q_c = underlying_c . (x, q) * (1 if a_i >= p_i else r_i)                            a promise
    q_c = max(a_i - p_i, 0) / issued_c                                                  a share

which is Eisenberg and Noe's clearing with the cross-holdings of Suzuki, and Rogers and Veraart's
where default costs something. Prices are the greatest solution: nobody defaults who need not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.fixed_point import fixed_point
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.system.claim_table import read_claims

# A layer that lacks no more than this many roundings of what it owes is not in default: the sums
# of two sides that are equal need not be, and default may cost much more than it lacks.
_ROUNDINGS = 64.0


@pytree
class ClaimGraph:
    """Who holds what, and who owes it. Made by `from_table`, which checks it.

    Attributes:
        held_assets: `(layer, asset)` units held, at least 0.
        held_claims: `(layer, claim)` units held, at least 0.
        issuer: `(layer, claim)` 1 where the layer issues the claim, else 0.
        issued: `(claim,)` units outstanding, positive; whoever is no layer holds the rest.
        underlying_assets: `(claim, asset)` units that a unit of a claim promises or is quoted in.
        underlying_claims: `(claim, claim)` the same of claims.
        share: `(claim,)` whether the claim is a share.
        asset_recovery: `(layer,)` part of the value of assets that creditors get in default, the
            rest being the cost of bankruptcy; 1 for none.
        claim_recovery: `(layer,)` the same of claims.
        stage: order of valuation of each claim.
        assets: names, in the order of every `(asset,)` axis.
        claims: names, in the order of every `(claim,)` axis.
        layers: names, in the order of every `(layer,)` axis.
    """

    held_assets: Float[Array, "layer asset"]
    held_claims: Float[Array, "layer claim"]
    issuer: Float[Array, "layer claim"]
    issued: Float[Array, " claim"]
    underlying_assets: Float[Array, "claim asset"]
    underlying_claims: Float[Array, "claim claim"]
    share: Bool[Array, " claim"]
    asset_recovery: Float[Array, " layer"]
    claim_recovery: Float[Array, " layer"]
    stage: tuple[int, ...] = static()
    assets: tuple[str, ...] = static()
    claims: tuple[str, ...] = static()
    layers: tuple[str, ...] = static()

    @staticmethod
    def from_table(
        claims: Mapping[str, Any],
        underlying: Mapping[str, Any],
        holdings: Mapping[str, Any],
        *,
        assets: Sequence[str],
        recovery: Mapping[str, tuple[float, float]] | None = None,
        dtype: np.dtype | type | None = None,
    ) -> "ClaimGraph":
        """Return the graph that three long tables describe; rows of one pair are added up.

        Layers are numbered in the order in which they appear as issuers, then as holders.

        Args:
            claims: columns `claim`, `issuer`, `kind` ("promise" or "share") and `amount`, the
                units outstanding, more than 0; one row a claim.
            underlying: columns `claim`, `instrument` (an asset or a claim) and `amount`, the units
                that a unit of the claim promises, or for a share those it is quoted in; at least
                one row a claim.
            holdings: columns `layer`, `instrument` and `amount`, the units held.
            assets: names of assets, in order.
            recovery: by layer, the parts of its assets and of its claims that creditors get in
                default; all of both where not given.
            dtype: floating-point type; JAX's default where not given.

        Raises:
            ValueError: an unknown or repeated name or kind; an amount that is negative or not
                finite; more of a claim held than is outstanding; two shares of one layer; a cycle
                of claims without a single solution, by name. Every problem is listed, those of
                cycles once the rest is right.
        """
        return ClaimGraph(
            **read_claims(
                claims, underlying, holdings, assets=assets, recovery=recovery or {}, dtype=dtype
            )
        )


@pytree
class ClaimValues:
    """What claims and layers are worth, in the numeraire.

    Attributes:
        price: `(claim,)` of a unit.
        rate: `(claim,)` price over that of what the claim promises or is quoted in: for a promise
            at most 1, and below 1 where the issuer cannot pay.
        assets: `(layer,)` value of all that is held, bankruptcy costs not taken off.
        liabilities: `(layer,)` promises in full.
        converged: whether every cycle has been solved.
        rounds: how many rounds that took in all.
    """

    price: Float[Array, " claim"]
    rate: Float[Array, " claim"]
    assets: Float[Array, " layer"]
    liabilities: Float[Array, " layer"]
    converged: Bool[Array, ""]
    rounds: Array

    @property
    def equity(self) -> Float[Array, " layer"]:
        """Assets less liabilities; negative by what creditors lack, costs not counted."""
        return self.assets - self.liabilities


def value_claims(
    graph: ClaimGraph, price: Float[Array, " asset"], *, limit: int = 10_000
) -> ClaimValues:
    """Return what every claim is worth at `price`: the greatest solution of clearing.

    May be differentiated in everything, implicitly: the derivative of one solution, which holds
    as long as nobody enters or leaves default. A graph without cycles takes one round a claim of
    its longest chain and one to see that nothing moves.

    Args:
        graph: layers and claims.
        price: `(asset,)` in the numeraire.
        limit: largest number of rounds a stage; a cycle in which a part m of each claim comes back
            takes about ln(eps) / ln(m).

    Source: Eisenberg and Noe 2001; Suzuki 2002; Rogers and Veraart 2013, section 3.
    """
    solved = jnp.zeros_like(graph.issued)
    converged, rounds = jnp.ones((), bool), jnp.zeros((), jnp.int32)
    for stage in sorted(set(graph.stage)):
        here = jnp.asarray(np.asarray(graph.stage) == stage)
        before = solved
        found = fixed_point(
            lambda q, here=here, before=before: jnp.where(here, _cleared(graph, price, q), before),
            jnp.where(here, _upper_bound(graph, price, before, here), before),
            limit=limit,
        )
        solved = found.value
        converged, rounds = converged & found.converged, rounds + found.rounds
    quoted = _underlying_worth(graph, price, solved)
    own, through = _held(graph, price, solved)
    return ClaimValues(
        price=solved,
        rate=solved / positive_or_one(quoted),
        assets=own + through,
        liabilities=_owed(graph, quoted),
        converged=converged,
        rounds=rounds,
    )


def look_through(
    graph: ClaimGraph, price: Float[Array, " asset"], *, limit: int = 10_000
) -> Float[Array, "layer asset"]:
    """Return what the equity of each layer stands in, asset by asset, through all claims it holds.

    The entry is dE_i / d ln x_k, in the numeraire: the value of asset k whose moves the equity
    bears, negative where it is owed. Prices of claims are of degree 1 in those of assets, so a row
    adds up to the equity of its layer (Euler). A claim whose issuer cannot pay stands in what the
    issuer has left; a promise that is paid in full in what is promised.

    Args:
        graph: layers and claims.
        price: `(asset,)` in the numeraire.
        limit: as in `value_claims`.
    """
    equity = lambda log_price: value_claims(graph, jnp.exp(log_price), limit=limit).equity
    return jax.jacfwd(equity)(jnp.log(price))


def _underlying_worth(
    graph: ClaimGraph, price: Float[Array, " asset"], claim_price: Float[Array, " claim"]
) -> Float[Array, " claim"]:
    """Return what a unit of each claim promises or is quoted in, at these prices."""
    return full_matmul(graph.underlying_assets, price) + full_matmul(
        graph.underlying_claims, claim_price
    )


def _held(
    graph: ClaimGraph, price: Float[Array, " asset"], claim_price: Float[Array, " claim"]
) -> tuple[Float[Array, " layer"], Float[Array, " layer"]]:
    """Return what each layer holds in assets and in claims."""
    return full_matmul(graph.held_assets, price), full_matmul(graph.held_claims, claim_price)


def _owed(graph: ClaimGraph, quoted: Float[Array, " claim"]) -> Float[Array, " layer"]:
    """Return all promises of each layer in full."""
    promised = jnp.where(graph.share, jnp.zeros_like(quoted), graph.issued * quoted)
    return full_matmul(graph.issuer, promised)


def _cleared(
    graph: ClaimGraph, price: Float[Array, " asset"], claim_price: Float[Array, " claim"]
) -> Float[Array, " claim"]:
    """Return what claims are worth if those held are worth `claim_price`."""
    quoted = _underlying_worth(graph, price, claim_price)
    own, through = _held(graph, price, claim_price)
    assets, owed = own + through, _owed(graph, quoted)
    slack = _ROUNDINGS * jnp.finfo(owed.dtype).eps
    recovered = graph.asset_recovery * own + graph.claim_recovery * through
    paid = jnp.where(
        assets >= owed * (1.0 - slack), jnp.ones_like(owed), recovered / positive_or_one(owed)
    )
    left = jnp.where(assets > owed, assets - owed, jnp.zeros_like(owed))
    share_price = full_matmul(left, graph.issuer) / graph.issued
    return jnp.where(graph.share, share_price, quoted * full_matmul(paid, graph.issuer))


def _upper_bound(
    graph: ClaimGraph,
    price: Float[Array, " asset"],
    before: Float[Array, " claim"],
    here: Bool[Array, " claim"],
) -> Float[Array, " claim"]:
    """Return prices that no solution exceeds: promises in full, shares as if nothing were owed.

    The latter solve a linear system among the shares of the stage.
    """
    graph, price, before = lax.stop_gradient((graph, price, before))
    full = jnp.where(here & ~graph.share, _underlying_worth(graph, price, before), before)
    own, through = _held(graph, price, full)
    shares = here & graph.share
    per_unit = lambda values: full_matmul(graph.issuer.T, values) / graph.issued
    known = jnp.where(shares, per_unit(own + through), full)
    weights = full_matmul(graph.issuer.T, graph.held_claims) / graph.issued[:, None]
    among = jnp.where(shares[:, None] & shares[None, :], weights, jnp.zeros_like(weights))
    return jnp.linalg.solve(jnp.eye(len(known), dtype=known.dtype) - among, known)
