"""From outcomes to tables and the summary: names, units and shapes of what a run writes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Key

from jaxrisk.gradient.sensitivity import Sensitivity, sensitivities
from jaxrisk.measure.exposure import limit_rows, liquidation_table, snapshot
from jaxrisk.measure.leverage import account_columns
from jaxrisk.measure.owner import owner_table
from jaxrisk.measure.solvency import solvency_report
from jaxrisk.measure.tail import exceedance_probability, mean_and_error, tail_summary
from jaxrisk.measure.vault import Vault, vault_share_prices
from jaxrisk.run.build import Built
from jaxrisk.run.build_market import HOURS_A_YEAR
from jaxrisk.run.columns import bearer_column
from jaxrisk.run.config import Config
from jaxrisk.run.formatting import headline
from jaxrisk.system.execution import play_of
from jaxrisk.system.owners import OwnerFlow
from jaxrisk.system.simulate import Outcome
from jaxrisk.system.system import System
from jaxrisk.system.trace import Trace
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.staked_coverage import StakedCoverage
from jaxrisk.venue.venue import Pool, Venue
from jaxrisk.venue.waterfall import DEPOSITORS, Residual

MEASURES = (
    "bad_debt_usd",
    "liquidated_usd",
    "converted_usd",
    "conversion_loss_usd",
    "borrower_loss_usd",
    "supplier_loss_usd",
    "shortfall_usd",
    "keeper_profit_usd",
    "protocol_fee_usd",
)
PRICE_CHANGES = np.round(np.linspace(-0.8, 0.2, 101), 4)
# Contracts are called on either side.
BEYOND = np.round(np.linspace(0.22, 0.8, 30), 4)
QUANTILES = (5, 25, 50, 75, 95)

# Bad debt below this share of what is lent or held on margin is rounding of float32, not a loss.
_DUST = 1e-9


def scenario_table(
    system: System, outcome: Outcome, first: int, vaults: Sequence[Vault] = ()
) -> dict[str, np.ndarray]:
    """Return the `scenarios` columns of consecutive scenarios, the first of which is `first`."""
    wide = lambda x: np.asarray(x, np.float64)
    count = len(outcome.rounds)
    dust = _dust(system)
    clean = lambda x: np.where(np.abs(x) > dust, x, 0.0)
    table: dict[str, np.ndarray] = {
        "scenario": np.arange(first, first + count),
        "bad_debt_usd": clean(wide(outcome.bad_debt).sum(axis=1)),
        "liquidated_usd": wide(outcome.liquidated).sum(axis=1),
        "borrower_loss_usd": wide(outcome.borrower_loss).sum(axis=1),
        "supplier_loss_usd": clean(wide(outcome.supplier_loss).sum(axis=1)),
        "shortfall_usd": clean(wide(outcome.shortfall).sum(axis=1)),
        "keeper_profit_usd": clean(wide(outcome.keeper_profit).sum(axis=1)),
        "protocol_fee_usd": wide(outcome.protocol_fee).sum(axis=1),
        "conservation_error_frac": wide(outcome.conservation_error),
        "rounds": wide(outcome.rounds),
        "converged": wide(outcome.unconverged) == 0,
    }
    if any(isinstance(venue.execution, BandConversion) for venue in system.venues):
        table["converted_usd"] = wide(outcome.converted).sum(axis=1)
        table["conversion_loss_usd"] = wide(outcome.conversion_loss).sum(axis=1)
    for i, asset in enumerate(system.assets):
        table[f"final_price_{asset}_usd"] = wide(outcome.price)[:, i]
    for claim in system.claims:
        table[f"claim_{system.assets[claim.asset]}_rate"] = wide(outcome.rate)[:, claim.asset]
    for v, venue in enumerate(system.venues):
        table[f"bad_debt_{venue.name}_usd"] = clean(wide(outcome.bad_debt)[:, v])
        table[f"liquidated_{venue.name}_usd"] = wide(outcome.liquidated)[:, v]
        for bearer, values in _borne(venue, v, outcome):
            table[bearer_column(bearer, venue.name)] = clean(wide(values))
        if any(isinstance(fund, StakedCoverage) for fund in venue.waterfall):
            table[f"slash_fee_{venue.name}_usd"] = wide(outcome.slash_fee)[:, v]
        if play_of(venue).margin is not None:
            table[f"funding_{venue.name}_usd"] = wide(outcome.funding)[:, v]
        if play_of(venue).unsold is not None:
            table[f"unsold_{venue.name}_usd"] = wide(outcome.unsold)[:, v]
        if venue.residual is Residual.BORROWERS:
            table[f"redeemed_{venue.name}_usd"] = wide(outcome.redeemed)[:, v]
        if venue.residual in (Residual.BORROWERS, Residual.LENDERS):
            table[f"depositor_gain_{venue.name}_usd"] = wide(outcome.depositor_gain)[:, v]
        table |= {name: clean(wide(x)) for name, x in _owner_columns(venue, v, outcome)}
    for vault in vaults:
        stated, marked = vault_share_prices(system, outcome, vault)
        table[f"vault_{vault.name}_stated_share_price"] = wide(stated)
        table[f"vault_{vault.name}_marked_share_price"] = wide(marked)
    return table


def _owner_columns(venue: Venue, index: int, outcome: Outcome) -> list[tuple[str, np.ndarray]]:
    """Return what owners did on a venue in each scenario, nothing where they do not act."""
    if outcome.owner_flows is None:
        return []
    flow = lambda entry: np.asarray(outcome.owner_flows)[:, entry, index]
    slippage = flow(OwnerFlow.SOLD) - flow(OwnerFlow.PROCEEDS)
    slippage = slippage + flow(OwnerFlow.SPENT) - flow(OwnerFlow.BOUGHT)
    columns = {
        "cash": flow(OwnerFlow.PAID_IN),
        "freed": flow(OwnerFlow.TAKEN_OUT),
        "sold": flow(OwnerFlow.SOLD),
        "repaid": flow(OwnerFlow.REPAID),
        "drawn": flow(OwnerFlow.DRAWN),
        "slippage": slippage,
    }
    return [(f"owner_{name}_{venue.name}_usd", values) for name, values in columns.items()]


def _dust(system: System) -> float:
    """Return the loss up to which it is rounding."""
    mid = np.asarray(system.market.mid, np.float64)
    return _DUST * sum(
        float(np.asarray(v.pool[_at_stake(v)], np.float64) @ mid[list(v.accounts.debt_assets)])
        for v in system.venues
    )


def _at_stake(venue: Venue) -> Pool:
    """Return the row of the balance sheet that losses of a venue are measured against."""
    return Pool.DEBT if play_of(venue).margin is None else Pool.SUPPLIED


def _borne(venue: Venue, index: int, outcome: Outcome) -> list[tuple[str, np.ndarray]]:
    """Return each bearer of a venue with what it bore in each scenario."""
    paid = [outcome.paid[:, index, layer] for layer in range(len(venue.fund_names))]
    if (bearers := play_of(venue).bearers) is not None:
        paid += [getattr(outcome, name)[:, index] for _, name in bearers(venue)]
        return list(zip(_bearers_of(venue), [np.asarray(x) for x in paid], strict=True))
    if venue.treasury_pays:
        paid.insert(0, outcome.treasury_loss[:, index])
    if venue.residual is Residual.BORROWERS:
        paid.append(outcome.depositor_loss[:, index])
    last = {
        Residual.DILUTED: outcome.dilution,
        # What is never recognised is still short at the end.
        Residual.STANDING: outcome.shortfall,
        Residual.BORROWERS: outcome.redistributed_loss,
        Residual.LENDERS: outcome.depositor_loss,
    }
    paid.append(last.get(venue.residual, outcome.supplier_loss)[:, index])
    return list(zip(_bearers_of(venue), [np.asarray(x) for x in paid], strict=True))


def _bearers_of(venue: Venue) -> tuple[str, ...]:
    """Return who bears a venue's losses, in order."""
    if (bearers := play_of(venue).bearers) is not None:
        return (*venue.fund_names, *(bearer for bearer, _ in bearers(venue)))
    own = ("treasury",) if venue.treasury_pays else ()
    pooled = (DEPOSITORS,) if venue.residual is Residual.BORROWERS else ()
    return (*own, *venue.fund_names, *pooled, venue.residual.value)


