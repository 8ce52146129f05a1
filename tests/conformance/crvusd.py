"""crvUSD: soft liquidation through bands and back, and hard liquidation, as recorded."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.band_amm import BandFee, Trade, amount_to_price, exchange
from jaxrisk.venue.band_grid import BandGrid, Bands, spot_price
from jaxrisk.venue.band_health import band_health, converted_down, converted_up, headroom
from jaxrisk.venue.band_liquidation import BandRefusal, liquidate
from jaxrisk.venue.band_loan import LoanRefusal, first_band
from jaxrisk.venue.band_oracle import OracleState
from jaxrisk.venue.band_shares import DepositRefusal, Holdings, Shares, deposit, holdings, withdraw
from jaxrisk.venue.presets.crvusd import YEAR_SECONDS, limited_oracle
from tests.conformance.comparison import RAW_UNITS, Replay, reason

WAD = 1e18
REVERTS = {
    "revert:Not enough rekt": BandRefusal.HEALTHY,
    "full": BandRefusal.NONE,
    "partial": BandRefusal.NONE,
}


class _World(NamedTuple):
    """State of one system between steps."""

    bands: Bands
    shares: Shares
    principal: jax.Array  # debt over the rate multiplier at which it was last written
    multiplier: jax.Array  # at the moment the rate was last set
    rate_age: jax.Array  # years since
    oracle: OracleState


class _Rules(NamedTuple):
    """Parameters of one system."""

    grid: BandGrid
    fee: BandFee
    discount: jax.Array
    loan_discount: jax.Array
    rate: jax.Array
    unit: jax.Array


class _Input(NamedTuple):
    """What happens in one step of one system."""

    years: jax.Array
    feed: jax.Array
    target: jax.Array
    trades: jax.Array
    buys: jax.Array
    amount: jax.Array
    account: jax.Array  # (call,), -1 for none
    fraction: jax.Array  # (call,)


def llamma(header: dict, cases: list[dict]) -> Replay:
    """Replay whole systems: loans opened, oracle moves, trades, liquidations, views."""
    del header
    replay = Replay(len(cases))
    shape = _Shape(cases)
    rules, opening, inputs = _arrays(cases, shape)
    start, opened, first = jax.jit(jax.vmap(_open))(rules, *opening)
    _, steps = jax.jit(jax.vmap(_play))(rules, start, inputs)
    opened, steps, first = jax.tree.map(np.asarray, (opened, steps, first))
    for s, case in enumerate(cases):
        scale = sum(
            float(u["y"]) / 10 ** case["collateralDecimals"] for u in case["initial"]["users"]
        )
        check = _Check(replay, s, shape, case, scale)
        for k, user in enumerate(case["initial"]["users"]):
            labels = (
                LoanRefusal(int(first[1][s, k])).name,
                DepositRefusal(int(first[2][s, k])).name,
            )
            check.same("opening", (int(first[0][s, k]), *labels), (user["n1"], "NONE", "NONE"))
        check.edges(first[3][s], first[4][s])
        check.state("initial", jax.tree.map(lambda x, s=s: x[s], opened), case["initial"])
        for t, step in enumerate(case["steps"]):
            check.step(t, jax.tree.map(lambda x, s=s, t=t: x[s, t], steps), step)
    return replay


class _Shape:
    """Sizes that hold every case, and the first band of the axis."""

    def __init__(self, cases: list[dict]) -> None:
        users = [u for c in cases for u in c["initial"]["users"]]
        edges = [b["n"] for c in cases for b in c["bandEdges"]]
        self.first = min([0, *(u["n1"] for u in users), *edges]) - 1
        self.bands = max([0, *(u["n2"] for u in users), *edges]) + 2 - self.first
        self.users = max(len(c["initial"]["users"]) for c in cases)
        self.steps = max(len(c["steps"]) for c in cases)
        self.calls = max(len(s.get("liquidations", ())) for c in cases for s in c["steps"])


def _arrays(cases: list[dict], shape: _Shape) -> tuple[_Rules, tuple, _Input]:
    column = lambda values: jnp.asarray(np.array(values, np.float64))
    whole = lambda values: jnp.asarray(np.array(values, np.int32))
    wad = lambda name: column([float(c[name]) / WAD for c in cases])
    rules = _Rules(
        grid=BandGrid(
            amplification=column([float(c["A"]) for c in cases]),
            base_price=wad("p0"),
            first=whole([shape.first] * len(cases)),
            count=shape.bands,
        ),
        fee=BandFee(fee=wad("fee"), admin_share=wad("adminFee")),
        discount=wad("liquidationDiscount"),
        loan_discount=wad("loanDiscount"),
        rate=wad("ratePerSecond") * YEAR_SECONDS,
        unit=column([10.0 ** -c["collateralDecimals"] for c in cases]),
    )
    padded = lambda values, size, fill: [*values, *([fill] * (size - len(values)))]
    users = [padded(c["initial"]["users"], shape.users, None) for c in cases]
    pick = lambda f, empty: [[empty if u is None else f(u) for u in row] for row in users]
    decimals = {id(u): c["collateralDecimals"] for c in cases for u in c["initial"]["users"]}
    opening = (
        column(pick(lambda u: float(u["y"]) / 10 ** decimals[id(u)], 0.0)),
        column(pick(lambda u: float(u["debt"]) / WAD, 0.0)),
        whole(pick(lambda u: u["n2"] - u["n1"] + 1, 4)),
    )
    steps = [padded(c["steps"], shape.steps, None) for c in cases]
    each = lambda f, empty: [
        [empty if s is None else f(s, c) for s in row] for row, c in zip(steps, cases, strict=True)
    ]
    side = lambda s: s.get("trade", {}).get("i", 0)
    paid_unit = lambda s, c: WAD if side(s) == 0 else 10.0 ** c["collateralDecimals"]
    call = lambda name, empty, convert: each(
        lambda s, c: padded(
            [convert(q[name]) for q in s.get("liquidations", ())], shape.calls, empty
        ),
        [empty] * shape.calls,
    )
    inputs = _Input(
        years=column(each(lambda s, c: float(s["dt"]) / YEAR_SECONDS, 0.0)),
        feed=column(each(lambda s, c: float(s["oraclePrice"]) / WAD, 1.0)),
        target=column(each(lambda s, c: float(s["get_amount_for_price"]["p"]) / WAD, 1.0)),
        trades=jnp.asarray(each(lambda s, c: "trade" in s, False)),
        buys=jnp.asarray(each(lambda s, c: side(s) == 0, False)),
        amount=column(
            each(lambda s, c: float(s.get("trade", {}).get("amountIn", 0)) / paid_unit(s, c), 0.0)
        ),
        account=whole(call("user", -1, int)),
        fraction=column(call("frac", 0.0, lambda x: float(x) / WAD)),
    )
    return rules, opening, inputs


def _grid(rules: _Rules, multiplier: jax.Array) -> BandGrid:
    grid = rules.grid
    return BandGrid(
        amplification=grid.amplification,
        base_price=grid.base_price * multiplier,
        first=grid.first,
        count=grid.count,
    )


def _multiplier(rules: _Rules, world: _World) -> jax.Array:
    return world.multiplier * (1.0 + rules.rate * world.rate_age)


def _open(
    rules: _Rules, collateral: jax.Array, debt: jax.Array, width: jax.Array
) -> tuple[_World, dict, tuple]:
    """Open the loans one after another."""
    grid, zero = rules.grid, jnp.zeros((), jnp.int32)
    empty = jnp.zeros(grid.count)
    bands = Bands(borrowed=empty, collateral=empty, active=zero, lowest=zero, highest=zero)
    none = jnp.zeros(collateral.shape, jnp.int32)
    shares = Shares(count=jnp.zeros((grid.count, collateral.shape[0])), first=none, last=none - 1)

    def lend(carry: tuple, account: jax.Array) -> tuple:
        bands, shares = carry
        first, loan = first_band(
            grid, bands, collateral, debt, width, rules.loan_discount, grid.base_price
        )
        start = first[account]
        bands, shares, refusal = deposit(
            grid, bands, shares, account, collateral[account], start, start + width[account] - 1
        )
        return (bands, shares), (start, loan[account], refusal)

    (bands, shares), opened = jax.lax.scan(
        lend, (bands, shares), jnp.arange(len(collateral), dtype=jnp.int32)
    )
    nothing = jnp.zeros(())
    world = _World(
        bands, shares, debt, jnp.ones(()), nothing,
        OracleState(price=grid.base_price, fee=nothing, elapsed=nothing),
    )  # fmt: skip
    edges = (
        jnp.stack([grid.upper_price(grid.numbers()), grid.upper_price(grid.numbers() + 1)]),
        jnp.stack(grid.quote_range(grid.numbers(), grid.base_price)),
    )
    return world, _view(rules, world, grid.base_price), (*opened, *edges)


def _view(rules: _Rules, world: _World, feed: jax.Array) -> dict:
    """Return what the contracts' views say."""
    multiplier = _multiplier(rules, world)
    grid, seen = _grid(rules, multiplier), limited_oracle().see(world.oracle, feed)
    held = holdings(world.bands, world.shares, collateral_unit=rules.unit)
    debt = world.principal * multiplier
    down = converted_down(grid, world.bands, world.shares, seen.price)
    health = band_health(down, debt, rules.discount)
    return {
        "p": spot_price(grid, world.bands, seen.price),
        "priceOracle": seen.price,
        "dynamicFee": jnp.maximum(rules.fee.fee, seen.fee),
        "basePrice": grid.base_price,
        "activeBand": world.bands.active,
        "x": held.borrowed,
        "y": held.collateral,
        "debt": debt,
        "x_down": down,
        "y_up": converted_up(grid, world.bands, world.shares, seen.price),
        "health": health,
        "healthFull": health + headroom(grid, world.bands, world.shares, held, debt, seen.price),
        "bands": jnp.stack([world.bands.borrowed, world.bands.collateral]),
    }


