"""The position table: a row a collateral, debt or contract of an account, checked when read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float, Shaped

from jaxrisk.run.hints import closest, expected_one_of
from jaxrisk.run.rows import Problems, Rows, read_rows, write_rows
from jaxrisk.venue.presets.instruments import underlying_of

LOAN_SIDES = ("collateral", "debt")
CONTRACT_SIDES = ("long", "short")
SIDES = (*LOAN_SIDES, *CONTRACT_SIDES)
REQUIRED = ("account_id", "venue", "asset", "side", "amount")
OPTIONAL = ("category", "owner")
ENTRY = "entry"
SYNTHETIC = "synthetic:"
"""Start of the source of a generated book: it travels with the file as its first comment."""

_SIDE_SYNONYMS = {
    "borrow": "debt",
    "borrowed": "debt",
    "loan": "debt",
    "liability": "debt",
    "supply": "collateral",
    "supplied": "collateral",
    "deposit": "collateral",
    "asset": "collateral",
    "buy": "long",
    "bought": "long",
    "sell": "short",
    "sold": "short",
}

Text = Shaped[np.ndarray, " row"]


@dataclass(frozen=True, kw_only=True)
class PositionTable:
    """A book in long form.

    Attributes:
        account_id: name of the account within its venue.
        venue: venue it stands on.
        asset: asset of this row, or the name of a contract.
        side: `collateral` or `debt`; `long` or `short` in a contract.
        amount: token units or contracts, 0 or more.
        category: e-mode category of the account, empty for none; the same on all its rows.
        owner: who holds the account, empty where unknown.
        source: where the table comes from, for reports.
        synthetic: whether it was generated.
        entry: price at which a contract was entered, NaN where not stated; `None` where no row
            states one.
        file: its name, for errors; empty where there is none.
    """

    account_id: Text
    venue: Text
    asset: Text
    side: Text
    amount: Float[np.ndarray, " row"]
    category: Text
    owner: Text
    source: str
    synthetic: bool = False
    entry: Float[np.ndarray, " row"] | None = None
    file: str = ""

    def __len__(self) -> int:
        return len(self.amount)

    @classmethod
    def from_holdings(
        cls,
        *,
        account_id: Shaped[np.ndarray, " account"],
        venue: str,
        assets: Sequence[str],
        collateral: Float[np.ndarray, "account asset"],
        debt: Float[np.ndarray, "account asset"],
        category: Shaped[np.ndarray, " account"],
        source: str,
        synthetic: bool = False,
    ) -> Self:
        """Return one row for each positive holding, by account, collateral before debt.

        Args:
            account_id: names.
            venue: venue of all of them.
            assets: asset axis of the holdings.
            collateral: token units.
            debt: token units.
            category: e-mode category, empty for none.
            source: where the book comes from.
            synthetic: whether it was generated.
        """
        amount = np.concatenate([collateral, debt], axis=1)
        account, holding = np.nonzero(amount > 0)
        return cls(
            account_id=account_id[account],
            venue=np.full(len(account), venue),
            asset=np.array([*assets, *assets])[holding],
            side=np.repeat(LOAN_SIDES, len(assets))[holding],
            amount=amount[account, holding],
            category=category[account],
            owner=np.full(len(account), ""),
            source=source,
            synthetic=synthetic,
        )


def read_positions(
    path: Path,
    *,
    venues: Collection[str],
    assets: Collection[str],
    categories: Collection[str] | None = None,
) -> PositionTable:
    """Return the positions of a CSV or Parquet file.

    Args:
        path: columns `account_id, venue, asset, side, amount` and maybe `category, owner, entry`.
        venues: venues that exist.
        assets: assets that have a price.
        categories: e-mode categories that exist; `None` checks none.

    Raises:
        DataError: with up to 20 problems, each naming file, line and column.
    """
    rows = read_rows(path)
    rows.require(REQUIRED)
    problems = Problems(path)
    for name in set(rows.names) - {*REQUIRED, *OPTIONAL}:
        if near := closest(name, () if name == ENTRY else (*OPTIONAL, ENTRY)):
            problems.add(f"unknown column {name}. Did you mean {near}?")
    text = {name: rows.text(name) for name in REQUIRED if name != "amount"}
    text |= {
        name: rows.text(name) if name in rows.names else np.full(len(rows.lines), "")
        for name in OPTIONAL
    }
    amount = _amounts(rows, problems)
    entry = _entries(rows, text["side"], problems) if ENTRY in rows.names else None
    _check_names(rows, text, venues, assets, categories, problems)
    _check_duplicates(rows, text, problems)
    text["category"] = _account_category(rows, text, problems)
    problems.raise_if_any()
    if not np.any(amount > 0):
        problems.add("no position has an amount above 0; the book is empty")
        problems.raise_if_any()
    source = rows.comments[0] if rows.comments else ""
    synthetic = source.startswith(SYNTHETIC)
    return PositionTable(
        **text,
        amount=amount,
        source=source if synthetic else path.name,
        synthetic=synthetic,
        entry=entry,
        file=path.name,
    )


def write_positions(path: Path, table: PositionTable, *, comment: Sequence[str] = ()) -> None:
    """Write the table as CSV or Parquet, its source and the comment lines on top.

    Reading it back gives the same rows, and the same source where the book is synthetic.

    Raises:
        DataError: the suffix is neither .csv nor .parquet, or the file cannot be written.
    """
    names = [*REQUIRED, *(name for name in OPTIONAL if np.any(getattr(table, name) != ""))]
    columns = {name: getattr(table, name) for name in names}
    if table.entry is not None:
        stated = np.where(np.isnan(table.entry), 0.0, table.entry)
        columns[ENTRY] = np.where(np.isnan(table.entry), "", stated.astype(str))
    write_rows(path, columns, (table.source, *comment))


def _amounts(rows: Rows, problems: Problems) -> Float[np.ndarray, " row"]:
    amount = rows.number("amount", problems)
    for i in np.flatnonzero(amount < 0):
        text = f"{amount[i]:g} is negative; expected token units, 0 or more (a debt has side debt)"
        problems.add(text, line=int(rows.lines[i]), column="amount")
    return amount


def _entries(rows: Rows, side: Text, problems: Problems) -> Float[np.ndarray, " row"]:
    """Return entry prices, NaN where the column is empty."""
    text = rows.text(ENTRY)
    entry = np.full(len(text), np.nan)
    stated = np.flatnonzero(text != "")
    entry[stated] = rows.take(stated).number(ENTRY, problems)
    for i in stated:
        problem = ""
        if side[i] not in CONTRACT_SIDES:
            problem = "goes with side long or short; leave it empty"
        elif entry[i] < 0:
            problem = f"{entry[i]:g} is negative; expected a price, 0 or more"
        if problem:
            problems.add(problem, line=int(rows.lines[i]), column=ENTRY)
    return entry


def _check_names(
    rows: Rows,
    text: dict[str, Text],
    venues: Collection[str],
    assets: Collection[str],
    categories: Collection[str] | None,
    problems: Problems,
) -> None:
    """Note each unknown name once, at its first row; a contract by the asset that it is about."""
    about = np.array(
        [
            underlying_of(name) if side in CONTRACT_SIDES else name
            for name, side in zip(text["asset"].tolist(), text["side"].tolist(), strict=True)
        ],
        str,
    )
    text = {**text, "asset": about}
    allowed = {"venue": venues, "asset": assets, "side": SIDES}
    if categories is not None:
        allowed["category"] = ("", *categories)
    for column, options in allowed.items():
        names, first, count = np.unique(text[column], return_index=True, return_counts=True)
        for name, i, rows_with in zip(names, first, count, strict=True):
            if name in options:
                continue
            message = _unknown(column, str(name), options)
            if rows_with > 1:
                message += f" ({rows_with} rows)"
            problems.add(message, line=int(rows.lines[i]), column=column)
    for i in np.flatnonzero(text["account_id"] == ""):
        problems.add("empty; expected a name", line=int(rows.lines[i]), column="account_id")


def _unknown(column: str, name: str, options: Collection[str]) -> str:
    if column == "asset" and name:
        near = closest(name, options)
        hint = f"did you mean {near}? Else add" if near else "add"
        return f'"{name}" has a position but no price; {hint} [assets.{name}] or drop the row'
    synonym = _SIDE_SYNONYMS.get(name.casefold()) if column == "side" else None
    hint = f"; did you mean {synonym}?" if synonym else ""
    return f'"{name}" is unknown; {expected_one_of(name, [o for o in options if o])}{hint}'


def _check_duplicates(rows: Rows, text: dict[str, Text], problems: Problems) -> None:
    keys = zip(*(text[name].tolist() for name in REQUIRED if name != "amount"), strict=True)
    first: dict[tuple[str, ...], int] = {}
    for line, key in zip(rows.lines.tolist(), keys, strict=True):
        if first.setdefault(key, line) != line:
            message = f"same account, venue, asset and side as line {first[key]}; add them up"
            problems.add(message, line=line, column="account_id")


def _account_category(rows: Rows, text: dict[str, Text], problems: Problems) -> Text:
    """Return the category of each row's account; a row that names none takes its account's."""
    accounts = list(zip(text["venue"].tolist(), text["account_id"].tolist(), strict=True))
    category: dict[tuple[str, str], str] = {}
    for line, account, name in zip(
        rows.lines.tolist(), accounts, text["category"].tolist(), strict=True
    ):
        if name and category.setdefault(account, name) != name:
            message = f'"{name}" but this account is also in "{category[account]}"; expected one'
            problems.add(message, line=line, column="category")
    return np.array([category.get(account, "") for account in accounts], str)
