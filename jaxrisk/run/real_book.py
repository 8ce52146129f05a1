"""A real book known only by totals: what is recorded is kept, the rest is imputed and counted.

The input is a table of users (total debt, total collateral, health factor under the thresholds
outside e-mode) and a list of their largest debts. Which assets the collateral is made of is not
recorded, but its average threshold is: `health_factor * debt / collateral`. The rule:

1. Listed debts are taken as they are; symbols without a price of their own are replaced, by
   value, by a stated substitute. Debt that is not listed is taken in the fallback asset.
2. An account is a loop in e-mode where its debt is (almost) all in one family of assets and it
   stands although its health factor is below 1, or its debt reaches the family's `loop_ratio` of
   its collateral. It takes the family's category, and its collateral is in that family.
3. The collateral is the blend of two candidate assets (those of the family for a loop, the base
   list for others) with thresholds next to the implied one on either side, in the proportion that
   reproduces it; beyond the outermost candidate it is that one alone.
4. Accounts whose collateral is recorded below their debt hold something the source has no price
   for; they are left out, or kept as the insolvent accounts they appear to be.

Amounts are `USD / price` at the prices given, so values and health are those of the source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxrisk.errors import ConfigError
from jaxrisk.run.book_config import UserTotalsSection
from jaxrisk.run.hints import closest, expected_one_of
from jaxrisk.run.rows import Problems, read_rows
from jaxrisk.run.tables import PositionTable

# Recorded health factors are rounded to four digits; errors above this are not rounding.
_HEALTH_TOLERANCE = 0.01
# The same rounding blurs a blend of neighbouring thresholds by about this share.
_SMALLEST_SHARE = 0.01

Accounts = Float[np.ndarray, " account"]


@dataclass(frozen=True, kw_only=True)
class ImputationReport:
    """What of a book is recorded and what is made up; shares are by value.

    Attributes:
        accounts: accounts in the book.
        debt_usd: their debt.
        collateral_usd: their collateral.
        imputed_collateral_share: collateral whose asset is imputed.
        emode_accounts: accounts taken as loops in e-mode.
        emode_debt_share: their share of debt.
        emode_collateral_share: their share of collateral.
        observed_debt_share: debt whose asset is recorded.
        imputed_debt_share: debt taken in the fallback asset.
        substituted_debt_share: recorded debt moved to a substitute asset.
        health_error: debt-weighted mean of |health of the imputed mix − health recorded|, both
            outside e-mode.
        misfit_accounts: accounts where that error is above 0.01.
        misfit_debt_share: their share of debt.
        below_one_accounts: accounts with health below 1 under the imputed category.
        below_one_debt_share: their share of debt.
        excluded_accounts: accounts left out, their collateral recorded below their debt.
        excluded_debt_usd: their debt.
        largest_price_gap: largest relative gap between a price given and the recorded one.
    """

    accounts: int
    debt_usd: float
    collateral_usd: float
    imputed_collateral_share: float
    emode_accounts: int
    emode_debt_share: float
    emode_collateral_share: float
    observed_debt_share: float
    imputed_debt_share: float
    substituted_debt_share: float
    health_error: float
    misfit_accounts: int
    misfit_debt_share: float
    below_one_accounts: int
    below_one_debt_share: float
    excluded_accounts: int
    excluded_debt_usd: float
    largest_price_gap: float

    def lines(self) -> tuple[str, ...]:
        """Return one sentence a fact, for the data-quality list of a report."""
        return (
            f"collateral mix is not recorded: {self.imputed_collateral_share:.0%} of collateral "
            "is imputed from each account's implied average threshold",
            f"{self.emode_accounts} of {self.accounts} accounts are taken as e-mode loops "
            f"({self.emode_debt_share:.1%} of debt, {self.emode_collateral_share:.1%} of "
            "collateral)",
            f"debt assets: {self.observed_debt_share:.1%} recorded "
            f"({self.substituted_debt_share:.1%} under a substitute), "
            f"{self.imputed_debt_share:.1%} imputed",
            f"imputed mix against recorded health: mean error {self.health_error:.4f}, above "
            f"{_HEALTH_TOLERANCE} for {self.misfit_accounts} accounts "
            f"({self.misfit_debt_share:.1%} of debt)",
            f"{self.below_one_accounts} accounts start below health 1 "
            f"({self.below_one_debt_share:.2%} of debt)",
            f"{self.excluded_accounts} accounts with {self.excluded_debt_usd / 1e6:.1f} MUSD of "
            "debt are left out: their recorded collateral is below their debt",
            f"amounts are restated at the prices of this configuration, which differ from the "
            f"recorded ones by up to {self.largest_price_gap:.1%}",
        )


@dataclass(frozen=True)
class _Users:
    """The user table: totals as recorded."""

    name: Shaped[np.ndarray, " account"]
    debt: Accounts
    collateral: Accounts
    health: Accounts


@dataclass(frozen=True)
class _Debts:
    """Debt by account and asset, USD."""

    usd: Float[np.ndarray, "account asset"]
    imputed: Accounts
    substituted: Accounts
    largest_price_gap: float


def read_user_totals(
    spec: UserTotalsSection,
    *,
    prices: Mapping[str, float],
    thresholds: Mapping[str, float],
    category_thresholds: Mapping[str, float],
) -> tuple[PositionTable, ImputationReport]:
    """Return the book of a user table and a debt list, and what of it is imputed.

    Args:
        spec: the two files and the parameters of the rule (see the module).
        prices: USD by asset, for all assets the rule names.
        thresholds: liquidation threshold by asset, outside e-mode.
        category_thresholds: liquidation threshold by e-mode category.

    Raises:
        ConfigError: the rule names an asset or category without price or threshold.
        DataError: a file cannot be used, or lists a symbol without price or substitute.
    """
    _check_spec(spec, prices, thresholds, category_thresholds)
    assets = tuple(prices)
    users = _read_users(spec)
    debts = _read_debts(spec, users, assets, prices)
    implied = users.health * users.debt / np.where(users.collateral > 0, users.collateral, np.inf)
    family = _families(spec, users, debts, assets)
    mix = np.zeros_like(debts.usd)
    for number, candidates in enumerate(
        [spec.base_collaterals, *(f.collaterals for f in spec.families.values())], start=-1
    ):
        members = family == number
        mix[members] = _blend(implied[members], candidates, assets, thresholds)
    keep = users.collateral >= users.debt
    if spec.undercollateralised == "keep":
        keep = np.ones_like(keep)
    # Index 0 stands for accounts outside e-mode, family -1.
    names = np.array(["", *(f.category for f in spec.families.values())])
    in_category = np.array([np.nan, *(category_thresholds[name] for name in names[1:])])
    base = mix @ np.array([thresholds.get(asset, 0.0) for asset in assets])
    threshold = np.where(family >= 0, in_category[family + 1], base)
    report = _report(users, debts, family >= 0, keep, base, threshold)
    price = np.array([prices[asset] for asset in assets])
    table = PositionTable.from_holdings(
        account_id=users.name[keep],
        venue=spec.venue,
        assets=assets,
        collateral=(mix * users.collateral[:, None])[keep] / price,
        debt=debts.usd[keep] / price,
        category=names[family + 1][keep],
        source=f"{spec.users.name} and {spec.debts.name}, collateral mix imputed",
    )
    return table, report


def _check_spec(
    spec: UserTotalsSection,
    prices: Mapping[str, float],
    thresholds: Mapping[str, float],
    category_thresholds: Mapping[str, float],
) -> None:
    key = "book.user_totals"
    collaterals = {f"{key}.base_collaterals": spec.base_collaterals} | {
        f"{key}.families.{name}.collaterals": family.collaterals
        for name, family in spec.families.items()
    }
    problems = [
        f"{place}: {asset}: expected an asset with a liquidation threshold above 0 at {spec.venue}"
        for place, names in collaterals.items()
        for asset in names
        if asset not in prices or not thresholds.get(asset, 0.0) > 0
    ]
    problems += [
        f'{key}.families.{name}.category = "{family.category}": '
        + expected_one_of(family.category, category_thresholds)
        for name, family in spec.families.items()
        if family.category not in category_thresholds
    ]
    if problems:
        raise ConfigError(problems)


def _read_users(spec: UserTotalsSection) -> _Users:
    columns = ("total_debt_usd", "total_collateral_usd", "health_factor")
    rows = read_rows(spec.users)
    rows.require(["user_address", *columns])
    problems = Problems(spec.users)
    names = rows.text("user_address")
    numbers = [rows.number(column, problems) for column in columns]
    for column, values in zip(columns, numbers, strict=True):
        for i in np.flatnonzero(values < 0):
            text = f"{values[i]:g} is negative; expected 0 or more"
            problems.add(text, line=int(rows.lines[i]), column=column)
    repeated = np.setdiff1d(np.arange(len(names)), np.unique(names, return_index=True)[1])
    for i in repeated:
        problems.add("this user is listed before", line=int(rows.lines[i]), column="user_address")
    if not np.any(numbers[0] > 0):
        problems.add("no user has debt; the book is empty")
    problems.raise_if_any()
    return _Users(names, *numbers)


def _read_debts(
    spec: UserTotalsSection, users: _Users, assets: Sequence[str], prices: Mapping[str, float]
) -> _Debts:
    rows = read_rows(spec.debts)
    rows.require(["user_address", "symbol", "amount_usd", "price_usd"])
    problems = Problems(spec.debts)
    usd = rows.number("amount_usd", problems)
    recorded_price = rows.number("price_usd", problems)
    problems.raise_if_any()
    position = {name: i for i, name in enumerate(users.name.tolist())}
    account = np.array([position.get(name, -1) for name in rows.text("user_address").tolist()])
    for i in np.flatnonzero(account < 0):
        text = f"this user is not in {spec.users.name}"
        problems.add(text, line=int(rows.lines[i]), column="user_address")
    symbol = rows.text("symbol")
    held = np.array([spec.substitutes.get(name, name) for name in symbol.tolist()])
    for name in np.unique(held[~np.isin(held, assets)]):
        near = closest(str(name), assets)
        total = usd[held == name].sum() / 1e6
        text = f'symbol "{name}" ({total:.1f} MUSD) has no price; add it to [assets], or name a '
        text += "substitute in [book.user_totals.substitutes]"
        problems.add(text + (f"; did you mean {near}?" if near else ""))
    problems.raise_if_any()
    asset = np.array([assets.index(name) for name in held.tolist()])
    listed = np.zeros((len(users.name), len(assets)))
    np.add.at(listed, (account, asset), usd)
    moved = np.zeros(len(users.name))
    np.add.at(moved, account, np.where(held != symbol, usd, 0.0))
    # Totals and list are snapshots of one moment; a list above the total is rounding.
    missing = np.maximum(users.debt - listed.sum(axis=1), 0.0)
    listed[:, assets.index(spec.fallback_debt)] += missing
    given = np.array([prices[name] for name in held.tolist()])
    gaps = np.abs(given / recorded_price - 1.0)[held == symbol]
    return _Debts(listed, missing, moved, float(gaps.max(initial=0.0)))


def _families(
    spec: UserTotalsSection, users: _Users, debts: _Debts, assets: Sequence[str]
) -> Int[np.ndarray, " account"]:
    """Return the number of the family each account loops in, -1 for none."""
    family = np.full(len(users.debt), -1)
    stands = (users.debt > 0) & (users.collateral >= users.debt)
    for number, section in reversed(list(enumerate(spec.families.values()))):
        own = debts.usd[:, [assets.index(asset) for asset in section.debts]].sum(axis=1)
        within = own >= spec.family_share * users.debt
        ratio = section.loop_ratio * users.collateral
        leveraged = (users.health < 1) | (users.debt >= ratio)
        family[stands & within & leveraged] = number
    return family


def _blend(
    implied: Accounts,
    candidates: Sequence[str],
    assets: Sequence[str],
    thresholds: Mapping[str, float],
) -> Float[np.ndarray, "account asset"]:
    """Return shares of the two candidates whose thresholds enclose the implied one."""
    levels, first = np.unique([thresholds[asset] for asset in candidates], return_index=True)
    above = np.minimum(np.maximum(np.searchsorted(levels, implied), 1), len(levels) - 1)
    below = np.maximum(above - 1, 0)
    width = np.where(above > below, levels[above] - levels[below], 1.0)
    share = np.clip((implied - levels[below]) / width, 0.0, 1.0)
    share = np.where(share < _SMALLEST_SHARE, 0.0, share)
    share = np.where(share > 1 - _SMALLEST_SHARE, 1.0, share)
    column = np.array([assets.index(candidates[i]) for i in first])
    mix = np.zeros((len(implied), len(assets)))
    row = np.arange(len(implied))
    mix[row, column[below]] = 1.0 - share
    mix[row, column[above]] += share
    return mix


def _report(
    users: _Users,
    debts: _Debts,
    loop: Bool[np.ndarray, " account"],
    keep: Bool[np.ndarray, " account"],
    base: Accounts,
    threshold: Accounts,
) -> ImputationReport:
    debt = np.where(keep, users.debt, 0.0)
    collateral = np.where(keep, users.collateral, 0.0)
    ratio = users.collateral / np.where(users.debt > 0, users.debt, np.inf)
    error = np.abs(base * ratio - users.health)
    misfit = keep & (users.debt > 0) & (error > _HEALTH_TOLERANCE)
    below_one = keep & (users.debt > 0) & (threshold * ratio < 1.0)

    def share(part: np.ndarray, whole: np.ndarray = debt) -> float:
        return float(part.sum() / whole.sum())

    return ImputationReport(
        accounts=int(keep.sum()),
        debt_usd=float(debt.sum()),
        collateral_usd=float(collateral.sum()),
        imputed_collateral_share=1.0,
        emode_accounts=int((loop & keep).sum()),
        emode_debt_share=share(debt[loop]),
        emode_collateral_share=share(collateral[loop], collateral),
        observed_debt_share=1.0 - share(debts.imputed[keep]),
        imputed_debt_share=share(debts.imputed[keep]),
        substituted_debt_share=share(debts.substituted[keep]),
        health_error=share(debt * error),
        misfit_accounts=int(misfit.sum()),
        misfit_debt_share=share(debt[misfit]),
        below_one_accounts=int(below_one.sum()),
        below_one_debt_share=share(debt[below_one]),
        excluded_accounts=int((~keep).sum()),
        excluded_debt_usd=float(users.debt[~keep].sum()),
        largest_price_gap=debts.largest_price_gap,
    )
