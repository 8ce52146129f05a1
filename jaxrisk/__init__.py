"""jaxrisk: books, venue rules and markets played forward as differentiable JAX functions."""

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
from jaxrisk.system.policy import BestPair as BestPair
from jaxrisk.system.policy import Keeper as Keeper
from jaxrisk.system.policy import ProRata as ProRata
from jaxrisk.system.simulate import simulate as simulate
from jaxrisk.system.system import System as System
from jaxrisk.venue import presets as presets
from jaxrisk.venue.account import Accounts as Accounts
from jaxrisk.venue.health import health_factor as health_factor
from jaxrisk.venue.health import liquidation_price as liquidation_price
