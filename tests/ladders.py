"""Books of one collateral and one debt for tests, as systems, and a scalar loop that plays them."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.impact import DepthCurveImpact, LinearImpact, SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.oracle import SpotOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.system.ladder import Reached
from jaxrisk.system.policy import Keeper, ProRata
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue, opening_pool
from jaxrisk.venue.waterfall import Residual

PRICE = {"ether": 2000.0, "dollar": 1.01, "other": 5.0}
STEP_YEARS = 1.0 / (365.0 * 24.0)
ACCOUNTS, STEPS = 24, 4
FALLS, SHARES = (0.02, 0.1, 0.4), (0.2, 1.0, 2.0)


def array(x: Any) -> Any:
    """Return a float64 array."""
    return jnp.asarray(x, jnp.float64)


UNTOUCHED = Reached(held=array(0.0), owed=array(0.0))


def law(kind: str, strength: float) -> Any:
    """Return an impact law of a kind; with strength 1, selling depth lowers a price by a tenth."""
    if kind == "linear":
        return LinearImpact(coefficient=array([0.1 * strength, 0.2, 0.3]))
    if kind == "root":
        return SquareRootImpact(coefficient=array([0.1 * strength, 0.2, 0.3]))
    shares = np.array([SHARES, SHARES, SHARES]) / strength
    return DepthCurveImpact(fall=array(FALLS), share=array(shares))


def system_of(
    seed: int,
    *,
    kind: str = "root",
    strength: float = 1.0,
    depth: float = 1e6,
    fall: float = 0.1,
    permanent: float = 0.6,
    minimum_return: float = -1e3,
    thinnest: float = 1.0,
    spread: float = 0.3,
) -> System:
    """Return a system of one pair and one scenario of `STEPS` steps.

    Args:
        seed: of book and moves.
        kind: of impact law.
        strength: of impact.
        depth: of ether, numeraire.
        fall: typical log fall of ether in a step.
        permanent: permanent share of impact.
        minimum_return: that keepers ask for; the default lets them always act.
        thinnest: smallest health factor of the opening book.
        spread: mean of what health factors are beyond that.
    """
    rng = np.random.default_rng(seed)
    held = 10 ** rng.uniform(-1.0, 2.5, ACCOUNTS)
    health = thinnest + rng.exponential(spread, ACCOUNTS)
    owed = held * PRICE["ether"] * 0.82 / PRICE["dollar"] / health
    owed[0] = 0.0
    accounts = Accounts(
        collateral=array(held[None]),
        debt=array(owed[None]),
        category=jnp.zeros(ACCOUNTS, jnp.int32),
        collateral_assets=(0,),
        debt_assets=(1,),
    )
    none = array([0.0])
    venue = Venue(
        accounts=accounts,
        oracle=SpotOracle(),
        collateral=CollateralWeights(
            liquidation_threshold=array([[0.82]]), loan_to_value=array([[0.8]])
        ),
        close=FullClose(),
        incentive=UniformBonus(bonus=array(0.07), fee_share=array(0.1)),
        recognition=AtZeroCollateral(),
        interest=KinkedRate(
            base=none, slope1=none, slope2=none, optimal_utilisation=none + 0.9, reserve_factor=none
        ),
        pool=opening_pool(accounts, array([1e6])),
        funds=array([0.0, 0.0]),
        name="pool",
        fund_names=("reserve", "insurance"),
        residual=Residual.SOCIALISED,
        categories=("",),
    )
    moves = np.stack(
        [rng.normal(-fall, fall, STEPS), rng.normal(0.0, 0.01, STEPS), np.zeros(STEPS)], axis=1
    )
    return System(
        market=Market.opening(PRICE, dtype=np.float64),
        paths=GivenMoves(log_return=array(moves[None])),
        liquidity=Liquidity(
            law=law(kind, strength),
            depth=ConstantDepth(depth=array([depth, 1e9, 1e9])),
            permanent_share=array(permanent),
            recovery_rate=array(math.log(2.0) / (6 * STEP_YEARS)),
            variance_rate=array(0.0),
        ),
        venues=(venue,),
        keeper=Keeper(minimum_return=array(minimum_return), choice=ProRata()),
    )


def with_venue(system: System, **changes: Any) -> System:
    """Return the system with its venue changed."""
    return dataclasses.replace(system, venues=(dataclasses.replace(system.venues[0], **changes),))


def moves_of(system: System) -> Any:
    """Return the log returns `(step, asset)` of the only scenario."""
    assert isinstance(system.paths, GivenMoves)
    return system.paths.log_return[0]


def scalar_drop(kind: str, strength: float, volume: float, depth: float) -> float:
    """Return the log drop of a sale, by hand."""
    if kind == "linear":
        return 0.1 * strength * volume / depth
    if kind == "root":
        return 0.1 * strength * math.sqrt(volume / depth)
    before = start = fall = last = 0.0
    for share, end in zip(SHARES, FALLS, strict=True):
        size = share * depth / strength - before
        part = min(max((volume - before) / size, 0.0), 1.0)
        fall += part * (end - start)
        before, last, start = share * depth / strength, (end - start) / size, end
    return -math.log(1.0 - fall) + max(volume - before, 0.0) * last / (1.0 - FALLS[-1])


@dataclasses.dataclass
class Played:
    """What a scalar loop over accounts finds, in the numeraire."""

    liquidated: float = 0.0
    repaid: float = 0.0
    bad_debt: float = 0.0
    fee: float = 0.0
    price: float = 0.0
    rounds: int = 0


def played(system: System, kind: str, strength: float, rounds: int) -> Played:
    """Return the system's scenario played account by account, in rounds until nobody is called."""
    venue, depth = system.venues[0], float(system.liquidity.depth.depth[0])
    held = np.array(venue.accounts.collateral[0])
    owed = np.array(venue.accounts.debt[0])
    permanent = float(system.liquidity.permanent_share)
    price, debt_price, displaced = PRICE["ether"], PRICE["dollar"], 0.0
    result = Played()
    for move in np.array(moves_of(system)):
        price, debt_price = price * math.exp(move[0]), debt_price * math.exp(move[1])
        displaced *= 0.5 ** (1.0 / 6.0)
        for _ in range(rounds):
            mid, calls = price * math.exp(-displaced), 0
            result.rounds += 1
            taken = given = 0.0
            for n in range(len(held)):
                if not owed[n] * debt_price > held[n] * mid * 0.82:
                    continue
                worth, debt = held[n] * mid, owed[n] * debt_price
                paid = min(debt, worth / 1.07)
                seize = min(1.07 * debt, worth)
                taken, given, calls = taken + seize, given + paid, calls + 1
                result.bad_debt += debt - paid if seize == worth else 0.0
                held[n] = max(held[n] - seize / mid, 0.0)
                owed[n] = 0.0
            if calls == 0:
                break
            fee = 0.1 * (taken - given)
            result.liquidated, result.repaid = result.liquidated + taken, result.repaid + given
            result.fee += fee
            drop = scalar_drop(kind, strength, taken - fee, depth)
            price *= math.exp(-permanent * drop)
            displaced += (1.0 - permanent) * drop
    result.price = price * math.exp(-displaced)
    return result
