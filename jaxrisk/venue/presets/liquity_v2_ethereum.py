"""Constants of Liquity v2 on Ethereum, as shipped data.

Source of every row: liquity/bold at 405f9122, contracts/src/Dependencies/Constants.sol; the
contracts are immutable. Fractions; ratios are collateral over debt.
"""

from typing import NamedTuple


class BranchConstants(NamedTuple):
    """Constants of one collateral: ratios, penalties, and the cap of the caller's pay in units."""

    minimum_ratio: float
    shutdown_ratio: float
    pool_penalty: float
    peer_penalty: float
    caller_cap: float = 2.0  # COLL_GAS_COMPENSATION_CAP


class Constants(NamedTuple):
    """Constants of all branches of one deployment."""

    caller_share: float
    deposits_kept: float
    depositors_interest: float
    redemption_floor: float
    redemption_sensitivity: float
    redemption_decay: float
    urgent_bonus: float
    lowest_rate: float
    highest_rate: float
    branches: dict[str, BranchConstants]


ETHEREUM = Constants(
    caller_share=1 / 200,  # COLL_GAS_COMPENSATION_DIVISOR
    deposits_kept=1.0,  # MIN_BOLD_IN_SP
    depositors_interest=0.75,  # SP_YIELD_SPLIT
    redemption_floor=0.005,  # REDEMPTION_FEE_FLOOR
    redemption_sensitivity=1.0,  # 1 / REDEMPTION_BETA
    redemption_decay=0.9980764435756288,  # REDEMPTION_MINUTE_DECAY_FACTOR: a half-life of 6 h
    urgent_bonus=0.02,  # URGENT_REDEMPTION_BONUS
    lowest_rate=0.005,  # MIN_ANNUAL_INTEREST_RATE
    highest_rate=2.5,  # MAX_ANNUAL_INTEREST_RATE
    branches={
        "WETH": BranchConstants(1.1, 1.1, 0.05, 0.10),  # MCR_WETH, SCR_WETH, ..._WETH
        "wstETH": BranchConstants(1.2, 1.2, 0.05, 0.20),  # MCR_SETH, SCR_SETH, ..._SETH
        "rETH": BranchConstants(1.2, 1.2, 0.05, 0.20),  # MCR_SETH, SCR_SETH, ..._SETH
    },
)
