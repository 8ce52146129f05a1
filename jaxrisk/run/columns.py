"""The registry of output columns: unit and meaning of everything a run writes to Parquet.

The writer stores unit and meaning in each field's metadata and refuses a column that is not here,
the report names its files from here, and the documentation prints `markdown()`. A name may hold
placeholders, as in `final_price_{asset}_usd`; exact names are matched before templates.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

BEARERS: dict[str, str] = {
    "reserve": "paid by the venue's reserve",
    "insurance": "paid by the insurance capacity",
    "suppliers (written down)": "taken by suppliers as a write-down of their claims",
    "suppliers (deficit carried)": "left in the pool as a deficit that suppliers carry",
    "stability pool depositors": "paid by depositors for debts beyond the collateral they got",
    "other borrowers (redistributed)": "handed to the other borrowers, debt beyond collateral",
    "lenders (highest price first)": "written off deposits after reserves, those at the highest "
    "prices first",
    "suppliers (debt left standing)": "left on the books as debt without collateral that nobody "
    "recognises",
    "auto-deleveraging": "taken from profitable counterparties by auto-deleveraging",
    "open positions (socialised)": "spread over all accounts with open positions, by notional",
    "accounts that gained (socialised)": "spread over all accounts that have gained, by gain",
    "account holders (deficit carried)": "missing from what the venue holds for its accounts",
    "treasury": "paid out of the protocol's own claims: interest, penalties and gains on sales",
    "token holders (dilution)": "raised by issuing the protocol's token",
}
"""Who can end up with a loss, and how. A preset with a new kind of bearer adds its name here."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One output column; `name` may be a template, `meaning` may repeat its placeholders."""

    name: str
    unit: str
    meaning: str
    required: bool = True


