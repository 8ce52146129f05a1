"""Constants of Liquity v1 on Ethereum, as shipped data.

Source of every row: liquity/dev at 14de1c1b, packages/contracts/contracts, as deployed in 2021; the
contracts are immutable. Fractions; ratios are collateral over debt.
"""

from typing import NamedTuple


class Constants(NamedTuple):
    """Constants of one deployment."""

    minimum_ratio: float
    critical_ratio: float
    caller_share: float
    deposits_kept: float
    redemption_floor: float
    redemption_sensitivity: float
    redemption_decay: float


ETHEREUM = Constants(
    minimum_ratio=1.1,  # LiquityBase.MCR
    critical_ratio=1.5,  # LiquityBase.CCR
    caller_share=1 / 200,  # LiquityBase.PERCENT_DIVISOR
    deposits_kept=0.0,  # StabilityPool.offset
    redemption_floor=0.005,  # TroveManager.REDEMPTION_FEE_FLOOR
    redemption_sensitivity=0.5,  # 1 / TroveManager.BETA
    redemption_decay=0.999037758833783,  # TroveManager.MINUTE_DECAY_FACTOR: a half-life of 12 h
)