def _play(rules: _Rules, world: _World, inputs: _Input) -> tuple[_World, dict]:
    return jax.lax.scan(lambda w, i: _step(rules, w, i), world, inputs)


def _step(rules: _Rules, world: _World, given: _Input) -> tuple[_World, dict]:
    oracle = world.oracle
    world = world._replace(
        rate_age=world.rate_age + given.years,
        oracle=OracleState(
            price=oracle.price, fee=oracle.fee, elapsed=oracle.elapsed + given.years
        ),
    )
    before = _view(rules, world, given.feed)
    grid, seen = (
        _grid(rules, _multiplier(rules, world)),
        limited_oracle().see(world.oracle, given.feed),
    )
    wanted, rises = amount_to_price(grid, world.bands, seen, rules.fee, given.target)
    trade: Trade = exchange(
        grid, world.bands, seen, rules.fee, given.amount, given.buys,
        borrowed_unit=jnp.array(1.0 / WAD), collateral_unit=rules.unit,
    )  # fmt: skip
    happened = lambda new, old: jax.tree.map(lambda a, b: jnp.where(given.trades, a, b), new, old)
    world = world._replace(
        bands=happened(trade.bands, world.bands),
        oracle=happened(limited_oracle().record(seen), world.oracle),
    )
    call = lambda w, i: _liquidate(rules, w, i[0], i[1], given.feed)
    world, refusals = jax.lax.scan(call, world, (given.account, given.fraction))
    return world, {
        "before": before,
        "wanted": wanted,
        "rises": rises,
        "spent": trade.spent,
        "received": trade.received,
        "refusals": refusals,
        "after": _view(rules, world, given.feed),
    }