def slug(name: str) -> str:
    """Return `name` as it appears inside a column name: lower case, words joined by `_`.

    >>> slug("suppliers (written down)")
    'suppliers_written_down'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def bearer_column(bearer: str, venue: str) -> str:
    """Return the scenarios column that holds what `bearer` lost on `venue`."""
    return f"{slug(bearer)}_{venue}_usd"


def _columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    """Return columns from (name, unit, meaning); a name ending in `?` is optional."""
    return tuple(
        Column(
            name=name.removesuffix("?"),
            unit=unit,
            meaning=meaning,
            required=not (name.endswith("?") or "{" in name),
        )
        for name, unit, meaning in rows
    )


TABLES: dict[str, str] = {
    "scenarios": "one row a scenario: its outcome over the whole horizon",
    "accounts": "one row an account: snapshot at the start and expected losses",
    "sensitivities": "one row a measure and parameter: derivative, estimator and bump check",
    "owners": "one row an owner: accounts over all venues netted; where the book names owners",
    "liquidation_map": "debt and contracts that become liquidatable when prices move at once",
    "path_quantiles": "quantiles of prices and losses over time",
    "stresses": "one row a named stress: what it does to the book",
    "critical_points": "prices just below which several accounts fall together",
    "feedback": "forced sales of an asset as it falls, and how far they feed the fall",
    "survival": "what two shocks at once leave standing",
}

COLUMNS: dict[str, tuple[Column, ...]] = {
    "scenarios": _columns(
        ("scenario", "id", "scenario id; with inputs and seed it fixes the path"),
        ("bad_debt_usd", "USD", "bad debt recognised over the horizon"),
        ("liquidated_usd", "USD", "collateral seized in liquidations, at market prices"),
        ("converted_usd?", "USD", "collateral bought out of price bands, at market prices"),
        (
            "conversion_loss_usd?",
            "USD",
            "what borrowers lost to trades that convert their collateral in bands and back",
        ),
        (
            "borrower_loss_usd",
            "USD",
            "collateral seized from borrowers beyond the debt repaid, and conversion losses",
        ),
        ("supplier_loss_usd", "USD", "bad debt that ends on suppliers after the waterfall"),
        (
            "shortfall_usd?",
            "USD",
            "debt beyond collateral of accounts still open at the end, and claims beyond the worth "
            "of collateral taken over and not sold: not yet recognised",
        ),
        ("keeper_profit_usd", "USD", "liquidators' profit after slippage and cost"),
        ("protocol_fee_usd", "USD", "liquidation fees kept by the venue"),
        (
            "conservation_error_frac",
            "fraction",
            "largest gap between assets and claims of a venue's balance sheet, over its size",
        ),
        ("rounds", "count", "mean number of cascade rounds in a step"),
        ("converged", "bool", "every step's cascade ended within its bound of rounds"),
        ("final_price_{asset}_usd", "USD", "market price of {asset} at the end"),
        (
            "claim_{asset}_rate",
            "1",
            "units of its underlying behind one {asset} at the end",
        ),
        ("bad_debt_{venue}_usd", "USD", "bad debt recognised on {venue}"),
        ("liquidated_{venue}_usd", "USD", "collateral seized in liquidations on {venue}"),
        ("redeemed_{venue}_usd", "USD", "debt redeemed at face value on {venue}"),
        (
            "depositor_gain_{venue}_usd",
            "USD",
            "collateral that depositors of {venue} got beyond the debt they paid, at market prices",
        ),
        (
            "staker_coverage_{asset}_{venue}_usd",
            "USD",
            "bad debt on {venue} covered by slashing the stake behind {asset}",
        ),
        (
            "slash_fee_{venue}_usd",
            "USD",
            "taken from stakers of {venue} on top of the bad debt they covered, for the protocol",
        ),
        ("{bearer}_{venue}_usd", "USD", "bad debt on {venue} that ends on: {bearer}"),
        (
            "funding_{venue}_usd",
            "USD",
            "funding that accounts of {venue} paid to whoever stands outside of the book",
        ),
        ("owner_cash_{venue}_usd", "USD", "cash that owners added to accounts on {venue}"),
        ("owner_freed_{venue}_usd", "USD", "cash that owners took out of accounts on {venue}"),
        ("owner_sold_{venue}_usd", "USD", "collateral that owners on {venue} sold"),
        ("owner_repaid_{venue}_usd", "USD", "debt that owners on {venue} repaid"),
        ("owner_drawn_{venue}_usd", "USD", "new debt that owners on {venue} drew"),
        (
            "owner_slippage_{venue}_usd",
            "USD",
            "what owners on {venue} lost to market prices by selling and buying",
        ),
        ("unsold_{venue}_usd", "USD", "collateral {venue} took over and has not sold at the end"),
        ("vault_{vault}_stated_share_price", "1", "share price that {vault} states, opening 1"),
        (
            "vault_{vault}_marked_share_price",
            "1",
            "share of {vault} at what its claims are worth, unrecognised losses included",
        ),
    ),
    "accounts": _columns(
        ("account_id", "text", "account as named in the position table"),
        ("venue", "text", "venue the account stands on"),
        ("category?", "text", "collateral category (e-mode) the account has chosen"),
        ("owner?", "text", "owner as named in the position table"),
        ("collateral_usd", "USD", "value of collateral at the start"),
        ("equity_usd?", "USD", "collateral and profit of contracts at the start"),
        ("notional_usd?", "USD", "worth of what contracts are about, longs and shorts added up"),
        ("maintenance_margin_usd?", "USD", "equity that contracts need"),
        ("debt_usd", "USD", "value of debt at the start"),
        ("loan_to_value_frac", "fraction", "debt over collateral"),
        ("health_factor", "1", "threshold-weighted collateral over debt; liquidatable below 1"),
        ("leverage", "1", "collateral over equity"),
        ("debt_to_equity", "1", "debt over equity"),
        (
            "distance_to_liquidation_frac",
            "fraction",
            "joint fall of all volatile prices that makes the account liquidatable",
        ),
        (
            "liquidation_price_{asset}_usd",
            "USD",
            "price of {asset} at which the account becomes liquidatable, others unchanged",
        ),
        (
            "toxic",
            "bool",
            "loan-to-value above 1/(1 + bonus): a partial liquidation lowers the health factor",
        ),
        ("expected_bad_debt_usd", "USD", "mean bad debt the account leaves"),
        ("expected_bad_debt_standard_error_usd", "USD", "Monte Carlo standard error of that mean"),
        (
            "liquidation_probability_frac",
            "fraction",
            "share of scenarios in which it is called, taken over or redeemed",
        ),
        (
            "expected_loss_usd",
            "USD",
            "mean loss of the borrower; of auctioned vaults before the rest is returned",
        ),
    ),
    "sensitivities": _columns(
        ("measure", "text", "measure that is differentiated"),
        ("parameter", "text", "parameter it is differentiated by"),
        ("value", "parameter's unit", "value of the parameter"),
        ("derivative", "measure per parameter", "derivative by the named estimator"),
        ("standard_error", "measure per parameter", "Monte Carlo standard error of the derivative"),
        ("estimator", "text", "how the derivative was obtained"),
        ("bump_derivative", "measure per parameter", "central difference, common random numbers"),
        ("bump_standard_error", "measure per parameter", "standard error of the difference"),
        ("agrees", "bool", "estimator and bump agree within their errors, which are narrow enough"),
    ),
    "owners": _columns(
        ("owner", "text", "owner as named in the position table; an account without one by itself"),
        ("accounts", "count", "accounts of the owner"),
        ("venues", "count", "venues they stand on"),
        ("equity_usd", "USD", "what all of them have, less what they owe, at the start"),
        (
            "gross_exposure_usd",
            "USD",
            "change of equity by a log price, signs left out, summed over accounts and assets",
        ),
        (
            "net_exposure_usd",
            "USD",
            "the same of all accounts of the owner together, summed over assets",
        ),
        ("lowest_health", "1", "health factor of the account nearest to a call: never netted"),
    ),
    "liquidation_map": _columns(
        ("venue", "text", "venue"),
        ("asset", "text", "asset whose price moves; `all` moves every volatile asset together"),
        ("price_change_frac", "fraction", "price change, negative for a fall"),
        ("liquidatable_debt_usd", "USD", "debt of accounts with health factor below 1"),
        (
            "liquidatable_notional_usd?",
            "USD",
            "worth of what contracts of accounts on margin that would be called are about",
        ),
        ("liquidatable_collateral_usd", "USD", "collateral of those accounts at moved prices"),
        (
            "bad_debt_usd",
            "USD",
            "debt that full liquidation at moved prices would leave unpaid; of contracts what "
            "accounts then have less than nothing",
        ),
    ),
    "path_quantiles": _columns(
        ("quantity", "text", "`price.<asset>` or a loss accumulated so far"),
        ("step", "count", "step number, 0 at the start"),
        ("time_hours", "hours", "time since the start"),
        *((f"q{q}", "quantity's unit", f"{q} % quantile") for q in ("05", "25", "50", "75", "95")),
        ("mean", "quantity's unit", "mean over scenarios"),
    ),
    "stresses": _columns(
        ("stress", "name", "name of the stress, see `jaxrisk stresses`"),
        ("title", "text", "what it is"),
        ("hours", "h", "from the start to the trough"),
        ("played_hours", "h", "hours played, the same for all stresses of a run"),
        ("scenarios", "count", "scenarios behind the means: 1 where the path has no noise"),
        ("bad_debt_usd", "USD", "mean bad debt recognised"),
        ("liquidated_usd", "USD", "mean collateral seized"),
        ("borrower_loss_usd", "USD", "mean loss of borrowers to calls and conversions"),
        ("supplier_loss_usd", "USD", "mean bad debt that no fund covered"),
        ("shortfall_usd", "USD", "mean debt beyond collateral of accounts open at the end"),
        ("keeper_profit_usd", "USD", "mean profit of keepers"),
        ("worst_bad_debt_usd", "USD", "largest bad debt of a scenario"),
        ("moves", "text", "what the stress does to each asset, and by which rule"),
        ("bad_debt_{venue}_usd", "USD", "mean bad debt recognised on {venue}"),
        ("liquidated_{venue}_usd", "USD", "mean collateral seized on {venue}"),
    ),
    "critical_points": _columns(
        ("asset", "text", "asset that falls, with all that is pegged to it"),
        ("sold_asset", "text", "asset that is sold: the same, or one pegged to it"),
        ("price_usd", "USD", "price, without forced sales, just below which they fall"),
        ("price_change_frac", "fraction", "change from the present price to there"),
        (
            "distance_deviations",
            "1",
            "standard deviations of the log price over the horizon to there",
        ),
        ("accounts", "count", "accounts that fall: the first, and those its sales bring down"),
        ("sold_usd", "USD", "what they sell of it, closed whole"),
        ("own_drop_frac", "fraction", "fall of its price by these sales alone"),
    ),
    "feedback": _columns(
        ("asset", "text", "asset that falls, with all that is pegged to it"),
        ("sold_asset", "text", "asset that is sold: the same, or one pegged to it"),
        ("price_change_frac", "fraction", "price change, at most 0"),
        ("forced_sales_usd", "USD", "sales of it by all accounts closed down to there"),
        ("depth_cover", "1", "opening depth of it over these sales, infinite without any"),
        ("own_drop_frac", "fraction", "further fall of its price by these sales"),
        (
            "feedback_gain",
            "1",
            "log fall by sales of accounts just below, per unit of fall; 1 and more feeds itself",
        ),
        ("amplification", "1", "1 / (1 - gain): the whole fall per unit of its cause"),
    ),
    "survival": _columns(
        ("first_asset", "text", "asset of the first shock, with all that is pegged to it"),
        ("second_asset", "text", "asset of the second shock"),
        ("first_change_frac", "fraction", "price change of the first"),
        ("second_change_frac", "fraction", "price change of the second alone, on top"),
        ("liquidatable_debt_usd", "USD", "debt of accounts with health factor below 1"),
        ("bad_debt_usd", "USD", "debt that closing them whole would leave unpaid"),
        ("standing_debt_frac", "fraction", "share of all debt that stays healthy"),
    ),
}


def column(table: str, name: str) -> Column:
    """Return unit and meaning of one column, its placeholders filled in.

    Raises:
        KeyError: the table or the column is not in the registry.
    """
    templates = []
    for entry in COLUMNS[table]:
        if entry.name == name:
            return entry
        if "{" in entry.name:
            templates.append(entry)
    for entry in templates:
        match = re.fullmatch(_pattern(entry.name), name)
        if match:
            meaning = entry.meaning.format(**match.groupdict())
            return Column(name=name, unit=entry.unit, meaning=meaning, required=False)
    raise KeyError(f"column {name!r} of table {table!r} is not in the registry")


def check_columns(table: str, names: Iterable[str]) -> dict[str, Column]:
    """Return the registry entry of every column of a table, in the order given.

    Raises:
        ValueError: the table is unknown, a column is not documented, or a required one is missing.
            It is the program's error, not the user's, so it is not a `JaxriskError`.
    """
    if table not in COLUMNS:
        raise ValueError(f"unknown table {table!r}; known: {', '.join(COLUMNS)}")
    found: dict[str, Column] = {}
    problems: list[str] = []
    for name in names:
        try:
            found[name] = column(table, name)
        except KeyError:
            problems.append(f"{table}.{name}: not documented in jaxrisk/run/columns.py")
    problems += [
        f"{table}.{entry.name}: required column is missing"
        for entry in COLUMNS[table]
        if entry.required and entry.name not in found
    ]
    if problems:
        raise ValueError("\n".join(problems))
    return found


def markdown() -> str:
    """Return the registry as Markdown, one table a file, for the documentation."""
    lines: list[str] = []
    for table, purpose in TABLES.items():
        lines += [f"## {table}.parquet", "", f"{purpose[0].upper()}{purpose[1:]}.", ""]
        lines += ["| column | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.unit} | {c.meaning} |" for c in COLUMNS[table]]
        lines.append("")
    return "\n".join(lines)


def _pattern(template: str) -> str:
    """Return the regular expression of a column template.

    `{bearer}` matches known bearers only: with a free text there, any misspelt `a_b_usd` would
    pass as a documented column.
    """
    pattern = ""
    for part in re.split(r"(\{\w+\})", template):
        if part == "{bearer}":
            pattern += f"(?P<bearer>{'|'.join(slug(bearer) for bearer in BEARERS)})"
        elif part.startswith("{"):
            pattern += f"(?P<{part[1:-1]}>.+)"
        else:
            pattern += re.escape(part)
    return pattern
