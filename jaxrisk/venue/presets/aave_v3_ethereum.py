"""Parameters of Aave v3 on Ethereum (core market), as shipped data.

Source of every row: bgd-labs/protocol-v3.6-upgrade,
reports/1_0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2_after.json (state of about December 2025).
Fractions, rates per year, cash in units. Available liquidity is given where that state stated it.
"""

from typing import NamedTuple


class Reserve(NamedTuple):
    """One reserve: risk weights, bonus, protocol shares, rate curve, available liquidity, caps."""

    loan_to_value: float
    liquidation_threshold: float
    liquidation_bonus: float
    reserve_factor: float
    optimal_utilisation: float
    base_rate: float
    slope1: float
    slope2: float
    protocol_fee: float = 0.10
    available_liquidity: float | None = None
    supply_cap: float | None = None
    borrow_cap: float | None = None


class Category(NamedTuple):
    """One e-mode: its weights and bonus, and the collateral it applies to."""

    loan_to_value: float
    liquidation_threshold: float
    liquidation_bonus: float
    collateral: tuple[str, ...]


_WITHOUT_CAPS: dict[str, Reserve] = {
    "WETH": Reserve(0.805, 0.83, 0.05, 0.15, 0.92, 0.0, 0.025, 0.08, 0.10, 954e3),
    "wstETH": Reserve(0.785, 0.81, 0.06, 0.35, 0.80, 0.0, 0.01, 0.40, 0.10, 1.24e6),
    "weETH": Reserve(0.775, 0.80, 0.07, 0.45, 0.30, 0.01, 0.07, 3.0),
    "rsETH": Reserve(0.72, 0.75, 0.075, 0.15, 0.45, 0.0, 0.07, 3.0),
    "rETH": Reserve(0.75, 0.79, 0.075, 0.15, 0.45, 0.0, 0.07, 3.0),
    "cbETH": Reserve(0.75, 0.79, 0.075, 0.15, 0.45, 0.0, 0.07, 3.0),
    "WBTC": Reserve(0.73, 0.78, 0.05, 0.50, 0.80, 0.0025, 0.04, 3.0, 0.10, 42.9e3),
    "cbBTC": Reserve(0.73, 0.78, 0.075, 0.50, 0.80, 0.0025, 0.04, 0.60),
    "tBTC": Reserve(0.73, 0.78, 0.075, 0.50, 0.80, 0.0025, 0.04, 0.60),
    "LBTC": Reserve(0.70, 0.75, 0.085, 0.50, 0.45, 0.0, 0.04, 3.0),
    "LINK": Reserve(0.66, 0.71, 0.07, 0.20, 0.45, 0.0, 0.07, 3.0),
    "USDC": Reserve(0.75, 0.78, 0.045, 0.10, 0.92, 0.0, 0.055, 0.10, 0.20, 1.00e9),
    "USDT": Reserve(0.75, 0.78, 0.045, 0.10, 0.92, 0.0, 0.055, 0.10, 0.10, 0.686e9),
    "DAI": Reserve(0.63, 0.77, 0.05, 0.25, 0.92, 0.0, 0.055, 0.35, 0.20),
    "USDS": Reserve(0.75, 0.78, 0.075, 0.10, 0.92, 0.055, 0.0075, 0.35),
    "USDe": Reserve(0.72, 0.75, 0.085, 0.25, 0.90, 0.0, 0.0575, 0.12),
    "sUSDe": Reserve(0.72, 0.75, 0.085, 0.20, 0.90, 0.0, 0.0575, 0.12),
    "PYUSD": Reserve(0.75, 0.78, 0.075, 0.10, 0.90, 0.0, 0.055, 0.50),
    "EURC": Reserve(0.75, 0.78, 0.05, 0.10, 0.90, 0.0, 0.06, 0.50),
    "GHO": Reserve(0.0, 0.0, 0.05, 1.0, 0.99, 0.0475, 0.0, 0.0),
}

_CAPS: dict[str, tuple[float, float | None]] = {
    "WETH": (3.8e6, 3.6e6),
    "wstETH": (1.76e6, 480e3),
    "weETH": (2.2e6, 1.0),
    "rsETH": (480e3, 1.0),
    "rETH": (90e3, 1.0),
    "cbETH": (18e3, 2.4e3),
    "WBTC": (49_875.0, 28e3),
    "cbBTC": (24e3, 1_440.0),
    "tBTC": (2_600.0, 275.0),
    "LBTC": (5_700.0, 1.0),
    "LINK": (20e6, 13e6),
    "USDC": (7.5e9, 7.0e9),
    "USDT": (9.5e9, 8.8e9),
    "DAI": (338e6, 271e6),
    "USDS": (800e6, 360e6),
    "USDe": (2.7e9, 2.5e9),
    "sUSDe": (1.7e9, None),
    "PYUSD": (400e6, 240e6),
    "EURC": (70e6, 64e6),
    "GHO": (1.0, 130e6),
}
"""Most that may be supplied and borrowed, units; sUSDe cannot be borrowed."""

RESERVES: dict[str, Reserve] = {
    asset: row._replace(supply_cap=_CAPS[asset][0], borrow_cap=_CAPS[asset][1])
    for asset, row in _WITHOUT_CAPS.items()
}

CATEGORIES: dict[str, Category] = {
    "eth_correlated": Category(0.93, 0.95, 0.01, ("WETH", "wstETH", "weETH", "rETH", "cbETH")),
    "restaked_eth": Category(0.93, 0.95, 0.01, ("rsETH", "weETH")),
    "ethena_stablecoins": Category(0.90, 0.92, 0.04, ("sUSDe", "USDe")),
    "btc_correlated": Category(0.84, 0.86, 0.03, ("LBTC",)),
}
