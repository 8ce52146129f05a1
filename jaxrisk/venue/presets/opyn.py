"""Opyn Gamma: margin of vaults that have written options, and the auction of their duty to pay.

Source: opynfinance/GammaProtocol 841f81d, contracts/core/MarginCalculator.sol (`AUCTION_TIME`);
values of a product are set by its owners. The tables are those of the repository's own tests,
test/unit-tests/marginCalculatorNakedMargin.test.ts.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.contract import Contracts
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.auction_orders import RepaidOrders
from jaxrisk.venue.deleverage_ranking import LeveredGain
from jaxrisk.venue.margin_accounts import Behind, Requirement
from jaxrisk.venue.option_buyback import OptionBuyback
from jaxrisk.venue.presets.implied import SMILE, implied
from jaxrisk.venue.presets.instruments import Instrument
from jaxrisk.venue.presets.listing import POSTED, POSTED_OPTIONS, Listing, MarginOptions, listed
from jaxrisk.venue.presets.margin_venue import no_terms
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR
from jaxrisk.venue.upper_bound_margin import UpperBoundMargin
from jaxrisk.venue.vault_requirement import NakedVaultMargin, SpreadVaultMargin
from jaxrisk.venue.venue import Venue

DAY = 86_400.0
AUCTION_YEARS = 3600.0 / SECONDS_PER_YEAR
"""How long an auction lasts; a constant of the contract."""


class Product(NamedTuple):
    """What is set for one underlying and kind of option.

    Attributes:
        days: longest time to expiry of each bound.
        upper_bound: value of an option at the money as a fraction of spot, at most.
        spot_shock: what is left of spot, or of one over it, after the shock.
        price_deviation: what the price seen may be off, as a fraction.
    """

    days: tuple[float, ...]
    upper_bound: tuple[float, ...]
    spot_shock: float
    price_deviation: float


PRODUCTS = {
    "weth_tests": Product(
        days=(7.0, 14.0, 28.0, 42.0, 56.0),
        upper_bound=(0.1678, 0.237, 0.3326, 0.4032, 0.4603),
        spot_shock=0.75,
        price_deviation=0.05,
    ),
}


MARGINS = ("naked", "full")


def opyn(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    margin: str = "naked",
    product: str = "weth_tests",
    stickiness: float = 0.5,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return a venue of vaults that have written options of one kind.

    Puts are backed and settled in the currency of their strike; where the settlement currency is
    the underlying itself, the venue has calls, backed and settled in kind. Options of a vault that
    lacks collateral are repaid whole, out of its collateral.

    Args:
        accounts: collateral in the settlement currency, and options entered at 0: premiums have
            been paid.
        assets: the system's assets, in order.
        margin: of all vaults, one of `MARGINS`: by an upper bound of what was written, or in full,
            where options held in the vault limit the loss.
        product: key of `PRODUCTS`.
        stickiness: of the smile to the forward, in [0, 1].
        **options: of every venue of contracts, see `MarginOptions`; `overrides` give what `implied`
            reads.

    Raises:
        ValueError: a contract is of the wrong kind, is entered at a price or ends beyond the last
            bound, a naked vault holds an option, or a parameter is out of range.
    """
    listing = listed("opyn", accounts, assets, options)
    for name, value, known in (("margin", margin, MARGINS), ("product", product, tuple(PRODUCTS))):
        if value not in known:
            expected = f"expected one of {', '.join(known)}"
            raise ValueError(f"{listing.name}: {name} {value!r}: {expected}")
    _refuse_others(listing, product if margin == "naked" else None)
    in_kind = any(float(row.terms.option[0]) > 0 for row in listing.rows)
    if in_kind:
        listing = listing.with_contracts([_in_kind(row) for row in listing.rows])
    listing = dataclasses.replace(listing, accounts=_paid(listing))
    smile = implied(listing, stickiness)
    return listing.venue(
        volatility=smile.volatility,
        requirement=_requirement(listing, margin, product),
        close=RepaidOrders(),
        ranking=LeveredGain(),
        behind=Behind.NOBODY,
        moves=smile.moves,
    )


