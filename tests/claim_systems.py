"""Three layers for tests: a leveraged vault, a market against its shares, a third against receipts.

A vault loops staked ether in a pool. Its shares are collateral of a market that lends dollars;
receipts of those dollars are collateral of a second market. Values come from a generator; shapes
and kinds of rule do not.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.oracle import ExchangeRateOracle, SpotOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.system.backing import AccountEquity, Deposits
from jaxrisk.system.claim_prices import Claim, Exit
from jaxrisk.system.claim_scope import with_claims
from jaxrisk.system.policy import Keeper, ProRata
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.presets.aave_v3 import aave_v3
from jaxrisk.venue.presets.morpho_blue import morpho_blue
from jaxrisk.venue.venue import Pool, Venue
from tests.systems import STEP_YEARS, STEPS

ASSETS = ("WETH", "wstETH", "USDC", "share", "receipt")
WETH, WSTETH, USDC, SHARE, RECEIPT = range(5)
PRICE = {"WETH": 3000.0, "wstETH": 3600.0, "USDC": 1.0, "share": 3000.0, "receipt": 1.0}
PEGS = {"wstETH": "WETH", "share": "WETH", "receipt": "USDC"}
POOL, MARKET, SECOND = range(3)
VAULT = 1


def isolated(
    collateral: int,
    debt: int,
    *,
    held: Any,
    owed: Any,
    ltv: float,
    name: str,
    cash: float,
    oracle: Any = None,
    insurance: float = 0.0,
) -> Venue:
    """Return a market of one collateral against one debt, amounts in units."""
    accounts = Accounts(
        collateral=jnp.asarray(held, float)[None],
        debt=jnp.asarray(owed, float)[None],
        category=jnp.zeros(len(held), jnp.int32),
        collateral_assets=(collateral,),
        debt_assets=(debt,),
    )
    return morpho_blue(
        accounts,
        ASSETS,
        liquidation_loan_to_value=ltv,
        name=name,
        overrides={ASSETS[debt]: {"available_liquidity": cash}},
        oracle=oracle or SpotOracle(),
        insurance=insurance,
    )


def vault_of_two(held: float, other: int, units: float, owed: float, name: str) -> Venue:
    """Return a venue with one account: ether and another vault's shares against dollars."""
    accounts = Accounts(
        collateral=jnp.array([[held], [units]]),
        debt=jnp.array([[owed]]),
        category=jnp.zeros(1, jnp.int32),
        collateral_assets=(WETH, other),
        debt_assets=(USDC,),
    )
    terms = {"liquidation_threshold": 0.9, "loan_to_value": 0.85, "liquidation_bonus": 0.05}
    free: dict[str, float] = {"reserve_factor": 0.0, "base_rate": 0.0, "slope1": 0.0, "slope2": 0.0}
    free["optimal_utilisation"] = 0.9
    return aave_v3(
        accounts,
        ASSETS,
        name=name,
        overrides={
            **{ASSETS[a]: terms | free for a in (WETH, other)},
            "USDC": {"available_liquidity": 1e5, "base_rate": 0.0, "slope1": 0.0, "slope2": 0.0},
        },
    )


def layers(
    rng: np.random.Generator, *, leverage: float = 3.0, health: float = 1.02, cash: float = 1e6
) -> tuple[Venue, ...]:
    """Return the three venues: the vault is account 1 of the first.

    Args:
        rng: of sizes and healths.
        leverage: of the vault.
        health: lowest health on the two upper layers.
        cash: dollars that the market against shares has not lent.
    """
    price = np.array(list(PRICE.values()))
    vault = 1e3
    held = np.array([400.0, leverage * vault / 1.2, 300.0])
    owed = np.array([300.0, (leverage - 1.0) * vault, 250.0])
    pool = isolated(
        WSTETH, WETH, held=held, owed=owed, ltv=0.93, name="pool", cash=500.0,
        oracle=ExchangeRateOracle(),
    )  # fmt: skip
    shares = vault * rng.dirichlet(np.ones(4))[:3]
    safety = health + rng.uniform(0.0, 0.1, 3)
    market = isolated(
        SHARE, USDC, held=shares, owed=shares * price[SHARE] * 0.7 / safety, ltv=0.7,
        name="market", cash=cash, insurance=1e3,
    )  # fmt: skip
    supplied = cash + float(market.accounts.debt.sum())
    receipts = supplied * rng.dirichlet(np.ones(4))[:3]
    safety = health + rng.uniform(0.0, 0.02, 3)
    second = isolated(
        RECEIPT, USDC, held=receipts, owed=receipts * 0.96 / safety, ltv=0.96, name="second",
        cash=1e5,
    )  # fmt: skip
    return pool, market, second


