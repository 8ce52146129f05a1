"""Systems of contracts on margin for tests: perpetuals, options, and a pool beside them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.contract import Contracts, european_option, perpetual, table
from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.system.policy import Keeper, ProRata
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.close_out import CloseOut, CloseRule
from jaxrisk.venue.deleverage_ranking import LeveredGain, Ranking
from jaxrisk.venue.funding import PremiumFunding
from jaxrisk.venue.haircut import Slice, TieredHaircut
from jaxrisk.venue.margin_accounts import Behind, MarginAccounts, VolatilityMoves
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.option_requirement import GridMargin
from jaxrisk.venue.posted_collateral import PostedCollateral
from jaxrisk.venue.presets.margin_venue import margin_venue
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, VolatilityShock
from jaxrisk.venue.venue import Venue
from tests.systems import STEP_YEARS, STEPS

ASSETS = ("WETH", "WBTC", "USDC")
WETH, WBTC, USDC = range(3)
PRICE = {"WETH": 3000.0, "WBTC": 60000.0, "USDC": 0.999}
ACCOUNTS = 8
COEFFICIENT = 0.1
PERMANENT = 0.3
TIERS = (0.0, 2e5, 1e6)
RATES = (0.02, 0.03, 0.06)
SLICES = ((0.0, 0.9), (2e4, 0.7), (2e5, 0.0))
ALLOWANCE, BUFFER = 500.0, 0.05


def rates(array: Any, count: int) -> NotionalMargin:
    """Return three tiers of margin, the same for every contract."""
    bounds = zip(TIERS, (*TIERS[1:], np.inf), RATES, strict=True)
    rows = [Bracket(low, high, rate, 0.5 / rate) for low, high, rate in bounds]
    tiers = MarginTiers.from_brackets({str(k): rows for k in range(count)}, array(0.0).dtype)
    return NotionalMargin(tiers=tiers, multiple=array(2.0))


def close_out(array: Any, *, largest: float = 1.0, fee: float = 0.004) -> CloseOut:
    """Return a rule that closes down to a fifth above the maintenance margin."""
    return CloseOut(
        trigger=array(1.0), target=array(1.2), largest=array(largest), fee=array(fee),
        forfeit=array(0.0),
    )  # fmt: skip


def terms(array: Any, rows: list[Contracts]) -> Contracts:
    """Return contracts in the system's floating-point type."""
    return jax.tree.map(array, table(rows))


def perpetual_book(
    rng: np.random.Generator,
    price: np.ndarray,
    multiplier: np.ndarray,
    *,
    leverage: float,
    array: Any,
    settlement: int,
    count: int = ACCOUNTS,
) -> Accounts:
    """Return accounts in two perpetuals, some on both sides; the fourth is not levered at all.

    Args:
        rng: of every number.
        price: `(contract,)` as quoted.
        multiplier: `(contract,)` units of the underlying in a contract.
        leverage: of the most levered.
        array: to the system's type.
        settlement: asset that is collateral.
        count: of accounts.
    """
    notional = 10 ** rng.uniform(4.0, 6.3, (2, count))
    notional[rng.random((2, count)) < 0.3] = 0.0
    side = np.where(rng.random((2, count)) < 0.6, 1.0, -1.0)
    entry = price[:, None] * np.exp(rng.normal(0.0, 0.05, (2, count)))
    size = side * notional / (price * multiplier)[:, None]
    lost = (size * multiplier[:, None] * (entry - price[:, None])).sum(axis=0)
    margin = notional.sum(axis=0) / rng.uniform(0.2 * leverage, leverage, count)
    margin[3] += notional.sum(axis=0)[3]
    return Accounts(
        collateral=array(np.maximum(margin + lost, 10.0)[None]),
        debt=array(np.zeros((1, count))),
        category=jnp.zeros(count, jnp.int32),
        collateral_assets=(settlement,),
        debt_assets=(settlement,),
        positions=Positions(size=array(size), entry=array(entry)),
    )


