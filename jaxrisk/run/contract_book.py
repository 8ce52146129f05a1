"""From rows of the position table to accounts with positions in contracts."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.run.tables import CONTRACT_SIDES
from jaxrisk.venue.account import Accounts, Positions, account_ids
from jaxrisk.venue.presets.instruments import instrument


def contract_accounts(
    table: Mapping[str, Any], *, settlement: str, assets: Sequence[str], dtype: np.dtype
) -> tuple[Accounts, tuple[str, ...]]:
    """Return the accounts of a venue of contracts, and the names of the contracts they hold.

    Args:
        table: columns `account_id`, `asset`, `side`, `amount`, `entry` (NaN for the opening price).
        settlement: asset that comes first among the collateral, whether posted or not.
        assets: the system's assets, in order.
        dtype: floating-point type.

    Raises:
        ValueError: a debt, an unknown contract, one account long and short in
            the same contract, or no contract at all; every problem is listed, an unknown name once.
    """
    ids = {name: i for i, name in enumerate(account_ids(table))}
    sides = [str(side) for side in table["side"]]
    names = [str(name) for name in table["asset"]]
    held = tuple(dict.fromkeys(n for n, s in zip(names, sides, strict=True) if s in CONTRACT_SIDES))
    problems = _problems(table["account_id"], names, sides)
    if settlement not in assets:
        problems.append(f"settlement {settlement!r} is not an asset")
    if not held:
        problems.append("no account holds a contract; give rows with side long or short")
    if problems:
        raise ValueError("\n".join(problems))
    others = {n for n, s in zip(names, sides, strict=True) if s == "collateral"} - {settlement}
    posted = (settlement, *(asset for asset in assets if asset in others))
    collateral = np.zeros((len(posted), len(ids)))
    size = np.zeros((len(held), len(ids)))
    entry = np.full((len(held), len(ids)), np.nan)
    rows = zip(table["account_id"], names, sides, table["amount"], table["entry"], strict=True)
    for account, name, side, amount, price in rows:
        at = ids[str(account)]
        if side in CONTRACT_SIDES:
            size[held.index(name), at] = amount if side == "long" else -amount
            entry[held.index(name), at] = price
        else:
            collateral[posted.index(name), at] += amount
    places = tuple(list(assets).index(asset) for asset in posted)
    return Accounts(
        collateral=jnp.asarray(collateral, dtype),
        debt=jnp.zeros((1, len(ids)), dtype),
        category=jnp.zeros(len(ids), jnp.int32),
        collateral_assets=places,
        debt_assets=places[:1],
        positions=Positions(size=jnp.asarray(size, dtype), entry=jnp.asarray(entry, dtype)),
    ), held


def _problems(accounts: Sequence[Any], names: Sequence[str], sides: Sequence[str]) -> list[str]:
    """Return what cannot stand in a book of contracts."""
    problems, seen, unknown = [], set(), set()
    for account, name, side in zip(accounts, names, sides, strict=True):
        who = f"account {account}"
        if side == "debt":
            problems.append(f"{who}: owes {name}; accounts on margin have no debt of their own")
        elif side in CONTRACT_SIDES:
            if (account, name) in seen:
                problems.append(f"{who}: long and short in {name}; give the difference")
            seen.add((account, name))
            if name in unknown:
                continue
            try:
                instrument(name)
            except ValueError as error:
                unknown.add(name)
                problems.append(f"{who}: {error}")
    return problems