def account_table(built: Built, trace: Trace) -> dict[str, Any]:
    """Return the `accounts` columns: the snapshot, and expected losses over the traced paths."""
    system, parts = built.system, []
    for venue, book, paths in zip(system.venues, built.books, trace.accounts, strict=True):
        bad = np.asarray(paths.written_off)
        lost = np.asarray(paths.seized - paths.repaid + paths.converted)
        touched = (np.asarray(paths.seized) > 0) | (bad > 0)
        columns: dict[str, Any] = {
            "account_id": np.array(book.account_id, dtype=object),
            "venue": np.full(len(book.account_id), venue.name, dtype=object),
            "category": np.array(book.category, dtype=object),
            "owner": np.array(book.owner, dtype=object),
            **account_columns(venue, system.market, built.volatile),
            "expected_bad_debt_usd": bad.mean(axis=0),
            "expected_bad_debt_standard_error_usd": bad.std(axis=0, ddof=1) / np.sqrt(len(bad))
            if len(bad) > 1
            else np.full(bad.shape[1], np.nan),
            "liquidation_probability_frac": touched.mean(axis=0),
            "expected_loss_usd": lost.mean(axis=0),
        }
        parts.append(columns)
    names = list(dict.fromkeys(name for part in parts for name in part))
    return {name: np.concatenate([_column(part, name) for part in parts]) for name in names}


