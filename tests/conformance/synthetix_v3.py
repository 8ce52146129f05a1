"""Synthetix v3 perps: margins, fills, funding, liquidation windows and rewards, as recorded."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrisk.venue.keeper_reward import KeeperReward
from jaxrisk.venue.liquidation_window import LiquidationWindow, RecentLiquidations
from jaxrisk.venue.presets.synthetix_v3 import PerpMarket, PerpTerms, perp_market
from jaxrisk.venue.skew_price import SkewPrice
from jaxrisk.venue.velocity_funding import FundingState, VelocityFunding, funding_received
from tests.conformance.comparison import Replay

WAD = 10**18
DAY = 86_400.0
DAYS_PER_YEAR = 365.0
ACCOUNTS = 3
EPS = float(np.finfo(np.float64).eps)
NEAR = 64.0 * EPS
"""Amounts closer than this part of the limit are told apart by pushing them so far apart."""


def _column(cases: list[dict], name: str) -> np.ndarray:
    return np.array([int(c[name]) / WAD for c in cases])


def _market(configs: list[dict]) -> PerpMarket:
    """Return the rules of one market a case from the recorded parameters."""
    setting = lambda name: _column(configs, name)
    terms = PerpTerms(
        skew_scale=setting("skewScale"),
        maximum_funding_velocity=setting("maxFundingVelocity"),
        maker_fee=setting("makerFee"),
        taker_fee=setting("takerFee"),
        initial_margin_slope=setting("initialMarginRatioD18"),
        minimum_initial_margin=setting("minimumInitialMarginRatioD18"),
        maintenance_share=setting("maintenanceMarginScalarD18"),
        minimum_position_margin=setting("minimumPositionMargin"),
        flag_reward=setting("flagRewardRatioD18"),
        window_multiplier=setting("maxLiquidationLimitAccumulationMultiplier"),
        window_seconds=np.array([float(c["maxSecondsInLiquidationWindow"]) for c in configs]),
        calm_premium=setting("maxLiquidationPd"),
    )
    return perp_market(terms, jnp.float64)


def margins(header: dict, cases: list[dict]) -> Replay:
    """Replay `calculateRequiredMargins`, the flag reward and the number of windows."""
    del header
    replay, indices = Replay(len(cases)), np.arange(len(cases))
    market = _market([c["config"] for c in cases])
    size, price = jnp.asarray(_column(cases, "size")), jnp.asarray(_column(cases, "price"))

    @jax.jit
    def run(market: PerpMarket, size: jax.Array, price: jax.Array) -> dict[str, jax.Array]:
        rates, required = market.margin.rates(size), market.margin.required(size, price)
        notional = jnp.abs(size) * price
        return {
            "initialMarginRatio": rates[0],
            "maintenanceMarginRatio": rates[1],
            "initialMargin": required[0],
            "maintenanceMargin": required[1],
            "flagReward": notional * market.flag_reward,
            "notional": notional,
            "maxLiquidationInWindow": market.window.limit,
        }

    # Ratios are rounded to 1e-18 before they are multiplied with the notional.
    rounding = 2.0 + 2.0 * np.asarray(jnp.abs(size) * price)
    for what, actual in run(market, size, price).items():
        slack = rounding if what.endswith("Margin") or what == "flagReward" else 2.0
        replay.compare(
            what, indices, np.asarray(actual), _column(cases, what), raw_units=slack / WAD
        )
    windows = np.asarray(market.window.windows(size)).astype(int).tolist()
    recorded = [int(c["liquidationWindows"]) for c in cases]
    replay.compare_labels("liquidationWindows", indices, windows, recorded)
    return replay


def fill_and_fee(header: dict, cases: list[dict]) -> Replay:
    """Replay `calculateFillPrice` and `calculateOrderFee`."""
    del header
    replay, indices = Replay(len(cases)), np.arange(len(cases))
    read = lambda name: jnp.asarray(_column(cases, name))
    rule = SkewPrice(
        scale=read("skewScale"), maker_fee=read("makerFee"), taker_fee=read("takerFee")
    )

    @jax.jit
    def run(rule: SkewPrice, skew: jax.Array, size: jax.Array, price: jax.Array) -> tuple:
        fill = rule.fill_price(skew, size, price)
        return fill, rule.fee(skew, size, fill)

    fill, fee = run(rule, read("skew"), read("sizeDelta"), read("price"))
    for what, actual in (("fillPrice", fill), ("orderFee", fee)):
        replay.compare(what, indices, np.asarray(actual), _column(cases, what), raw_units=2.0 / WAD)
    return replay


def keeper_reward(header: dict, cases: list[dict]) -> Replay:
    """Replay `keeperReward`."""
    del header
    replay = Replay(len(cases))
    read = lambda name: jnp.asarray(_column(cases, name))
    rule = KeeperReward(
        minimum=read("minKeeperRewardUsd"),
        profit=read("minKeeperProfitRatioD18"),
        maximum=read("maxKeeperRewardUsd"),
        margin_share=read("maxKeeperScalingRatioD18"),
    )
    reward = jax.jit(rule.reward)(
        read("keeperRewards"), read("costOfExecutionInUsd"), read("availableMarginInUsd")
    )
    replay.compare(
        "reward", np.arange(len(cases)), np.asarray(reward), _column(cases, "reward"),
        raw_units=2.0 / WAD,
    )  # fmt: skip
    return replay


ACTIONS = {"view": 0, "modify": 1, "liq": 2}


def funding_sequences(header: dict, cases: list[dict]) -> Replay:
    """Replay whole sequences of one market: funding, positions and liquidation windows."""
    del header
    replay = Replay(len(cases))
    steps = _steps(cases)
    out = jax.jit(jax.vmap(_play))(_market([c["config"] for c in cases]), steps)
    outputs = {name: np.asarray(values) for name, values in out.items()}
    for k, rows in enumerate(_steps_by_position(cases)):
        _compare_step(replay, cases, rows, k, outputs)
    return replay


def _steps_by_position(cases: list[dict]) -> list[list[int]]:
    longest = max(len(c["steps"]) for c in cases)
    return [[i for i, c in enumerate(cases) if k < len(c["steps"])] for k in range(longest)]


def _steps(cases: list[dict]) -> dict[str, jax.Array]:
    """Return the inputs of all steps, `(case, step)`; short sequences end in views."""
    longest = max(len(c["steps"]) for c in cases)
    idle = {"dt": "0", "price": "0", "action": "view"}
    padded = [c["steps"] + [idle] * (longest - len(c["steps"])) for c in cases]
    read = lambda of: jnp.asarray([[of(s) for s in steps] for steps in padded])
    requests = [_requests(c, longest) for c in cases]
    return {
        "seconds": read(lambda s: float(s["dt"])),
        "price": read(lambda s: int(s["price"]) / WAD),
        "action": read(lambda s: ACTIONS[s["action"]]),
        "account": read(lambda s: int(s.get("account", 0))),
        "size": read(lambda s: int(s.get("newSize", 0)) / WAD),
        "wanted": jnp.asarray(requests),
    }


def _requests(case: dict, length: int) -> list[float]:
    """Return requests as floats on the side of the remaining capacity where the integers are.

    A request that leaves a few of 1e23 units differs from one that leaves none only beyond float64.
    """
    window, now, past = int(case["config"]["maxSecondsInLiquidationWindow"]), 0, []
    wanted = [0.0] * length
    for k, step in enumerate(case["steps"]):
        now += int(step["dt"])
        if step["action"] != "liq":
            continue
        asked, limit = int(step["requested"]), int(step["maxInWindow"])
        left = limit - sum(amount for time, amount in past if time > now - window)
        gap = Fraction(asked - left, max(limit, 1))
        shift = float(np.sign(asked - left)) * NEAR * limit if 0 < abs(gap) < NEAR else 0.0
        wanted[k] = (asked + shift) / WAD
        past.append((now, int(step["liquidatable"])))
    return wanted


def _play(market: PerpMarket, steps: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Play one sequence; the contracts' account of it step by step."""
    zeros = jnp.zeros(ACCOUNTS)
    zero = jnp.zeros(())
    start = {
        "funding": FundingState(rate=zero, paid=zero),
        "size": zeros,
        "entry": zeros,
        "since": zeros,
        "now": zero,
        "elapsed": zero,
        "recent": market.window.opening(steps["seconds"].shape[0]),
    }
    _, out = lax.scan(lambda state, step: _step(market, state, step), start, steps)
    return out


