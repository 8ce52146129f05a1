"""What stands behind a claim that is an asset elsewhere, and what redeeming the claim takes out.

A kind answers three questions about one unit: what is behind it (`worth`), what comes out where it
is redeemed (`release`), and how its issuer's books change then (`redeem`).
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.system.book import Tranche
from jaxrisk.system.system import System, VenueState, booked
from jaxrisk.venue.venue import Pool, changed_pool

Books = tuple[tuple[Tranche, ...], ...]
States = tuple[VenueState, ...]
Scalar = Float[Array, ""]


@pytree
class Release:
    """What comes out where a unit of a claim is redeemed.

    Attributes:
        units: `(asset,)` handed to whoever redeems it.
        owed: numeraire that he pays first: debt that goes with it.
        most: units of the claim that can be redeemed now.
    """

    units: Float[Array, " asset"]
    owed: Scalar
    most: Scalar


@pytree
class Deposits:
    """Deposits in venues: a receipt of those in one, or the share of a vault that supplies several.

    Interest raises what a deposit is worth, and what its venue writes off suppliers' claims lowers
    it; a deficit that is carried does not. Redeeming pays out of the cash of the venues.

    Attributes:
        units: `(place,)` units deposited at the opening, for each unit of the claim; for all of
            them together before `shared`.
        idle: units that lie idle, likewise.
        places: venue and row of its debt assets of each deposit.
        idle_asset: what lies idle.
    """

    units: Float[Array, " place"]
    idle: Scalar
    places: tuple[tuple[int, int], ...] = static()
    idle_asset: int = static()

    def shared(self, issued: Scalar) -> "Deposits":
        """Return what is behind one of so many units."""
        return dataclasses.replace(self, units=self.units / issued, idle=self.idle / issued)

    def worth(
        self, system: System, books: Books, states: States, market: Market, issued: Scalar
    ) -> Scalar:
        """Return the value behind a unit, numeraire.

        Args:
            system: what the scenario started from.
            books: each venue's accounts in tranches.
            states: the venues now.
            market: the market now.
            issued: units of the claim that are outstanding.
        """
        return jnp.sum(self.release(system, books, states, market, issued).units * market.mid)

    def release(
        self, system: System, books: Books, states: States, market: Market, issued: Scalar
    ) -> Release:
        """Return what redeeming a unit takes out; the cash of the scarcest venue bounds how many.

        Arguments as in `worth`.
        """
        del books
        count, most = market.mid.shape[0], issued
        units = spread(self.idle[None], (self.idle_asset,), count)
        for each, (v, row) in zip(self.units, self.places, strict=True):
            state, asset = states[v], system.venues[v].accounts.debt_assets[row]
            behind = each * _deposit(system, states, v, row)
            units = units + spread(behind[None], (asset,), count)
            cash = state.pool[Pool.CASH, row]
            payable = jnp.where(cash > 0, cash, jnp.zeros_like(cash)) / positive_or_one(behind)
            most = smaller(most, payable)
        return Release(units=units, owed=jnp.zeros_like(most), most=most)

    def redeem(
        self,
        system: System,
        books: Books,
        states: States,
        market: Market,
        issued: Scalar,
        redeemed: Scalar,
    ) -> States:
        """Return the venues after units of the claim were redeemed; arguments as in `worth`.

        Args:
            system: as in `worth`.
            books: as in `worth`.
            states: as in `worth`.
            market: before anything of the round was sold.
            issued: before the redemption.
            redeemed: units of the claim.
        """
        del books, issued
        after = list(states)
        for each, (v, row) in zip(self.units, self.places, strict=True):
            state, assets = states[v], system.venues[v].accounts.debt_assets
            paid = redeemed * each * _deposit(system, states, v, row)
            part = paid / positive_or_one(state.pool[Pool.SUPPLIED, row])
            out = spread(paid[None], (row,), len(assets))
            assert state.deposits is not None
            after[v] = dataclasses.replace(
                state,
                pool=state.pool + changed_pool(cash=-out, supplied=-out),
                deposits=state.deposits * (1.0 - spread(part[None], (row,), len(assets))),
                flows=state.flows + booked(claims_redeemed=paid * market.mid[assets[row]]),
            )
        return tuple(after)


def _deposit(system: System, states: States, v: int, row: int) -> Scalar:
    """Return what one unit deposited at the opening has become, in units."""
    deposits, opening = states[v].deposits, system.venues[v].pool[Pool.SUPPLIED, row]
    assert deposits is not None
    return states[v].pool[Pool.SUPPLIED, row] / positive_or_one(opening * deposits[row])


@pytree
class AccountEquity:
    """The equity of one account: the share of a vault that is leveraged on a venue.

    Redeeming unwinds the account in proportion: collateral is handed out against its part of the
    debt, which is repaid. Where the account owes more than it holds its share is worth nothing,
    never less, and nothing comes out: the venue bears what is missing.

    Attributes:
        venue: where the account stands.
        account: its index in the venue's book.
    """

    venue: int = static()
    account: int = static()

    def shared(self, issued: Scalar) -> "AccountEquity":
        """Return itself: what an account has left is shared by as many units as there are then."""
        del issued
        return self

    def worth(
        self, system: System, books: Books, states: States, market: Market, issued: Scalar
    ) -> Scalar:
        """Return the value behind a unit, numeraire; arguments as in `Deposits.worth`."""
        release = self.release(system, books, states, market, issued)
        return jnp.sum(release.units * market.mid) - release.owed

    def release(
        self, system: System, books: Books, states: States, market: Market, issued: Scalar
    ) -> Release:
        """Return what redeeming a unit takes out; arguments as in `Deposits.worth`."""
        accounts = system.venues[self.venue].accounts
        held, owed = self._left_over(system, books, states, market)
        each = positive_or_one(issued)
        return Release(
            units=spread(held / each, accounts.collateral_assets, market.mid.shape[0]),
            owed=jnp.sum(owed * select(market.mid, accounts.debt_assets)) / each,
            most=issued,
        )

    def redeem(
        self,
        system: System,
        books: Books,
        states: States,
        market: Market,
        issued: Scalar,
        redeemed: Scalar,
    ) -> States:
        """Return the venues after units were redeemed; arguments as in `Deposits.redeem`."""
        state, accounts = states[self.venue], system.venues[self.venue].accounts
        part = redeemed / positive_or_one(issued)
        everything = self._left_over(system, books, states, market)
        part = jnp.where(jnp.any(everything[0] > 0), part, jnp.zeros_like(part))
        held, owed = part * everything[0], part * everything[1]
        k, column = self._place(books)
        scaled = lambda parts: (
            *parts[:k],
            lax.dynamic_update_slice_in_dim(
                parts[k], parts[k][:, column, None] * (1.0 - part), column, axis=1
            ),
            *parts[k + 1 :],
        )
        worth = jnp.sum(held * select(market.mid, accounts.collateral_assets))
        worth = worth - jnp.sum(owed * select(market.mid, accounts.debt_assets))
        touched = list(state.touched)
        touched[k] = touched[k] | (part > 0)
        changed = dataclasses.replace(
            state,
            collateral=scaled(state.collateral),
            debt=scaled(state.debt),
            touched=tuple(touched),
            owed=state.owed - owed / jnp.exp(state.log_index),
            pool=state.pool + changed_pool(cash=owed, debt=-owed),
            flows=state.flows + booked(claims_redeemed=worth),
        )
        return (*states[: self.venue], changed, *states[self.venue + 1 :])

    def _left_over(
        self, system: System, books: Books, states: States, market: Market
    ) -> tuple[Float[Array, " collateral_asset"], Float[Array, " debt_asset"]]:
        """Return the units the account holds and owes; none where it owes more than it holds."""
        k, column = self._place(books)
        accounts, state = books[self.venue][k].accounts, states[self.venue]
        held = accounts.collateral[:, column] * state.collateral[k][:, column]
        owed = accounts.debt[:, column] * state.debt[k][:, column] * jnp.exp(state.log_index)
        worth = jnp.sum(held * select(market.mid, accounts.collateral_assets))
        solvent = worth > jnp.sum(owed * select(market.mid, accounts.debt_assets))
        none = jnp.zeros_like
        return jnp.where(solvent, held, none(held)), jnp.where(solvent, owed, none(owed))

    def _place(self, books: Books) -> tuple[int, int]:
        """Return the tranche the account is in, and its column there."""
        return next(
            (k, column)
            for k, tranche in enumerate(books[self.venue])
            for account, column in tranche.issuers
            if account == self.account
        )


Backing = Deposits | AccountEquity


def issuers_on(claims: Sequence, venue: int) -> tuple[int, ...]:
    """Return the accounts of a venue whose equity is behind a claim."""
    behind = [claim.backing for claim in claims]
    here = [b.account for b in behind if isinstance(b, AccountEquity) and b.venue == venue]
    return tuple(sorted(set(here)))