def _column(part: Mapping[str, Any], name: str) -> np.ndarray:
    missing = np.full(len(part["account_id"]), np.nan)
    return np.asarray(part.get(name, missing))


def liquidation_map_table(built: Built) -> dict[str, np.ndarray]:
    """Return the `liquidation_map` columns."""
    changes = PRICE_CHANGES
    if any(play_of(venue).margin is not None for venue in built.system.venues):
        changes = np.concatenate([changes, BEYOND])
    return liquidation_table(built.system, changes.tolist(), built.volatile)


def owners_table(built: Built) -> dict[str, np.ndarray] | None:
    """Return the `owners` columns; `None` where the book names no owner."""
    owners = [book.owner for book in built.books]
    return owner_table(built.system, owners) if any(map(any, owners)) else None


def path_quantile_table(system: System, trace: Trace, step_hours: float) -> dict[str, Any]:
    """Return the `path_quantiles` columns: prices and losses so far, from the opening on."""
    opening = np.asarray(system.market.mid, np.float64)
    series: dict[str, np.ndarray] = {}
    for i, asset in enumerate(system.assets):
        path = np.asarray(trace.mid)[:, :, i]
        series[f"price.{asset}"] = np.column_stack([np.full(len(path), opening[i]), path])
    for name in ("bad_debt", "liquidated", "supplier_loss"):
        path = np.asarray(getattr(trace, name)).sum(axis=2)
        path = np.where(np.abs(path) > _dust(system), path, 0.0)
        series[f"{name}_usd"] = np.column_stack([np.zeros(len(path)), path])
    table: dict[str, list] = {"quantity": [], "step": [], "time_hours": []}
    table |= {f"q{q:02d}": [] for q in QUANTILES} | {"mean": []}
    for quantity, path in series.items():
        steps = np.arange(path.shape[1])
        table["quantity"] += [quantity] * len(steps)
        table["step"] += steps.tolist()
        table["time_hours"] += (steps * step_hours).tolist()
        for q in QUANTILES:
            table[f"q{q:02d}"] += np.percentile(path, q, axis=0).tolist()
        table["mean"] += path.mean(axis=0).tolist()
    return {name: np.array(values) for name, values in table.items()}


def sensitivity_rows(
    config: Config, system: System, key: Key[Array, ""], notice: Callable[[str], None]
) -> list[Sensitivity]:
    """Return the sensitivities the configuration asks for."""
    wanted, run = config.sensitivities, config.run
    return sensitivities(
        system,
        key,
        scenarios=min(wanted.scenarios, run.scenarios),
        steps=run.steps,
        step_years=run.step_hours / HOURS_A_YEAR,
        measures=wanted.measures,
        kinds=wanted.parameters,
        confidence=max(run.confidences),
        rounds=run.rounds,
        width=wanted.gate_width,
        extrapolate=wanted.extrapolate,
        bump=wanted.bump,
        on_progress=notice,
    )


def sensitivity_table(rows: Sequence[Sensitivity]) -> dict[str, np.ndarray]:
    """Return the `sensitivities` columns."""
    names = [field.name for field in dataclasses.fields(Sensitivity)]
    return {name: np.array([getattr(row, name) for row in rows]) for name in names}


