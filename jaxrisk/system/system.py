"""The system: a market, the venues on it, the keepers between them; and its state in a scenario."""

from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.liquidity import Liquidity
from jaxrisk.market.paths import PathModel
from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import placed
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.system.book import Tranche
from jaxrisk.system.halts import Halts, HaltState
from jaxrisk.system.owners import Owners, OwnerState
from jaxrisk.system.policy import Keeper
from jaxrisk.venue.execution import KeeperCalls
from jaxrisk.venue.venue import Pool, Venue


@pytree
class System:
    """Everything a scenario starts from; every number in it is a leaf.

    Attributes:
        market: opening prices.
        paths: how prices move.
        liquidity: how prices react to forced sales.
        venues: where the accounts stand.
        keeper: who liquidates.
        claims: assets that are claims on these venues, each after those behind it; put there by
            `jaxrisk.system.claim_scope.with_claims`.
        owners: who holds the accounts and acts before keepers do; `None` where they do nothing.
        halts: circuit breakers; `None` where nothing ever stops.
    """

    market: Market
    paths: PathModel
    liquidity: Liquidity
    venues: tuple[Venue, ...]
    keeper: Keeper
    claims: tuple[Any, ...] = ()
    owners: Owners | None = None
    halts: Halts | None = None

    @property
    def assets(self) -> tuple[str, ...]:
        """Names of the assets, in the order of every `(asset,)` axis."""
        return self.market.assets


@pytree
class StepRules:
    """How a step is played.

    Attributes:
        step_years: length of a step, in years.
        width: width of the smooth trigger; `None` for the exact rule.
        rounds: largest number of cascade rounds in a step.
        differentiable: use loops that reverse mode can pass through.
        one_by_one: scenarios are played one after another, so that a step may cost what happens in
            it and not what could.
    """

    step_years: Float[Array, ""]
    width: Float[Array, ""] | None = None
    rounds: int = static(default=1)
    differentiable: bool = static(default=False)
    one_by_one: bool = static(default=False)

    @property
    def called_only(self) -> bool:
        """Whether only accounts that may be called are looked at: backwards, one by one."""
        return self.differentiable and self.one_by_one

    @property
    def skips_idle(self) -> bool:
        """Whether a round in which nothing is wanted is cut short.

        Not backwards, where both ways would be kept, nor where a single round is all there is.
        """
        return self.rounds > 1 and not self.differentiable


class Flow(IntEnum):
    """Cumulated flows of a venue in a scenario, in the numeraire at the moment of each flow."""

    # What one round of calls brings stands together, so that it is booked in one piece.
    LIQUIDATED = 0  # collateral seized, at the market's mid
    REPAID = 1  # debt repaid by keepers, or out of what was taken over
    BAD_DEBT = 2  # debt written off
    FEE = 3  # liquidation fee to the protocol, or its gain on what it took over
    REFUND = 4  # what was returned to borrowers beyond the debt that was repaid
    KEEPER_PAID = 5  # what keepers paid for the collateral
    PROCEEDS = 6  # what keepers got for the collateral
    KEEPER_COST = 7  # what keepers spent on calls
    INTEREST = 8  # interest accrued by borrowers
    RESERVE_INTEREST = 9  # of which the protocol's share
    RESIDUAL = 10  # bad debt that no fund covered and suppliers bear
    TREASURY_PAID = 11  # bad debt the protocol's own claims bore
    DILUTION = 12  # bad debt covered by issuing the protocol's token
    REDEEMED = 13  # debt redeemed at face value, part of what was repaid
    DEPOSITOR_GAIN = 14  # collateral depositors got beyond the debt they paid; negative for a loss
    DEPOSITOR_LOSS = 15  # bad debt that depositors of a pool took
    BORROWER_LOSS = 16  # bad debt that was handed to other borrowers
    CONVERTED = 17  # collateral that outsiders bought out of bands, at the market's mid
    RECONVERTED = 18  # collateral that they sold back into bands
    CONVERSION_LOSS = 19  # what accounts lost to these trades
    RELEASED = 20  # debt repaid with borrowed coin that stood in the account's bands
    SLASH_FEE = 21  # taken from stakers on top of the bad debt they paid, for the protocol
    FUNDING = 22  # funding that accounts paid to outsiders; negative where they got it
    DELEVERAGED = 23  # bad debt that accounts in profit gave up theirs for
    SOCIALISED = 24  # bad debt spread over open positions
    CLAIMS_REDEEMED = 25  # paid out on claims that this venue, or an account of it, had issued


