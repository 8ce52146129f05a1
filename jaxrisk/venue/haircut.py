"""What collateral counts for: less the more of it there is.

Each slice of a holding counts at the weight of its tier, and weights fall with tiers, so that the
value is concave: the smallest of lines `alpha_j v + beta_j`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int

from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.requirement import Lines

Holdings = Float[Array, "asset account"]


class Slice(NamedTuple):
    """Part of a holding, up to where the next one begins.

    Attributes:
        floor: holding above which it counts; 0 in the first.
        weight: what a unit of it counts for, in [0, 1].
    """

    floor: float
    weight: float


@pytree
class TieredHaircut:
    """`min_j(alpha_j v + beta_j)` of what is held, and `liability v` of what is owed.

    Source: OKX, discount rate tiers; Bybit, tiered collateral value ratios; Binance Portfolio
    Margin, `min(v rate, v)`, which is one slice and a liability of 1.

    Attributes:
        weight: `(slice, asset)`, falling.
        offset: `(slice, asset)` beta_j, at least 0, in the unit of the tiers.
        liability: `(asset,)` what a unit owed counts for, at least 1.
        by_units: whether bounds are on units of the asset, and not on their value.
    """

    weight: Float[Array, "slice asset"]
    offset: Float[Array, "slice asset"]
    liability: Float[Array, " asset"]
    by_units: bool = static(default=False)

    @classmethod
    def from_slices(
        cls,
        slices: Mapping[str, Sequence[Slice]],
        dtype: DTypeLike | None = None,
        *,
        liability: float = 1.0,
        by_units: bool = False,
    ) -> Self:
        """Return the haircuts of assets, in the order given, after checking their tables.

        Args:
            slices: of each asset, from the first up.
            dtype: of the coefficients; JAX's default float if not given.
            liability: what a unit owed counts for.
            by_units: whether bounds are on units of the asset, and not on their value.

        Raises:
            ValueError: with every problem found: no slices, a first one that does not begin at 0,
                bounds that do not rise, weights outside [0, 1] or rising, a liability below 1.
        """
        problems = [text for name, rows in slices.items() for text in _problems(name, rows)]
        if not slices:
            problems.append("no assets")
        if not liability >= 1:
            problems.append(f"liability {liability}: expected 1 or more")
        if problems:
            raise ValueError("\n".join(problems))
        count = max(len(rows) for rows in slices.values())
        padded = [[rows[min(j, len(rows) - 1)] for j in range(count)] for rows in slices.values()]
        weight = np.array([[row.weight for row in rows] for rows in padded]).T
        floor = np.array([[row.floor for row in rows] for rows in padded]).T
        offset = np.cumsum(-floor * np.diff(weight, axis=0, prepend=weight[:1]), axis=0)
        return cls(
            weight=jnp.asarray(weight, dtype or float),
            offset=jnp.asarray(offset, dtype or float),
            liability=jnp.full(len(slices), liability, dtype or float),
            by_units=by_units,
        )

    def value(
        self, units: Holdings, price: Float[Array, " asset"]
    ) -> tuple[Holdings, Int[Array, "asset account"]]:
        """Return what holdings count for, in the numeraire, and the slice that binds.

        Args:
            units: held, negative where owed.
            price: numeraire per unit.
        """
        at = price[:, None]
        held, worth = (units, at) if self.by_units else (units * at, jnp.ones_like(at))
        least = self.weight[0][:, None] * held
        binding = jnp.zeros(held.shape, jnp.int32)
        for j in range(1, self.weight.shape[0]):
            line = self.weight[j][:, None] * held + self.offset[j][:, None]
            below = line < least
            least, binding = jnp.where(below, line, least), jnp.where(below, j, binding)
        owed = self.liability[:, None] * held
        return worth * jnp.where(held < 0, owed, least), binding

    def lines(self, units: Holdings) -> Lines:
        """Return what holdings count for as a function of their price, as a requirement: negated.

        Args:
            units: held, negative where owed; they are the face of the lines already.
        """
        if self.by_units:
            counted, _ = self.value(units, jnp.ones(units.shape[0], units.dtype))
            return Lines(rate=-counted[None], deduction=jnp.zeros_like(counted)[None])
        owed = (units < 0)[None]
        rate = jnp.where(owed, self.liability[None, :, None], self.weight[:, :, None])
        offset = jnp.where(owed, jnp.zeros_like(rate), self.offset[:, :, None])
        return Lines(rate=-rate * units[None], deduction=offset)


def _problems(name: str, rows: Sequence[Slice]) -> list[str]:
    """Return what is wrong with the slices of an asset."""
    if not rows:
        return [f"{name}: no slices"]
    found = [] if rows[0].floor == 0 else [f"{name}, slice 1: floor {rows[0].floor}: expected 0"]
    for j, row in enumerate(rows):
        if not 0 <= row.weight <= 1:
            found.append(f"{name}, slice {j + 1}: weight {row.weight}: expected one in [0, 1]")
        if j and not (row.floor > rows[j - 1].floor and np.isfinite(row.floor)):
            found.append(f"{name}, slice {j + 1}: floor {row.floor}: expected more than before")
        if j and row.weight > rows[j - 1].weight:
            found.append(f"{name}, slice {j + 1}: weight {row.weight}: more than before")
    return found
