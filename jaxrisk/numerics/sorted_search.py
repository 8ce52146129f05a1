"""How many sorted values are below another: a bucket looked up, then a few steps from its start."""

from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree, static


@pytree
class SortedSearch:
    """Sorted values with an index of evenly spaced buckets.

    The answer is exact, whatever the buckets; they decide how many steps are left. A search without
    an index steps through all values.

    Attributes:
        padded: `(value + 2**steps - 1,)` increasing, infinite ones at the end, then NaN, which is
            below nothing: steps may reach beyond the values.
        first: lower edge of the first bucket.
        per_unit: buckets per unit.
        start: `(bucket,)` how many values come before each bucket.
        steps: of falling powers of two, which together pass all finite values of any bucket.
    """

    padded: Float[Array, " more_values"]
    first: Float[Array, ""]
    per_unit: Float[Array, ""]
    start: Int[Array, " bucket"]
    steps: int = static()

    @classmethod
    def of(cls, values: Float[Array, " value"]) -> Self:
        """Return the search without an index: one bucket. Values may be traced."""
        zero, steps = jnp.zeros((), values.dtype), int(values.shape[0]).bit_length()
        return cls(
            padded=_padded(values, steps),
            first=zero,
            per_unit=zero,
            start=jnp.zeros(1, jnp.int32),
            steps=steps,
        )

    @property
    def values(self) -> Float[Array, " value"]:
        """The values searched."""
        return self.padded[: self.padded.shape[0] + 1 - 2**self.steps]

    def indexed(self, buckets: int) -> Self:
        """Return the same search with an index, made on the host from concrete values.

        Args:
            buckets: number of them, at least 1.
        """
        values = np.asarray(self.values)
        finite = values[np.isfinite(values)]
        if finite.size == 0 or finite[0] == finite[-1]:
            return self
        one = lambda x: np.asarray(x, values.dtype)
        first, per_unit = finite[0], one(buckets / (finite[-1] - finite[0]))
        # The bucket of each value is found as that of what is looked for, in the same arithmetic:
        # so a value in a later bucket is greater than what is looked for.
        own = np.clip((values - first) * per_unit, 0, buckets - 1).astype(np.int32)
        start = np.searchsorted(own, np.arange(buckets)).astype(np.int32)
        most = np.bincount(own[values < np.inf], minlength=buckets).max()
        steps = int(most).bit_length()
        return type(self)(
            padded=_padded(self.values, steps),
            first=jnp.asarray(first),
            per_unit=jnp.asarray(per_unit),
            start=jnp.asarray(start),
            steps=steps,
        )

    def below(self, x: Float[Array, "*query"], *, equal: bool = False) -> Int[Array, "*query"]:
        """Return how many values are below `x`, or with `equal` at most `x`.

        Args:
            x: each less than infinity.
            equal: count values equal to `x` too.
        """
        at = (x - self.first) * self.per_unit
        bucket = jnp.clip(at.astype(jnp.int32), 0, self.start.shape[0] - 1)
        count = self.start.at[bucket].get(mode="promise_in_bounds")
        for step in (2**k for k in reversed(range(self.steps))):
            there = self.padded.at[count + (step - 1)].get(mode="promise_in_bounds")
            more = (there <= x) if equal else (there < x)
            count = count + jnp.where(more, step, 0)
        return count


def _padded(values: Float[Array, " value"], steps: int) -> Float[Array, " more_values"]:
    return jnp.concatenate([values, jnp.full(2**steps - 1, jnp.nan, values.dtype)])
