"""Parameters of Sky's vault types on Ethereum, as shipped data.

Source of every row: sky-ecosystem/spells-mainnet, src/test/config.sol (May 2026). Amounts in the
stablecoin, times in seconds. `minimum_target` is what the deployed clippers set their `chost` to:
dust times one plus the penalty.
"""

from typing import NamedTuple


class VaultType(NamedTuple):
    """One vault type: its collateral, and what governs its auctions."""

    asset: str
    liquidation_ratio: float
    minimum_debt: float
    penalty: float
    ceiling: float
    opening_factor: float
    maximum_duration: float
    price_floor: float
    step: float
    cut: float


VAULT_TYPES: dict[str, VaultType] = {
    "ETH-A": VaultType("WETH", 1.45, 7_500, 0.13, 40e6, 1.10, 7_200, 0.45, 90, 0.99),
    "ETH-B": VaultType("WETH", 1.30, 25_000, 0.13, 15e6, 1.10, 4_800, 0.45, 60, 0.99),
    "ETH-C": VaultType("WETH", 1.70, 3_500, 0.13, 35e6, 1.10, 7_200, 0.45, 90, 0.99),
    "WSTETH-A": VaultType("wstETH", 1.50, 7_500, 0.13, 30e6, 1.10, 7_200, 0.45, 90, 0.99),
    "WSTETH-B": VaultType("wstETH", 1.75, 3_500, 0.13, 20e6, 1.10, 7_200, 0.45, 90, 0.99),
    "WBTC-A": VaultType("WBTC", 1.50, 7_500, 0.0, 10e6, 1.10, 7_200, 0.45, 90, 0.99),
}

DEBT_CEILINGS: dict[str, tuple[float, float | None]] = {
    "ETH-A": (15e9, 150e6),
    "ETH-B": (250e6, 20e6),
    "ETH-C": (2e9, 100e6),
    "WSTETH-A": (750e6, None),
    "WSTETH-B": (1e9, None),
    "WBTC-A": (0.0, None),
}
"""Most that vaults of a type may owe, and the gap by which its line is raised beyond what they do;
where no gap is recorded, the line is taken to stand at its maximum."""

GLOBAL_CEILING = 150e6
"""Most that auctions of all types may have outstanding (Hole)."""