def _step(market: PerpMarket, state: dict, step: dict[str, jax.Array]) -> tuple[dict, dict]:
    funding_rule: VelocityFunding = market.funding
    size, price, skew = state["size"], step["price"], jnp.sum(state["size"])
    now = state["now"] + step["seconds"]
    elapsed = state["elapsed"] + step["seconds"]
    years = elapsed / (DAY * DAYS_PER_YEAR)
    funding = funding_rule.advance(state["funding"], skew, price, years)
    price_pnl = size * (price - state["entry"])
    received = funding_received(size, funding.paid, state["since"])
    # Orders: only they settle funding and move the skew.
    modify = step["action"] == ACTIONS["modify"]
    mine = (jnp.arange(ACCOUNTS) == step["account"]) & modify
    change = step["size"] - size[step["account"]]
    fill = market.price.fill_price(skew, change, price)
    sizes = jnp.where(mine, step["size"], size)
    kept = jax.tree.map(lambda new, old: jnp.where(modify, new, old), funding, state["funding"])
    # Liquidations: the bookkeeping of the window alone.
    liquidates = step["action"] == ACTIONS["liq"]
    recent: RecentLiquidations = state["recent"]
    window: LiquidationWindow = market.window
    allowed, after = window.liquidate(
        recent,
        step["wanted"],
        now=now,
        premium=jnp.abs(skew) / market.price.scale,
        exempt=jnp.zeros((), bool),
    )
    recent = jax.tree.map(lambda new, old: jnp.where(liquidates, new, old), after, recent)
    state = {
        "funding": kept,
        "size": sizes,
        "entry": jnp.where(mine, fill, state["entry"]),
        "since": jnp.where(mine, funding.paid, state["since"]),
        "now": now,
        "elapsed": jnp.where(modify, jnp.zeros_like(elapsed), elapsed),
        "recent": recent,
    }
    out = {
        "fundingRate": funding.rate / DAYS_PER_YEAR,
        "fundingVelocity": funding_rule.drift(skew) / DAYS_PER_YEAR**2,
        "nextFunding": funding.paid,
        "pricePnl": price_pnl,
        "fundingPnl": received,
        "fillPrice": fill,
        "realisedPricePnl": jnp.sum(jnp.where(mine, price_pnl, jnp.zeros_like(price_pnl))),
        "realisedFunding": jnp.sum(jnp.where(mine, received, jnp.zeros_like(received))),
        "liquidatable": allowed,
        "maxInWindow": window.limit,
        "after.skew": jnp.sum(sizes),
        "after.size": jnp.sum(jnp.abs(sizes)),
        "after.lastFundingRate": kept.rate / DAYS_PER_YEAR,
        "after.lastFundingValue": kept.paid,
    }
    return state, out


