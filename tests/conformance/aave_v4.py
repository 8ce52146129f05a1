"""Aave v4: liquidation calls, account data, accrual and premium debt, as recorded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.health_bonus import HealthLinearBonus
from jaxrisk.venue.hub import Hub, accrue, supply
from jaxrisk.venue.interest import KinkedRate, utilisation
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v4 import BASIS_POINT, VIRTUAL_AMOUNT, close_rule
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.risk_premium import Premium, premium_at, risk_premium
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.target_health import TargetHealthClose, TargetPosition, target_call
from tests.conformance.comparison import Replay, reason

RAY, WAD, BPS = 1e27, 1e18, BASIS_POINT
VALUE = 1e26  # units of recorded values in a dollar
SHORT = 1e-14
EPS = float(np.finfo(np.float64).eps)
YEAR = 365.0 * 86400.0
REVERTS = {
    "HealthFactorNotBelowThreshold()": Refusal.HEALTHY,
    "MustNotLeaveDust()": Refusal.DUST,
}


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `Spoke.liquidationCall`: account data, amounts, refusals, deficits, what is left."""
    del header
    replay = Replay(len(cases))
    book = _Book(cases)
    rule = close_rule(book.setting("targetHealthFactor", WAD))
    result = jax.jit(_liquidate)(rule, book.bonus(), book.arrays(), book.position())
    result = {name: np.asarray(value) for name, value in result.items()}
    everyone = np.arange(len(cases))
    _compare_account(replay, everyone, [c["account"] for c in cases], book, result, "before")
    recorded = [
        reason(REVERTS, c["revertReason"]) if c["reverted"] else Refusal.NONE for c in cases
    ]
    replay.compare_labels(
        "refusal", everyone, [Refusal(int(r)).name for r in result["refusal"]],
        [r.name for r in recorded],
    )  # fmt: skip
    called = np.flatnonzero([bool(c["contractLiquidationBonus"]) for c in cases])
    replay.compare(
        "liquidation bonus", called, (result["credit"] / BPS)[called],
        [float(cases[i]["contractLiquidationBonus"]) for i in called], raw_units=1e-6,
    )  # fmt: skip
    done = np.flatnonzero([not c["reverted"] for c in cases])
    drawn = result["repaid"] - result["premium_repaid"]
    for what, actual, unit, scale in (
        ("debtAmountRestored", result["repaid"], book.debt_unit, 1.0),
        ("drawnSharesLiquidated", drawn, book.debt_share, 1.0),
        ("premiumRestoredRay", result["premium_repaid"], book.debt_unit, RAY),
        ("collateralAmountRemoved", result["seized"], book.collateral_unit, 1.0),
        ("collateralSharesLiquidated", result["seized"], book.collateral_share, 1.0),
        (
            "collateralSharesToLiquidator",
            result["seized"] - result["fee"],
            book.collateral_share,
            1.0,
        ),
    ):
        expected = [float(cases[i][what]) / scale for i in done]
        replay.compare(what, done, (actual / unit)[done], expected)
    _compare_after(replay, cases, book, result, done)
    return replay


def _liquidate(
    rule: TargetHealthClose, bonus: HealthLinearBonus, book: dict, position: TargetPosition
) -> dict:
    """Return account data before the call, the call, and what it leaves, by name."""
    basis_point = jnp.asarray(BPS)
    pair = position.pair
    health = pair.backing / pair.total_debt
    credit = 1.0 + bonus.bonus(health, unit=basis_point)
    position = dataclasses.replace(position, pair=dataclasses.replace(pair, credit=credit))
    call = target_call(rule, position, book["offer"])
    premium = book["premium"] - book["debt_pick"] * call.premium_repaid[None, :]
    drawn = book["drawn"] - book["debt_pick"] * (call.repaid - call.premium_repaid)[None, :]
    held = book["collateral"] - book["collateral_pick"] * call.seized[None, :]
    write_off = jax.vmap(AtZeroCollateral().write_off, in_axes=(None, 0))
    lost_drawn, lost_premium = write_off(call.exhausts, drawn), write_off(call.exhausts, premium)
    owed = jnp.sum(drawn + premium - lost_drawn - lost_premium, axis=0)
    # A claim in shares is valued at the whole units it can be withdrawn as.
    before, after = floor_to(book["collateral"], book["unit"]), floor_to(held, book["unit"])
    return {
        "refusal": call.refusal,
        "credit": credit,
        "repaid": call.repaid,
        "premium_repaid": call.premium_repaid,
        "seized": call.seized,
        "fee": call.fee,
        "bad_debt": call.bad_debt,
        "health before": health,
        "value before": jnp.sum(before, axis=0),
        "debt before": pair.total_debt,
        "premium before": risk_premium(before, book["risk"], pair.total_debt, unit=basis_point),
        "health after": jnp.sum(after * book["weight"], axis=0) / owed,
        "value after": jnp.sum(after, axis=0),
        "debt after": owed,
        "premium after": risk_premium(after, book["risk"], owed, unit=basis_point),
        "suppliedShares": held,
        "drawnShares": drawn - lost_drawn,
        "premiumDebtRay": premium - lost_premium,
        "lost": lost_drawn + lost_premium,
    }


