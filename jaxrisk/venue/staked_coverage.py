"""Staked coverage as one of a venue's funds: what is slashed, step by step of a scenario."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.indexing import spread
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.slashing import Coverage, cover_offset, cover_pending, slash
from jaxrisk.venue.waterfall import Loss, Payment


@pytree
class StakedCoverage:
    """Units of an asset that are slashed for the deficit in one debt asset.

    What it is worth moves with the price of the staked asset, which may be a share of a vault: an
    asset pegged to another at a ratio that grows. A slash is that of `venue/slashing.py`, at the
    prices the venue sees, as soon as there is a deficit, and what it takes is brought in at once.

    The first `offset` of all deficits that reach the fund is left to others, who take it off the
    books, pay it in or carry it: it is used up by whatever the stake does not cover. That is the
    same as a deficit that stays on the books below an offset that stands still.

    Attributes:
        offset: deficit the stake does not cover, in units of the covered asset.
        fee: slashed on top of what is covered, as a fraction of it; the protocol keeps it.
        kept: units that always stay staked.
        row: of the covered asset among the venue's debt assets.
        covered: index of that asset in the system.
        staked: index of the staked asset in the system.
        pool_share: the stake is claims on the venue's own pool. Slashed claims are given up, and
            the fee changes hands; else what is slashed is paid in, and the fee leaves the pool.
    """

    offset: Float[Array, ""]
    fee: Float[Array, ""]
    kept: Float[Array, ""]
    row: int = static()
    covered: int = static()
    staked: int = static()
    pool_share: bool = static()

    def opening_offset(self, dtype: Any) -> Float[Array, ""]:
        """Return the offset before any deficit."""
        return self.offset.astype(dtype)

    def pay(
        self,
        loss: Loss,
        fund: Float[Array, ""],
        offset: Float[Array, ""],
        seen: Float[Array, " asset"],
    ) -> Payment:
        """Return what the stake pays of a loss; `fund` is the units staked."""
        missing = loss.open()
        before = Coverage(
            deficit=missing[self.row][None],
            offset=offset[None],
            pending=jnp.zeros_like(offset)[None],
            stake=fund[None],
            shares=fund[None],
        )
        taken, slashed = slash(
            before,
            fee=self.fee[None],
            reserve_price=seen[self.covered][None],
            stake_price=seen[self.staked][None],
            minimum_stake=self.kept[None],
        )
        _, _, brought_in = cover_pending(slashed, taken.covered)
        _, _, after = cover_offset(brought_in, brought_in.deficit)
        units = spread(taken.covered, (self.row,), missing.shape[0])
        return Payment(
            paid=smaller(loss.share_of(units), loss.left),
            fund=after.stake[0],
            offset=after.offset[0],
            units=units,
            fee=spread(taken.fee, (self.row,), missing.shape[0]),
            pool_share=self.pool_share,
        )