def _liquidate(
    rules: _Rules, world: _World, account: jax.Array, fraction: jax.Array, feed: jax.Array
) -> tuple[_World, jax.Array]:
    view, multiplier = _view(rules, world, feed), _multiplier(rules, world)
    chosen = jnp.arange(len(world.principal), dtype=jnp.int32) == account
    call = liquidate(
        Holdings(borrowed=view["x"], collateral=view["y"]),
        view["debt"],
        view["healthFull"],
        jnp.where(chosen, fraction, 0.0),
        rules.discount,
    )
    portion = jnp.where(chosen, call.portion, 0.0)
    repaid = jnp.where(chosen, call.repaid, 0.0)
    bands, shares, _ = withdraw(rules.grid, world.bands, world.shares, portion)
    # Whoever closes a loan also sets the rate, which compounds the multiplier.
    sets = jnp.any(repaid > 0)
    world = world._replace(
        bands=bands,
        shares=shares,
        principal=jnp.where(sets, (view["debt"] - repaid) / multiplier, world.principal),
        multiplier=jnp.where(sets, multiplier, world.multiplier),
        rate_age=jnp.where(sets, 0.0, world.rate_age),
    )
    return world, jnp.sum(jnp.where(chosen, call.refusal, 0))


class _Check:
    """Compares one system with its record.

    Amounts left behind are differences: their error scales with what they were taken from, so a
    trillionth of all collateral of the system (or its value) is allowed beside the tolerance.
    """

    def __init__(
        self, replay: Replay, index: int, shape: _Shape, case: dict, collateral: float
    ) -> None:
        self.replay, self.index, self.shape = replay, index, shape
        self.decimals = case["collateralDecimals"]
        self.y_slack = 1e-12 * collateral
        self.x_slack = self.y_slack * float(case["p0"]) / WAD
        self.edge_records = case["bandEdges"]

    def number(
        self, what: str, actual: float, expected: str, unit: float = WAD, slack: float = 0.0
    ) -> None:
        self.replay.compare(
            what, [self.index], [actual * unit], [float(expected)],
            raw_units=RAW_UNITS + slack * unit,
        )  # fmt: skip

    def same(self, what: str, actual: object, expected: object) -> None:
        self.replay.compare_labels(what, [self.index], [actual], [expected])

    def edges(self, oracle: np.ndarray, quote: np.ndarray) -> None:
        for record in self.edge_records:
            i = record["n"] - self.shape.first
            for what, actual in (
                ("p_oracle_up", oracle[0, i]), ("p_oracle_down", oracle[1, i]),
                ("p_current_down", quote[0, i]), ("p_current_up", quote[1, i]),
            ):  # fmt: skip
                self.number(what, actual, record[what])

    def prices(self, name: str, view: dict, record: dict) -> None:
        for what in ("p", "priceOracle", "dynamicFee", "basePrice"):
            self.number(f"{name}.{what}", view[what], record[what])
        self.same(f"{name}.activeBand", int(view["activeBand"]), record["activeBand"])

    def state(self, name: str, view: dict, record: dict) -> None:
        self.prices(name, view, record)
        coin = 10.0**self.decimals
        for user in record["users"]:
            at = lambda what, i=user["i"]: float(view[what][i])
            for what in ("x", "x_down"):
                self.number(f"{name}.{what}", at(what), user[what], slack=self.x_slack)
            for what in ("y", "y_up"):
                self.number(f"{name}.{what}", at(what), user[what], coin, self.y_slack)
            self.number(f"{name}.debt", at("debt"), user["debt"])
            for what in ("health", "healthFull"):
                # Health is a ratio less one: the error is that of the ratio.
                self.number(f"{name}.{what}", at(what), user[what], slack=1e-12)
        for n, x, y in record["bands"]:
            i = n - self.shape.first
            self.number(f"{name}.band {n} x", view["bands"][0, i], x, slack=self.x_slack)
            self.number(f"{name}.band {n} y", view["bands"][1, i], y, slack=self.y_slack)

    def step(self, t: int, result: dict, record: dict) -> None:
        name = f"step {t}"
        self.prices(f"{name} before", result["before"], record["before"])
        wanted = record["get_amount_for_price"]
        self.same(f"{name} isPump", bool(result["rises"]), wanted["isPump"])
        coin = 10.0**self.decimals
        self.number(
            f"{name} amount for price", result["wanted"], wanted["amount"],
            WAD if wanted["isPump"] else coin, self.x_slack if wanted["isPump"] else self.y_slack,
        )  # fmt: skip
        if "trade" in record:
            buys = record["trade"]["i"] == 0
            units, slacks = (WAD, coin), (self.x_slack, self.y_slack)
            paid, got = (0, 1) if buys else (1, 0)
            for what, key, side in (
                ("spent", "spentIn", paid), ("received", "received", got),
                ("received", "get_dy", got),
            ):  # fmt: skip
                self.number(
                    f"{name} {key}", result[what], record["trade"][key], units[side], slacks[side]
                )
        for k, call in enumerate(record.get("liquidations", ())):
            refused = BandRefusal(int(result["refusals"][k])) != BandRefusal.NONE
            self.same(f"{name} liquidation {k}", refused, call["reverted"])
        self.state(f"{name} after", result["after"], record["after"])


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `liquidate_extended`: what is paid and taken, or refused."""
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray([float(c[name]) for c in cases])
    debt, fraction = column("debt"), column("frac") / WAD
    discount, full_health = column("liquidationDiscount") / WAD, column("healthFull") / WAD
    held = Holdings(borrowed=column("x"), collateral=column("y"))
    unit = jnp.ones_like(debt)

    @jax.jit
    def run(held: Holdings, debt: jax.Array, health: jax.Array, down: jax.Array) -> tuple:
        call = lambda h: liquidate(
            held, debt, h, fraction, discount, borrowed_unit=unit, collateral_unit=unit
        )
        # What a liquidator must bring is quoted whether or not the loan is healthy.
        return call(health), call(-unit), band_health(down, debt, discount)

    call, quote, converted_health = run(held, debt, full_health, column("x_down"))
    indices = np.arange(len(cases))
    recorded = [reason(REVERTS, c["branch"]) for c in cases]
    replay.compare_labels(
        "refusal", indices, [BandRefusal(int(r)).name for r in call.refusal],
        [r.name for r in recorded],
    )  # fmt: skip
    needed = np.maximum(np.asarray(quote.paid), 0.0)
    # The difference of debt and released coins: its error scales with them.
    slack = RAW_UNITS + 1e-12 * np.asarray(debt)
    replay.compare(
        "tokensToLiquidate", indices, needed, column("tokensToLiquidate"), raw_units=slack
    )
    # Once conversion has begun nothing is added for prices above the bands.
    converting = np.flatnonzero(np.asarray(held.borrowed) > 0)
    replay.compare(
        "healthFull", converting, np.asarray(converted_health)[converting] * WAD,
        np.asarray(full_health)[converting] * WAD, raw_units=RAW_UNITS + 1e-12 * WAD,
    )  # fmt: skip
    done = np.flatnonzero([not c["reverted"] for c in cases])
    after = np.asarray(debt - call.repaid)
    for what, actual in (
        ("collateralReceived", call.seized), ("stablePaid", call.paid), ("debtAfter", after),
    ):  # fmt: skip
        expected = [float(cases[i][what]) for i in done]
        replay.compare(what, done, np.asarray(actual)[done], expected, raw_units=slack[done])
    return replay


ADAPTERS = {"crvusd_llamma": llamma, "crvusd_liquidation": liquidation}