class _Book:
    """Cases as arrays: one account a case, values in USD, padded to the reserves ever seen."""

    def __init__(self, cases: list[dict]) -> None:
        self.cases = cases
        shape = (1 + max(r["reserve"] for c in cases for r in c["reserves"]), len(cases))
        self.unit, self.share, self.index = np.ones(shape), np.ones(shape), np.ones(shape)
        self.claim, self.weight, self.risk = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.collateral, self.drawn, self.premium = (
            self.claim.copy(),
            np.zeros(shape),
            np.zeros(shape),
        )
        self.deficit = np.zeros(shape)
        self.maximum_bonus, self.fee, self.offer = (np.zeros(len(cases)) for _ in range(3))
        for i, case in enumerate(cases):
            for r in case["reserves"]:
                self._fill(r["reserve"], i, r)
                if r["reserve"] == case["collateralReserve"]:
                    self.maximum_bonus[i] = (r["maxLiquidationBonus"] - 10_000) / 1e4
                    self.fee[i] = r["liquidationFee"] * BPS
                if r["reserve"] == case["debtReserve"]:
                    self.offer[i] = _offer(case["debtToCover"], r) * self.unit[r["reserve"], i]
        everyone = np.arange(len(cases))
        self.collateral_at = (np.array([c["collateralReserve"] for c in cases]), everyone)
        self.debt_at = (np.array([c["debtReserve"] for c in cases]), everyone)
        self.collateral_unit, self.debt_unit = (
            self.unit[self.collateral_at],
            self.unit[self.debt_at],
        )
        self.collateral_share = self.share[self.collateral_at]
        self.debt_share = (self.unit * self.index)[self.debt_at]

    def _fill(self, a: int, i: int, r: dict) -> None:
        unit = float(r["price"]) * 1e-8 / 10 ** r["decimals"]
        assets, shares = float(r["hubAddedAssets"]), float(r["hubAddedShares"])
        self.unit[a, i], self.index[a, i] = unit, float(r["drawnIndex"]) / RAY
        self.share[a, i] = unit * (assets + VIRTUAL_AMOUNT) / (shares + VIRTUAL_AMOUNT)
        self.drawn[a, i] = float(r["drawnShares"]) * self.index[a, i] * unit
        self.premium[a, i] = float(r["premiumDebtRay"]) / RAY * unit
        self.deficit[a, i] = float(r["hubDeficitRay"]) / RAY * unit
        if r["usedAsCollateral"]:
            self.collateral[a, i] = float(r["suppliedAssets"]) * unit
            self.claim[a, i] = float(r["suppliedShares"]) * self.share[a, i]
            self.weight[a, i] = r["collateralFactor"] * BPS
            self.risk[a, i] = r["collateralRisk"] * BPS

    def setting(self, name: str, scale: float) -> jax.Array:
        return jnp.asarray([float(c[name]) / scale for c in self.cases])

    def bonus(self) -> HealthLinearBonus:
        return HealthLinearBonus(
            maximum_bonus=jnp.asarray(self.maximum_bonus),
            minimum_share=self.setting("liquidationBonusFactor", 1e4),
            health_for_maximum=self.setting("healthFactorForMaxBonus", WAD),
        )

    def _pick(self, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        mask = np.zeros(self.unit.shape)
        mask[at] = 1.0
        return mask

    def arrays(self) -> dict[str, jax.Array]:
        """Return what the account holds and owes; the called collateral as a claim in shares."""
        called = self._pick(self.collateral_at)
        return {
            "collateral": jnp.asarray(np.where(called > 0, self.claim, self.collateral)),
            "unit": jnp.asarray(self.unit),
            "weight": jnp.asarray(self.weight),
            "risk": jnp.asarray(self.risk),
            "drawn": jnp.asarray(self.drawn),
            "premium": jnp.asarray(self.premium),
            "offer": jnp.asarray(self.offer),
            "collateral_pick": jnp.asarray(called),
            "debt_pick": jnp.asarray(self._pick(self.debt_at)),
        }

    def position(self) -> TargetPosition:
        owed = self.drawn + self.premium
        claim = self.claim[self.collateral_at]
        others = np.where(self._pick(self.collateral_at) > 0, 0.0, self.collateral).sum(0)
        # One raw unit of another collateral is collateral still, even where a float loses it.
        total = np.where(others > 0, np.maximum(claim + others, np.nextafter(claim, np.inf)), claim)
        pair = Position(
            collateral=jnp.asarray(claim),
            debt=jnp.asarray(owed[self.debt_at]),
            total_collateral=jnp.asarray(total),
            total_debt=jnp.asarray(owed.sum(0)),
            backing=jnp.asarray((self.collateral * self.weight).sum(0)),
            credit=jnp.ones(len(self.cases)),
            fee_share=jnp.asarray(self.fee),
            collateral_unit=jnp.asarray(self.collateral_unit),
            debt_unit=jnp.asarray(self.debt_unit),
        )
        return TargetPosition(
            pair=pair,
            collateral_weight=jnp.asarray(self.weight[self.collateral_at]),
            premium=jnp.asarray(self.premium[self.debt_at]),
            collateral_share=jnp.asarray(self.collateral_share),
            debt_share=jnp.asarray(self.debt_share),
        )

    def rounding(self) -> np.ndarray:
        """Return, in USD, two raw units of all that is held or owed, and float64's roundings."""
        held = (self.collateral > 0) | (self.drawn > 0)
        size = (self.collateral + self.drawn + self.premium).sum(0)
        return 2.0 * np.where(held, self.unit, 0.0).sum(0) + 8.0 * EPS * size


def _offer(asked: str, reserve: dict) -> float:
    """Return the offer in raw units, below all that is owed where it is below it."""
    drawn = -(-int(reserve["drawnShares"]) * int(reserve["drawnIndex"]) // 10**27)
    owed = drawn - (-int(reserve["premiumDebtRay"]) // 10**27)
    # One raw unit short of everything is refused: keep it short by more than roundings of floats.
    return min(float(asked), float(owed) * (1.0 - SHORT)) if int(asked) < owed else float(asked)


def _compare_account(
    replay: Replay,
    indices: np.ndarray,
    recorded: list[dict],
    book: _Book,
    result: dict[str, np.ndarray],
    when: str,
) -> None:
    """Compare health, values and risk premium; `recorded` follows `indices`."""
    field = lambda name: np.array([float(r[name]) for r in recorded])
    of = lambda name: result[f"{name} {when}"][indices]
    rounding = book.rounding()[indices]
    for what, name, scale in (
        ("totalCollateralValue", "value", VALUE),
        ("totalDebtValueRay", "debt", VALUE * RAY),
    ):
        # Amounts are rounded to raw units of each reserve, and so are the sums of their values.
        replay.compare(f"{what} {when}", indices, of(name), field(what) / scale, raw_units=rounding)
    owing = np.flatnonzero(field("totalDebtValueRay") > 0)
    debt = field("totalDebtValueRay")[owing] / (VALUE * RAY)
    health = field("healthFactor")[owing] / WAD
    replay.compare(
        f"healthFactor {when}", indices[owing], of("health")[owing], health,
        raw_units=(1.0 + health) * rounding[owing] / debt,
    )  # fmt: skip
    replay.compare(
        f"riskPremium {when}", indices, of("premium") / BPS, field("riskPremium"), raw_units=1e-6
    )


def _compare_after(
    replay: Replay,
    cases: list[dict],
    book: _Book,
    result: dict[str, np.ndarray],
    done: np.ndarray,
) -> None:
    """Compare every position and deficit after the calls that went through."""
    accounts = [cases[i]["after"]["account"] for i in done]
    _compare_account(replay, done, accounts, book, result, "after")
    share = {
        "suppliedShares": book.share,
        "drawnShares": book.unit * book.index,
        "premiumDebtRay": book.unit / RAY,
    }
    size = {
        "suppliedShares": book.claim,
        "drawnShares": book.drawn,
        "premiumDebtRay": book.premium + 2.0 * book.unit,
    }
    for what, unit in share.items():
        rows = [(i, r) for i in done for r in cases[i]["after"]["reserves"]]
        at = (np.array([r["reserve"] for _, r in rows]), np.array([i for i, _ in rows]))
        # A remainder is a difference: its error scales with what it was taken from.
        slack = 2.0 + 1e-9 * (size[what] / unit)[at]
        replay.compare(
            f"after.{what}", at[1], (result[what] / unit)[at], [float(r[what]) for _, r in rows],
            raw_units=slack,
        )  # fmt: skip
    deficit = (book.deficit + result["lost"]) / book.unit
    rows = [(int(a), i, v) for i in done for a, v in cases[i]["hubDeficitRayAfter"].items()]
    rows = [(a, i, v) for a, i, v in rows if any(r["reserve"] == a for r in cases[i]["reserves"])]
    at = (np.array([a for a, _, _ in rows]), np.array([i for _, i, _ in rows]))
    owed = ((book.drawn + book.premium) / book.unit)[at]
    replay.compare(
        "hubDeficitRayAfter", at[1], deficit[at], [float(v) / RAY for _, _, v in rows],
        raw_units=2.0 + 1e-9 * owed,
    )  # fmt: skip
    replay.compare(
        "bad debt", done, result["bad_debt"][done], result["lost"].sum(0)[done],
        raw_units=book.rounding()[done],
    )  # fmt: skip


def accrual(header: dict, cases: list[dict]) -> Replay:
    """Replay hub accrual, the rate strategy, and premium debt of single positions."""
    del header
    replay = Replay(len(cases))
    kinds = np.array([c["kind"] for c in cases])
    _reserves(replay, cases, np.flatnonzero(kinds == "reserve"))
    _users(replay, cases, np.flatnonzero(kinds == "user"))
    return replay


def _reserves(replay: Replay, cases: list[dict], indices: np.ndarray) -> None:
    top = lambda name, scale=1.0: jnp.asarray([float(cases[i][name]) / scale for i in indices])
    before = lambda name, scale=1.0: jnp.asarray(
        [float(cases[i]["before"][name]) / scale for i in indices]
    )
    hub = Hub(
        cash=before("liquidity"),
        swept=before("swept"),
        drawn_shares=before("drawnShares"),
        index=before("drawnIndex", RAY),
        premium=Premium(shares=before("premiumShares"), offset=before("premiumOffsetRay", RAY)),
        deficit=before("deficitRay", RAY),
        fees=before("realizedFees"),
        supply_shares=before("addedShares"),
        virtual=jnp.full(len(indices), VIRTUAL_AMOUNT),
    )
    curve = KinkedRate(
        base=top("baseDrawnRate", 1e4),
        slope1=top("rateGrowthBeforeOptimal", 1e4),
        slope2=top("rateGrowthAfterOptimal", 1e4),
        optimal_utilisation=top("optimalUsageRatio", 1e4),
        reserve_factor=before("liquidityFee", 1e4),
    )

    @jax.jit
    def run(hub: Hub, rate: jax.Array, years: jax.Array, amount: jax.Array) -> tuple:
        accrued = accrue(hub, rate, curve.reserve_factor, years)
        after, _ = supply(accrued, amount)
        use = utilisation(after.drawn(unit=jnp.asarray(1.0)), after.cash + after.swept)
        return accrued.supplied(), after, curve.borrow_rate(use)

    supplied, after, rate = run(hub, before("drawnRate", RAY), top("dt", YEAR), top("suppliedNow"))
    recorded = lambda name: np.array([float(cases[i]["after"][name]) for i in indices])
    replay.compare("addedAssetsView", indices, supplied, top("addedAssetsView"))
    for what, actual in (
        ("liquidity", after.cash),
        ("realizedFees", after.fees),
        ("addedShares", after.supply_shares),
        ("drawnIndex", after.index * RAY),
    ):
        replay.compare(what, indices, actual, recorded(what))
    # As in the rate strategy of the older version: utilisation next to the kink is a difference.
    steepest = np.asarray(curve.slope2 / (1.0 - curve.optimal_utilisation))
    slack = 2.0 + 4.0 * EPS * steepest * RAY
    replay.compare("drawnRate", indices, rate * RAY, recorded("drawnRate"), raw_units=slack)


def _users(replay: Replay, cases: list[dict], indices: np.ndarray) -> None:
    field = lambda name, scale=1.0: jnp.asarray([float(cases[i][name]) / scale for i in indices])
    index = field("drawnIndex", RAY)
    stored = Premium(shares=field("premiumShares"), offset=field("premiumOffsetRay", RAY))

    @jax.jit
    def run(drawn_shares: jax.Array, rate: jax.Array, stored: Premium) -> tuple:
        owed = stored.debt(index)
        one = jnp.asarray(1.0)
        return owed, premium_at(drawn_shares, rate, index, owed, unit=one), drawn_shares * index

    owed, now, drawn = run(field("drawnShares"), field("userRiskPremium", 1e4), stored)
    replay.compare("drawnDebt", indices, drawn, field("drawnDebt"))
    replay.compare("premiumShares", indices, now.shares, field("premiumShares"))
    # Premium debt is recorded as a small difference of two large numbers, in whole units of which
    # float64 keeps 53 bits.
    slack = 2.0 + 4.0 * EPS * np.asarray(stored.shares * index)
    replay.compare("premiumDebt", indices, owed, field("premiumDebt"), raw_units=slack)
    replay.compare("premiumDebtRay", indices, owed, field("premiumDebtRay", RAY), raw_units=slack)


ADAPTERS = {
    "aave_v4_liquidation": liquidation,
    "aave_v4_accrual": accrual,
}