def _compare_step(
    replay: Replay, cases: list[dict], rows: list[int], k: int, out: dict[str, np.ndarray]
) -> None:
    """Compare the k-th steps of all sequences that have one."""
    chosen = [cases[i]["steps"][k] for i in rows]
    slack = [_rounding(cases[i], k) for i in rows]

    def check(what: str, actual: np.ndarray, recorded: list[int], scale: str) -> None:
        expected = np.array([x / WAD for x in recorded])
        raw = np.array([s[scale] for s in slack])
        replay.compare(f"step {k} {what}", rows, actual, expected, raw_units=raw)

    for what in ("fundingRate", "fundingVelocity", "nextFunding"):
        check(what, out[what][rows, k], [int(s[what]) for s in chosen], what)
    for account in range(ACCOUNTS):
        price = out["pricePnl"][rows, k, account]
        received = out["fundingPnl"][rows, k, account]
        for column, actual in enumerate((price + received, price, received)):
            recorded = [int(s["pnl"][account][column]) for s in chosen]
            check(f"pnl {account} {column}", actual, recorded, "pnl")
    for what, scale in AFTER.items():
        recorded = [int(s["after"][what]) for s in chosen]
        check(f"after {what}", out[f"after.{what}"][rows, k], recorded, scale)
    for what, scale in OF_ACTION.items():
        held = [j for j, s in enumerate(chosen) if what in s]
        at = [rows[j] for j in held]
        expected = np.array([int(chosen[j][what]) / WAD for j in held])
        raw = np.array([slack[j][scale] for j in held])
        replay.compare(f"step {k} {what}", at, out[what][at, k], expected, raw_units=raw)