def layered_system(
    seed: int,
    *,
    fall: float = 0.05,
    depth: float = 1e8,
    redeemed: bool = False,
    venues: tuple[Venue, ...] | None = None,
) -> System:
    """Return the layers under prices that follow a given table of `STEPS` steps of scenario 0.

    Args:
        seed: of every value drawn here.
        fall: typical log fall of ether in a step, and tenfold that of the staked token against it.
        depth: calm depth of ether, numeraire.
        redeemed: whether claims are redeemed instead of sold.
        venues: instead of those of `layers`.
    """
    rng = np.random.default_rng(seed)
    ether = rng.normal(-fall, 0.3 * fall, STEPS)
    basis = rng.normal(-0.1 * fall, 0.02 * fall, STEPS)
    moves = np.zeros((STEPS, len(ASSETS)))
    moves[:, WETH] = moves[:, SHARE] = ether
    moves[:, WSTETH] = ether + basis
    array = lambda x: jnp.asarray(np.asarray(x, np.float64))
    system = System(
        market=Market.opening(PRICE, pegs=PEGS),
        paths=GivenMoves(log_return=array(moves[None])),
        liquidity=Liquidity(
            law=SquareRootImpact(coefficient=array([0.1, 0.1, 0.02, 0.2, 0.05])),
            depth=ConstantDepth(depth=array([depth, 0.5 * depth, 10 * depth, 0.1 * depth, depth])),
            permanent_share=array(0.3),
            recovery_rate=array(np.log(2.0) / (6 * STEP_YEARS)),
            variance_rate=array(np.log(2.0) / (24 * STEP_YEARS)),
        ),
        venues=venues or layers(rng),
        keeper=Keeper(minimum_return=array(0.0), choice=ProRata()),
    )
    return with_claims(system, claims_of(system, redeemed=redeemed))


def nested_system(leverage: Sequence[float], threshold: Sequence[float]) -> System:
    """Return loops on ether against dollars, each further one on shares of the loop below.

    At most three; all equity is 1,000 ether at the top, and shares are quoted in ether.

    Args:
        leverage: collateral over equity of each layer, lowest first.
        threshold: liquidation threshold of each.
    """
    held, assets = 1e3 * np.cumprod(leverage[::-1])[::-1], (WETH, SHARE, RECEIPT)
    own = held / np.asarray(leverage)
    venues = tuple(
        isolated(
            assets[k], USDC, held=[held[k]], owed=[3000.0 * (held[k] - own[k])], ltv=threshold[k],
            name=f"layer {k}", cash=0.0,
        )
        for k in range(len(leverage))
    )  # fmt: skip
    price, pegs = PRICE | {"receipt": 3000.0}, PEGS | {"receipt": "WETH"}
    plain = without_claims(layered_system(1))
    system = dataclasses.replace(plain, market=Market.opening(price, pegs=pegs), venues=venues)
    top = len(leverage) - 1
    last = AccountEquity(venue=top, account=0)
    claims = [
        Claim(backing=AccountEquity(venue=k, account=0), asset=assets[k + 1]) for k in range(top)
    ]
    return with_claims(system, [*claims, Claim(backing=last, asset=WSTETH)])


def claims_of(system: System, *, redeemed: bool) -> tuple[Claim, ...]:
    """Return the vault's share and the receipt, in the order in which they are not valued."""
    way = Exit.REDEEMED if redeemed else Exit.SOLD
    supplied = system.venues[MARKET].pool[Pool.SUPPLIED]
    return (
        Claim(
            backing=Deposits(
                units=supplied, idle=jnp.zeros(()), places=((MARKET, 0),), idle_asset=USDC
            ),
            asset=RECEIPT,
            exit=way,
        ),
        Claim(backing=AccountEquity(venue=POOL, account=VAULT), asset=SHARE, exit=way),
    )


def without_claims(system: System) -> System:
    """Return the system whose claims are plain assets with a rate that does not move."""
    market = dataclasses.replace(system.market, issued=None)
    return dataclasses.replace(system, claims=(), market=market)
