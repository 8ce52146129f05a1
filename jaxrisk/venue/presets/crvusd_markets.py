"""Parameters of crvUSD and LlamaLend markets, as shipped data; what a row does not state is `None`.

Fractions, rates per year, the ceiling in units. Sources by row:

- `mint_ethereum` wstETH: amplification and discounts, the example in the readme of the simulator
  0xreviews/crvusdsim; it states no fee, so this is the WBTC market's.
- `mint_ethereum` WBTC: the call of `add_market` in Curve's documentation of the crvUSD factory.
- `llamalend_v2` wstETH (against USDC, Optimism) and sDOLA (against crvUSD): curve-stablecoin
  v2.0.0, deployments/llamalend.
"""

from typing import Literal, NamedTuple

Policy = Literal["peg", "log_linear", "hyperbolic"]


class BandMarket(NamedTuple):
    """One market: bands, discounts, and the rate its debts grow at.

    Attributes:
        amplification: bands are `1/A` of their upper price wide.
        fee: least fee of a trade.
        loan_discount: what collateral must be worth beyond the debt when a loan is opened.
        liquidation_discount: the same for its health.
        policy: which kind of borrow rate.
        admin_share: part of the fee that leaves the bands.
        minimum_rate: at zero utilisation, `log_linear`.
        maximum_rate: at full utilisation, `log_linear`.
        target_utilisation: at which the rate is the reference's, `hyperbolic`.
        ceiling: most that may be owed, in units of the borrowed coin, `peg`.
    """

    amplification: float
    fee: float
    loan_discount: float
    liquidation_discount: float
    policy: Policy
    admin_share: float = 0.0
    minimum_rate: float | None = None
    maximum_rate: float | None = None
    target_utilisation: float | None = None
    ceiling: float | None = None


DEPLOYMENTS: dict[str, dict[str, BandMarket]] = {
    "mint_ethereum": {
        "wstETH": BandMarket(100.0, 0.006, 0.09, 0.06, "peg"),
        "WBTC": BandMarket(100.0, 0.006, 0.09, 0.06, "peg", ceiling=200e6),
    },
    "llamalend_v2": {
        "wstETH": BandMarket(
            83.0, 0.014, 0.14, 0.11, "log_linear", minimum_rate=0.005, maximum_rate=0.5
        ),
        "sDOLA": BandMarket(285.0, 0.002, 0.013, 0.010, "hyperbolic", target_utilisation=0.9),
    },
}
