"""Opyn Gamma: margin of vaults that have written options, and the auction of their duty to pay.

Source: opynfinance/GammaProtocol 841f81d, contracts/core/MarginCalculator.sol (`AUCTION_TIME`);
values of a product are set by its owners. The tables are those of the repository's own tests,
test/unit-tests/marginCalculatorNakedMargin.test.ts.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrisk.venue.option_buyback import OptionBuyback
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR
from jaxrisk.venue.upper_bound_margin import UpperBoundMargin

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
