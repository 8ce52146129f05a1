"""Compound v2: liquidations and their refusals, utilisation and rates, as recorded."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.interest import utilisation
from jaxrisk.venue.offered_call import OfferedClose
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement
from jaxrisk.venue.slope_rate import SharedSlopeRate, SlopeRate, per_period
from tests.conformance.comparison import Replay, reason

WAD = 1e18
BLOCKS_PER_YEAR = 2_102_400.0
REVERTS = {
    "LiquidateComptrollerRejection(3,)": Refusal.HEALTHY,
    "LiquidateComptrollerRejection(17,)": Refusal.EXCEEDS_ALLOWANCE,
    "Error:LIQUIDATE_SEIZE_TOO_MUCH": Refusal.EXCEEDS_POSITION,
}


class _Book:
    """Cases as arrays: one account a case, one row an asset, values in USD."""

    def __init__(self, cases: list[dict]) -> None:
        shape = (1 + max(p["asset"] for c in cases for p in c["positions"]), len(cases))
        collateral, debt, self.weight = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.token_unit, self.unit, self.exchange = np.ones(shape), np.ones(shape), np.ones(shape)
        for i, case in enumerate(cases):
            for p in case["positions"]:
                at = (p["asset"], i)
                self.unit[at] = float(p["price"]) / WAD / WAD
                self.exchange[at] = float(p["exchangeRate"]) / WAD
                self.token_unit[at] = self.unit[at] * self.exchange[at]
                collateral[at] = float(p["cTokens"]) * self.token_unit[at]
                debt[at] = float(p["borrowBalance"]) * self.unit[at]
                self.weight[at] = float(p["collateralFactor"]) / WAD
        self.backing, self.total_debt = (collateral * self.weight).sum(0), debt.sum(0)
        pick = lambda table, side: table[[c[side] for c in cases], np.arange(len(cases))]
        self.called_weight = pick(self.weight, "collateral")
        self.collateral_unit = pick(self.token_unit, "collateral")
        self.exchange_rate = pick(self.exchange, "collateral")
        self.debt_unit = pick(self.unit, "debt")
        self.held, self.owed = pick(collateral, "collateral"), pick(debt, "debt")
        self.position = Position(
            collateral=jnp.asarray(self.held),
            debt=jnp.asarray(self.owed),
            total_collateral=jnp.asarray(collateral.sum(0)),
            total_debt=jnp.asarray(self.total_debt),
            backing=jnp.asarray(self.backing),
            credit=jnp.asarray(_column(cases, "liquidationIncentive") / WAD),
            fee_share=jnp.zeros(len(cases)),
            collateral_unit=jnp.asarray(self.collateral_unit),
            debt_unit=jnp.asarray(self.debt_unit),
        )


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `liquidateBorrow`: account liquidity, amounts, the protocol's share, refusals."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    book = _Book(cases)
    rule = OfferedClose(
        close_factor=jnp.asarray(_column(cases, "closeFactor") / WAD),
        seizure_fee=jnp.asarray(_column(cases, "protocolSeizeShare") / WAD),
    )
    # The contract pays a ratio of collateral tokens per debt unit, truncated at 1e-18.
    ratio_unit = jnp.asarray(book.collateral_unit / book.debt_unit / WAD)

    @jax.jit
    def run(position: Position, repay: jax.Array) -> Settlement:
        return rule.call(position, repay, ratio_unit=ratio_unit)

    call = run(book.position, jnp.asarray(_column(cases, "repayIn") * book.debt_unit))
    recorded = [
        reason(REVERTS, c["revertReason"]) if c["reverted"] else Refusal.NONE for c in cases
    ]
    replay.compare_labels(
        "refusal", indices, [Refusal(int(r)).name for r in call.refusal], [r.name for r in recorded]
    )
    surplus = book.backing - book.total_debt
    # A surplus is a difference: its error scales with what it is the difference of.
    slack = 2.0 + 1e-12 * (book.backing + book.total_debt) * WAD
    for what, actual in (("liquidity", surplus), ("shortfall", -surplus)):
        replay.compare(
            what, indices, np.maximum(actual, 0.0) * WAD, _column(cases, what), raw_units=slack
        )
    _compare_after(replay, cases, book, call, slack)
    return replay


def _compare_after(
    replay: Replay, cases: list[dict], book: _Book, call: Settlement, slack: np.ndarray
) -> None:
    done = np.flatnonzero([not c["reverted"] for c in cases])
    recorded = lambda name: _column([cases[i] for i in done], name)
    repaid, seized, fee = (np.asarray(x) for x in (call.repaid, call.seized, call.fee))
    tokens = lambda x: (x / book.collateral_unit)[done]
    replay.compare("seizeTokens", done, tokens(seized), recorded("seizeTokens"))
    replay.compare("toLiquidator", done, tokens(seized - fee), recorded("tokensToLiquidator"))
    reserves = tokens(fee) * book.exchange_rate[done]
    replay.compare(
        "reservesAdded", done, reserves, recorded("reservesAdded"),
        # Underlying per token is a factor of up to 1e10, and the fee may be off by one token.
        raw_units=2.0 + book.exchange_rate[done],
    )  # fmt: skip
    debt_left = (book.owed - repaid) / book.debt_unit
    replay.compare("borrowAfter", done, debt_left[done], recorded("borrowAfter"))
    replay.compare("cTokensAfter", done, tokens(book.held - seized), recorded("cTokensAfter"))
    shortfall = book.total_debt - repaid - (book.backing - book.called_weight * seized)
    # The protocol's tokens are burned for reserves rounded down to whole units of the underlying;
    # the fraction left over, less than one unit, stays with the holders of that collateral.
    left_over = book.called_weight * book.collateral_unit / book.exchange_rate * WAD
    replay.compare(
        "shortfallAfter", done, np.maximum(shortfall[done], 0.0) * WAD, recorded("shortfallAfter"),
        raw_units=(slack + left_over)[done],
    )  # fmt: skip


def rates(header: dict, cases: list[dict]) -> Replay:
    """Replay `utilizationRate`, `getBorrowRate` and `getSupplyRate`, per block."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    column = lambda name: jnp.asarray(_column(cases, name) / WAD)
    unit, blocks = jnp.asarray(1.0 / WAD), jnp.asarray(BLOCKS_PER_YEAR)
    # The constructor is given the rate *at* the kink and stores the slope up to it.
    rule = SharedSlopeRate(
        borrow=SlopeRate(
            base=per_period(column("baseRatePerYear"), blocks, unit),
            slope_below=per_period(column("multiplierPerYear") / column("kink"), blocks, unit),
            slope_above=per_period(column("jumpMultiplierPerYear"), blocks, unit),
            kink=column("kink"),
            rate_unit=unit,
        ),
        reserve_factor=column("reserveFactor"),
    )

    @jax.jit
    def run(debt: jax.Array, cash: jax.Array, reserves: jax.Array) -> tuple:
        use = utilisation(debt, cash - reserves)
        return use, rule.borrow_rate(use), rule.supply_rate(use)

    use, borrow, supply = run(*(column(name) for name in ("borrows", "cash", "reserves")))
    for what, actual in (
        ("utilization", use),
        ("borrowRatePerBlock", borrow),
        ("supplyRatePerBlock", supply),
    ):
        replay.compare(what, indices, np.asarray(actual) * WAD, _column(cases, what))
    return replay


def _column(cases: list[dict], name: str) -> np.ndarray:
    return np.array([float(c[name]) for c in cases])


ADAPTERS = {"compound_v2_liquidation": liquidation, "compound_v2_rates": rates}
