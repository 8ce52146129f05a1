"""The ladder read off a table: two lookups a round, however many rungs there are.

Between nodes the sums are interpolated in the log of cover, as if accounts were spread evenly over
an interval. That closes parts of accounts where the ladder closes whole ones, so a table is an
approximation of its ladder with a known error, and it is continuous: how many accounts a price
closes has a derivative in price and threshold. Nodes are a bandwidth. Many of them are for values;
for derivatives a few tens to hundreds, with the standard error beside them and bumps as a check.
"""

from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.ladder import Closed, Ladder, Reached, closing
from jaxrisk.venue.incentive import Incentive


@pytree
class LadderTable:
    """What accounts with less than some cover hold and owe, at nodes evenly spaced in log cover.

    Attributes:
        first: log cover of the first node.
        per_log: nodes per unit of log cover.
        rows: `(node, 4)` collateral and debt of accounts with less cover than the node, and by how
            much both rise to the next one: all that one lookup needs, side by side. They do not
            rise beyond the last node, or are NaN there where accounts were left out.
        error: `(2,)` largest difference to the ladder's sums, as a share of the book's.
        threshold: liquidation threshold of all accounts.
        incentive: bonus and fee.
    """

    first: Float[Array, ""]
    per_log: Float[Array, ""]
    rows: Float[Array, "node 4"]
    error: Float[Array, " 2"]
    threshold: Float[Array, ""]
    incentive: Incentive

    @classmethod
    def of(cls, ladder: Ladder, nodes: int, *, lowest_price: float | None = None) -> Self:
        """Return the table of a ladder, made on the host.

        Args:
            ladder: with concrete numbers; an account has collateral and owes something.
            nodes: at least 2.
            lowest_price: of the collateral, in units of debt; nodes are spent on the accounts that
                a price from there on closes, and below it the table says NaN. `None` for the whole
                book, where an account of little debt spreads the nodes thin.
        """
        cover = np.asarray(ladder.log_cover.values, np.float64)
        sums = np.asarray(ladder.sums, np.float64).T
        first, last = cover[np.isfinite(cover)][[0, -1]]
        if lowest_price is None:
            # What is closed has *less* cover than the node.
            last = last + 1e-3
        else:
            last = -np.log(lowest_price * min(float(ladder.threshold), 1.0 / float(ladder.credit)))
        at = np.linspace(first, last, nodes)
        table = sums[:, np.searchsorted(cover, at, side="left")]
        rows = np.concatenate([table, np.diff(table, append=table[:, -1:])]).T
        if lowest_price is not None:
            rows[-1] = np.nan
        array = lambda x: jnp.asarray(x, ladder.sums.dtype)
        return cls(
            first=array(first),
            per_log=array((nodes - 1) / (last - first)),
            rows=array(rows),
            error=array(_largest_gap(cover, sums, at, table)),
            threshold=ladder.threshold,
            incentive=ladder.incentive,
        )

    def close(self, reached: Reached, log_price: Float[Array, ""]) -> tuple[Reached, Closed]:
        """Return how far the book is closed at a price, and what closing that much moves.

        Args:
            reached: how far it was closed before.
            log_price: log price of the collateral in units of debt.
        """
        credit = self.incentive.largest_credit(1, 1)[0, 0]
        called = self._below(-log_price - jnp.log(self.threshold))
        poor = self._below(jnp.log(credit) - log_price)
        return closing(reached, called, poor, jnp.exp(log_price), credit)

    def _below(self, cover: Float[Array, ""]) -> Reached:
        """Return what accounts with less than a log cover hold and owe; below the first, less."""
        at = (cover - self.first) * self.per_log
        left = jnp.clip(at.astype(jnp.int32), 0, self.rows.shape[0] - 1)
        part = at - left.astype(at.dtype)
        held, owed, more_held, more_owed = self.rows.at[left].get(mode="promise_in_bounds")
        return Reached(held=held + part * more_held, owed=owed + part * more_owed)


def _largest_gap(
    cover: np.ndarray, sums: np.ndarray, at: np.ndarray, table: np.ndarray
) -> np.ndarray:
    """Return the largest difference of both sums between table and ladder, as shares of the book.

    The ladder is constant between accounts and the table rises, so the extremes are just below and
    just above an account.
    """
    account = np.flatnonzero((cover >= at[0]) & (cover <= at[-1]))
    read = np.stack([np.interp(cover[account], at, row) for row in table])
    gap = np.maximum(abs(read - sums[:, account]), abs(read - sums[:, account + 1]))
    return gap.max(axis=1) / sums[:, -1]
