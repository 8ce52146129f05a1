"""Execution of accounts that hold contracts on margin: closed by market orders, losses mutualised.

Everything is counted in one settlement currency, the venue's one debt asset and first collateral.
Equity of an account is its collateral, what it has realised since, and the profit of its positions.
"""

from enum import Enum
from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.contract import Contracts, Quotes, mark_price, settlement_value
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close_out import CloseRule
from jaxrisk.venue.deleverage_ranking import Ranking
from jaxrisk.venue.posted_collateral import PostedCollateral


class Requirement(Protocol):
    """How much equity a portfolio of contracts needs."""

    def required(
        self, size: Float[Array, "contract account"], contracts: Contracts, quotes: Quotes
    ) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin, in the units of `quotes.settlement`."""
        ...


class Funding(Protocol):
    """What positions in perpetuals pay each other."""

    def rate(self, premium: Float[Array, " contract"]) -> Float[Array, " contract"]:
        """Return the rate that longs pay, per year of notional.

        Args:
            premium: of the contract over its index, as a fraction of the index.
        """
        ...


class Behind(Enum):
    """Who bears what the insurance fund does not, before a deficit is carried.

    WINNERS: auto-deleveraging. Positions of bankrupt accounts are closed against opposite ones at
        their bankruptcy price, and what market orders lose beyond that is taken off profits.
    POSITIONS: the loss is spread over all accounts with open positions, by notional.
    GAINERS: the loss is spread over all accounts that have gained since time 0, by gain.
    NOBODY: at once a deficit.
    """

    WINNERS = "winners"
    POSITIONS = "positions"
    GAINERS = "gainers"
    NOBODY = "nobody"


WINNERS = "auto-deleveraging"
POSITIONS = "open positions (socialised)"
GAINERS = "accounts that gained (socialised)"
DEFICIT = "account holders (deficit carried)"
"""What bearers are called in results."""


@pytree
class VolatilityMoves:
    """How implied volatilities follow the market.

    With `r` the log return of the underlying since time 0 and `V` its running variance,

        volatility = (opening - stickiness skew r) exp(beta r) (V / V_0)^(power / 2),

    at least `floor`. A smile that stays where it is in strikes has stickiness 0, one that moves
    with the forward has 1.

    Attributes:
        beta: `(contract,)` elasticity to the underlying; negative where fear comes with falls.
        power: `(contract,)` 1 for volatilities that follow realised volatility, 0 for none.
        skew: `(contract,)` slope of the opening smile in log strike.
        stickiness: in [0, 1].
        calm: `(contract,)` V_0; positive.
        floor: least volatility.
    """

    beta: Float[Array, " contract"]
    power: Float[Array, " contract"]
    skew: Float[Array, " contract"]
    stickiness: Float[Array, ""]
    calm: Float[Array, " contract"]
    floor: Float[Array, ""]

    def now(
        self,
        opening: Float[Array, " contract"],
        log_return: Float[Array, " contract"],
        variance: Float[Array, " contract"],
    ) -> Float[Array, " contract"]:
        """Return implied volatilities.

        Args:
            opening: at time 0.
            log_return: of each underlying since then.
            variance: its running variance, per year.
        """
        smile = opening - self.stickiness * self.skew * log_return
        some = jnp.where(variance > 0, variance, self.calm)
        level = self.beta * log_return + 0.5 * self.power * jnp.log(some / self.calm)
        moved = smile * jnp.exp(level)
        return jnp.where(moved > self.floor, moved, self.floor)


@pytree
class MarginState:
    """What changes in a scenario; accounts in the order of the venue's tranches.

    Attributes:
        fraction: `(contract, account)` of each position that still stands.
        posted: `(asset, account)` of each collateral beyond the settlement currency that stands.
        cash: `(account,)` realised since time 0: profit, funding, fees, losses of others, and what
            posted collateral was sold for.
        mark: `(contract,)` worth of a unit at the last booking, settlement currency.
        volatility: `(contract,)` implied.
        closing: what the close-out rule remembers.
        time: years since time 0.
    """

    fraction: Float[Array, "contract account"]
    posted: Float[Array, "asset account"]
    cash: Float[Array, " account"]
    mark: Float[Array, " contract"]
    volatility: Float[Array, " contract"]
    closing: Any
    time: Float[Array, ""]


@pytree
class MarginAccounts:
    """Accounts with positions in contracts; calls close them by market orders.

    Attributes:
        contracts: their terms.
        opening_forward: `(contract,)` price of each underlying at time 0, as contracts quote it.
        opening_volatility: `(contract,)` implied, of options; any positive number elsewhere.
        requirement: how much equity positions need.
        close: who is called and how much is closed.
        taker_fee: what those who take positions over are paid of their notional; they then sell
            them for their own account. `None` where accounts are dealt at the market themselves.
        ranking: who is deleveraged first, where winners stand behind the funds.
        funding: of perpetuals; `None` for none.
        moves: of implied volatilities; `None` where they stay.
        posted: collateral in other assets than the settlement currency; `None` where there is none.
        underlying: index in the system's asset axis of the underlying of each contract.
        behind: who bears what the venue's funds do not.
    """

    contracts: Contracts
    opening_forward: Float[Array, " contract"]
    opening_volatility: Float[Array, " contract"]
    requirement: Requirement
    close: CloseRule
    ranking: Ranking
    taker_fee: Float[Array, ""] | None = None
    funding: Funding | None = None
    moves: VolatilityMoves | None = None
    posted: PostedCollateral | None = None
    underlying: tuple[int, ...] = static()
    behind: Behind = static(default=Behind.WINNERS)

    def opening(self, accounts: Accounts) -> MarginState:
        """Return the state in which all positions stand and nothing has been realised."""
        assert accounts.positions is not None
        size = accounts.positions.size
        zero = jnp.zeros((), size.dtype)
        return MarginState(
            fraction=jnp.ones_like(size),
            posted=jnp.ones_like(accounts.collateral[1:]),
            cash=jnp.zeros_like(size[0]),
            mark=self.opening_mark(),
            volatility=self.opening_volatility,
            closing=self.close.opening(size),
            time=zero,
        )

    def opening_mark(self) -> Float[Array, " contract"]:
        """Return the worth of a unit of each contract at time 0, settlement currency."""
        quotes = Quotes(
            forward=self.opening_forward,
            volatility=self.opening_volatility,
            settlement=jnp.ones_like(self.opening_forward),
            time=jnp.zeros((), self.opening_forward.dtype),
        )
        return settlement_value(self.contracts, mark_price(self.contracts, quotes))


def opening_profit(slot: MarginAccounts, accounts: Accounts) -> Float[Array, "1"]:
    """Return the profit of all positions at time 0, settlement currency."""
    assert accounts.positions is not None
    entered = settlement_value(slot.contracts, accounts.positions.entry)
    profit = accounts.positions.size * (slot.opening_mark()[:, None] - entered)
    return jnp.sum(profit)[None]
