"""Parameters of Aave v4 on Ethereum at launch, as shipped data.

Source of spokes and of the core hub's curves: alerodriargui/aave-v4 (a public copy of the
protocol's repository), scripts/verification/inputs/config.json @cddcab6. Source of collateral:
src/config-engine/payloads/ConfigPayload_3a_SpokeReserveListings.sol @391472d (Main spoke).
Fractions, rates per year.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Spoke(NamedTuple):
    """What holds for all accounts of a spoke: the target of calls and the shape of the bonus."""

    target_health: float
    health_for_maximum_bonus: float
    minimum_bonus_share: float


SPOKES: dict[str, Spoke] = {
    "ethereum_main": Spoke(1.24, 0.90, 0.90),
    "ethereum_bluechip": Spoke(1.174, 0.90, 0.90),
    "ethereum_gold": Spoke(1.3075, 0.90, 0.90),
    "ethereum_lido": Spoke(1.01365, 0.99, 1.0),
    "ethereum_etherfi": Spoke(1.01909, 0.99, 1.0),
    "ethereum_kelp": Spoke(1.02181, 0.99, 1.0),
    "ethereum_lombard_btc": Spoke(1.06149, 0.99, 1.0),
    "ethereum_forex": Spoke(1.04415, 0.99, 1.0),
    "ethereum_ethena_ecosystem": Spoke(1.03317, 0.99, 1.0),
    "ethereum_ethena_correlated": Spoke(1.02768, 0.99, 1.0),
}


def _held(threshold: float, bonus: float) -> dict[str, float]:
    return {
        "liquidation_threshold": threshold,
        "liquidation_bonus": bonus,
        "protocol_fee": 0.10,
    }


def _lent(kink: float, base: float, slope1: float, slope2: float, fee: float) -> dict[str, float]:
    return {
        "optimal_utilisation": kink,
        "base_rate": base,
        "slope1": slope1,
        "slope2": slope2,
        "reserve_factor": fee,
    }


_DOLLAR = _lent(0.92, 0.0, 0.04, 0.20, 0.10)
_BITCOIN = _lent(0.80, 0.0025, 0.04, 0.60, 0.20)

CURVES: dict[str, dict[str, float]] = {
    "WETH": _lent(0.92, 0.0, 0.0235, 0.14, 0.15),
    "USDC": _DOLLAR,
    "USDT": _DOLLAR,
    "GHO": _lent(0.90, 0.0, 0.04, 0.30, 0.10),
    "WBTC": _BITCOIN,
    "cbBTC": _BITCOIN,
}
"""Rate curves of the core hub, which all spokes draw on."""

MAIN_COLLATERAL: dict[str, dict[str, float]] = {
    "WETH": _held(0.83, 0.0555),
    "wstETH": _held(0.80, 0.0666),
    "weETH": _held(0.80, 0.0777),
    "WBTC": _held(0.78, 0.0555),
    "cbBTC": _held(0.78, 0.0555),
    "AAVE": _held(0.76, 0.0833),
    "LINK": _held(0.71, 0.0777),
    "USDC": _held(0.78, 0.05),
    "USDT": _held(0.78, 0.05),
}
"""Collateral of the Main spoke; its risk, which would raise the borrower's rate, is 0 for all."""

COLLATERAL: dict[str, Mapping[str, dict[str, float]]] = {
    name: MAIN_COLLATERAL if name == "ethereum_main" else {} for name in SPOKES
}
"""By spoke; only that of the Main spoke is known here."""