def perpetual_venue(
    seed: int,
    *,
    leverage: float = 30.0,
    insurance: float = 1e4,
    behind: Behind = Behind.WINNERS,
    largest: float = 1.0,
    count: int = ACCOUNTS,
    posted: float = 0.0,
    close: CloseRule | None = None,
    ranking: Ranking | None = None,
    dtype: Any = np.float64,
) -> Venue:
    """Return a venue of two linear perpetuals settled in dollars that are not quite dollars.

    Args:
        seed: of the book.
        leverage: of the most levered.
        insurance: the insurance fund, numeraire.
        behind: who stands behind it.
        largest: of a position closed in a round.
        count: of accounts.
        posted: share of collateral that is ether and bitcoin.
        close: rule of closing; `close_out` where not given.
        ranking: of winners; `LeveredGain` where not given.
        dtype: of every leaf.
    """
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    rng = np.random.default_rng(seed)
    price = np.array([3000.0, 60000.0]) / PRICE["USDC"]
    accounts = perpetual_book(
        rng, price, np.array([1.0, 0.1]), leverage=leverage, array=array, settlement=USDC,
        count=count,
    )  # fmt: skip
    other = None
    if posted:
        accounts = dataclasses.replace(
            accounts,
            collateral=jnp.concatenate(
                [
                    accounts.collateral * (1.0 - posted),
                    accounts.collateral * 0.5 * posted / array(price)[:, None],
                ]
            ),
            collateral_assets=(USDC, WETH, WBTC),
        )
        slices = {asset: [Slice(*row) for row in SLICES] for asset in ("WETH", "WBTC")}
        other = PostedCollateral(
            haircut=TieredHaircut.from_slices(slices, dtype),
            allowance=array(ALLOWANCE),
            buffer=array(BUFFER),
        )
    slot = MarginAccounts(
        contracts=terms(array, [perpetual(1.0), perpetual(0.1)]),
        opening_forward=array(price),
        opening_volatility=array([1.0, 1.0]),
        requirement=rates(array, 2),
        close=close or close_out(array, largest=largest),
        ranking=ranking or LeveredGain(),
        funding=PremiumFunding(
            period=array([8.0 / 8760.0] * 2), interest=array([0.1, 0.1]), cap=array([20.0, 20.0])
        ),
        underlying=(WETH, WBTC),
        behind=behind,
        posted=other,
    )
    return margin_venue(accounts, slot, name="perps", insurance=insurance)


def coin_venue(seed: int, *, leverage: float = 20.0, insurance: float = 1e4) -> Venue:
    """Return a venue of inverse perpetuals on ether, settled in ether; some are of another face."""
    array = lambda x: jnp.asarray(np.asarray(x, np.float64))
    rng = np.random.default_rng(seed)
    notional = 10 ** rng.uniform(4.0, 6.3, (2, ACCOUNTS))
    side = np.where(rng.random((2, ACCOUNTS)) < 0.6, 1.0, -1.0)
    entry = 3000.0 * np.exp(rng.normal(0.0, 0.03, (2, ACCOUNTS)))
    face = np.array([1.0, 100.0])
    size = side * notional / face[:, None]
    lost = (size * face[:, None] * (1.0 / 3000.0 - 1.0 / entry)).sum(axis=0)
    margin = notional.sum(axis=0) / 3000.0 / rng.uniform(0.2 * leverage, leverage, ACCOUNTS)
    accounts = Accounts(
        collateral=array(np.maximum(margin + lost, 0.01)[None]),
        debt=array(np.zeros((1, ACCOUNTS))),
        category=jnp.zeros(ACCOUNTS, jnp.int32),
        collateral_assets=(WETH,),
        debt_assets=(WETH,),
        positions=Positions(size=array(size), entry=array(entry)),
    )
    slot = MarginAccounts(
        contracts=terms(array, [perpetual(f, inverse=True) for f in face]),
        opening_forward=array([3000.0, 3000.0]),
        opening_volatility=array([1.0, 1.0]),
        requirement=rates(array, 2),
        close=close_out(array),
        ranking=LeveredGain(),
        funding=PremiumFunding(
            period=array([8.0 / 8760.0] * 2), interest=array([0.1, 0.1]), cap=array([20.0, 20.0])
        ),
        underlying=(WETH, WETH),
        behind=Behind.POSITIONS,
    )
    return margin_venue(accounts, slot, name="coin", insurance=insurance)


MOVES = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.4)
VOLATILITY_MOVES = (-1.0, 0.0, 1.0)
SHORT = 0.01
STRIKES = (3000.0, 3200.0, 2700.0)
EXPIRIES = (2.0, 1.5, 400.0)
"""In steps of the tests."""