@pytree
class AccountLedger:
    """What happened to each account so far, in the numeraire; leaves are `(account,)`.

    Kept only in traces: a run over many scenarios carries no such arrays. What borrowers get back
    of an account that is sold whole is taken off what was seized.

    Attributes:
        seized: collateral taken by keepers.
        repaid: debt repaid by keepers.
        written_off: debt written off.
        converted: what was lost to those who convert collateral.
    """

    seized: Float[Array, " account"]
    repaid: Float[Array, " account"]
    written_off: Float[Array, " account"]
    converted: Float[Array, " account"]


@pytree
class VenueState:
    """What changes on a venue in a scenario.

    Attributes:
        collateral: per tranche `(1 or collateral_asset, account)` fraction still standing.
        debt: per tranche `(1 or debt_asset, account)` fraction still standing, before interest.
        touched: per tranche, whether any of its accounts has been liquidated.
        log_index: `(debt_asset,)` log growth of debt since the opening.
        index_carry: `(debt_asset,)` what the last additions to the log index lost to rounding.
        interest: what the venue's rule of interest remembers.
        owed: `(debt_asset,)` opening units of debt still standing, before interest.
        pool: `(row, debt_asset)` balance sheet in units, rows as in `Pool`.
        unsettled: value of what was written off and not yet allotted to a bearer, at the mid of
            the rounds in which it was written off.
        funds: `(layer,)` left in each fund: numeraire, or units of what its rule says.
        offsets: `(layer,)` loss each fund still leaves to others before it pays, in units of what
            it covers.
        paid: `(layer,)` paid so far, numeraire.
        flows: `(flow,)` cumulated flows, entries as in `Flow`.
        oracle: state of the venue's oracle.
        execution: what the venue's kind of execution keeps, such as collateral it holds.
        deposits: `(debt_asset,)` part of the opening deposits that is still in; `None` where no
            asset is a claim on any venue.
        ledgers: per tranche, what happened to each account; `None` outside of traces.
        callable_steps: per tranche `(account,)` steps in a row in which each could be called;
            `None` where keepers need no time.
    """

    collateral: tuple[Float[Array, "share account"], ...]
    debt: tuple[Float[Array, "share account"], ...]
    touched: tuple[Bool[Array, ""], ...]
    log_index: Float[Array, " debt_asset"]
    index_carry: Float[Array, " debt_asset"]
    interest: Any
    owed: Float[Array, " debt_asset"]
    pool: Float[Array, "row debt_asset"]
    unsettled: Float[Array, ""]
    funds: Float[Array, " layer"]
    offsets: Float[Array, " layer"]
    paid: Float[Array, " layer"]
    flows: Float[Array, " flow"]
    oracle: Any
    execution: Any
    deposits: Float[Array, " debt_asset"] | None = None
    ledgers: tuple[AccountLedger, ...] | None = None
    callable_steps: tuple[Float[Array, " account"], ...] | None = None


@pytree
class KeeperState:
    """What changes about keepers in a scenario.

    Attributes:
        free: capital that is not tied up, numeraire.
        calls: calls made in the step so far.
    """

    free: Float[Array, ""]
    calls: Float[Array, ""]


