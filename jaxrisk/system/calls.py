"""The calls keepers would make on one tranche of accounts, and what going through with them does."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.policy import Keeper, Prices
from jaxrisk.venue.account import Accounts, category_mask
from jaxrisk.venue.call import repay_call
from jaxrisk.venue.venue import Venue

Standing = tuple[Float[Array, "share account"], Float[Array, "share account"]]


@pytree
class Calls:
    """Calls as fractions of the book, before rationing; all `(share, account)`.

    Attributes:
        seized: collateral that would be taken.
        repaid: debt that would be repaid.
        written_off: debt that would be recognised as bad.
    """

    seized: Float[Array, "share account"]
    repaid: Float[Array, "share account"]
    written_off: Float[Array, "share account"]


@pytree
class Moved:
    """Units moved by calls, at opening units of debt.

    Attributes:
        seized: `(collateral_asset,)` units taken, fee included.
        repaid: `(debt_asset,)` units repaid.
        written_off: `(debt_asset,)` units recognised as bad.
        calls: how many calls (0 where calls cost nothing and are not counted).
    """

    seized: Float[Array, " collateral_asset"]
    repaid: Float[Array, " debt_asset"]
    written_off: Float[Array, " debt_asset"]
    calls: Float[Array, ""]

    def __add__(self, other: "Moved") -> "Moved":
        """Return the sum of what two sets of calls move."""
        return Moved(
            seized=self.seized + other.seized,
            repaid=self.repaid + other.repaid,
            written_off=self.written_off + other.written_off,
            calls=self.calls + other.calls,
        )


def wanted_calls(
    keeper: Keeper,
    venue: Venue,
    accounts: Accounts,
    standing: Standing,
    prices: Prices,
    width: Float[Array, ""] | None,
) -> Calls:
    """Return the calls that pay for a keeper acting alone: the exact rule on every account."""
    view = keeper.choice.look(venue, accounts, prices, standing)
    position = view.position
    call = repay_call(venue.close, position, keeper.offer(venue, view, width), width=width)
    weight = call.weight * keeper.pays(position, call.repaid, width)
    seized = call.seized / positive_or_one(position.collateral)
    repaid = call.repaid / positive_or_one(position.debt)
    left = standing[1] - _part(standing[1], repaid, view.debt_pick)
    return Calls(
        seized=_part(standing[0], weight * seized, view.collateral_pick),
        repaid=_part(standing[1], weight * repaid, view.debt_pick),
        written_off=weight[None, :] * venue.recognition.write_off(call, left),
    )


def no_calls(standing: Standing) -> Calls:
    """Return calls that move nothing."""
    collateral, debt = jnp.zeros_like(standing[0]), jnp.zeros_like(standing[1])
    return Calls(seized=collateral, repaid=debt, written_off=debt)


def units_seized(accounts: Accounts, calls: Calls) -> Float[Array, " collateral_asset"]:
    """Return the units of each collateral that the calls would take."""
    return _units(accounts.collateral, calls.seized)


def go_through(
    keeper: Keeper,
    accounts: Accounts,
    standing: Standing,
    calls: Calls,
    ration: Float[Array, " category"],
) -> tuple[Standing, Moved]:
    """Return what stands after a share `ration` of every call has gone through, and what moved.

    An account behaves as a crowd of identical small ones of which that share is called.
    """
    one_category = ration.shape[0] == 1
    if one_category:
        seized, repaid, gone = calls.seized, calls.repaid, calls.written_off
        scale = ration[0]
        collateral = standing[0] - scale * seized
        debt = standing[1] - scale * (repaid + gone)
    else:
        mask = category_mask(accounts.category, ration.shape[0], ration.dtype)
        share = jnp.sum(ration[:, None] * mask, axis=0)[None, :]
        seized, repaid, gone = (
            share * calls.seized,
            share * calls.repaid,
            share * calls.written_off,
        )
        scale = jnp.ones((), ration.dtype)
        collateral, debt = standing[0] - seized, standing[1] - (repaid + gone)
    moved = Moved(
        seized=scale * _units(accounts.collateral, seized),
        repaid=scale * _units(accounts.debt, repaid),
        written_off=scale * _units(accounts.debt, gone),
        calls=jnp.zeros((), ration.dtype)
        if keeper.cost is None
        else scale * jnp.sum(jnp.any(repaid > 0, axis=0).astype(ration.dtype)),
    )
    return (collateral, debt), moved


def stand_still(accounts: Accounts, standing: Standing) -> tuple[Standing, Moved]:
    """Return the standing unchanged and nothing moved."""
    dtype = standing[0].dtype
    held = jnp.zeros(len(accounts.collateral_assets), dtype)
    owed = jnp.zeros(len(accounts.debt_assets), dtype)
    return standing, Moved(
        seized=held, repaid=owed, written_off=owed, calls=jnp.zeros((), dtype)
    )


def _part(
    fraction: Float[Array, "share account"], share: Float[Array, " account"], pick: Array | None
) -> Float[Array, "share account"]:
    moved = fraction * share[None, :]
    return moved if pick is None else moved * pick


def _units(
    units: Float[Array, "held account"], fraction: Float[Array, "share account"]
) -> Float[Array, " held"]:
    """Return units per asset that stand behind fractions of the book."""
    if fraction.shape[0] == 1:
        return jnp.matmul(units, fraction[0], precision="highest")
    return jnp.sum(units * fraction, axis=1)