def grid_margin(array: Any) -> GridMargin:
    """Return margin by scenarios of spot and volatility for a perpetual and three options."""
    move, level = (x.ravel() for x in np.meshgrid(MOVES, VOLATILITY_MOVES, indexing="ij"))
    none = np.zeros_like(move)
    shock = {"up": 0.5, "down": 0.3, "short_power": 0.3, "long_power": 0.13, "pivot": 30.0 / 365.0}
    return GridMargin(
        grid=ScenarioGrid(
            scenarios=Scenarios(
                move=array(move),
                volatility=array(level),
                tilt=array(none),
                wings=array(none),
                weight=array(np.where(np.abs(move) > 0.3, 0.5, 1.0)),
            ),
            volatility=VolatilityShock(
                **{k: array(v) for k, v in shock.items()},
                floor=array(1.0 / 365.0),
                minimum=array(0.0),
            ),
        ),
        short=array([SHORT] * 4),
        initial=array(1.3),
        underlying=(0, 0, 0, 0),
    )


def option_venue(
    seed: int,
    *,
    leverage: float = 2.0,
    insurance: float = 1e4,
    behind: Behind = Behind.WINNERS,
    count: int = ACCOUNTS,
    dtype: Any = np.float64,
) -> Venue:
    """Return a venue of a perpetual, two calls and a put on ether, the first two expiring soon."""
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    rng = np.random.default_rng(seed)
    units = 10 ** rng.uniform(0.5, 2.8, (4, count))
    units[rng.random((4, count)) < 0.3] = 0.0
    size = units * np.where(rng.random((4, count)) < 0.5, 1.0, -1.0)
    forward = PRICE["WETH"] / PRICE["USDC"]
    entry = np.array([forward, 60.0, 0.0, 40.0])[:, None] * np.ones((1, count))
    worst = (units * forward * 0.2).sum(axis=0)
    accounts = Accounts(
        collateral=array((worst / rng.uniform(0.2 * leverage, leverage, count) + 10.0)[None]),
        debt=array(np.zeros((1, count))),
        category=jnp.zeros(count, jnp.int32),
        collateral_assets=(USDC,),
        debt_assets=(USDC,),
        positions=Positions(size=array(size), entry=array(entry)),
    )
    options = [
        european_option(k, t * STEP_YEARS, call=call)
        for k, t, call in zip(STRIKES, EXPIRIES, (True, True, False), strict=True)
    ]
    four = lambda x: array([x] * 4)
    slot = MarginAccounts(
        contracts=terms(array, [perpetual(1.0), *options]),
        opening_forward=four(forward),
        opening_volatility=array([1.0, 0.7, 0.75, 0.8]),
        requirement=grid_margin(array),
        close=close_out(array, fee=0.001),
        ranking=LeveredGain(),
        moves=VolatilityMoves(
            beta=four(-0.8),
            power=four(0.5),
            skew=array([0.0, -0.1, -0.1, -0.15]),
            stickiness=array(0.5),
            calm=four(0.49),
            floor=array(0.05),
        ),
        underlying=(WETH,) * 4,
        behind=behind,
    )
    return margin_venue(accounts, slot, name="options", insurance=insurance)


def random_system(
    seed: int,
    *,
    fall: float = 0.08,
    depth: float = 1e8,
    dtype: Any = np.float64,
    venues: tuple[Venue, ...] | None = None,
    **venue: Any,
) -> System:
    """Return a system whose prices follow a given table of `STEPS` steps of scenario 0.

    Args:
        seed: of every value drawn here.
        fall: typical log fall of ether in a step.
        depth: of ether, numeraire.
        dtype: of every leaf.
        venues: on it; one of perpetuals where not given.
        **venue: options of that one.
    """
    rng = np.random.default_rng(seed + 1)
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    ether = rng.normal(-fall, 0.5 * abs(fall) + 0.01, STEPS)
    other = 0.8 * ether + rng.normal(0.0, 0.02, STEPS)
    moves = np.stack([ether, other, rng.normal(0.0, 0.002, STEPS)], axis=1)
    return System(
        market=Market.opening(PRICE, volatility=[0.7, 0.6, 0.02], dtype=dtype),
        paths=GivenMoves(log_return=array(moves[None])),
        liquidity=Liquidity(
            law=SquareRootImpact(coefficient=array(np.full(3, COEFFICIENT))),
            depth=ConstantDepth(depth=array([depth, 2.0 * depth, depth])),
            permanent_share=array(PERMANENT),
            recovery_rate=array(np.log(2.0) / (6 * STEP_YEARS)),
            variance_rate=array(np.log(2.0) / (24 * STEP_YEARS)),
        ),
        venues=venues or (perpetual_venue(seed, dtype=dtype, **venue),),
        keeper=Keeper(minimum_return=array(0.0), choice=ProRata(), cost=None),
    )
