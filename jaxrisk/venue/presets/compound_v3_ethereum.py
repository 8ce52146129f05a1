"""Parameters of Compound III markets on Ethereum, as shipped data.

Source of every row: compound-finance/comet at d5a30b0a,
deployments/mainnet/{usdc,usdt,weth}/configuration.json, but for wstETH and cbBTC of the USDC market
(later migrations in the same folder). These are values at deployment; later governance may have
changed them. Fractions, rates per year, slopes per unit of utilisation, amounts in base units.
"""

from typing import NamedTuple


class CollateralTerms(NamedTuple):
    """One collateral: the two account tests, and what it is credited at when absorbed."""

    loan_to_value: float
    liquidation_threshold: float
    liquidation_factor: float


class Curve(NamedTuple):
    """A rate: at zero utilisation, its slopes below and above the kink, the kink."""

    base: float
    slope_below: float
    slope_above: float
    kink: float


class Market(NamedTuple):
    """One market: base asset, share of the discount passed on, target reserves, rates."""

    base: str
    discount_share: float
    target_reserves: float
    borrow: Curve
    supply: Curve
    collateral: dict[str, CollateralTerms]


USDC = Market(
    base="USDC",
    discount_share=0.5,
    target_reserves=5e6,
    borrow=Curve(0.015, 0.035, 0.25, 0.8),
    supply=Curve(0.0, 0.0325, 0.4, 0.8),
    collateral={
        "WETH": CollateralTerms(0.825, 0.895, 0.95),
        "WBTC": CollateralTerms(0.70, 0.77, 0.95),
        "wstETH": CollateralTerms(0.82, 0.87, 0.92),
        "cbBTC": CollateralTerms(0.80, 0.85, 0.95),
        "LINK": CollateralTerms(0.79, 0.85, 0.93),
        "UNI": CollateralTerms(0.75, 0.81, 0.93),
        "COMP": CollateralTerms(0.65, 0.70, 0.93),
    },
)

USDT = Market(
    base="USDT",
    discount_share=0.6,
    target_reserves=20e6,
    borrow=Curve(0.015, 0.061, 3.2, 0.9),
    supply=Curve(0.0, 0.059, 2.9, 0.9),
    collateral={
        "WETH": CollateralTerms(0.83, 0.90, 0.95),
        "WBTC": CollateralTerms(0.80, 0.85, 0.95),
        "wstETH": CollateralTerms(0.80, 0.85, 0.95),
        "LINK": CollateralTerms(0.79, 0.85, 0.93),
        "UNI": CollateralTerms(0.75, 0.81, 0.85),
        "COMP": CollateralTerms(0.65, 0.70, 0.75),
    },
)

WETH = Market(
    base="WETH",
    discount_share=0.5,
    target_reserves=5e3,
    borrow=Curve(0.009945209674, 0.05171500002, 0.5171500339, 0.9),
    supply=Curve(0.0, 0.0283824, 0.6066567706, 0.9),
    collateral={
        "wstETH": CollateralTerms(0.90, 0.93, 0.95),
        "cbETH": CollateralTerms(0.90, 0.93, 0.95),
    },
)

MARKETS: dict[str, Market] = {
    "ethereum_usdc": USDC,
    "ethereum_usdt": USDT,
    "ethereum_weth": WETH,
}