@pytree
class State:
    """A scenario at one moment.

    Attributes:
        market: prices and liquidity.
        paths: state of the path model.
        venues: one state a venue.
        rounds: cascade rounds played so far.
        unconverged: number of steps whose cascade was cut off by the bound on rounds.
        owners: cash and trades of those who hold the accounts; `None` where they do nothing.
        keepers: capital and calls of keepers; `None` where nothing but liquidity limits them.
        halts: what circuit breakers remember; `None` where there are none.
    """

    market: Market
    paths: Any
    venues: tuple[VenueState, ...]
    rounds: Float[Array, ""]
    unconverged: Float[Array, ""]
    owners: OwnerState | None = None
    keepers: KeeperState | None = None
    halts: HaltState | None = None


def booked(**flows: Float[Array, ""]) -> Float[Array, " flow"]:
    """Return a vector of flows from those that occur (lower-case names of `Flow`)."""
    return placed({Flow[name.upper()]: value for name, value in flows.items()}, len(Flow))


def opening_state(
    system: System, books: tuple[tuple[Tranche, ...], ...], *, with_ledgers: bool = False
) -> State:
    """Return the state before the first step, with account ledgers for a trace."""
    dtype = system.market.price.dtype
    zero = jnp.zeros((), dtype)
    venues = tuple(
        VenueState(
            collateral=tuple(_ones(_shares(system, venue, t)[0], t) for t in book),
            debt=tuple(_ones(_shares(system, venue, t)[1], t) for t in book),
            touched=tuple(jnp.zeros((), bool) for _ in book),
            log_index=jnp.zeros_like(venue.pool[Pool.DEBT]),
            index_carry=jnp.zeros_like(venue.pool[Pool.DEBT]),
            interest=venue.interest.opening(),
            owed=venue.pool[Pool.DEBT],
            pool=venue.pool,
            unsettled=zero,
            funds=venue.funds,
            offsets=jnp.stack([fund.opening_offset(dtype) for fund in venue.waterfall]),
            paid=jnp.zeros_like(venue.funds),
            flows=jnp.zeros(len(Flow), dtype),
            oracle=venue.oracle.init(system.market),
            execution=venue.execution.opening(venue.accounts),
            deposits=jnp.ones_like(venue.pool[Pool.SUPPLIED]) if system.claims else None,
            ledgers=tuple(_empty_ledger(t) for t in book) if with_ledgers else None,
            callable_steps=_never_callable(system.keeper, venue, book),
        )
        for venue, book in zip(system.venues, books, strict=True)
    )
    return State(
        market=system.market,
        paths=system.paths.init(),
        venues=venues,
        rounds=zero,
        unconverged=zero,
        owners=None if system.owners is None else system.owners.opening(),
        keepers=_opening_keepers(system.keeper, zero),
        halts=None if system.halts is None else system.halts.opening(system.market),
    )


def _opening_keepers(keeper: Keeper, zero: Float[Array, ""]) -> KeeperState | None:
    if not keeper.limited:
        return None
    return KeeperState(free=zero if keeper.capital is None else keeper.capital.amount, calls=zero)


def _never_callable(
    keeper: Keeper, venue: Venue, book: tuple[Tranche, ...]
) -> tuple[Float[Array, " account"], ...] | None:
    """Return counts of 0 where keepers make calls and need time to."""
    if keeper.latency is None or not isinstance(venue.execution, KeeperCalls):
        return None
    return tuple(jnp.zeros(t.accounts.count, t.accounts.collateral.dtype) for t in book)


def _shares(system: System, venue: Venue, tranche: Tranche) -> tuple[int, int]:
    return system.keeper.choice_on(venue).shares(tranche.accounts)


def _ones(shares: int, tranche: Tranche) -> jax.Array:
    return jnp.ones((shares, tranche.accounts.count), tranche.accounts.collateral.dtype)


def _empty_ledger(tranche: Tranche) -> AccountLedger:
    zeros = jnp.zeros(tranche.accounts.count, tranche.accounts.collateral.dtype)
    return AccountLedger(seized=zeros, repaid=zeros, written_off=zeros, converted=zeros)
