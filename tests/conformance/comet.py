"""Compound III: absorptions, storefront sales and the two rate curves, as recorded."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.absorption import Absorption, backing_surplus, reserves_paid
from jaxrisk.venue.settlement import Refusal, Settlement
from jaxrisk.venue.slope_rate import SlopeRate, TwoSlopeRates, per_period
from jaxrisk.venue.storefront import Purchase, Storefront
from tests.conformance.comparison import Replay, reason

PRICE_UNIT = 1e-8  # prices and values carry 8 decimals
WAD = 1e18
SECONDS_PER_YEAR = 31_536_000.0
REVERTS = {"NotLiquidatable": Refusal.HEALTHY, "InsufficientReserves": Refusal.EXCEEDS_INVENTORY}
REVERTS["NotForSale"] = Refusal.NOT_FOR_SALE


def absorb(header: dict, cases: list[dict]) -> Replay:
    """Replay `absorb`: both account tests, what reserves pay, the borrower's new balance."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    table = lambda field: _padded(cases, field)
    base_unit = _column(cases, "basePrice") * PRICE_UNIT / 10.0 ** _column(cases, "baseDecimals")
    amount_unit = table("price") * PRICE_UNIT / 10.0 ** table("decimals")
    collateral = jnp.asarray(table("balance") * amount_unit)
    debt = jnp.asarray(_column(cases, "borrowBalance") * base_unit)
    borrow_weight = jnp.asarray(table("borrowCF") / WAD)
    rule = Absorption(
        liquidation_threshold=jnp.asarray(table("liquidateCF") / WAD),
        liquidation_factor=jnp.asarray(table("liquidationFactor") / WAD),
    )

    @jax.jit
    def run(collateral: jax.Array, debt: jax.Array, unit: jax.Array) -> tuple:
        value_unit = jnp.asarray(PRICE_UNIT)
        absorbed = rule.absorb(collateral, debt, value_unit=value_unit, debt_unit=unit)
        surplus = backing_surplus(collateral, borrow_weight, debt, value_unit=value_unit)
        return absorbed, surplus

    absorbed, surplus = run(collateral, debt, jnp.asarray(base_unit))
    refusal = [Refusal(int(r)).name for r in absorbed.refusal]
    recorded = [
        reason(REVERTS, c["revertReason"]).name if c["absorbReverted"] else Refusal.NONE.name
        for c in cases
    ]
    replay.compare_labels("refusal", indices, refusal, recorded)
    liquidatable = [c["isLiquidatable"] for c in cases]
    replay.compare_labels("liquidatable", indices, [r == "NONE" for r in refusal], liquidatable)
    replay.compare_labels(
        "collateralised",
        indices,
        [bool(s >= 0) for s in surplus],
        [c["isBorrowCollateralized"] for c in cases],
    )
    _compare_absorbed(replay, cases, absorbed, base_unit)
    return replay


def _compare_absorbed(
    replay: Replay, cases: list[dict], absorbed: Settlement, base_unit: np.ndarray
) -> None:
    done = np.flatnonzero([not c["absorbReverted"] for c in cases])
    chosen = [cases[i] for i in done]
    in_base = lambda x: np.asarray(x)[done] / base_unit[done]
    paid = np.asarray(reserves_paid(absorbed))[done]
    recorded = lambda field: _column(chosen, field)
    replay.compare("basePaidOut", done, paid / base_unit[done], recorded("basePaidOut"))
    replay.compare("valueOfBasePaidOut", done, paid / PRICE_UNIT, recorded("valueOfBasePaidOut"))
    seized = [sum(float(s["usdValue"]) for s in c["seized"]) for c in chosen]
    replay.compare("seized", done, np.asarray(absorbed.seized)[done] / PRICE_UNIT, seized)
    # Balances and reserves are differences: their errors scale with what they are taken from.
    owed = recorded("borrowBalance")
    replay.compare(
        "balanceAfter",
        done,
        in_base(absorbed.refund),
        recorded("balanceAfter"),
        raw_units=2.0 + 1e-12 * owed,
    )
    left = owed - in_base(absorbed.repaid) - in_base(absorbed.bad_debt)
    replay.compare(
        "borrowBalanceAfter", done, left, recorded("borrowBalanceAfter"),
        raw_units=2.0 + 1e-12 * owed,
    )  # fmt: skip
    reserves = recorded("reservesBefore") - paid / base_unit[done]
    replay.compare("reservesAfter", done, reserves, recorded("reservesAfter"))