AFTER = {
    "skew": "size",
    "size": "size",
    "lastFundingRate": "fundingRate",
    "lastFundingValue": "nextFunding",
}
OF_ACTION = {
    "fillPrice": "price",
    "realisedPricePnl": "pnl",
    "realisedFunding": "pnl",
    "liquidatable": "window",
    "maxInWindow": "window",
}


def _rounding(case: dict, k: int) -> dict[str, float]:
    """Return what the k-th step may be off by: units of 1e-18, and of float64.

    The contract rounds the days elapsed, the velocity and the rate to 1e-18, multiplies what it
    rounded with days, prices and sizes, and keeps the sum at every settlement.
    """
    steps, largest = case["steps"][: k + 1], int(case["config"]["maxFundingVelocity"]) / WAD
    of_rate = of_paid = days = settled_rate = settled_paid = 0.0
    size = 0.0
    for step in steps:
        days += int(step["dt"]) / DAY
        price, rate = int(step["price"]) / WAD, abs(int(step["fundingRate"])) / WAD
        paid = abs(int(step["nextFunding"])) / WAD
        of_rate = settled_rate + (2.0 + largest + 2.0 * days) / WAD
        of_rate += 4.0 * EPS * (rate + largest * days)
        # The mean of the rates at both ends, over the days.
        fresh = price * (of_rate * days + (rate + largest * days + 2.0) / WAD)
        of_paid = settled_paid + fresh + 8.0 * EPS * (paid + price * (rate + largest * days) * days)
        size = max(size, int(step["after"]["size"]) / WAD)
        if step["action"] == "modify":
            settled_rate, settled_paid, days = of_rate, of_paid, 0.0
    price = max(int(s["price"]) for s in steps) / WAD
    return {
        "fundingRate": of_rate,
        "fundingVelocity": 2.0 / WAD + largest * (2.0 / WAD + 4.0 * EPS),
        "nextFunding": of_paid,
        "price": 2.0 / WAD + price * (2.0 / WAD + 4.0 * EPS),
        "pnl": 2.0 / WAD + size * (2.0 * of_paid + price * (2.0 / WAD + 8.0 * EPS)),
        "size": 2.0 / WAD + 8.0 * EPS * size,
        "window": 2.0 / WAD + 2.0 * NEAR * _limit(case),
    }


def _limit(case: dict) -> float:
    limits = [int(s["maxInWindow"]) / WAD for s in case["steps"] if "maxInWindow" in s]
    return max(limits, default=0.0)


ADAPTERS = {
    "synthetix_v3_fill_and_fee": fill_and_fee,
    "synthetix_v3_funding_sequences": funding_sequences,
    "synthetix_v3_keeper_reward": keeper_reward,
    "synthetix_v3_margins": margins,
}
