"""Ajna: pools without an oracle, whose lenders state the prices at which they lend.

A loan may be auctioned once the lowest price in use does not cover 104 % of its debt. The auction
price starts far above the market and keeps halving; outsiders take the collateral, or deposits at
higher prices do. Bad debt falls on reserves and then on the lenders who stated the highest prices.
Governance cannot change the constants.

Source: ajna-finance/ajna-core, src/libraries/helpers/PoolHelper.sol, external/{Kicker,Taker,
Settler}Actions.sol.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.half_life_auction import HalfLifePrice, KickerBond
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.lender_auctions import LenderAuctions
from jaxrisk.venue.lender_price import LenderPriceTest
from jaxrisk.venue.presets.issuer import check_overrides, check_ranges
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR, StabilityFee
from jaxrisk.venue.venue import Venue, changed_pool, opening_pool
from jaxrisk.venue.waterfall import Residual

MINUTE = 1.0 / (365.0 * 24.0 * 60.0)
COLLATERAL_FACTOR = 1.04
HIGHEST_PRICE = 1_004_968_987.606512354182109771
PRICE_STEP = 1.005
HIGHEST_BUCKET = 4156
LOWEST_PRICE = 99_836_282_890e-18
DEPOSIT_BUFFER = 1e-9
RESERVE_AUCTION_START = 1e9
"""Price of a reserve auction at its start, in pool tokens for the whole of what is sold."""


def loan_auction(dtype: jnp.dtype | type) -> HalfLifePrice:
    """Return the price of a loan auction: 256 times reference, 20 min, 2 h, then 1 h a halving."""
    return HalfLifePrice(
        multiple=jnp.asarray(256.0, dtype),
        half_life=jnp.asarray([20.0 * MINUTE, 120.0 * MINUTE, 60.0 * MINUTE], dtype),
        duration=jnp.asarray([120.0 * MINUTE, 720.0 * MINUTE, jnp.inf], dtype),
    )


def reserve_auction(dtype: jnp.dtype | type) -> HalfLifePrice:
    """Return the price of a reserve auction: halving every hour, in steps of a minute.

    The reference is one over the reserves auctioned.
    """
    return HalfLifePrice(
        multiple=jnp.asarray(RESERVE_AUCTION_START, dtype),
        half_life=jnp.asarray([60.0 * MINUTE], dtype),
        duration=jnp.asarray([jnp.inf], dtype),
        step=jnp.asarray(MINUTE, dtype),
    )


def kicker_bond(dtype: jnp.dtype | type) -> KickerBond:
    """Return the bond rule: a tenth of the neutral price's margin, between 0.5 % and 3 %."""
    return KickerBond(
        slope=jnp.asarray(0.1, dtype),
        minimum=jnp.asarray(0.005, dtype),
        maximum=jnp.asarray(0.03, dtype),
    )


def lender_price_test(
    dtype: jnp.dtype | type, *, whole: Float[Array, "*loan"] | None = None
) -> LenderPriceTest:
    """Return the test of collateral: 104 % of debt at the lowest price in use.

    Args:
        dtype: of the coefficients.
        whole: unit in which collateral counts: 1 for pools of collectibles, else `None`.
    """
    return LenderPriceTest(
        factor=jnp.asarray(COLLATERAL_FACTOR, dtype),
        minimum_price=jnp.asarray(LOWEST_PRICE, dtype),
        whole=whole,
    )


def bucket_price(index: Float[Array, " bucket"]) -> Float[Array, " bucket"]:
    """Return the price of a bucket: `1.005^(4156 - index)`, so index 0 is the highest.

    Args:
        index: whole numbers, 0 to 7388.
    """
    log_step = jnp.log(jnp.full_like(index, PRICE_STEP))
    return jnp.exp((HIGHEST_BUCKET - index) * log_step)


def neutral_ratio(borrow_rate: float) -> float:
    """Return a loan's neutral price over 1.04 times its threshold price, fixed when it is drawn."""
    return 1.0 + math.sqrt(borrow_rate) / 2.0


def cover_share(borrow_rate: float) -> float:
    """Return the part of a kicked debt that reserves may pay: half of the fee to draw it."""
    return max(borrow_rate / 52.0, 0.0005) / 2.0


