"""jaxrisk: books, venue rules and markets played forward as differentiable JAX functions.

Public names are loaded on first use, so that importing the package is quick and the command line
can set its environment before JAX starts.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrisk.gradient.calibrate import calibrate as calibrate
    from jaxrisk.gradient.check import check_gradient as check_gradient
    from jaxrisk.gradient.reverse_stress import reverse_stress as reverse_stress
    from jaxrisk.gradient.sensitivity import sensitivities as sensitivities
    from jaxrisk.market.correlation import correlation_factor as correlation_factor
    from jaxrisk.market.correlation import uniform_correlation as uniform_correlation
    from jaxrisk.market.impact import LinearImpact as LinearImpact
    from jaxrisk.market.impact import SquareRootImpact as SquareRootImpact
    from jaxrisk.market.liquidity import ConstantDepth as ConstantDepth
    from jaxrisk.market.liquidity import Liquidity as Liquidity
    from jaxrisk.market.liquidity import RespondingDepth as RespondingDepth
    from jaxrisk.market.paths import Gbm as Gbm
    from jaxrisk.market.paths import JumpDiffusion as JumpDiffusion
    from jaxrisk.market.state import Market as Market
    from jaxrisk.measure.solvency import debt_to_equity as debt_to_equity
    from jaxrisk.measure.tail import expected_shortfall as expected_shortfall
    from jaxrisk.measure.tail import value_at_risk as value_at_risk
    from jaxrisk.numerics.keys import root_key as root_key
    from jaxrisk.run.margin_tiers import read_margin_tiers as read_margin_tiers
    from jaxrisk.system.policy import BestPair as BestPair
    from jaxrisk.system.policy import Keeper as Keeper
    from jaxrisk.system.policy import ProRata as ProRata
    from jaxrisk.system.simulate import simulate as simulate
    from jaxrisk.system.system import System as System
    from jaxrisk.venue import presets as presets
    from jaxrisk.venue.account import Accounts as Accounts
    from jaxrisk.venue.health import health_factor as health_factor
    from jaxrisk.venue.liquidation_price import bankruptcy_price as bankruptcy_price
    from jaxrisk.venue.liquidation_price import liquidation_price as liquidation_price
    from jaxrisk.venue.margin_book import MarginBook as MarginBook
    from jaxrisk.venue.margin_tiers import MarginTiers as MarginTiers
    from jaxrisk.venue.margin_tiers import SlabTiers as SlabTiers

_HOME = {
    "calibrate": "jaxrisk.gradient.calibrate",
    "check_gradient": "jaxrisk.gradient.check",
    "reverse_stress": "jaxrisk.gradient.reverse_stress",
    "sensitivities": "jaxrisk.gradient.sensitivity",
    "correlation_factor": "jaxrisk.market.correlation",
    "uniform_correlation": "jaxrisk.market.correlation",
    "LinearImpact": "jaxrisk.market.impact",
    "SquareRootImpact": "jaxrisk.market.impact",
    "ConstantDepth": "jaxrisk.market.liquidity",
    "Liquidity": "jaxrisk.market.liquidity",
    "RespondingDepth": "jaxrisk.market.liquidity",
    "Gbm": "jaxrisk.market.paths",
    "JumpDiffusion": "jaxrisk.market.paths",
    "Market": "jaxrisk.market.state",
    "debt_to_equity": "jaxrisk.measure.solvency",
    "expected_shortfall": "jaxrisk.measure.tail",
    "value_at_risk": "jaxrisk.measure.tail",
    "root_key": "jaxrisk.numerics.keys",
    "read_margin_tiers": "jaxrisk.run.margin_tiers",
    "BestPair": "jaxrisk.system.policy",
    "Keeper": "jaxrisk.system.policy",
    "ProRata": "jaxrisk.system.policy",
    "simulate": "jaxrisk.system.simulate",
    "System": "jaxrisk.system.system",
    "presets": "jaxrisk.venue.presets",
    "Accounts": "jaxrisk.venue.account",
    "health_factor": "jaxrisk.venue.health",
    "bankruptcy_price": "jaxrisk.venue.liquidation_price",
    "liquidation_price": "jaxrisk.venue.liquidation_price",
    "MarginBook": "jaxrisk.venue.margin_book",
    "MarginTiers": "jaxrisk.venue.margin_tiers",
    "SlabTiers": "jaxrisk.venue.margin_tiers",
}


def __getattr__(name: str) -> Any:
    """Return a public name from the module it lives in."""
    if name not in _HOME:
        raise AttributeError(f"module 'jaxrisk' has no attribute {name!r}")
    home = importlib.import_module(_HOME[name])
    return home if name == "presets" else getattr(home, name)


def __dir__() -> list[str]:
    return list(_HOME)