def _refuse_others(listing: Listing, product: str | None) -> None:
    """Raise where a contract cannot be written there."""
    for name, row in zip(listing.instruments, listing.rows, strict=True):
        if not row.is_option:
            raise ValueError(f"{listing.name}: {name}: no option; vaults write options alone")
        own = row.underlying == listing.settlement
        if own != (float(row.terms.option[0]) > 0):
            kinds = ("puts are", "the currency of the strike") if own else ("calls are", "kind")
            raise ValueError(
                f"{listing.name}: {name}: {kinds[0]} backed in {kinds[1]}; give them a venue of "
                f"their own, settled in {'that' if own else row.underlying}"
            )
        longest = np.inf if product is None else PRODUCTS[product].days[-1]
        if float(row.terms.expiry[0]) * 365.0 > longest * (1.0 + 1e-9):
            raise ValueError(
                f"{listing.name}: {name}: no bound is known beyond {longest:g} days; expected an "
                'earlier expiry, or margin = "full"'
            )
    held = listing.accounts.positions
    if product is not None and held is not None and bool(jnp.any(held.size > 0)):
        raise ValueError(
            f"{listing.name}: an option is held; a naked vault has written options alone, expected "
            'side short or margin = "full"'
        )


def _in_kind(row: Instrument) -> Contracts:
    return dataclasses.replace(row.terms, coin_quoted=jnp.ones_like(row.terms.strike))


def _paid(listing: Listing) -> Accounts:
    """Return the accounts with options entered at 0."""
    held = listing.accounts.positions
    if held is None:
        return listing.accounts
    if bool(jnp.any((held.entry > 0) & (held.size != 0))):
        raise ValueError(f"{listing.name}: entry above 0; expected 0 or none, premiums are paid")
    paid = Positions(size=held.size, entry=jnp.zeros_like(held.entry))
    return dataclasses.replace(listing.accounts, positions=paid)


def _requirement(listing: Listing, kind: str, product: str) -> Requirement:
    if kind == "naked":
        return NakedVaultMargin(bound=naked_margin(listing.dtype, product=product))
    groups: dict[tuple[str, float], list[int]] = {}
    for i, row in enumerate(listing.rows):
        groups.setdefault((row.underlying, float(row.terms.expiry[0])), []).append(i)
    return SpreadVaultMargin(groups=tuple(tuple(rows) for rows in groups.values()))


def naked_margin(dtype: jnp.dtype | type, *, product: str = "weth_tests") -> UpperBoundMargin:
    """Return what a vault must hold against one kind of written option.

    Args:
        dtype: of the coefficients.
        product: key of `PRODUCTS`.
    """
    table = PRODUCTS[product]
    return UpperBoundMargin(
        within=jnp.asarray([days * DAY / SECONDS_PER_YEAR for days in table.days], dtype),
        upper_bound=jnp.asarray(table.upper_bound, dtype),
        spot_shock=jnp.asarray(table.spot_shock, dtype),
    )


def buyback(dtype: jnp.dtype | type, *, product: str = "weth_tests") -> OptionBuyback:
    """Return the auction by which options of a vault short of margin are repaid.

    Args:
        dtype: of the coefficients.
        product: key of `PRODUCTS`.
    """
    return OptionBuyback(
        margin=naked_margin(dtype, product=product),
        duration=jnp.asarray(AUCTION_YEARS, dtype),
        price_deviation=jnp.asarray(PRODUCTS[product].price_deviation, dtype),
    )


PRESET = Preset(
    build=opyn,
    required=("settlement",),
    terms=no_terms,
    optional=("haircut", "margin", "product", "stickiness", *POSTED),
    asset_options=(*SMILE, *POSTED_OPTIONS),
    contracts=True,
)
