"""The book: leveraged accounts and what each holds and owes."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.indexing import columns
from jaxrisk.numerics.pytree import pytree, static


@pytree
class Positions:
    """What accounts hold in contracts; leaves are `(contract, account)`.

    Attributes:
        size: contracts held, negative where sold.
        entry: quoted price at which they were entered; 0 for options whose premium has been paid.
    """

    size: Float[Array, "contract account"]
    entry: Float[Array, "contract account"]


@pytree
class Accounts:
    """Positions of accounts on one venue, shared by all scenarios.

    Attributes:
        collateral: `(collateral_asset, account)` units posted.
        debt: `(debt_asset, account)` units owed at the opening index.
        category: `(account,)` risk category (e-mode) of each account; 0 is the base category.
        collateral_assets: index in the system's asset axis of each collateral row.
        debt_assets: index in the system's asset axis of each debt row.
        rate: `(account,)` interest rate a year that the borrower has chosen; `None` where the venue
            sets one for all.
        positions: in contracts, margined by the collateral; `None` where the venue has none.
        owner: `(account,)` who holds each account, an index that venues share; `None` where nobody
            asks.
    """

    collateral: Float[Array, "collateral_asset account"]
    debt: Float[Array, "debt_asset account"]
    category: Int[Array, " account"]
    collateral_assets: tuple[int, ...] = static()
    debt_assets: tuple[int, ...] = static()
    rate: Float[Array, " account"] | None = None
    positions: Positions | None = None
    owner: Int[Array, " account"] | None = None

    @property
    def count(self) -> int:
        """Number of accounts."""
        return self.collateral.shape[1]

    @staticmethod
    def from_table(
        table: Mapping[str, Any],
        *,
        assets: Sequence[str],
        categories: Sequence[str] = ("",),
        dtype: np.dtype | type | None = None,
    ) -> "Accounts":
        """Return accounts from a long position table.

        Args:
            table: columns `account_id`, `asset`, `side` ("collateral" or "debt"), `amount`
                (units, >= 0) and optionally `category`. Accounts are numbered in order of first
                appearance (see `account_ids`).
            assets: the system's assets, in order.
            categories: risk categories in order; the first is the base category.
            dtype: floating-point type; JAX's default where not given.

        Raises:
            ValueError: an unknown asset, side or category, or an amount that is negative or not
                finite; every problem is listed.
        """
        ids = account_ids(table)
        position = {a: i for i, a in enumerate(ids)}
        row = np.array([position[str(a)] for a in table["account_id"]], np.int64)
        amount = np.asarray(table["amount"], np.float64)
        side = np.asarray([str(s) for s in table["side"]])
        asset_name = [str(a) for a in table["asset"]]
        category_name = [str(c or categories[0]) for c in table.get("category", [""] * len(row))]
        _check_rows(amount, side, asset_name, assets, category_name, categories)
        asset = np.array([list(assets).index(a) for a in asset_name], np.int64)
        category = np.zeros(len(ids), np.int32)
        category[row] = [list(categories).index(c) for c in category_name]

        def block(which: str) -> tuple[np.ndarray, tuple[int, ...]]:
            here = side == which
            held = tuple(sorted(set(asset[here].tolist()))) or (0,)
            units = np.zeros((len(held), len(ids)))
            np.add.at(units, (np.searchsorted(held, asset[here]), row[here]), amount[here])
            return units, held

        collateral, collateral_assets = block("collateral")
        debt, debt_assets = block("debt")
        return Accounts(
            collateral=jnp.asarray(collateral, dtype or float),
            debt=jnp.asarray(debt, dtype or float),
            category=jnp.asarray(category),
            collateral_assets=collateral_assets,
            debt_assets=debt_assets,
        )


def account_ids(table: Mapping[str, Any]) -> list[str]:
    """Return account names in the order `Accounts.from_table` numbers them."""
    return list(dict.fromkeys(str(a) for a in table["account_id"]))


def take(accounts: Accounts, order: Int[Array, " chosen"] | Int[np.ndarray, " chosen"]) -> Accounts:
    """Return the accounts at `order`, in that order."""
    return Accounts(
        collateral=columns(accounts.collateral, order),
        debt=columns(accounts.debt, order),
        category=columns(accounts.category, order),
        collateral_assets=accounts.collateral_assets,
        debt_assets=accounts.debt_assets,
        rate=None if accounts.rate is None else columns(accounts.rate, order),
        positions=None
        if accounts.positions is None
        else Positions(
            size=columns(accounts.positions.size, order),
            entry=columns(accounts.positions.entry, order),
        ),
        owner=None if accounts.owner is None else columns(accounts.owner, order),
    )


def per_account(
    values: Float[Array, "category held"], category: Int[Array, " account"]
) -> Float[Array, "held account"]:
    """Return per-category values laid out per account, `(held, 1)` where there is one category."""
    if values.shape[0] == 1:
        return values.T
    mask = category_mask(category, values.shape[0], values.dtype)
    return jnp.matmul(values.T, mask, precision="highest")


def category_mask(
    category: Int[Array, " account"], count: int, dtype: np.dtype
) -> Float[Array, "category account"]:
    """Return the one-hot mask of categories."""
    return jax.nn.one_hot(category, count, axis=0, dtype=dtype)


def _check_rows(
    amount: np.ndarray,
    side: np.ndarray,
    asset_name: Sequence[str],
    assets: Sequence[str],
    category_name: Sequence[str],
    categories: Sequence[str],
) -> None:
    problems = [
        f"row {i}: amount {amount[i]} must be a finite number >= 0"
        for i in np.flatnonzero(~(np.isfinite(amount) & (amount >= 0)))
    ]
    problems += [
        f"row {i}: side {s!r} must be 'collateral' or 'debt'"
        for i, s in enumerate(side)
        if s not in ("collateral", "debt")
    ]
    for what, names, known in (
        ("asset", asset_name, assets),
        ("category", category_name, categories),
    ):
        problems += [
            f"row {i}: {what} {n!r} is not one of {', '.join(map(repr, known))}"
            for i, n in enumerate(names)
            if n not in known
        ]
    if not len(amount):
        problems.append("the table has no rows")
    if problems:
        raise ValueError("\n".join(problems))
