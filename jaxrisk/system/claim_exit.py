"""How claims are turned into money: through their issuers as far as those can pay, else sold.

Keepers who seized a claim that can be redeemed redeem it, and sell what comes out. They call for no
more than can be redeemed: the rest waits. Orders at the market do not wait, and what of them cannot
be redeemed is sold in the claim's own market. Nobody redeems so much that the sale of what comes
out would not pay the debts that go with it.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import spread
from jaxrisk.system.backing import Books, Release, States
from jaxrisk.system.claim_prices import Claim, Exit
from jaxrisk.system.system import System

Ways = tuple[tuple[Claim, Release], ...]


def ways_out(system: System, books: Books, market: Market, states: States) -> Ways:
    """Return what redeeming each claim takes out, from the claim that stands on all others down."""
    if market.issued is None:
        return ()
    return tuple(
        (c, _release(system, books, market, states, c, market.issued[c.asset]))
        for c in reversed(system.claims)
        if c.exit is not Exit.SOLD
    )


def _release(
    system: System,
    books: Books,
    market: Market,
    states: States,
    claim: Claim,
    issued: Float[Array, ""],
) -> Release:
    """Return what redeeming a unit of the claim takes out, and how many can be redeemed."""
    release = claim.backing.release(system, books, states, market, issued)
    if claim.exit is Exit.SHUT:
        return dataclasses.replace(release, most=jnp.zeros_like(release.most))
    worth = release.units * market.mid
    slack = 1.0 - release.owed / positive_or_one(jnp.sum(worth))
    everywhere, depth = jnp.broadcast_to(slack, worth.shape), system.liquidity.depth.now(market)
    covered = system.liquidity.law.volume_within(everywhere, depth)
    covered = jnp.where(worth > 0, covered / positive_or_one(worth), release.most)
    covered = jnp.where(release.owed > 0, jnp.min(covered), release.most)
    return dataclasses.replace(release, most=smaller(release.most, covered))


def _instead(asset: int, release: Release) -> Float[Array, " asset"]:
    """Return what is sold more, and of the claim less, for each unit redeemed."""
    one = jnp.ones_like(release.units[:1])
    return release.units - spread(one, (asset,), release.units.shape[0])


def through_issuers(
    ways: Ways, sold: Float[Array, "class asset"], outlay: Float[Array, " class"]
) -> tuple[Float[Array, "class asset"], Float[Array, " class"], Float[Array, "class claim"]]:
    """Return what classes of calls sell once their claims are redeemed, and what that costs.

    Args:
        ways: from `ways_out`.
        sold: units that each class would sell, claims among them.
        outlay: what each class pays, numeraire.

    Returns:
        Units sold, outlay with the debts that come with claims, and units redeemed of each claim.
    """
    redeemed = []
    for claim, release in ways:
        units = sold[:, claim.asset]
        sold = sold + units[:, None] * _instead(claim.asset, release)[None, :]
        outlay = outlay + units * release.owed
        redeemed.append(units)
    through = jnp.stack(redeemed, axis=1) if redeemed else jnp.zeros((sold.shape[0], 0), sold.dtype)
    return sold, outlay, through


def room_at_issuers(ways: Ways, room: Float[Array, "class asset"]) -> Float[Array, "class either"]:
    """Return the room of each class in markets, and beside it that at issuers, units."""
    if not ways:
        return room
    most = jnp.stack([release.most for _, release in ways])
    return jnp.concatenate([room, jnp.broadcast_to(most, (room.shape[0], len(ways)))], axis=1)


def sell_or_redeem(
    system: System, books: Books, market: Market, states: States, total: Float[Array, " asset"]
) -> tuple[Market, States, Float[Array, " asset"]]:
    """Return market, venues and the mean price of each asset after `total` was sold.

    What is redeemed brings what comes out of it, less the debts that go with it.

    Args:
        system: what the scenario started from.
        books: each venue's accounts in tranches.
        market: before the sale.
        states: before the sale.
        total: `(asset,)` units for sale, claims among them.
    """
    sold, issued, redeemed = total, market.issued, []
    # One after the other: several claims may be redeemed from the cash of one venue.
    for claim, _ in ways_out(system, books, market, states):
        assert issued is not None
        a = claim.asset
        release = _release(system, books, market, states, claim, issued[a])
        units = smaller(sold[a], release.most)
        states = claim.backing.redeem(system, books, states, market, issued[a], units)
        sold = sold + units * _instead(a, release)
        issued = issued - spread(units[None], (a,), issued.shape[0])
        redeemed.append((a, release, units))
    after, proceeds = system.liquidity.sell(market, sold)
    price = proceeds / positive_or_one(sold)
    # From below: what comes out of a claim may be a claim, whose own mean price is known by then.
    for a, release, units in reversed(redeemed):
        brought = units * (jnp.sum(release.units * price) - release.owed) + proceeds[a]
        mean = brought / positive_or_one(units + sold[a])
        price = price + spread((mean - price[a])[None], (a,), price.shape[0])
    return dataclasses.replace(after, issued=issued), states, price