def buy_collateral(header: dict, cases: list[dict]) -> Replay:
    """Replay `quoteCollateral` and `buyCollateral`."""
    del header
    replay = Replay(len(cases))
    column = lambda name: _column(cases, name)
    unit = 10.0 ** -column("collDecimals")
    base_unit = column("basePrice") * PRICE_UNIT / 10.0 ** column("baseDecimals")
    front = Storefront(
        discount_share=jnp.asarray(column("storeFrontPriceFactor") / WAD),
        liquidation_factor=jnp.asarray(column("liquidationFactor") / WAD),
        target_reserves=jnp.asarray(column("targetReserves") * base_unit),
    )

    @jax.jit
    def run(
        payment: jax.Array, price: jax.Array, inventory: jax.Array, held: jax.Array
    ) -> Purchase:
        return front.buy(
            payment,
            price=price,
            inventory=inventory,
            reserves=held,
            price_unit=jnp.asarray(PRICE_UNIT),
            collateral_unit=jnp.asarray(unit),
        )

    sold = run(
        jnp.asarray(column("baseAmount") * base_unit),
        jnp.asarray(column("assetPrice") * PRICE_UNIT),
        jnp.asarray(column("collateralReserves") * unit),
        jnp.asarray(column("reservesBefore") * base_unit),
    )
    indices = np.arange(len(cases))
    recorded = [
        reason(REVERTS, c["revertReason"]) if c["reverted"] else Refusal.NONE for c in cases
    ]
    replay.compare_labels(
        "refusal", indices, [Refusal(int(r)).name for r in sold.refusal], [r.name for r in recorded]
    )
    replay.compare("quote", indices, np.asarray(sold.quoted) / unit, column("quoteCollateral"))
    done = np.flatnonzero([not c["reverted"] for c in cases])
    chosen = [cases[i] for i in done]
    bought = np.asarray(sold.bought) / unit
    replay.compare("bought", done, bought[done], _column(chosen, "bought"))
    reserves = column("reservesBefore") + np.asarray(sold.paid) / base_unit
    replay.compare("reservesAfter", done, reserves[done], _column(chosen, "reservesAfter"))
    return replay


def rates(header: dict, cases: list[dict]) -> Replay:
    """Replay `getBorrowRate` and `getSupplyRate`, per second."""
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray(_column(cases, name) / WAD)
    unit = jnp.asarray(1.0 / WAD)

    def curve(side: str) -> SlopeRate:
        stored = lambda name: per_period(
            column(f"{side}{name}PerYear"), jnp.asarray(SECONDS_PER_YEAR), unit
        )
        return SlopeRate(
            base=stored("Base"),
            slope_below=stored("SlopeLow"),
            slope_above=stored("SlopeHigh"),
            kink=column(f"{side}Kink"),
            rate_unit=unit,
        )

    curves = TwoSlopeRates(borrow=curve("borrow"), supply=curve("supply"))

    @jax.jit
    def run(use: jax.Array) -> tuple[jax.Array, jax.Array]:
        return curves.borrow_rate(use), curves.supply_rate(use)

    borrow, supply = run(column("utilization"))
    indices = np.arange(len(cases))
    for what, rate in (("borrowRatePerSecond", borrow), ("supplyRatePerSecond", supply)):
        replay.compare(what, indices, np.asarray(rate) * WAD, _column(cases, what))
    return replay


def _column(cases: list[dict], name: str) -> np.ndarray:
    return np.array([float(c[name]) for c in cases])


def _padded(cases: list[dict], field: str) -> np.ndarray:
    """One column a case, one row a collateral it holds; rows beyond hold nothing."""
    width = max(len(c["collateral"]) for c in cases)
    table = np.zeros((width, len(cases)))
    for i, case in enumerate(cases):
        for row, held in enumerate(case["collateral"]):
            table[row, i] = float(held[field])
    return table


ADAPTERS = {"comet_absorb": absorb, "comet_buy_collateral": buy_collateral, "comet_rates": rates}