def ajna(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    deposits: str | Mapping[float, float],
    borrow_rate: float,
    collateral: str | None = None,
    loan: str | None = None,
    name: str = "ajna",
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
    reserves: float = 0.0,
    interest_kept: float = 0.15,
    leaving: float = 1.0,
) -> Venue:
    """Return a pool whose loans are auctioned when lenders' prices do not back them.

    Args:
        accounts: the book: one collateral and one loan asset, and both in every account.
        assets: the system's assets, in order.
        deposits: amount of the loan asset by price, in loan asset per unit of collateral: a mapping
            or a text as in `"2800: 1e6, 2600: 3e6"`; in all at least what is owed. What is not
            lent out is the pool's cash.
        borrow_rate: what debt costs a year, 0.05 for 5 %; fixed, also as that at which the loans
            were drawn.
        collateral: name of the collateral, to check the book against; not needed.
        loan: name of the loan asset, likewise.
        name: of the venue.
        overrides: must be empty: there are no parameters by asset.
        oracle: which price kickers look at; the market's mid where not given.
        reserve: must be 0: give `reserves`.
        insurance: must be 0: there is none.
        reserves: the pool's own money at the opening, in the loan asset.
        interest_kept: part of the interest that reserves keep; the contract's moves from 0.15 to 0
            as deposits are used.
        leaving: part of the deposits priced above the market whose lenders want out, see
            `LenderAuctions`; a model of their behaviour, not a rule of the protocol.

    Raises:
        ValueError: the book or an option does not fit, naming it.
    """
    _check_book(name, accounts, assets, collateral, loan)
    if reserve or insurance:
        raise ValueError(
            f"{name}: no reserve_usd or insurance_usd pays here; the pool's own reserves do, see "
            "options.reserves (in the loan asset), and then the deposits"
        )
    check_overrides(overrides or {}, {})
    check_ranges(
        {
            "borrow_rate": (borrow_rate, 0.0, 4.0),
            "reserves": (reserves, 0.0, math.inf),
            "interest_kept": (interest_kept, 0.0, 0.15),
            "leaving": (leaving, 0.0, 1.0),
        }
    )
    prices, amounts = _ladder(deposits)
    owed = float(np.asarray(accounts.debt, np.float64).sum())
    if sum(amounts) < owed:
        raise ValueError(
            f"{name}: deposits: {sum(amounts):g} in all, but {owed:g} is owed; what is owed was "
            "lent by somebody: add deposits, or scale them to the book"
        )
    number = lambda x: jnp.asarray(np.asarray(x, np.float64), accounts.collateral.dtype)
    dtype = accounts.collateral.dtype
    weight = number([[1.0 / (COLLATERAL_FACTOR * neutral_ratio(borrow_rate))]])
    own = number([reserves])
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=UniformBonus(bonus=number(0.0), fee_share=number(0.0)),
        recognition=NeverRecognised(),
        interest=CurveInterest(
            curve=StabilityFee(
                per_second=number([math.expm1(math.log1p(borrow_rate) / SECONDS_PER_YEAR)])
            ),
            reserve_factor=number([interest_kept]),
        ),
        pool=opening_pool(accounts, number([sum(amounts) - owed]))
        + changed_pool(cash=own, treasury=own),
        funds=number([0.0]),
        execution=LenderAuctions(
            price=loan_auction(dtype),
            bond=kicker_bond(dtype),
            test=lender_price_test(dtype),
            cover_share=number(cover_share(borrow_rate)),
            leaving=number(leaving),
            prices=number([*prices, LOWEST_PRICE]),
            deposits=number([*amounts, 0.0]),
        ),
        name=name,
        fund_names=("reserve",),
        residual=Residual.LENDERS,
        categories=("",),
        treasury_pays=True,
    )


def _check_book(
    name: str, accounts: Accounts, assets: Sequence[str], collateral: str | None, loan: str | None
) -> None:
    if len(accounts.collateral_assets) != 1 or len(accounts.debt_assets) != 1:
        raise ValueError(f"{name}: a pool has one collateral and one loan asset; the book has more")
    posted, owed = assets[accounts.collateral_assets[0]], assets[accounts.debt_assets[0]]
    if (collateral or posted) != posted or (loan or owed) != owed:
        raise ValueError(
            f"{name}: the book posts {posted} and owes {owed}, the pool is {collateral}/{loan}"
        )
    if posted == owed:
        raise ValueError(f"{name}: {posted} is what loans owe and cannot be their collateral")
    if np.any(np.asarray(accounts.category) != 0):
        raise ValueError(f"{name}: a pool has no risk categories; leave them out of the book")
    held, debt = (np.asarray(x, np.float64)[0] for x in (accounts.collateral, accounts.debt))
    odd = np.flatnonzero(~((held > 0) & (debt > 0)))
    if len(odd):
        raise ValueError(
            f"{name}: {len(odd)} accounts lack collateral or debt, the first is number "
            f"{odd[0] + 1}; a loan has both: drop them from the book"
        )


def _ladder(deposits: str | Mapping[float, float]) -> tuple[list[float], list[float]]:
    """Return prices, falling, and the amount deposited at each.

    Raises:
        ValueError: the text cannot be read, or a price or an amount is out of range or repeated.
    """
    rows = list(deposits.items()) if isinstance(deposits, Mapping) else _read(str(deposits))
    prices = [price for price, _ in rows]
    problems = [
        f"deposits: price {price:g}: expected {LOWEST_PRICE:g} to {HIGHEST_PRICE:g}, in loan asset "
        "per unit of collateral"
        for price in prices
        if not LOWEST_PRICE < price <= HIGHEST_PRICE
    ]
    problems += [
        f"deposits: {amount:g} at {price:g}: expected an amount of the loan asset above 0"
        for price, amount in rows
        if not 0 < amount < math.inf
    ]
    problems += [
        f"deposits: price {price:g} is given twice; add its amounts up"
        for price in sorted({p for p in prices if prices.count(p) > 1})
    ]
    if not rows:
        problems = ['deposits: empty; give prices and amounts, as in "2800: 1e6, 2600: 3e6"']
    if problems:
        raise ValueError("\n".join(problems))
    rows = sorted(rows, reverse=True)
    return [price for price, _ in rows], [amount for _, amount in rows]


def _read(text: str) -> list[tuple[float, float]]:
    rows = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        price, _, amount = part.partition(":")
        try:
            rows.append((float(price), float(amount)))
        except ValueError:
            raise ValueError(
                f"deposits: cannot read {part!r}; expected prices and amounts, as in "
                '"2800: 1e6, 2600: 3e6"'
            ) from None
    return rows


def _terms(
    overrides: Mapping[str, Mapping[str, float]],
    *,
    collateral: str,
    borrow_rate: float,
    **_: float | str,
) -> Terms:
    del overrides
    check_ranges({"borrow_rate": (borrow_rate, 0.0, 4.0)})
    return Terms({collateral: 1.0 / (COLLATERAL_FACTOR * neutral_ratio(borrow_rate))}, {})


PRESET = Preset(
    build=ajna,
    required=("collateral", "loan", "deposits", "borrow_rate"),
    terms=_terms,
    optional=("reserves", "interest_kept", "leaving"),
)