def summarise(
    config: Config,
    built: Built,
    scenarios: Mapping[str, np.ndarray],
    rows: Sequence[Sensitivity],
    *,
    traced: int,
) -> dict[str, Any]:
    """Return the content of `summary.json`, but for the `run` section."""
    levels, threshold = config.run.confidences, config.report.bad_debt_threshold_usd
    state = snapshot(built.system)
    chance = lambda losses, above: dict(
        zip(("mean", "standard_error"), exceedance_probability(losses, above), strict=True)
    )
    bad_debt = scenarios["bad_debt_usd"]
    unconverged = 1.0 - scenarios["converged"].astype(np.float64)
    summary: dict[str, Any] = {
        "name": config.name,
        "synthetic": built.synthetic,
        "measures": {
            name: tail_summary(scenarios[name], levels) for name in MEASURES if name in scenarios
        },
        "probabilities": {
            "any_bad_debt": chance(bad_debt, 0.0),
            "bad_debt_above_threshold": {
                "threshold_usd": threshold,
                **chance(bad_debt, threshold),
            },
            "unconverged": chance(unconverged, 0.5),
        },
        "bearers": _bearers(built.system, scenarios, max(levels)),
        "vaults": {vault.name: _vault_summary(vault, scenarios, levels) for vault in built.vaults},
        "solvency": solvency_report(built.system),
        "snapshot": state,
        "limits": limit_rows(built.system),
        "sensitivities": [dataclasses.asdict(row) for row in rows],
        "data_quality": [*built.data_quality, *book_findings(built)],
        "assumptions": [
            *built.assumptions,
            f"account losses and fans are from the first {traced} scenarios",
        ],
    }
    summary["run"] = {"steps": config.run.steps, "step_hours": config.run.step_hours}
    summary["run"]["scenarios"] = config.run.scenarios
    summary["headline"] = headline(summary)
    return summary


def _bearers(
    system: System, scenarios: Mapping[str, np.ndarray], confidence: float
) -> list[dict[str, Any]]:
    result = []
    for venue in system.venues:
        for bearer in _bearers_of(venue):
            losses = scenarios[bearer_column(bearer, venue.name)]
            mean, error = mean_and_error(losses)
            tail = tail_summary(losses, (confidence,))[f"es_{confidence:g}"]
            result.append(
                {
                    "venue": venue.name,
                    "bearer": bearer,
                    "mean_usd": mean,
                    "standard_error_usd": error,
                    "es_usd": tail,
                }
            )
    return result


def _vault_summary(
    vault: Vault, scenarios: Mapping[str, np.ndarray], levels: Sequence[float]
) -> dict[str, Any]:
    """Return a vault's share prices at the end, and the loss a share takes at its claims' worth."""
    stated, marked = (
        scenarios[f"vault_{vault.name}_{kind}_share_price"] for kind in ("stated", "marked")
    )
    gap = mean_and_error(stated - marked)
    return {
        "loss": vault.rule.loss.value,
        "stated_share_price": mean_and_error(stated)[0],
        "marked_share_price": mean_and_error(marked)[0],
        "lowest_marked_share_price": float(marked.min()),
        "hidden_loss_frac": gap[0],
        "hidden_loss_frac_standard_error": gap[1],
        "loss_frac": tail_summary(1.0 - marked, levels),
    }


def book_findings(built: Built) -> list[str]:
    """Return what stands out in the book: accounts under water, caps it is above."""
    findings = [
        f"venue {row['venue']}: {row['limit']} of {row['most']:g} {row['asset']} is below the "
        f"{row['used']:g} in the book"
        for row in limit_rows(built.system)
        if float(row["used"]) > float(row["most"])
    ]
    for venue, book in zip(built.system.venues, built.books, strict=True):
        columns = account_columns(venue, built.system.market, built.volatile)
        what_counts = "notional" if "notional_usd" in columns else "debt"
        debt = columns[f"{what_counts}_usd"]
        equity = columns.get("equity_usd", columns["collateral_usd"] - columns["debt_usd"])
        total = debt.sum()
        for what, hit in (
            ("have health factor < 1 at the start: keepers may call them from the first step",
             columns["health_factor"] < 1.0),
            ("owe more than their collateral is worth at the start",
             equity < 0),
        ):  # fmt: skip
            if hit.any():
                first = int(np.argmax(hit))
                findings.append(
                    f"venue {venue.name}: {int(hit.sum())} accounts "
                    f"({debt[hit].sum() / total:.2%} of {what_counts}) {what}; first: "
                    f"{book.account_id[first]} (health {columns['health_factor'][first]:.3f})"
                )
    return findings
